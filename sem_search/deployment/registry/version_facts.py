"""What the tags of a version say of it, in the form in which the history keeps it."""

import math

from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.registry.tags import (
    TAG_DATA,
    TAG_FILES,
    TAG_FOLDS,
    TAG_SCORE,
    TAG_TEST,
    TAG_VALIDATION,
)

SCORES = {"score": TAG_SCORE, "validation_f_measure": TAG_VALIDATION, "test_f_measure": TAG_TEST}
HASHES = {"data_sha256": TAG_DATA, "folds_sha256": TAG_FOLDS, "files_sha256": TAG_FILES}


def describe_scores(*versions: ModelVersion | None) -> dict[str, dict[str, float]]:
    """Return the scores of each version by its number, as its tags state them."""
    return {
        str(version.version): {
            name: value for name, tag in SCORES.items() if (value := read_number(version, tag=tag)) is not None
        }
        for version in versions
        if version is not None
    }


def describe_hashes(version: ModelVersion) -> dict[str, str]:
    """Return the hashes of data, folds and files, as the version's tags state them."""
    return {name: version.tags[tag] for name, tag in HASHES.items() if tag in version.tags}


def read_number(version: ModelVersion, *, tag: str) -> float | None:
    """Return a finite number from a tag; None where there is no tag, or something else in it."""
    try:
        value = float(version.tags[tag])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None

"""The fingerprint: what makes a search the same search when its command is given again; and its name."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sem_search.errors import StudyMismatchError
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.search.pruning.pruners import EXTRAPOLATION
from sem_search.settings import AS_THE_PAPER, INCOMPARABLE, SearchSettings

RESULTS_VERSION = 1
"""Raised when a change of the program changes the numbers: folds of before are then not mixed with folds of after."""

NAME_DIGITS = 8

MAX_NAME_BYTES = 200
"""Of a study's name: file systems take 255, and temporary files beside it need room for their own endings."""


def compute_fingerprint(settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork) -> dict[str, Any]:
    """Return what must be equal for two results to be comparable, as JSON values by name.

    Args:
        settings: Those in `INCOMPARABLE` count.
        data: Images and folds, by their digests.
        network: Weights and precision.
    """
    values = settings.model_dump(mode="json", include=set(INCOMPARABLE))
    for name, value in AS_THE_PAPER.items():
        if getattr(settings, name) == value:
            del values[name]
    if values["pruner"] == EXTRAPOLATION:
        values["pruner"] = "race"  # as older studies have it: the name of a study is made of these values
    return {
        **values,
        "data": data.catalogue.digest,
        "fold_table": data.folds.digest,
        "weights": network.weights.sha256,
        "precision": network.precision,
        "results_version": RESULTS_VERSION,
    }


def hash_fingerprint(fingerprint: Mapping[str, Any]) -> str:
    """Return the sha256 of a fingerprint."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def name_study(settings: SearchSettings, *, fingerprint: Mapping[str, Any]) -> str:
    """Return the study's name: the one asked for, else one that the same search always gets."""
    return settings.study or f"{settings.backbone}-{settings.preset}-{hash_fingerprint(fingerprint)[:NAME_DIGITS]}"


def check_study_name(name: str) -> None:
    """Refuse names that could not be folders.

    Raises:
        StudyMismatchError: The name holds a path separator or a sign that cannot be printed, is empty or too long.
    """
    is_fit = name.strip() and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES
    if not is_fit or set(name) & set('/\\:*?"<>|') or name.startswith("."):
        shown = name if len(name) <= MAX_NAME_BYTES else f"{name[:MAX_NAME_BYTES]}..."
        raise StudyMismatchError(
            f"study={shown!r} cannot be the name of a folder: use letters, digits, '-', '_' and '.', "
            f"at most {MAX_NAME_BYTES} bytes."
        )

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
from sem_search.transfer.trunk import Computation

RESULTS_VERSION = 1
"""Raised when a change of the program changes the numbers: folds of before are then not mixed with folds of after."""

NAME_DIGITS = 8

COMPUTATION = ("engine", "precision")
"""What of a fingerprint is chosen by measurement."""

MAX_NAME_BYTES = 200
"""Of a study's name: file systems take 255, and temporary files beside it need room for their own endings."""


def compute_fingerprint(settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork) -> dict[str, Any]:
    """Return what must be equal for two results to be comparable, as JSON values by name.

    Args:
        settings: Those in `INCOMPARABLE` count.
        data: Images and folds, by their digests.
        network: Weights, engine and precision.
    """
    values = settings.model_dump(mode="json", include=set(INCOMPARABLE))
    for name, value in AS_THE_PAPER.items():
        if getattr(settings, name) == value:
            values.pop(name, None)
    if settings.pixel_size_nm is not None:
        values["pixel_size_nm"] = data.catalogue.reading.pixel_size_nm  # the same study, given as a number or not
    if settings.refit:
        values["refit"] = "winner"  # once true stood for heads of every cell that were trained again
    if values["pruner"] == EXTRAPOLATION:
        values["pruner"] = "race"  # as older studies have it: the name of a study is made of these values
    return {
        **values,
        "data": data.catalogue.digest,
        "fold_table": data.folds.digest,
        "weights": network.weights.sha256,
        "results_version": RESULTS_VERSION,
        **describe_computation(network.computation),
    }


def describe_computation(computation: Computation) -> dict[str, str]:
    """Return how the trunk is computed as fingerprints have it: older ones, all of TensorFlow, name no engine."""
    engine = {} if computation.engine == AS_THE_PAPER["engine"] else {"engine": computation.engine}
    return {**engine, "precision": computation.precision}


def read_computation(fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings `engine` and `precision` of a study; the oldest studies have no precision."""
    found = {name: fingerprint[name] for name in COMPUTATION if name in fingerprint}
    return {"engine": AS_THE_PAPER["engine"], **found}


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

"""Everything a search knows before its first trial: settings, data, network and features, under one name.

The name and the fingerprint are what makes a search the same search when its command is given again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from sem_search.errors import StudyMismatchError
from sem_search.evaluation.novelty import NoveltyModel
from sem_search.micrographs.folds import FoldTable
from sem_search.search.data import PreparedData
from sem_search.search.fold_store import FoldStore, write_atomically
from sem_search.search.known_images import fit_known_images
from sem_search.search.network import PreparedNetwork
from sem_search.search.study import check_fingerprint
from sem_search.settings import INCOMPARABLE, SearchSettings
from sem_search.transfer.features import FeatureStore

RESULTS_VERSION = 1
"""Raised when a change of the program changes the numbers: folds of before are then not mixed with folds of after."""

NAME_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """A search that is ready to train."""

    settings: SearchSettings
    name: str
    fingerprint: Mapping[str, Any]
    data: PreparedData
    network: PreparedNetwork
    features: FeatureStore

    @property
    def store(self) -> FoldStore:
        """Where finished folds are kept."""
        return FoldStore(folder=get_study_folder(self.settings, name=self.name))

    @cached_property
    def novelty(self) -> NoveltyModel:
        """What the study's materials look like to the trunk; computed when it is first asked for."""
        return fit_known_images(self.data, features=self.features)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that was skipped, replaced or fell back."""
        return (*self.data.catalogue.warnings, *self.network.weights.warnings, *self.features.warnings)


def compute_fingerprint(settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork) -> dict[str, Any]:
    """Return what must be equal for two results to be comparable, as JSON values by name."""
    values = settings.model_dump(mode="json", include=set(INCOMPARABLE))
    return {
        **values,
        "data": data.catalogue.digest,
        "fold_table": data.folds.digest,
        "weights": network.weights.sha256,
        "precision": network.precision,
        "results_version": RESULTS_VERSION,
    }


def name_study(settings: SearchSettings, *, fingerprint: Mapping[str, Any]) -> str:
    """Return the study's name: the one asked for, else one that the same search always gets."""
    if settings.study is not None:
        return settings.study
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
    return f"{settings.backbone}-{settings.preset}-{digest[:NAME_DIGITS]}"


def get_study_folder(settings: SearchSettings, *, name: str) -> Path:
    """Return the folder of one study."""
    return Path(settings.study_folder) / name


def lock_stores(settings: SearchSettings) -> FileLock:
    """Return the lock under which databases are made, cells queued and winners registered, one search at a time.

    MLflow and Optuna both create their tables on first use, and neither survives another process that does the same.
    """
    folder = Path(settings.study_folder)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".stores.lock")


def claim_study_folder(
    settings: SearchSettings, *, name: str, fingerprint: Mapping[str, Any], folds: FoldTable
) -> FoldTable:
    """Write the study's folder once, or check that it belongs to this search; return its fold table.

    Raises:
        StudyMismatchError: The folder belongs to a study with other settings; each difference is named.
    """
    folder = get_study_folder(settings, name=name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        stated = folder / "study.json"
        if stated.exists():
            check_fingerprint(name=name, stored=json.loads(stated.read_text(encoding="utf-8")), wanted=fingerprint)
            return FoldTable.from_json((folder / "folds.json").read_text(encoding="utf-8"))
        write_atomically(folder / "folds.json", folds.to_json().encode())
        write_atomically(stated, json.dumps(fingerprint, indent=1, sort_keys=True).encode())
        return folds


def check_study_name(name: str) -> None:
    """Refuse names that could not be folders.

    Raises:
        StudyMismatchError: The name holds a path separator or is empty.
    """
    if not name.strip() or set(name) & set('/\\:*?"<>|') or name.startswith("."):
        raise StudyMismatchError(
            f"study={name!r} cannot be the name of a folder: use letters, digits, '-', '_' and '.'."
        )

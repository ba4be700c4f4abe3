"""Everything a search knows before its first trial: settings, data, network and features, under one name.

The name and the fingerprint are what makes a search the same search when its command is given again.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from sem_search.errors import SettingsError, StoreError, StudyMismatchError
from sem_search.evaluation.novelty import NoveltyModel
from sem_search.micrographs.folds import FoldTable
from sem_search.search.cluster.object_store import open_shared
from sem_search.search.folds.store import FoldStore, write_atomically
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.known_images import fit_known_images
from sem_search.search.prepare.network import PreparedNetwork, build_trainer
from sem_search.search.pruning.pruners import EXTRAPOLATION
from sem_search.search.trials.study import check_fingerprint, read_stored_fingerprint
from sem_search.settings import AUTO, INCOMPARABLE, SearchSettings
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads.training import HeadTrainer
from sem_search.transfer.trunk import POLICIES

RESULTS_VERSION = 1
"""Raised when a change of the program changes the numbers: folds of before are then not mixed with folds of after."""

NAME_DIGITS = 8

MAX_NAME_BYTES = 200
"""Of a study's name: file systems take 255, and temporary files beside it need room for their own endings."""

SEAL = "sha256"
"""Where `study.json` holds the hash of all the rest."""


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """A search that is ready to train."""

    settings: SearchSettings
    name: str
    fingerprint: Mapping[str, Any]
    data: PreparedData
    network: PreparedNetwork
    features: FeatureStore
    mended: tuple[str, ...] = ()
    """A warning for each file of the study's folder that was damaged."""

    @cached_property
    def trainer(self) -> HeadTrainer:
        """Trains heads."""
        return build_trainer(self.settings, data=self.data, network=self.network, features=self.features)

    @property
    def store(self) -> FoldStore:
        """Where finished folds are kept."""
        return open_fold_store(self.settings, name=self.name)

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


def name_study(settings: SearchSettings, *, fingerprint: Mapping[str, Any]) -> str:
    """Return the study's name: the one asked for, else one that the same search always gets."""
    if settings.study is not None:
        return settings.study
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
    return f"{settings.backbone}-{settings.preset}-{digest[:NAME_DIGITS]}"


def find_begun_precision(settings: SearchSettings, *, fingerprint: Mapping[str, Any]) -> str:
    """Return the precision of the study that a search goes on with; of a new one, that of its fingerprint.

    Measured again, in a cache that was cleared or on another machine, `precision=auto` may come out differently: that
    alone makes no other study.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
    """
    measured = str(fingerprint["precision"])
    if settings.precision != AUTO:
        return measured
    for precision in (measured, *(other for other in POLICIES if other != measured)):
        name = name_study(settings, fingerprint={**fingerprint, "precision": precision})
        stored = read_stored_fingerprint(name=name, storage=settings.storage)
        if stored is not None and stored.get("precision") == precision:
            return precision
    return measured


def get_study_folder(settings: SearchSettings, *, name: str) -> Path:
    """Return the folder of one study."""
    return Path(settings.study_folder) / name


def open_fold_store(settings: SearchSettings, *, name: str) -> FoldStore:
    """Return where the finished folds of a study are kept."""
    return FoldStore(folder=get_study_folder(settings, name=name), shared=open_shared(settings.shared))


def lock_stores(settings: SearchSettings) -> FileLock:
    """Return the lock under which databases are made, cells queued and winners registered, one search at a time.

    MLflow and Optuna both create their tables on first use, and neither survives another process that does the same.

    Raises:
        SettingsError: `study_folder` cannot be made or written.
    """
    folder = Path(settings.study_folder)
    _make_folder(folder, settings=settings)
    return FileLock(folder / ".stores.lock")


def claim_study_folder(
    settings: SearchSettings, *, name: str, fingerprint: Mapping[str, Any], folds: FoldTable
) -> tuple[str, ...]:
    """Write the study's folder once, or check that it belongs to this search.

    Both files in it can be made anew where they are damaged: what the study is stands in its database, too, and a fold
    table is a pure function of data and seed whose hash is part of the fingerprint.

    Returns:
        A warning for each file that was damaged and has been written again.

    Raises:
        SettingsError: `study_folder` cannot be made or written.
        StudyMismatchError: The folder belongs to a study with other settings, each difference is named; or its
            `study.json` is damaged, and no study of this name vouches for the finished folds beside it.
    """
    folder = get_study_folder(settings, name=name)
    _make_folder(folder, settings=settings)
    with FileLock(folder / ".lock"):
        stated, table = folder / "study.json", folder / "folds.json"
        warnings = []
        if stated.exists():
            stored = _read_statement(stated)
            if stored is None:
                _check_vouched(settings, name=name, fingerprint=fingerprint, damaged=stated)
                warnings.append(f"{stated} was damaged; it has been written again as the study's database has it.")
            else:
                check_fingerprint(name=name, stored=stored, wanted=fingerprint)
            if not _is_table(table, folds=folds):
                warnings.append(f"{table} was damaged or lost; the same fold table has been drawn and written again.")
                stored = None
            if stored is not None:
                return ()
        write_atomically(table, folds.to_json().encode())
        write_atomically(stated, _seal(fingerprint))
        return tuple(warnings)


def check_study_name(name: str) -> None:
    """Refuse names that could not be folders.

    Raises:
        StudyMismatchError: The name holds a path separator or a sign that cannot be printed, is empty or too long.
    """
    is_fit = name.strip() and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES
    if not is_fit or set(name) & set('/\\:*?"<>|') or name.startswith("."):
        raise StudyMismatchError(
            f"study={_cut(name)!r} cannot be the name of a folder: use letters, digits, '-', '_' and '.', "
            f"at most {MAX_NAME_BYTES} bytes."
        )


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME_BYTES else f"{name[:MAX_NAME_BYTES]}..."


def _make_folder(folder: Path, *, settings: SearchSettings) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "it cannot be written")
    except OSError as error:
        raise SettingsError(
            f"study_folder={settings.study_folder!r}: the folder {folder.absolute()} cannot be used "
            f"({error.strerror}): name a place that can be written."
        ) from error


def _seal(fingerprint: Mapping[str, Any]) -> bytes:
    """Return `study.json`: the fingerprint, and the hash by which a flipped bit is told from another study."""
    return json.dumps({**fingerprint, SEAL: _hash(fingerprint)}, indent=1, sort_keys=True).encode()


def _hash(fingerprint: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def _read_statement(file: Path) -> dict[str, Any] | None:
    """Return the fingerprint that `study.json` states, None where it is damaged; one without a seal is of before."""
    try:
        stated = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(stated, dict):
        return None
    seal = stated.pop(SEAL, None)
    return stated if seal in (None, _hash(stated)) else None


def _check_vouched(settings: SearchSettings, *, name: str, fingerprint: Mapping[str, Any], damaged: Path) -> None:
    """Raise unless the study's database says that the study of this name is this very search."""
    vouched = read_stored_fingerprint(name=name, storage=settings.storage)
    if vouched is None:
        raise StudyMismatchError(
            f"{damaged} is damaged, and the storage holds no study {name!r} that tells what the finished folds beside "
            f"it were trained with. Give the study's own storage, remove {damaged.parent}, or give another study=NAME."
        )
    check_fingerprint(name=name, stored=vouched, wanted=fingerprint)


def _is_table(file: Path, *, folds: FoldTable) -> bool:
    """Tell whether the file holds this very table."""
    with suppress(OSError, StoreError, UnicodeDecodeError):
        return FoldTable.from_json(file.read_text(encoding="utf-8")) == folds
    return False

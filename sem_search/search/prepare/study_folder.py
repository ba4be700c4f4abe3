"""The folder of a study: it states what the study is, and holds its fold table and its finished folds.

    studies/<study>/study.json      the fingerprint, and its hash
    studies/<study>/folds.json      the fold table, for people to read: it is drawn again from data and seed
    studies/<study>/report.html     the report, once the search has ended
    studies/<study>/paper.html      the page of `sem-search paper`, with its first study

The first two are written again where they are damaged: the study's database has the fingerprint, too.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.files import write_atomically
from sem_search.micrographs.folds import FoldTable
from sem_search.places import REPORT
from sem_search.search.cluster.object_store import open_shared
from sem_search.search.folds.store import FoldStore
from sem_search.search.prepare.fingerprint import hash_fingerprint
from sem_search.search.trials.study import check_fingerprint, read_stored_fingerprint
from sem_search.secrets import mask_secrets
from sem_search.settings import SearchSettings

STATEMENT = "study.json"

HASH = "sha256"
"""Where `study.json` holds the hash of all the rest: by it a flipped bit is known from another study."""


def get_study_folder(settings: SearchSettings, *, name: str) -> Path:
    """Return the folder of one study."""
    return Path(settings.study_folder) / name


def write_report(text: str, *, settings: SearchSettings, name: str, page: str = REPORT) -> Path:
    """Write the report of a study, or another page, into its folder, and return its file.

    Raises:
        StoreError: It cannot be written.
    """
    file = get_study_folder(settings, name=name).absolute() / page
    write_atomically(file, mask_secrets(text).encode())
    return file


def open_fold_store(settings: SearchSettings, *, name: str) -> FoldStore:
    """Return the store of a study's finished folds."""
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

    Args:
        settings: Where study folders and the study's database are.
        name: The study's name.
        fingerprint: What the study is.
        folds: Its fold table.

    Returns:
        A warning for each file that was damaged and has been written again.

    Raises:
        SettingsError: `study_folder` cannot be made or written.
        StudyMismatchError: The folder belongs to a study with other settings, each difference is named; or its
            `study.json` is damaged, and the storage has no study of this name.
    """
    folder = get_study_folder(settings, name=name)
    _make_folder(folder, settings=settings)
    statement, table, content = folder / STATEMENT, folder / "folds.json", folds.to_json().encode()
    warnings = []
    with FileLock(folder / ".lock"):
        is_begun = statement.exists()
        stored = _read_statement(statement) if is_begun else None
        if is_begun and stored is None:
            stored = _read_vouched(settings, name=name, damaged=statement)
            warnings.append(f"{statement} was damaged; it has been written again as the study's database has it.")
        if stored is not None:
            check_fingerprint(name=name, stored=stored, wanted=fingerprint)
        if is_begun and not (table.exists() and table.read_bytes() == content):
            warnings.append(f"{table} was damaged or lost; the same fold table has been drawn and written again.")
        if warnings or not is_begun:
            write_atomically(table, content)
            sealed = {**fingerprint, HASH: hash_fingerprint(fingerprint)}
            write_atomically(statement, json.dumps(sealed, indent=1, sort_keys=True).encode())
    return tuple(warnings)


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


def _read_statement(file: Path) -> dict[str, Any] | None:
    """Return the fingerprint that `study.json` states, None where it is damaged; the oldest have no hash."""
    try:
        stated = dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return stated if stated.pop(HASH, None) in (None, hash_fingerprint(stated)) else None


def _read_vouched(settings: SearchSettings, *, name: str, damaged: Path) -> dict[str, Any]:
    """Return the fingerprint of the study of this name in the study's database."""
    vouched = read_stored_fingerprint(name=name, storage=settings.storage)
    if vouched is None:
        raise StudyMismatchError(
            f"{damaged} is damaged, and the storage holds no study {name!r} that shows how the finished folds beside "
            f"it were trained. Give the study's own storage, remove {damaged.parent}, or give another study=NAME."
        )
    return vouched

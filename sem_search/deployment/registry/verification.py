"""Whether a version and the history of its model are still what was written: checked against hashes, part by part.

What cannot be found from inside: an attacker who may write to the database and to the artifacts can make everything
anew, with hashes that fit, or cut off the last entries together with the aliases and the decisions. Against
that there is the hash of the last entry, which every move and `verify` print. Kept where no such person can write (a
laboratory notebook, a mail, a paper), `expect_head` proves later that everything up to that entry is as it was. Nor can
bytecode be checked, which loading left beside the code: it is on no list.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sem_search.deployment.package.description import compute_file_sha256
from sem_search.deployment.package.files import FILE_LIST, check_files
from sem_search.deployment.package.record import RECORD_FOLDER, read_card, read_catalogue_record, read_folds_record
from sem_search.deployment.registry.contents import fetch_files, find_list_problem
from sem_search.deployment.registry.history import (
    History,
    HistoryEntry,
    describe_champion_state,
    iter_problems,
    read_history,
)
from sem_search.deployment.registry.versions import (
    TAG_DATA,
    TAG_DECISION,
    TAG_FILES,
    TAG_FOLDS,
    TAG_SOURCE_RUN,
    find_version,
    list_model_versions,
    open_client,
    read_hashes,
    read_scores,
)
from sem_search.errors import DataError, SettingsError, StoreError
from sem_search.settings import DEMO
from sem_search.words import count

SHORTEST_HASH = 8
"""Digits by which a hash is known; fewer could be guessed."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of a version, compared with what was written of it."""

    name: str
    outcome: Literal["ok", "failed", "not checked"]
    detail: str
    """What was compared, what does not match, or why nothing could be compared."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Everything that was checked of a version."""

    model: str
    version: str
    checks: tuple[Check, ...]
    head_sha256: str | None
    """Hash of the last entry, to be written down."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing failed; what was not checked says so."""
        return self.first_failure is None

    @property
    def first_failure(self) -> Check | None:
        """The first part that does not match."""
        return next((check for check in self.checks if check.outcome == "failed"), None)


class _NotCheckedError(Exception):
    """There is nothing to compare with; the message says what is missing."""


def verify_version(
    name: str, version: str, *, data: Path | None = None, expect_head: str | None = None
) -> Verification:
    """Check a version and the history of its model.

    Args:
        name: Registered model.
        version: Number, alias or `latest`.
        data: Folder or CSV that the model was made from; None: where its run says, if that can be reached from here.
        expect_head: Hash of an entry that was written down earlier, or its first 8 digits or more.

    Raises:
        ModelNotFoundError: There is no such model or version.
        DataError: `data` is not there.
        SettingsError: `expect_head` is no hash.
    """
    client = open_client()
    found = find_version(client, name=name, version=version)
    root = _locate_data(client, version=found, data=data)
    history = read_history(client, name=name)
    with fetch_files(found) as folder:
        rows: dict[str, Callable[[], str]] = {
            "history": lambda: _check_history(history),
            "end of the history": lambda: _check_end(history),
            "expected head": lambda: _check_head(history, expect_head=expect_head or ""),
            "tags of the version": lambda: _check_tags(found, history=history),
            "list of files": lambda: _check_list(folder, version=found),
            "files": lambda: _check_files(folder),
            "catalogue": lambda: _check_digest(folder, version=found, tag=TAG_DATA),
            "folds": lambda: _check_digest(folder, version=found, tag=TAG_FOLDS),
            "images": lambda: _check_images(folder, root=root),
        }
        if expect_head is None:
            del rows["expected head"]
        checks = tuple(_check(row, look) for row, look in rows.items())
    return Verification(model=name, version=str(found.version), checks=checks, head_sha256=history.last_sha256)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, outcome="ok", detail=look())
    except _NotCheckedError as reason:
        return Check(name=name, outcome="not checked", detail=str(reason))
    except StoreError as problem:
        return Check(name=name, outcome="failed", detail=str(problem))


def _refuse(problems: Iterable[str | None]) -> None:
    """Raise StoreError with the first problem and how many more there are, if there is one."""
    listed = [problem for problem in problems if problem]
    if listed:
        raise StoreError(f"{listed[0]} ({len(listed) - 1} more)" if len(listed) > 1 else listed[0])


def _locate_data(client: MlflowClient, *, version: ModelVersion, data: Path | None) -> Path | None:
    """Return the folder that image paths are relative to; None if it cannot be reached.

    Raises:
        DataError: A folder was named, and is not there.
    """
    if data is not None and not data.exists():
        raise DataError(f"data={data}: there is no such folder or CSV file here ({data.absolute()}).")
    path = data or _read_data_param(client, run_id=version.tags.get(TAG_SOURCE_RUN))
    if path is None or not path.exists():
        return None
    return path if path.is_dir() else path.parent


def _read_data_param(client: MlflowClient, *, run_id: str | None) -> Path | None:
    """Return what the run's `data` was; None for the demonstration set, which lies in no folder of the user's."""
    try:
        data = client.get_run(run_id).data.params.get("data") if run_id else None
    except MlflowException:  # the run is gone, and with it where the data were
        return None
    return Path(data).expanduser() if data and data != DEMO else None


def _check_history(history: History) -> str:
    _refuse(iter_problems(history))
    n_entries = len(history.entries)
    return f"{'1 entry' if n_entries == 1 else f'{n_entries} entries'}, each follows the one before"


def _check_end(history: History) -> str:
    """Look for what shows that the last entries are missing, or that an alias was moved past the history."""
    versions = list_model_versions(history.model)
    lost = [
        f"version {number} was given an alias when it was registered, and the history lacks the entry."
        for number, version in versions.items()
        if TAG_DECISION in version.tags and history.find_registration(number) is None
    ]
    _refuse([*lost, describe_champion_state(history, versions=versions)])
    return "the aliases stand where it says"


def _check_head(history: History, *, expect_head: str) -> str:
    """Look for an entry that was written down earlier.

    Raises:
        SettingsError: What was given is no hash.
    """
    wanted = expect_head.strip().lower()
    if len(wanted) < SHORTEST_HASH or set(wanted) - set("0123456789abcdef"):
        raise SettingsError(
            f"expect_head={expect_head!r} is no hash: give the one that was printed, or its first {SHORTEST_HASH} "
            "digits or more."
        )
    entry = next((entry for entry in history.entries if entry.compute_sha256().startswith(wanted)), None)
    if entry is None:
        raise StoreError(f"no entry has the hash {wanted[:16]}: the history was cut short or made anew.")
    n_later = len(history.entries) - entry.number
    since = f"{count(n_later, 'move')} since" if n_later else "it is the last"
    return f"entry {entry.number} has this hash; {since}"


def _check_tags(version: ModelVersion, *, history: History) -> str:
    """Compare the version's tags with what the history says that they were."""
    entry = history.find_registration(str(version.version))
    if entry is None:
        raise _NotCheckedError("the history has no entry of its registration")
    _refuse(_iter_tag_problems(version, entry=entry))
    return f"as entry {entry.number} of the history says"


def _iter_tag_problems(version: ModelVersion, *, entry: HistoryEntry) -> Iterator[str]:
    facts = {"run": version.tags.get(TAG_SOURCE_RUN), "decision": version.tags.get(TAG_DECISION, entry.reason)}
    now = {**facts, **read_scores(version), **read_hashes(version)}
    scores = entry.scores.get(str(version.version), {})
    then = {"run": entry.run_id, "decision": entry.reason, **scores, **entry.hashes}
    for name in {**now, **then}:
        if now.get(name) != then.get(name):
            yield f"{name} is {now.get(name)!r}, and entry {entry.number} of the history says {then.get(name)!r}."


def _check_list(folder: Path | None, *, version: ModelVersion) -> str:
    """Compare the list of files with the hash that was registered."""
    registered = version.tags.get(TAG_FILES)
    if registered is None:
        raise _NotCheckedError("the version was registered without its hash")
    if folder is None:
        raise _NotCheckedError("there are no files")
    _refuse([find_list_problem(folder, registered_sha256=registered)])
    return f"sha256 {registered[:16]}..., as registered"


def _check_files(folder: Path | None) -> str:
    """Compare every file, weights and code among them, with the list."""
    if folder is None:
        raise StoreError("the model's files are gone from the store.")
    if not (folder / FILE_LIST).is_file():
        raise _NotCheckedError(f"the model has no {FILE_LIST}")
    report = check_files(folder)
    _refuse(report.problems)
    left = f"; {report.n_bytecode} files of bytecode, left by loading, are on no list" if report.n_bytecode else ""
    return f"{report.n_files} files, weights and code among them{left}"


def _find_record(folder: Path | None) -> Path:
    record = (folder or Path()) / "artifacts" / RECORD_FOLDER
    if folder is None or not record.is_dir():
        raise _NotCheckedError("the model was logged without a record")
    return record


def _check_digest(folder: Path | None, *, version: ModelVersion, tag: str) -> str:
    """Compare the recorded catalogue, or folds, with the digests on the model card and in the registry."""
    record = _find_record(folder)
    recorded = read_catalogue_record(record, root=Path()) if tag == TAG_DATA else read_folds_record(record)
    digest = recorded.digest
    stated = {"the model card": read_card(record).hashes.get(tag), "the registered version": version.tags.get(tag)}
    for where, sha256 in stated.items():
        if sha256 != digest:
            raise StoreError(
                f"what is recorded has the sha256 {digest[:16]}..., and {where} says {(sha256 or 'none')[:16]}."
            )
    return f"sha256 {digest[:16]}..., as registered and as on the model card"


def _check_images(folder: Path | None, *, root: Path | None) -> str:
    """Rehash the image files themselves, where they can be reached."""
    record = _find_record(folder)
    if root is None:
        raise _NotCheckedError("their folder cannot be reached from here; give it with --data FOLDER")
    images = read_catalogue_record(record, root=root).records
    _refuse(
        f"image {image.image_id} is missing ({image.path})."
        if not image.path.is_file()
        else f"image {image.image_id} is not the file that the model was made from ({image.path})."
        for image in images
        if not image.path.is_file() or compute_file_sha256(image.path) != image.sha256
    )
    return f"the {len(images)} image files below {root} are those that the model was made from"

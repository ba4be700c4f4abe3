"""Whether a version and the history of its model are still what was written: checked against hashes, part by part.

What cannot be found from inside: an attacker who may write to the database and to the artifacts can make everything
anew, with hashes that fit, or cut off the last entries together with the aliases and the decisions. Against
that there is the hash of the last entry, which every move and `verify` print. Kept where no such person can write (a
laboratory notebook, a mail, a paper), `expect_head` proves later that everything up to that entry is as it was. Nor can
bytecode be checked, which loading left beside the code: it is on no list.
"""

from collections.abc import Iterable, Iterator, Mapping
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
    describe_hashes,
    describe_scores,
    find_version,
    list_model_versions,
    open_client,
)
from sem_search.errors import DataError, SettingsError, StoreError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.settings import DEMO

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
    checks = [*_iter_history_checks(history)]
    if expect_head is not None:
        checks.append(_check_head(history, expect_head=expect_head))
    checks += [_check_tags(found, history=history), *_iter_file_checks(found, root=root)]
    return Verification(model=name, version=str(found.version), checks=tuple(checks), head_sha256=history.last_sha256)


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


def _iter_history_checks(history: History) -> Iterator[Check]:
    entries = "1 entry" if len(history.entries) == 1 else f"{len(history.entries)} entries"
    forks = f", {history.n_forks} made at the same moment as another" if history.n_forks else ""
    yield _check("history", iter_problems(history), ok=f"{entries}, each follows the one before{forks}")
    versions = list_model_versions(history.model)
    end = _iter_end_problems(history, versions=versions)
    yield _check("end of the history", end, ok="the aliases stand where it says")


def _iter_end_problems(history: History, *, versions: Mapping[str, ModelVersion]) -> Iterator[str]:
    """Yield what shows that the last entries are missing, or that an alias was moved past the history."""
    for number, version in versions.items():
        if TAG_DECISION in version.tags and history.find_registration(number) is None:
            yield f"version {number} was given an alias when it was registered, and the history lacks the entry."
    state = describe_champion_state(history, versions=versions)
    if state is not None:
        yield state


def _check_head(history: History, *, expect_head: str) -> Check:
    """Look for an entry that was written down earlier.

    Raises:
        SettingsError: What was given is no hash.
    """
    wanted, name = expect_head.strip().lower(), "expected head"
    if len(wanted) < SHORTEST_HASH or set(wanted) - set("0123456789abcdef"):
        raise SettingsError(
            f"expect_head={expect_head!r} is no hash: give the one that was printed, or its first {SHORTEST_HASH} "
            "digits or more."
        )
    entry = next((entry for entry in history.entries if entry.compute_sha256().startswith(wanted)), None)
    if entry is None:
        return _check(name, [f"no entry has the hash {wanted[:16]}: the history was cut short or made anew."])
    n_later = len(history.entries) - entry.number
    since = f"{n_later} moves since" if n_later else "it is the last"
    return _check(name, ok=f"entry {entry.number} has this hash; {since}")


def _check_tags(version: ModelVersion, *, history: History) -> Check:
    """Compare the version's tags with what the history says that they were."""
    name, entry = "tags of the version", history.find_registration(str(version.version))
    if entry is None:
        return Check(name=name, outcome="not checked", detail="the history has no entry of its registration")
    return _check(name, _iter_tag_problems(version, entry=entry), ok=f"as entry {entry.number} of the history says")


def _iter_tag_problems(version: ModelVersion, *, entry: HistoryEntry) -> Iterator[str]:
    number = str(version.version)
    decision = version.tags.get(TAG_DECISION, entry.reason)
    run = version.tags.get(TAG_SOURCE_RUN)
    now = {"run": run, "decision": decision, **describe_scores(version)[number], **describe_hashes(version)}
    then = {"run": entry.run_id, "decision": entry.reason, **entry.scores.get(number, {}), **entry.hashes}
    for name in {**now, **then}:
        if now.get(name) != then.get(name):
            yield f"{name} is {now.get(name)!r}, and entry {entry.number} of the history says {then.get(name)!r}."


def _iter_file_checks(version: ModelVersion, *, root: Path | None) -> Iterator[Check]:
    with fetch_files(version) as folder:
        if folder is None:
            yield _check("files", ["the model's files are gone from the store."])
            return
        yield _check_file_list(folder, version=version)
        yield _check_each_file(folder)
        yield from _iter_record_checks(folder / "artifacts" / RECORD_FOLDER, version=version, root=root)


def _check_file_list(folder: Path, *, version: ModelVersion) -> Check:
    """Compare the list of files with the hash that was registered."""
    name, registered = "list of files", version.tags.get(TAG_FILES)
    if registered is None:
        return Check(name=name, outcome="not checked", detail="the version was registered without its hash")
    problem = find_list_problem(folder, registered_sha256=registered)
    return _check(name, [problem] if problem else (), ok=f"sha256 {registered[:16]}..., as registered")


def _check_each_file(folder: Path) -> Check:
    """Compare every file, weights and code among them, with the list."""
    if not (folder / FILE_LIST).is_file():
        return Check(name="files", outcome="not checked", detail=f"the model has no {FILE_LIST}")
    try:
        report = check_files(folder)
    except StoreError as error:
        return _check("files", [str(error)])
    left = f"; {report.n_bytecode} files of bytecode, left by loading, are on no list" if report.n_bytecode else ""
    return _check("files", report.problems, ok=f"{report.n_files} files, weights and code among them{left}")


def _iter_record_checks(record: Path, *, version: ModelVersion, root: Path | None) -> Iterator[Check]:
    if not record.is_dir():
        yield Check(name="catalogue", outcome="not checked", detail="the model was logged without a record")
        return
    try:
        catalogue = read_catalogue_record(record, root=root or Path())
        digests = {"catalogue": (TAG_DATA, catalogue.digest), "folds": (TAG_FOLDS, read_folds_record(record).digest)}
        on_card = read_card(record).hashes
    except StoreError as error:
        yield _check("catalogue", [str(error)])
        return
    for name, (tag, digest) in digests.items():
        stated = {"the model card": on_card.get(tag), "the registered version": version.tags.get(tag)}
        problems = [
            f"what is recorded has the sha256 {digest[:16]}..., and {where} says {(sha256 or 'none')[:16]}."
            for where, sha256 in stated.items()
            if sha256 != digest
        ]
        yield _check(name, problems[:1], ok=f"sha256 {digest[:16]}..., as registered and as on the model card")
    yield _check_images(catalogue, root=root)


def _check_images(catalogue: Catalogue, *, root: Path | None) -> Check:
    """Rehash the image files themselves, where they can be reached."""
    if root is None:
        detail = "their folder cannot be reached from here; give it with --data FOLDER"
        return Check(name="images", outcome="not checked", detail=detail)
    problems = filter(None, map(_find_image_problem, catalogue.records))
    ok = f"the {len(catalogue.records)} image files below {root} are those that the model was made from"
    return _check("images", problems, ok=ok)


def _find_image_problem(record: ImageRecord) -> str | None:
    if not record.path.is_file():
        return f"image {record.image_id} is missing ({record.path})."
    if compute_file_sha256(record.path) != record.sha256:
        return f"image {record.image_id} is not the file that the model was made from ({record.path})."
    return None


def _check(name: str, problems: Iterable[str] = (), *, ok: str = "") -> Check:
    """Return a check that fails with the first problem, and says how many more there are."""
    listed = list(problems)
    if not listed:
        return Check(name=name, outcome="ok", detail=ok)
    more = f" ({len(listed) - 1} more)" if len(listed) > 1 else ""
    return Check(name=name, outcome="failed", detail=f"{listed[0]}{more}")

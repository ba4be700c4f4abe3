"""Whether a version and the history of its model are still what was written: checked against hashes, part by part.

What is found: an altered byte in any file of the model, in its record or in the list of its files; an altered, removed
or inserted entry of the history; an alias that something else moved; altered tags of score, data or origin; removed
last entries, by the mark of the last move, by their copies in the runs, and by versions whose registration is missing;
images that are not those of the catalogue, if their folder can be reached.

What cannot be found from inside: somebody who may write to the database and to the artifacts can make everything anew,
with hashes that fit, or cut off the last entries together with their copies, the mark and the decisions; bytecode that
loading left beside the code is on no list. Against all but the last there is an anchor: the hash of the last entry,
which every move and `verify` print. Kept where nobody who can write to the registry can write (a laboratory notebook, a
mail, a paper), `expect_head` proves later that everything up to that entry is as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sem_search.deployment.package.description import compute_file_sha256
from sem_search.deployment.package.files import FILE_LIST, check_files
from sem_search.deployment.package.record import RECORD_FOLDER, read_card, read_catalogue_record, read_folds_record
from sem_search.deployment.registry.contents import fetch_files
from sem_search.deployment.registry.copies import iter_copy_problems
from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.history import count_forks, iter_problems
from sem_search.deployment.registry.listing import describe_champion_state
from sem_search.deployment.registry.moves_log import Journal, read_journal
from sem_search.deployment.registry.stores import open_client
from sem_search.deployment.registry.tags import TAG_DATA, TAG_DECISION, TAG_FILES, TAG_FOLDS, TAG_SOURCE_RUN
from sem_search.deployment.registry.version_facts import describe_hashes, describe_scores
from sem_search.deployment.registry.versions import find_version, list_model_versions
from sem_search.errors import DataError, SettingsError, StoreError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.settings import DEMO

Outcome = Literal["ok", "failed", "not checked"]

SHORTEST_HASH = 8
"""Digits by which a hash is known; fewer could be guessed."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of a version, compared with what was written of it."""

    name: str
    outcome: Outcome
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
    journal = read_journal(client, name=name)
    return Verification(
        model=name,
        version=str(found.version),
        checks=(
            *_iter_history_checks(client, journal=journal, expect_head=expect_head),
            _check_tags(found, journal=journal),
            *_iter_file_checks(found, root=root),
        ),
        head_sha256=journal.history.stored[-1].stated_sha256 if journal.history.stored else None,
    )


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
    except MlflowException:  # the run is gone: then nobody knows where the data were
        return None
    return Path(data).expanduser() if data and data != DEMO else None


def _iter_history_checks(client: MlflowClient, *, journal: Journal, expect_head: str | None) -> Iterator[Check]:
    history = journal.history
    n_forks = count_forks(history)
    entries = "1 entry" if len(history.entries) == 1 else f"{len(history.entries)} entries"
    forks = f", {n_forks} made at the same moment as another" if n_forks else ""
    yield _sum_up("history", iter_problems(history), ok=f"{entries}, each follows the one before{forks}")
    versions = list_model_versions(client, name=journal.name)
    yield _sum_up(
        "end of the history", _iter_end_problems(journal, versions=versions), ok="the aliases stand where it says"
    )
    yield _sum_up(
        "copies of the history",
        iter_copy_problems(client, journal=journal, versions=versions),
        ok="the runs hold the same entries",
    )
    if expect_head is not None:
        yield _check_head(journal, expect_head=expect_head)


def _iter_end_problems(journal: Journal, *, versions: list[ModelVersion]) -> Iterator[str]:
    """Yield what tells that the last entries are missing, or that an alias was moved past the history."""
    hashes = {stored.stated_sha256 for stored in journal.history.stored}
    if journal.settled is not None and journal.settled not in hashes:
        yield f"the last move that was carried out is the entry {journal.settled[:16]}..., which is not there."
    if journal.pending is not None:
        yield f"the move of entry {journal.pending.number} was interrupted: make it again, and it is finished."
        return
    for version in versions:
        number = str(version.version)
        if TAG_DECISION in version.tags and journal.history.find(action="registered", version=number) is None:
            yield f"version {number} was given an alias when it was registered, and the history does not tell of it."
    state = describe_champion_state(journal, versions=[str(version.version) for version in versions])
    if state is not None:
        yield state


def _check_head(journal: Journal, *, expect_head: str) -> Check:
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
    for stored in journal.history.stored:
        if stored.entry.sha256.startswith(wanted):
            n_later = len(journal.history.stored) - stored.entry.number
            since = f"{n_later} moves since" if n_later else "it is the last"
            return Check(
                name="expected head", outcome="ok", detail=f"entry {stored.entry.number} has this hash; {since}"
            )
    return Check(
        name="expected head",
        outcome="failed",
        detail=f"no entry has the hash {wanted[:16]}: the history was cut short or made anew.",
    )


def _check_tags(version: ModelVersion, *, journal: Journal) -> Check:
    """Compare what the version's tags say with what the history says that they said."""
    number, name = str(version.version), "tags of the version"
    entry = journal.history.find(action="registered", version=number)
    if entry is None:
        return Check(name=name, outcome="not checked", detail="no entry of the history tells of its registration")
    return _sum_up(name, _iter_tag_problems(version, entry=entry), ok=f"as entry {entry.number} of the history says")


def _iter_tag_problems(version: ModelVersion, *, entry: HistoryEntry) -> Iterator[str]:
    number = str(version.version)
    pairs: list[tuple[str, object, object]] = [
        ("run", version.tags.get(TAG_SOURCE_RUN), entry.run_id),
        ("decision", version.tags.get(TAG_DECISION, entry.reason), entry.reason),
    ]
    stated, recorded = describe_scores(version)[number], entry.scores.get(number, {})
    pairs += [(name, stated.get(name), recorded.get(name)) for name in sorted({*stated, *recorded})]
    hashes = describe_hashes(version)
    pairs += [(name, hashes.get(name), entry.hashes.get(name)) for name in sorted({*hashes, *entry.hashes})]
    for name, now, then in pairs:
        if now != then:
            yield f"{name} is {now!r}, and entry {entry.number} of the history says {then!r}."


def _iter_file_checks(version: ModelVersion, *, root: Path | None) -> Iterator[Check]:
    with fetch_files(version) as folder:
        if folder is None:
            yield Check(name="files", outcome="failed", detail="the model's files are gone from the store.")
            return
        yield _check_file_list(folder, version=version)
        yield _check_each_file(folder)
        yield from _iter_record_checks(folder / "artifacts" / RECORD_FOLDER, version=version, root=root)


def _check_file_list(folder: Path, *, version: ModelVersion) -> Check:
    """Compare the list of files with the hash that was registered."""
    name, stated = "list of files", version.tags.get(TAG_FILES)
    if stated is None:
        return Check(name=name, outcome="not checked", detail="the version was registered without its hash")
    if not (folder / FILE_LIST).is_file():
        return Check(name=name, outcome="failed", detail=f"{FILE_LIST} is missing.")
    found = compute_file_sha256(folder / FILE_LIST)
    if found != stated:
        return Check(
            name=name,
            outcome="failed",
            detail=f"{FILE_LIST} is not what was registered: its sha256 is {found[:16]}..., not {stated[:16]}...",
        )
    return Check(name=name, outcome="ok", detail=f"sha256 {found[:16]}..., as registered")


def _check_each_file(folder: Path) -> Check:
    """Compare every file, weights and code among them, with the list."""
    if not (folder / FILE_LIST).is_file():
        return Check(name="files", outcome="not checked", detail=f"the model has no {FILE_LIST}")
    try:
        report = check_files(folder)
    except StoreError as error:
        return Check(name="files", outcome="failed", detail=str(error))
    left = f"; {report.n_bytecode} files of bytecode, left by loading, are on no list" if report.n_bytecode else ""
    return _sum_up("files", iter(report.problems), ok=f"{report.n_files} files, weights and code among them{left}")


def _iter_record_checks(record: Path, *, version: ModelVersion, root: Path | None) -> Iterator[Check]:
    if not record.is_dir():
        yield Check(name="catalogue", outcome="not checked", detail="the model was logged without a record")
        return
    try:
        catalogue = read_catalogue_record(record, root=root or Path())
        digests = {
            ("catalogue", TAG_DATA): catalogue.digest,
            ("folds", TAG_FOLDS): read_folds_record(record).digest,
        }
        stated = read_card(record).hashes
    except StoreError as error:
        yield Check(name="catalogue", outcome="failed", detail=str(error))
        return
    for (name, tag), digest in digests.items():
        yield _check_digest(name, digest=digest, on_card=stated.get(tag), registered=version.tags.get(tag))
    yield _check_images(catalogue, root=root)


def _check_digest(name: str, *, digest: str, on_card: str | None, registered: str | None) -> Check:
    for where, stated in (("the model card", on_card), ("the registered version", registered)):
        if stated != digest:
            detail = f"what is recorded has the sha256 {digest[:16]}..., and {where} says {(stated or 'none')[:16]}."
            return Check(name=name, outcome="failed", detail=detail)
    return Check(name=name, outcome="ok", detail=f"sha256 {digest[:16]}..., as registered and as on the model card")


def _check_images(catalogue: Catalogue, *, root: Path | None) -> Check:
    """Rehash the image files themselves, where they can be reached."""
    if root is None:
        return Check(
            name="images",
            outcome="not checked",
            detail="their folder cannot be reached from here; give it with --data FOLDER",
        )
    return _sum_up(
        "images",
        (problem for record in catalogue.records if (problem := _find_image_problem(record)) is not None),
        ok=f"the {len(catalogue.records)} image files below {root} are those that the model was made from",
    )


def _find_image_problem(record: ImageRecord) -> str | None:
    if not record.path.is_file():
        return f"image {record.image_id} is missing ({record.path})."
    if compute_file_sha256(record.path) != record.sha256:
        return f"image {record.image_id} is not the file that the model was made from ({record.path})."
    return None


def _sum_up(name: str, problems: Iterator[str], *, ok: str) -> Check:
    """Return a check that fails with the first problem, and says how many more there are."""
    listed = list(problems)
    if not listed:
        return Check(name=name, outcome="ok", detail=ok)
    more = f" ({len(listed) - 1} more)" if len(listed) > 1 else ""
    return Check(name=name, outcome="failed", detail=f"{listed[0]}{more}")

"""The history in MLflow: read, appended to, and carried out.

A move is written before it is made. First the entry, as a tag of the registered model; then its copy, as an artifact
of the run that caused it; then the alias; last the mark that the move was carried out. Whoever is killed in between
leaves an entry without a mark, and the next move finishes it first. An alias that stands elsewhere than the history
says, though the last move was carried out, was moved by something else: that is written down, too, before it changes.
"""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sem_search.deployment.registry.entries import Action, HistoryEntry
from sem_search.deployment.registry.history import History, read_history
from sem_search.deployment.registry.tags import CHALLENGER, CHAMPION, TAG_SETTLED
from sem_search.deployment.registry.versions import (
    get_aliases,
    get_registered_model,
    list_model_versions,
)
from sem_search.secrets import mask_secrets
from sem_search.tracking.mlflow.names import NOT_FOUND, make_safe_name

COPY_FOLDER = "registry"
"""Folder among a run's artifacts that keeps the copies of the entries which the run caused."""

USER_VARIABLE = "MLFLOW_TRACKING_USERNAME"
UNKNOWN_USER = "unknown"


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A registered model as it stands: its aliases, and what the history says of them."""

    name: str
    history: History
    aliases: Mapping[str, str]
    settled: str | None
    """Hash of the last entry whose move was carried out."""

    @property
    def champion(self) -> str | None:
        """The version that holds the alias."""
        return self.aliases.get(CHAMPION)

    @property
    def pending(self) -> HistoryEntry | None:
        """The last move, if it was written and not carried out."""
        heads = self.history.heads
        if len(heads) != 1 or heads[0] == self.settled:
            return None
        return self.history.stored[-1].entry

    @property
    def is_as_recorded(self) -> bool:
        """Whether the champion's alias stands where the history says."""
        return self.champion in self.history.recorded_champions


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A move to be made; number, hash, time and user are added when it is written."""

    action: Action
    alias: str
    to_version: str | None
    reason: str
    scores: Mapping[str, Mapping[str, float]]
    hashes: Mapping[str, str]
    comparison: Mapping[str, Any] | None = None
    run_id: str | None = None


def read_journal(client: MlflowClient, *, name: str) -> Journal:
    """Return what the registry says of a model.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    registered = get_registered_model(client, name=name)
    return Journal(
        name=name,
        history=read_history(registered.tags),
        aliases=get_aliases(registered),
        settled=registered.tags.get(TAG_SETTLED),
    )


def settle(client: MlflowClient, *, name: str, run_id: str | None) -> Journal:
    """Finish a move that was interrupted, and write down one that was made elsewhere; return how things stand then.

    Args:
        client: Of the registry.
        name: Registered model.
        run_id: The run of the move that is about to be made: it keeps the copy of an entry that no run caused.
    """
    journal = read_journal(client, name=name)
    pending = journal.pending
    if pending is not None:
        _carry_out(client, entry=pending, journal=journal, copy_to=pending.run_id or run_id)
        journal = read_journal(client, name=name)
    if journal.is_as_recorded:
        return journal
    _append_found(client, journal=journal, run_id=run_id)
    return read_journal(client, name=name)


def move(client: MlflowClient, draft: Draft, *, journal: Journal) -> HistoryEntry:
    """Write a move down, and make it.

    Args:
        client: Of the registry.
        draft: The move.
        journal: As `settle` returned it, read under the same lock.

    Returns:
        The entry.

    Raises:
        SettingsError: The reason is too long to be kept; nothing was moved.
    """
    entry = _complete(draft, journal=journal)
    client.set_registered_model_tag(journal.name, entry.key, entry.to_json())
    _carry_out(client, entry=entry, journal=journal, copy_to=entry.run_id)
    return entry


def name_copy(entry: HistoryEntry) -> str:
    """Return the artifact path of an entry's copy in its run."""
    return f"{COPY_FOLDER}/{make_safe_name(entry.model)}/{entry.number:06d}.{entry.sha256[:8]}.json"


def describe_user() -> str:
    """Return who moves: the user that is signed in to MLflow's server, else the one of this machine."""
    signed_in = os.environ.get(USER_VARIABLE)
    if signed_in:
        return signed_in
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return UNKNOWN_USER


def _complete(draft: Draft, *, journal: Journal) -> HistoryEntry:
    """Return the entry of a move: its place in the chain, time and user."""
    return HistoryEntry(
        number=journal.history.next_number,
        previous=tuple(sorted(journal.history.heads)),
        model=journal.name,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=describe_user(),
        action=draft.action,
        alias=draft.alias,
        from_version=journal.aliases.get(draft.alias),
        to_version=draft.to_version,
        reason=mask_secrets(draft.reason),
        scores=draft.scores,
        comparison=draft.comparison,
        hashes=draft.hashes,
        run_id=draft.run_id,
    )


def _append_found(client: MlflowClient, *, journal: Journal, run_id: str | None) -> None:
    """Write down that the champion's alias stands elsewhere than the history says; nothing is moved."""
    recorded = sorted(version or "none" for version in journal.history.recorded_champions)
    if journal.history.stored:
        reason = "the alias was moved, or its version deleted, by something else than sem-search."
    else:
        reason = "the history begins here; the alias stood here already."
    draft = Draft(
        action="found", alias=CHAMPION, to_version=journal.champion, reason=reason, scores={}, hashes={}, run_id=None
    )
    entry = replace(_complete(draft, journal=journal), from_version=None if recorded[0] == "none" else recorded[0])
    client.set_registered_model_tag(journal.name, entry.key, entry.to_json())
    if run_id is not None:
        _log_copy(entry, run_id=run_id)
    client.set_registered_model_tag(journal.name, TAG_SETTLED, entry.sha256)


def _carry_out(client: MlflowClient, *, entry: HistoryEntry, journal: Journal, copy_to: str | None) -> None:
    """Copy an entry that is written, move its alias, and mark it; every step may be repeated."""
    if copy_to is not None:
        _log_copy(entry, run_id=copy_to)
    if entry.action != "found" and entry.to_version is not None:
        _move_alias(client, entry=entry, to_version=entry.to_version, journal=journal)
    client.set_registered_model_tag(journal.name, TAG_SETTLED, entry.sha256)


def _move_alias(client: MlflowClient, *, entry: HistoryEntry, to_version: str, journal: Journal) -> None:
    """Move the alias in one step, so that there is a champion at every moment; a champion is challenger no more.

    Where an interrupted move is finished, the alias may have been moved by something else since, or the version may
    have been deleted: then nothing is moved.
    """
    is_free = journal.aliases.get(entry.alias) in (entry.from_version, to_version)
    if not is_free or to_version not in [str(each.version) for each in list_model_versions(client, name=journal.name)]:
        return
    client.set_registered_model_alias(journal.name, entry.alias, to_version)
    if entry.alias == CHAMPION and journal.aliases.get(CHALLENGER) == to_version:
        client.delete_registered_model_alias(journal.name, CHALLENGER)


def _log_copy(entry: HistoryEntry, *, run_id: str) -> None:
    """Keep a copy among the artifacts of a run, where it outlives a tag that is deleted."""
    try:
        MlflowClient().log_text(run_id, entry.to_json(), name_copy(entry))
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:  # the run is deleted for good: the history does not depend on it
            raise

"""A registered model at a glance: its versions, who is champion, and whether that is what the history says."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.history import iter_problems
from sem_search.deployment.registry.moves_log import Journal, read_journal
from sem_search.deployment.registry.stores import open_client
from sem_search.deployment.registry.tags import (
    CHAMPION,
    TAG_DECISION,
    TAG_SCORE,
    TAG_STUDY,
    TAG_TEST,
    TAG_VALIDATION,
)
from sem_search.deployment.registry.version_facts import read_number
from sem_search.deployment.registry.versions import list_model_versions, list_registered_names


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version in the list."""

    version: str
    aliases: tuple[str, ...]
    registered_at: str
    """UTC, ISO 8601."""
    score: float | None
    """The objective; None for a version that no search registered."""
    validation_f_measure: float | None
    test_f_measure: float | None
    study: str | None
    decision: str | None
    """Which alias it was given when it was registered, and why."""


@dataclass(frozen=True, kw_only=True)
class ModelOverview:
    """A registered model: its versions and the state of its history."""

    name: str
    champion: str | None
    n_moves: int
    head_sha256: str | None
    """Hash of the last entry: written down elsewhere, it tells later whether the history is still the same."""
    remarks: tuple[str, ...]
    """What is not as it should be, a sentence each."""
    versions: tuple[VersionRow, ...]


def list_models() -> tuple[ModelOverview, ...]:
    """Return an overview of every registered model, by name."""
    return tuple(list_versions(name) for name in list_registered_names(open_client()))


def list_versions(name: str) -> ModelOverview:
    """Return the versions of a registered model, and what is not as it should be.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    client = open_client()
    journal = read_journal(client, name=name)
    versions = list_model_versions(client, name=name)
    return ModelOverview(
        name=name,
        champion=journal.champion,
        n_moves=len(journal.history.stored),
        head_sha256=journal.history.stored[-1].stated_sha256 if journal.history.stored else None,
        remarks=tuple(_iter_remarks(journal, versions=[str(version.version) for version in versions])),
        versions=tuple(_describe_version(version, journal=journal) for version in versions),
    )


def list_moves(name: str) -> tuple[HistoryEntry, ...]:
    """Return the history of a registered model, from the first move to the last.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    return read_journal(open_client(), name=name).history.entries


def describe_champion_state(journal: Journal, *, versions: list[str]) -> str | None:
    """Return a sentence if the champion's alias stands elsewhere than the history says; None if all is well.

    Args:
        journal: The registered model.
        versions: Those that were not deleted.
    """
    if journal.is_as_recorded:
        return None
    recorded = next(iter(sorted(version or "none" for version in journal.history.recorded_champions)))
    if journal.champion is not None:
        found = f"the alias stands at version {journal.champion}"
    elif recorded in versions:
        found = "the alias is gone"
    else:
        found = f"version {recorded} was deleted, and MLflow dropped the alias with it"
    said = "nobody" if recorded == "none" else f"version {recorded}"
    return f"by the history {said} is {CHAMPION}, but {found}: something else than sem-search did that."


def _iter_remarks(journal: Journal, *, versions: list[str]) -> Iterator[str]:
    problem = next(iter_problems(journal.history), None)
    if problem is not None:
        yield f"the history is not sound: {problem}"
    pending = journal.pending
    if pending is not None:
        yield (
            f"the move of entry {pending.number} ({pending.alias} to version {pending.to_version}) was interrupted: "
            "give its command again, or make another move, and it is finished first."
        )
        return
    state = describe_champion_state(journal, versions=versions)
    if state is not None:
        yield state
    elif journal.champion is None and versions:
        yield f"there is no {CHAMPION}: models:/{journal.name}@{CHAMPION} cannot be loaded."


def _describe_version(version: ModelVersion, *, journal: Journal) -> VersionRow:
    number = str(version.version)
    return VersionRow(
        version=number,
        aliases=tuple(sorted(alias for alias, holder in journal.aliases.items() if holder == number)),
        registered_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        score=read_number(version, tag=TAG_SCORE),
        validation_f_measure=read_number(version, tag=TAG_VALIDATION),
        test_f_measure=read_number(version, tag=TAG_TEST),
        study=version.tags.get(TAG_STUDY),
        decision=version.tags.get(TAG_DECISION),
    )

"""A version made champion deliberately, and the way back.

A promotion goes through the gate, or is made by hand with a reason; both are written down, and a promotion by hand is
written down as one, beside what the gate found.
"""

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.registry.comparing import GateRule
from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.gate import Verdict, judge
from sem_search.deployment.registry.history import find_previous_champion
from sem_search.deployment.registry.locking import lock_registry
from sem_search.deployment.registry.moves_log import Draft, Journal, move, read_journal, settle
from sem_search.deployment.registry.stores import open_client
from sem_search.deployment.registry.tags import CHAMPION, TAG_PREVIOUS, TAG_SOURCE_RUN
from sem_search.deployment.registry.version_facts import describe_hashes, describe_scores
from sem_search.deployment.registry.versions import find_version, list_model_versions
from sem_search.errors import NotPromotedError, SettingsError


@dataclass(frozen=True, kw_only=True)
class Move:
    """A champion that was made."""

    entry: HistoryEntry
    warnings: tuple[str, ...] = ()
    """What to look at: a move that somebody else made at the same moment."""


def promote_version(name: str, version: str, *, reason: str | None = None, rule: GateRule | None = None) -> Move:
    """Make a version champion.

    Args:
        name: Registered model.
        version: Number, alias or `latest`.
        reason: Why it is made champion whatever the gate says; None leaves it to the gate.
        rule: How far and how surely the champion must be beaten; None: the defaults.

    Raises:
        ModelNotFoundError: There is no such model or version.
        NotPromotedError: It is champion already, or the gate does not let it through; the message says why.
        SettingsError: The reason is empty or too long.
    """
    client = open_client()
    _check_reason(reason)
    with lock_registry():
        wanted = find_version(client, name=name, version=version)
        pending = read_journal(client, name=name).pending
        journal = settle(client, name=name, run_id=wanted.tags.get(TAG_SOURCE_RUN))
        number = str(wanted.version)
        if journal.champion == number:
            return _describe_champion(journal, pending=pending)
        champion = client.get_model_version(name, journal.champion) if journal.champion else None
        verdict = _judge(wanted, champion=champion, rule=rule or GateRule(), is_forced=reason is not None)
        return _move(
            client,
            Draft(
                action="promoted" if reason is None else "promoted by hand",
                alias=CHAMPION,
                to_version=number,
                reason=verdict.reason if reason is None else reason,
                scores=describe_scores(wanted, champion),
                comparison=verdict.comparison,
                hashes=describe_hashes(wanted),
                run_id=wanted.tags.get(TAG_SOURCE_RUN),
            ),
            journal=journal,
        )


def roll_back(name: str, *, reason: str | None = None) -> Move:
    """Make the champion before champion again, by the history; a second time goes one step further back.

    Args:
        name: Registered model.
        reason: Why; written down.

    Raises:
        ModelNotFoundError: There is no such model.
        NotPromotedError: Nobody was champion before, or that version is gone.
        SettingsError: The reason is empty or too long.
    """
    client = open_client()
    _check_reason(reason)
    with lock_registry():
        pending = read_journal(client, name=name).pending
        journal = settle(client, name=name, run_id=None)
        if pending is not None and pending.action == "rolled back" and pending.to_version == journal.champion:
            return Move(entry=pending)  # interrupted before: finished now, and not gone back twice
        number = find_previous_champion(journal.history, champion=journal.champion)
        if number is None:
            raise NotPromotedError(
                f"{name} cannot be rolled back: by its history, no other version was champion before "
                f"{_name_champion(journal)}."
            )
        versions = {str(version.version): version for version in list_model_versions(client, name=name)}
        if number not in versions:
            raise NotPromotedError(
                f"{name} cannot be rolled back: version {number}, the champion before, was deleted. "
                f"Choose another with: sem-search registry promote VERSION --model {name} --reason ..."
            )
        former = versions.get(journal.champion or "")
        return _move(
            client,
            Draft(
                action="rolled back",
                alias=CHAMPION,
                to_version=number,
                reason=reason or "no reason was given.",
                scores=describe_scores(versions[number], former),
                hashes=describe_hashes(versions[number]),
                run_id=versions[number].tags.get(TAG_SOURCE_RUN),
            ),
            journal=journal,
        )


def _check_reason(reason: str | None) -> None:
    if reason is not None and not reason.strip():
        raise SettingsError("the reason is empty: say in a sentence why this version shall be champion.")


def _judge(wanted: ModelVersion, *, champion: ModelVersion | None, rule: GateRule, is_forced: bool) -> Verdict:
    """Return what the gate says.

    Raises:
        NotPromotedError: It says no, and nobody overrules it.
    """
    if champion is None:
        return Verdict(is_better=True, reason="nobody held the alias, so there was no contest.", comparison=None)
    verdict = judge(wanted, champion=champion, rule=rule)
    if verdict.is_better or is_forced:
        return verdict
    raise NotPromotedError(
        f"version {wanted.version} was not promoted: {verdict.reason} To make it champion all the same, say why: "
        "--reason ..."
    )


def _describe_champion(journal: Journal, *, pending: HistoryEntry | None) -> Move:
    """Return the move that was interrupted and has just been finished.

    Raises:
        NotPromotedError: There was none: the version is champion already.
    """
    if pending is not None and pending.alias == CHAMPION and pending.to_version == journal.champion:
        return Move(entry=pending)
    raise NotPromotedError(f"version {journal.champion} of {journal.name} is champion already; nothing was moved.")


def _move(client: MlflowClient, draft: Draft, *, journal: Journal) -> Move:
    """Make the move, and look whether somebody else made one meanwhile."""
    entry = move(client, draft, journal=journal)
    if entry.from_version is not None and draft.to_version is not None and draft.action != "rolled back":
        client.set_model_version_tag(journal.name, draft.to_version, TAG_PREVIOUS, entry.from_version)
    heads = read_journal(client, name=journal.name).history.heads
    if heads == (entry.sha256,):
        return Move(entry=entry)
    return Move(
        entry=entry,
        warnings=(
            f"somebody else moved an alias of {journal.name} at the same moment: look at the history, and make the "
            "move that shall hold.",
        ),
    )


def _name_champion(journal: Journal) -> str:
    return f"version {journal.champion}" if journal.champion else "now (there is no champion)"

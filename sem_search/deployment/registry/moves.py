"""Moves of an alias: a version is registered, promoted or rolled back, and the history records it.

A move is written before it is made: the entry, then the alias. If a process was killed in between, or
another program moved the alias, it names another version than the history says: the next move records that first.

MLflow can neither compare and move an alias in one step nor lock a model. Where the registry is an SQLite file, every
process that can move something sees that file, and the lock lies beside it. For a server or another database it lies
in this machine's cache folder: processes of two machines can then move at the same moment, and the history forks.
"""

import getpass
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.registry.contents import read_files_sha256
from sem_search.deployment.registry.gate import GateRule, Verdict, judge
from sem_search.deployment.registry.history import FINDING, Action, History, HistoryEntry, read_history
from sem_search.deployment.registry.versions import (
    CHALLENGER,
    CHAMPION,
    TAG_AT_CHANCE,
    TAG_DECISION,
    TAG_FILES,
    TAG_SCORE,
    TAG_SOURCE_RUN,
    describe_store,
    find_version,
    list_model_versions,
    open_client,
    read_hashes,
    read_scores,
)
from sem_search.deployment.registry.views import MODEL_BEGINS, describe_model, describe_version
from sem_search.errors import ModelNotFoundError, NotPromotedError, SettingsError, StoreError
from sem_search.places import find_sqlite_file, get_cache_folder
from sem_search.secrets import mask_secrets
from sem_search.tracking.mlflow.names import quote
from sem_search.tracking.mlflow.runs import find_active_run

USER_VARIABLE = "MLFLOW_TRACKING_USERNAME"

WAIT_S = 600
"""A move takes seconds; after this long the process that holds the lock hangs."""


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """What became of a model that was brought to the registry."""

    name: str
    version: str
    alias: str | None
    """`champion`, `challenger`, or None if another version has taken the alias since."""
    reason: str
    """Continues "registered as <name> version <version>, "."""

    @property
    def uri(self) -> str:
        """The address by which it is served: its alias follows to later versions."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"


def register_winner(
    *,
    run_id: str,
    model_name: str,
    score: float,
    tags: Mapping[str, str],
    rule: GateRule | None = None,
    earlier_run_ids: Sequence[str] = (),
) -> RegisteredVersion:
    """Register a study's winner once, and give it the alias that it deserves.

    Args:
        run_id: The run that the model was logged to; of several, the last is registered. It is registered once, however
            often this is called.
        model_name: Registered model; created where there is none.
        score: The study's objective, in [0, 1].
        tags: Of the version, with the hashes of data and folds. `sem_search.select_on` says which tiles the score is
            of; scores of different tiles are not compared. One with `TAG_AT_CHANCE` does not become champion by itself.
        rule: How far and how surely a champion must be beaten; None: the defaults.
        earlier_run_ids: Runs that the same model was logged to before. Where one of them is there, and its model was
            registered, that version is the model's.

    Returns:
        The version, its alias, and why it has that one.

    Raises:
        ModelNotFoundError: The run has no such model.
        StoreError: Another process holds the registry's lock.
    """
    client = MlflowClient()
    facts = {TAG_SCORE: repr(float(score)), TAG_SOURCE_RUN: run_id}
    with lock_registry():
        version = _find_version_of_runs(client, name=model_name, run_ids=[run_id, *earlier_run_ids])
        if version is None:
            logged_uri = _find_logged_model(client, run_id=run_id)
            if files_sha256 := read_files_sha256(logged_uri):
                facts[TAG_FILES] = files_sha256
            version = mlflow.register_model(logged_uri, model_name, tags={**tags, **facts})
        decided = version.tags.get(TAG_DECISION)
        reason = f"as before: {decided}" if decided else _decide(client, version, rule=rule or GateRule())
        return _describe(client, version, reason=reason)


def find_registered(*, model_name: str, run_ids: Sequence[str]) -> RegisteredVersion | None:
    """Return the version that was made of the model of one of these runs, where there is one.

    Args:
        model_name: Registered model.
        run_ids: Runs that the model was logged to.

    Raises:
        ModelNotFoundError: There is no registry here.
        StoreError: It does not answer.
    """
    client = open_client()
    version = _find_version_of_runs(client, name=model_name, run_ids=run_ids) if run_ids else None
    return None if version is None else _describe(client, version, reason=version.tags.get(TAG_DECISION, ""))


def _describe(client: MlflowClient, version: ModelVersion, *, reason: str) -> RegisteredVersion:
    """Return a version with the alias that it has now."""
    held = client.get_model_version(version.name, version.version).aliases
    alias = next((alias for alias in (CHAMPION, CHALLENGER) if alias in held), None)
    return RegisteredVersion(name=version.name, version=str(version.version), alias=alias, reason=reason)


def promote_version(
    name: str, version: str, *, reason: str | None = None, rule: GateRule | None = None
) -> HistoryEntry:
    """Make a version champion.

    Args:
        name: Registered model.
        version: Number, alias or `latest`.
        reason: Why it is made champion even if the gate refuses; None leaves it to the gate.
        rule: How far and how surely the champion must be beaten; None: the defaults.

    Raises:
        ModelNotFoundError: There is no such model or version.
        NotPromotedError: It is champion already, or the gate does not let it through; the message says why.
        SettingsError: The reason is empty or too long.
    """
    client = open_client()
    with lock_registry():
        newcomer = find_version(client, name=name, version=version)
        history = _settle(client, name=name)
        if history.champion == str(newcomer.version):
            raise NotPromotedError(f"version {newcomer.version} of {name} is champion already; nothing was moved.")
        verdict = _judge(client, newcomer, history=history, rule=rule or GateRule())
        if not verdict.is_better and reason is None:
            raise NotPromotedError(
                f"version {newcomer.version} was not promoted: {verdict.reason} To make it champion all the same, say "
                "why: --reason ..."
            )
        by_hand = {**(verdict.comparison or {}), FINDING: verdict.reason}  # also where nothing was compared
        return _move_alias(
            client,
            history,
            action="promoted" if reason is None else "promoted by hand",
            version=newcomer,
            reason=verdict.reason if reason is None else reason,
            comparison=verdict.comparison if reason is None else by_hand,
        )


def roll_back(name: str, *, reason: str | None = None) -> HistoryEntry:
    """Make the champion before champion again, by the history; a second time goes one step further back.

    Args:
        name: Registered model.
        reason: Why; written down.

    Raises:
        ModelNotFoundError: There is no such model.
        NotPromotedError: No other version was champion before, or that version is gone.
        SettingsError: The reason is empty or too long.
    """
    client = open_client()
    with lock_registry():
        history = _settle(client, name=name)
        former = _find_former(history)
        why = "no reason was given." if reason is None else reason
        return _move_alias(client, history, action="rolled back", version=former, reason=why)


@contextmanager
def lock_registry() -> Iterator[None]:
    """Let no other process of this machine move an alias meanwhile. The lock ends with its process, however that ends.

    Raises:
        StoreError: Another process has held it for ten minutes.
    """
    path = locate_lock(mlflow.get_registry_uri())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path, timeout=WAIT_S).acquire()
    except Timeout as error:
        raise StoreError(
            f"Another process has been changing the registry for {WAIT_S // 60} minutes and holds {path.name}: end it, "
            "and give the command again."
        ) from error
    with held:
        yield


def locate_lock(registry_uri: str) -> Path:
    """Return the lock of a registry: beside its SQLite file, else in the cache folder."""
    file = find_sqlite_file(registry_uri)
    if file is not None:
        return file.with_name(f"{file.name}.registry.lock")
    return get_cache_folder() / "locks" / f"registry-{hashlib.sha256(registry_uri.encode()).hexdigest()[:16]}.lock"


def _settle(client: MlflowClient, *, name: str) -> History:
    """Return the history of a model; where the champion's alias names another version, that is recorded first."""
    history = read_history(client, name=name)
    recorded, champion = history.recorded_champion, history.champion
    if champion == recorded:
        return history
    reason = (
        "the alias named another version than the history says: a move was interrupted, or another program made one."
        if history.entries
        else "the history begins here; the alias stood here already."
    )
    facts = {"from_version": recorded, "to_version": champion, "reason": reason}
    _write_entry(client, history, action="found", alias=CHAMPION, **facts)
    return read_history(client, name=name)


def _judge(client: MlflowClient, newcomer: ModelVersion, *, history: History, rule: GateRule) -> Verdict:
    """Return what the gate finds: who is not better than chance is no champion, and alone there is no contest."""
    number = str(newcomer.version)
    if score := newcomer.tags.get(TAG_AT_CHANCE):
        return Verdict(is_better=False, reason=f"it is not shown to be better than chance ({score}).")
    if history.champion not in (None, number):
        champion = client.get_model_version(history.model, history.champion)
        return judge(newcomer, champion=champion, rule=rule)
    last = history.previous_champion
    any_more = "" if last in (None, number) else f" any more (version {last} was the last)"
    return Verdict(is_better=True, reason=f"there was none{any_more}, so there was no contest.")


def _move_alias(
    client: MlflowClient,
    history: History,
    *,
    action: Action,
    version: ModelVersion,
    reason: str,
    comparison: Mapping[str, Any] | None = None,
    alias: str = CHAMPION,
) -> HistoryEntry:
    """Write a move down, and make it.

    Raises:
        SettingsError: The reason is empty, or too long to be kept; nothing was moved.
    """
    if not reason.strip():
        raise SettingsError("the reason is empty: say in a sentence why this version shall be champion.")
    name, number = history.model, str(version.version)
    compared = {number: version}
    if history.champion is not None:
        compared[history.champion] = client.get_model_version(name, history.champion)
    entry = _write_entry(
        client,
        history,
        action=action,
        alias=alias,
        from_version=history.aliases.get(alias),
        to_version=number,
        reason=mask_secrets(reason),
        scores={each: read_scores(found) for each, found in compared.items()},
        comparison=comparison,
        hashes=read_hashes(version),
        run_id=version.tags.get(TAG_SOURCE_RUN),
    )
    client.set_registered_model_alias(name, alias, number)
    if alias == CHAMPION and history.aliases.get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    _describe_model(client, name=name)
    return entry


def _describe_model(client: MlflowClient, *, name: str) -> None:
    """Let the model's page say what it is and which version is champion; a user's own description stays."""
    model = client.get_registered_model(name)
    if not model.description or model.description.startswith(MODEL_BEGINS):
        number = model.aliases.get(CHAMPION)
        champion = client.get_model_version(name, str(number)) if number else None
        client.update_registered_model(name, description=describe_model(model, champion=champion))


def describe_user() -> str:
    """Return the user that is signed in to MLflow's server, else the one of this machine."""
    try:
        return os.environ.get(USER_VARIABLE) or getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"


def _write_entry(client: MlflowClient, history: History, **facts: Any) -> HistoryEntry:
    """Write the next entry: its place in the chain, time and user, and the facts of the move."""
    entry = HistoryEntry(
        number=max((entry.number for entry in history.entries), default=0) + 1,
        previous=history.heads,
        model=history.model,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=describe_user(),
        **facts,
    ).seal()
    client.set_registered_model_tag(history.model, entry.key, entry.to_json())
    return entry


def _find_former(history: History) -> ModelVersion:
    """Return the version that was champion before.

    Raises:
        NotPromotedError: There was none, or it was deleted.
    """
    name, number = history.model, history.previous_champion
    champion = f"version {history.champion}" if history.champion else "now (there is no champion)"
    if number is None:
        raise NotPromotedError(
            f"{name} cannot be rolled back: by its history, no other version was champion before {champion}."
        )
    versions = list_model_versions(name)
    if number not in versions:
        raise NotPromotedError(
            f"{name} cannot be rolled back: version {number}, the champion before, was deleted. "
            f"Choose another with: sem-search registry promote VERSION --model {name} --reason ..."
        )
    return versions[number]


def _find_version_of_runs(client: MlflowClient, *, name: str, run_ids: Sequence[str]) -> ModelVersion | None:
    """Return the version that was made of the model of one of these runs; only the first run may be gone."""
    for run_id in run_ids:
        if run_id == run_ids[0] or find_active_run(run_id) is not None:
            versions = client.search_model_versions(f"name = {quote(name)} AND tags.`{TAG_SOURCE_RUN}` = '{run_id}'")
            if versions:
                return min(versions, key=lambda version: int(version.version))
    return None


def _find_logged_model(client: MlflowClient, *, run_id: str) -> str:
    """Return `models:/<model id>` of the model that the run has logged last."""
    run = find_active_run(run_id)
    if run is None:
        raise ModelNotFoundError(f"There is no run {run_id} in {describe_store()}.")
    logged = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    finished = [model for model in logged if model.status == LoggedModelStatus.READY]
    if not finished:
        raise ModelNotFoundError(f"Run {run_id} has no model: its trial was not finished.")
    return f"models:/{max(finished, key=lambda model: model.creation_timestamp).model_id}"


def _decide(client: MlflowClient, version: ModelVersion, *, rule: GateRule) -> str:
    """Give the version its alias, note the decision, and return it."""
    name, number = version.name, str(version.version)
    history = _settle(client, name=name)
    entry = history.find_registration(number) if number in history.aliases.values() else None
    if entry is None:
        verdict = _judge(client, version, history=history, rule=rule)
        alias = CHAMPION if verdict.is_better else CHALLENGER
        entry = _move_alias(
            client,
            history,
            action="registered",
            version=version,
            reason=f"{alias}: {verdict.reason}",
            comparison=verdict.comparison,
            alias=alias,
        )
    client.update_model_version(name, number, description=describe_version(version))
    client.set_model_version_tag(name, number, TAG_DECISION, entry.reason)
    return entry.reason

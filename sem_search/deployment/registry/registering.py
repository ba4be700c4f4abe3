"""A study's winner into the registry, once, with the alias that it deserves.

Safe to interrupt at any moment: a version is created with its tags in one step and found by them when the search is
run again; the move is written before it is made (see `moves_log`), so that there is a champion at every moment and an
interrupted move is finished; and the decision is noted last, after which nothing is done again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sem_search.deployment.registry.comparing import GateRule
from sem_search.deployment.registry.contents import read_files_sha256
from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.gate import Verdict, judge
from sem_search.deployment.registry.history import find_previous_champion
from sem_search.deployment.registry.locking import lock_registry
from sem_search.deployment.registry.moves_log import Draft, Journal, move, settle
from sem_search.deployment.registry.showing import describe_version
from sem_search.deployment.registry.stores import describe_store
from sem_search.deployment.registry.tags import (
    CHALLENGER,
    CHAMPION,
    TAG_DATA,
    TAG_DECISION,
    TAG_FILES,
    TAG_FOLDS,
    TAG_PREVIOUS,
    TAG_SCORE,
    TAG_SOURCE_RUN,
)
from sem_search.deployment.registry.version_facts import describe_hashes, describe_scores
from sem_search.deployment.registry.versions import find_version_of_run
from sem_search.errors import ModelNotFoundError, StoreError
from sem_search.tracking.mlflow.names import NOT_FOUND, quote
from sem_search.tracking.mlflow.runs import find_active_run


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """What became of a model that was brought to the registry."""

    name: str
    version: str
    alias: str | None
    """`champion`, `challenger`, or None if another version has taken the alias since."""
    reason: str
    """Continues "registered as <name> version <version>, "."""


def register_winner(
    *,
    model_uri: str,
    run_id: str,
    model_name: str,
    score: float,
    data_digest: str,
    folds_digest: str,
    tags: Mapping[str, str],
    rule: GateRule | None = None,
    earlier_run_ids: Sequence[str] = (),
) -> RegisteredVersion:
    """Register a study's winner once, and give it the alias that it deserves.

    Args:
        model_uri: `runs:/<run id>/<name>` or `models:/<model id>`.
        run_id: The run that the model was logged to. Its model is registered once, however often this is called.
        model_name: Registered model; created where there is none.
        score: The study's objective, in [0, 1].
        data_digest: Of the catalogue.
        folds_digest: Of the fold table.
        tags: Further tags of the version. `sem_search.select_on` says which tiles the score is of; scores of
            different tiles are not compared.
        rule: How far and how surely a champion must be beaten; None: the defaults.
        earlier_run_ids: Runs that the same model was logged to before. Where one of them is there, and its model was
            registered, that version is the model's.

    Returns:
        The version, its alias, and why it has that one.

    Raises:
        ModelNotFoundError: The run has no such model.
        StoreError: The score is not a number between 0 and 1, or another process holds the registry's lock.
    """
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise StoreError(f"score={score} of run {run_id} is no objective: it must lie between 0 and 1.")
    client = MlflowClient()
    with lock_registry():
        there = (one for one in earlier_run_ids if find_active_run(one) is not None)
        versions = (find_version_of_run(client, name=model_name, run_id=one) for one in chain([run_id], there))
        version = next((one for one in versions if one is not None), None)
        if version is None:
            logged_uri = _find_logged_model(client, model_uri=model_uri, run_id=run_id)
            facts = {TAG_SCORE: repr(float(score)), TAG_DATA: data_digest, TAG_FOLDS: folds_digest}
            version = _create_version(logged_uri, model_name=model_name, tags={**tags, **facts}, run_id=run_id)
        elif TAG_DECISION in version.tags:
            return _describe_again(client, version=version)
        return _decide(client, version=version, rule=rule or GateRule())


def _find_logged_model(client: MlflowClient, *, model_uri: str, run_id: str) -> str:
    """Return `models:/<model id>` of the model that the run's URI means."""
    if not model_uri.startswith("runs:/"):
        return model_uri
    name = model_uri.removeprefix("runs:/").partition("/")[2]
    try:
        experiment_id = client.get_run(run_id).info.experiment_id
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        raise ModelNotFoundError(f"There is no run {run_id} in {describe_store()}.") from error
    logged = client.search_logged_models(
        [experiment_id], filter_string=f"source_run_id = '{run_id}' AND name = {quote(name)}"
    )
    finished = [model for model in logged if model.status == LoggedModelStatus.READY]
    if not finished:
        raise ModelNotFoundError(f"Run {run_id} has no model {name!r}: its trial was not finished.")
    return f"models:/{max(finished, key=lambda model: model.creation_timestamp).model_id}"


def _create_version(logged_uri: str, *, model_name: str, tags: Mapping[str, str], run_id: str) -> ModelVersion:
    """Create a version with its tags in one step."""
    files_sha256 = read_files_sha256(logged_uri)
    known = {} if files_sha256 is None else {TAG_FILES: files_sha256}
    return mlflow.register_model(logged_uri, model_name, tags={**tags, **known, TAG_SOURCE_RUN: run_id})


def _decide(client: MlflowClient, *, version: ModelVersion, rule: GateRule) -> RegisteredVersion:
    """Give the version its alias, and note the decision."""
    number = str(version.version)
    journal = settle(client, name=version.name, run_id=version.run_id)
    entry = journal.history.find(action="registered", version=number)
    if entry is None:
        entry = _move_newcomer(client, version=version, journal=journal, rule=rule)
    if entry.alias == CHAMPION and entry.from_version not in (None, number):
        client.set_model_version_tag(version.name, number, TAG_PREVIOUS, entry.from_version)
    client.update_model_version(version.name, number, description=describe_version(version))
    client.set_model_version_tag(version.name, number, TAG_DECISION, entry.reason)
    return RegisteredVersion(name=version.name, version=number, alias=entry.alias, reason=entry.reason)


def _move_newcomer(client: MlflowClient, *, version: ModelVersion, journal: Journal, rule: GateRule) -> HistoryEntry:
    """Let the newcomer through the gate, or make it challenger."""
    name, number = version.name, str(version.version)
    champion = None if journal.champion in (None, number) else client.get_model_version(name, journal.champion)
    verdict = _judge_newcomer(version, champion=champion, journal=journal, rule=rule)
    alias = CHAMPION if verdict.is_better else CHALLENGER
    draft = Draft(
        action="registered",
        alias=alias,
        to_version=number,
        reason=f"{alias}: {verdict.reason}",
        scores=describe_scores(version, champion),
        comparison=verdict.comparison,
        hashes=describe_hashes(version),
        run_id=version.tags.get(TAG_SOURCE_RUN),
    )
    return move(client, draft, journal=journal)


def _judge_newcomer(
    version: ModelVersion, *, champion: ModelVersion | None, journal: Journal, rule: GateRule
) -> Verdict:
    """Return what the gate says; where nobody holds the alias there is no contest, and that is said."""
    if champion is not None:
        return judge(version, champion=champion, rule=rule)
    last = find_previous_champion(journal.history, champion=None)
    if last in (None, str(version.version)):
        return Verdict(is_better=True, reason="there was none, so there was no contest.", comparison=None)
    reason = f"nobody held the alias any more (version {last} did last), so there was no contest."
    return Verdict(is_better=True, reason=reason, comparison=None)


def _describe_again(client: MlflowClient, *, version: ModelVersion) -> RegisteredVersion:
    """Return what is known of a version that was registered and judged before; nothing is moved."""
    number = str(version.version)
    aliases = client.get_registered_model(version.name).aliases
    held = [alias for alias in (CHAMPION, CHALLENGER) if str(aliases.get(alias)) == number]
    return RegisteredVersion(
        name=version.name,
        version=number,
        alias=held[0] if held else None,
        reason=f"as before: {version.tags[TAG_DECISION]}",
    )

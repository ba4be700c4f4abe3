"""What a user sees of the registry: its models, one version, moves, a comparison, a verification; and each as text.

Programs take the records (`--json`), people the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from sem_search.deployment.package.card import ModelCard
from sem_search.deployment.package.card_text import format_table, render_card
from sem_search.deployment.package.record import read_card
from sem_search.deployment.registry.contents import RECORD_PATH, describe_failure, fetch_files, find_missing_files
from sem_search.deployment.registry.gate import VersionComparison, get_p_over_folds
from sem_search.deployment.registry.history import (
    ENTRY_PREFIX,
    FINDING,
    History,
    HistoryEntry,
    describe_champion_state,
    iter_problems,
    read_history,
)
from sem_search.deployment.registry.verification import Verification
from sem_search.deployment.registry.versions import (
    CHAMPION,
    TAG_DECISION,
    TAG_STUDY,
    find_version,
    join_headline,
    list_model_versions,
    open_client,
    read_scores,
)
from sem_search.errors import ModelNotFoundError, StoreError
from sem_search.evaluation.comparison import Difference
from sem_search.terminal import show_line
from sem_search.tracking.mlflow.links import link_version_within
from sem_search.words import count

NO_CARD = "This version carries no model card: it was logged by an earlier sem_search, or by another program."

MODEL_BEGINS = "Classifier of SEM micrographs, made by sem_search."
"""By these words a description of a registered model is known to be no user's own."""

DESCRIPTION_LENGTH = 5000
"""Characters that MLflow's databases keep of a version's description."""

HASH_DIGITS = 16
NONE = "-"


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version in the list."""

    version: str
    aliases: tuple[str, ...]
    registered_at: str
    """UTC, ISO 8601."""
    score: float | None = None
    """The objective; None for a version that no search registered."""
    validation_f_measure: float | None = None
    test_f_measure: float | None = None
    study: str | None = None
    decision: str | None = None
    """Which alias it was given when it was registered, and why."""


@dataclass(frozen=True, kw_only=True)
class ModelOverview:
    """A registered model: its versions and the state of its history."""

    name: str
    champion: str | None
    n_moves: int
    head_sha256: str | None
    """Hash of the last entry: a copy in another place shows later whether the history is still the same."""
    remarks: tuple[str, ...]
    """What is not as it should be, a sentence each."""
    versions: tuple[VersionRow, ...]


@dataclass(frozen=True, kw_only=True)
class VersionView:
    """A registered version."""

    name: str
    version: str
    aliases: tuple[str, ...]
    card: ModelCard | None
    """None for a model that was logged without one."""
    moves: tuple[HistoryEntry, ...]
    """The entries of the history that gave this version an alias or took one from it."""


def list_models() -> tuple[ModelOverview, ...]:
    """Return an overview of every registered model, by name."""
    open_client()
    return tuple(list_versions(name) for name in sorted(model.name for model in mlflow.search_registered_models()))


def list_versions(name: str) -> ModelOverview:
    """Return the versions of a registered model, and what is not as it should be.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    history = read_history(open_client(), name=name)
    versions = list_model_versions(name).values()
    return ModelOverview(
        name=name,
        champion=history.champion,
        n_moves=len(history.entries),
        head_sha256=history.last_sha256,
        remarks=tuple(_iter_remarks(history, numbers=[str(version.version) for version in versions])),
        versions=tuple(_describe_row(version, history=history) for version in versions),
    )


def list_moves(name: str) -> tuple[HistoryEntry, ...]:
    """Return the history of a registered model, from the first move to the last.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    return read_history(open_client(), name=name).entries


def show_version(name: str, version: str) -> VersionView:
    """Return a version with its card.

    Args:
        name: Registered model.
        version: Number, alias or `latest`.

    Raises:
        ModelNotFoundError: There is no such model or version.
        StoreError: The card is damaged.
    """
    client = open_client()
    found = find_version(client, name=name, version=version)
    number, model_uri = str(found.version), f"models:/{name}/{found.version}"
    if find_missing_files(model_uri) is not None:
        raise ModelNotFoundError(describe_failure(model_uri))
    history = read_history(client, name=name)
    return VersionView(
        name=name,
        version=number,
        aliases=_find_aliases(history, number),
        card=_read_card(found),
        moves=tuple(entry for entry in history.entries if number in (entry.from_version, entry.to_version)),
    )


def describe_version(version: ModelVersion) -> str:
    """Return the card as the Markdown that MLflow's pages show, no longer than its databases keep.

    A damaged card is named there: it is no reason to leave a registration unfinished.
    """
    try:
        card = _read_card(version)
    except StoreError as error:
        return str(error)
    headline = join_headline(version)
    lead = f"**{headline}.**\n\n" if headline else ""
    if card is None:
        return lead + NO_CARD
    limit = DESCRIPTION_LENGTH - len(lead)
    return lead + render_card(card, name=version.name, version=str(version.version), limit=limit)


def describe_model(model: RegisteredModel, *, champion: ModelVersion | None) -> str:
    """Return what MLflow's page of a registered model shows above its tags: a few lines, with a link."""
    text = "No version is champion."
    if champion is not None:
        page = link_version_within(model.name, str(champion.version))
        facts = [
            join_headline(champion),
            champion.tags.get(TAG_STUDY, "") and f"study {champion.tags[TAG_STUDY]}",
        ]
        text = (
            f"**Champion: [version {champion.version}]({page})**" + "".join(f"; {fact}" for fact in facts if fact) + "."
        )
    return (
        f"{MODEL_BEGINS}\n\n{text}\n\nThe tags that begin with `{ENTRY_PREFIX}` are the moves of the champion, each "
        f"with its hash: leave them as they are. `sem-search registry history --model {model.name}` shows them as "
        "sentences, and `registry verify` checks them."
    )


def format_overviews(overviews: Sequence[ModelOverview]) -> str:
    """Return the list of versions, model by model."""
    return "\n\n".join(map(_format_overview, overviews)) or "The registry holds no model."


def format_view(view: VersionView) -> str:
    """Return the model card and what happened to the version."""
    held = show_line(f"Aliases: {', '.join(view.aliases) or 'none'}.")
    card = NO_CARD if view.card is None else render_card(view.card, name=view.name, version=view.version)
    return f"{card}\n\n## In the registry\n\n{held}\n\n{format_moves(view.moves)}"


def format_moves(entries: Sequence[HistoryEntry]) -> str:
    """Return the history, one paragraph per move."""
    lines = [show_line(line) for entry in entries for line in _iter_entry_lines(entry)]
    return "\n".join(lines) or "No alias was moved yet."


def format_move(entry: HistoryEntry, *, warnings: Sequence[str] = ()) -> str:
    """Return a move that was just made, with the hash to write down."""
    head = f"Hash of this entry, to be kept in another place: {entry.sha256}"
    return "\n".join([format_moves([entry]), head, *(show_line(f"Warning: {warning}") for warning in warnings)])


def format_comparison(comparison: VersionComparison) -> str:
    """Return both versions side by side, and the verdict."""
    rule, rows, tests = comparison.rule, [], []
    for split, found in comparison.splits.items():
        differences = {
            "macro F-measure of tiles, mean over the folds": found.f_measure,
            "macro F-measure of images": found.image_f_measure,
            "accuracy of images": found.image_accuracy,
        }
        names = (f"F-measure of tiles of {name}" for name in found.class_names)
        differences |= zip(names, found.f_measure_of_class, strict=True)
        rows += [(split, name, *_format_difference(each)) for name, each in differences.items()]
        tests.append(
            f"On the {split} split: {_format_p(get_p_over_folds(found))} for other training images (corrected "
            f"resampled t-test over the folds), {_format_p(found.image_test.p_value)} for whole images correctly "
            "classified (McNemar)."
        )
    title = (
        f"{comparison.model}: {comparison.n_images} images, paired. In brackets: {100 * rule.level:g} % interval, "
        f"whose lower end is passed with {100 * rule.confidence:g} % confidence."
    )
    header = ("split", "score", f"version {comparison.first}", f"version {comparison.second}", "difference")
    verdict = f"{comparison.verdict[0].upper()}{comparison.verdict[1:]}"
    return "\n".join([title, format_table(header, rows), *tests, verdict])


def format_verification(verification: Verification) -> str:
    """Return every check, and the first that failed once more at the end."""
    width = max(len(check.name) for check in verification.checks)
    lines = [f"{each.outcome:<11}  {each.name:<{width}}  {each.detail}" for each in verification.checks]
    title, failure = f"{verification.model}, version {verification.version}", verification.first_failure
    verdict = (
        f"{title}: nothing that was checked differs from what was written."
        if failure is None
        else f"{title} is not what was written. First: {failure.name}: {failure.detail}"
    )
    head_sha256 = verification.head_sha256 or "none, no alias was moved yet"
    head = f"Hash of the last entry, to be kept in another place: {head_sha256}"
    return "\n".join(map(show_line, [*lines, "", verdict, head]))


def _iter_remarks(history: History, *, numbers: Sequence[str]) -> Iterator[str]:
    problem = next(iter_problems(history), None)
    if problem is not None:
        yield f"the history is not sound: {problem}"
    state = describe_champion_state(history, versions=numbers)
    if state is not None:
        yield state
    elif history.champion is None and numbers:
        yield f"there is no {CHAMPION}: models:/{history.model}@{CHAMPION} cannot be loaded."


def _describe_row(version: ModelVersion, *, history: History) -> VersionRow:
    return VersionRow(
        version=str(version.version),
        aliases=_find_aliases(history, str(version.version)),
        registered_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        study=version.tags.get(TAG_STUDY),
        decision=version.tags.get(TAG_DECISION),
        **read_scores(version),
    )


def _find_aliases(history: History, number: str) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, holder in history.aliases.items() if holder == number))


def _read_card(version: ModelVersion) -> ModelCard | None:
    with fetch_files(version, path=RECORD_PATH) as folder:
        return None if folder is None else read_card(folder)


def _format_overview(overview: ModelOverview) -> str:
    title = (
        f"{overview.name}: {count(len(overview.versions), 'version')}, champion {overview.champion or 'none'}, "
        f"{count(overview.n_moves, 'move')} in the history"
    )
    remarks = [f"Warning: {remark}" for remark in overview.remarks]
    table = format_table(
        ("version", "alias", "registered", "score", "validation F", "test F", "study"),
        [_list_cells(row) for row in overview.versions],
    )
    return "\n".join([*map(show_line, [title, *remarks]), table])


def _list_cells(row: VersionRow) -> tuple[str, ...]:
    scores = (row.score, row.validation_f_measure, row.test_f_measure)
    return (
        row.version,
        ", ".join(row.aliases) or NONE,
        row.registered_at[:10],
        *(NONE if score is None else f"{score:.4f}" for score in scores),
        row.study or NONE,
    )


def _iter_entry_lines(entry: HistoryEntry) -> Iterator[str]:
    before, after = (f"version {each}" if each else "none" for each in (entry.from_version, entry.to_version))
    yield f"{entry.number}. {entry.at[:19]} UTC, {entry.who}: {entry.action}; {entry.alias}: {before} -> {after}"
    yield f"   {entry.reason}"
    if finding := (entry.comparison or {}).get(FINDING):
        yield f"   the gate found: {finding}"
    scores = "; ".join(
        f"version {version}: " + ", ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()))
        for version, values in sorted(entry.scores.items())
        if values
    )
    if scores:
        yield f"   {scores}"
    yield f"   run {entry.run_id or NONE}, hash {entry.sha256[:HASH_DIGITS]}"


def _format_difference(each: Difference) -> tuple[str, str, str]:
    return f"{each.first:.4f}", f"{each.second:.4f}", f"{each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]"


def _format_p(p_value: float | None) -> str:
    return "no p-value (fewer than two folds, or all differ alike)" if p_value is None else f"p = {p_value:.3f}"

"""What the registry says, in words for people: one function per answer. Programs take `--json`."""

from collections.abc import Iterator, Sequence

from sem_search.deployment.package.card_text import format_table, render_card
from sem_search.deployment.registry.comparing import VersionComparison, iter_difference_rows
from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.listing import ModelOverview, VersionRow
from sem_search.deployment.registry.moving import Move
from sem_search.deployment.registry.showing import NO_CARD, VersionView
from sem_search.deployment.registry.verifying import Verification
from sem_search.terminal import show_controls, show_line

HASH_DIGITS = 16
NONE = "-"
NO_MOVE = "No alias was moved yet."


def format_overviews(overviews: Sequence[ModelOverview]) -> str:
    """Return the list of versions, model by model."""
    return "\n\n".join(map(_format_overview, overviews)) or "The registry holds no model."


def format_view(view: VersionView) -> str:
    """Return the model card and what happened to the version."""
    held = show_line(f"Aliases: {', '.join(view.aliases) or 'none'}.")
    card = NO_CARD if view.card is None else render_card(view.card, name=view.name, version=view.version).rstrip()
    return f"{show_controls(card)}\n\n## In the registry\n\n{held}\n\n{format_moves(view.moves)}"


def format_moves(entries: Sequence[HistoryEntry]) -> str:
    """Return the history, one paragraph per move."""
    return "\n".join(show_line(line) for entry in entries for line in _iter_entry_lines(entry)) or NO_MOVE


def format_move(move: Move) -> str:
    """Return a move that was just made, with the hash to write down."""
    return "\n".join(
        [
            *map(show_line, _iter_entry_lines(move.entry)),
            f"Hash of this entry, to be kept elsewhere: {move.entry.sha256}",
            *(show_line(f"Warning: {warning}") for warning in move.warnings),
        ]
    )


def format_comparison(comparison: VersionComparison) -> str:
    """Return both versions side by side, and the verdict."""
    rows = [
        (
            split,
            name,
            f"{each.first:.4f}",
            f"{each.second:.4f}",
            f"{each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]",
        )
        for split, name, each in iter_difference_rows(comparison)
    ]
    level = 100 * (2 * comparison.confidence - 1)
    header = ("split", "score", f"version {comparison.first}", f"version {comparison.second}", "difference")
    tests = [
        f"On the {split.split} split: {_format_p(split.p_over_folds)} for other training images (corrected resampled "
        f"t-test over the folds), {_format_p(split.p_over_images)} for whole images correctly classified (McNemar)."
        for split in comparison.splits
    ]
    return "\n".join(
        [
            f"{comparison.model}: {comparison.n_images} images, paired. In brackets: {level:g} % interval, whose lower "
            f"end is passed with {100 * comparison.confidence:g} % confidence.",
            format_table(header, rows),
            *tests,
            f"{comparison.verdict[0].upper()}{comparison.verdict[1:]}",
        ]
    )


def format_verification(verification: Verification) -> str:
    """Return every check, and the first that failed once more at the end."""
    rows = [(check.outcome, check.name, check.detail) for check in verification.checks]
    width = max(len(name) for _, name, _ in rows)
    lines = [show_line(f"{outcome:<11}  {name:<{width}}  {detail}") for outcome, name, detail in rows]
    title = f"{verification.model}, version {verification.version}"
    failure = verification.first_failure
    verdict = (
        f"{title}: nothing that was checked differs from what was written."
        if failure is None
        else f"{title} is not what was written. First: {failure.name}: {failure.detail}"
    )
    head = f"Hash of the last entry, to be kept elsewhere: {verification.head_sha256 or 'none, no alias was moved yet'}"
    return "\n".join([*lines, "", show_line(verdict), head])


def _format_overview(overview: ModelOverview) -> str:
    title = (
        f"{overview.name}: {_count(len(overview.versions), 'version')}, champion {overview.champion or 'none'}, "
        f"{_count(overview.n_moves, 'entry', 'entries')} in the history"
    )
    remarks = [show_line(f"Warning: {remark}") for remark in overview.remarks]
    table = format_table(
        ("version", "alias", "registered", "score", "validation F", "test F", "study"),
        [_list_cells(row) for row in overview.versions],
    )
    return "\n".join([show_line(title), *remarks, table])


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
    before = f"version {entry.from_version}" if entry.from_version else "none"
    after = f"version {entry.to_version}" if entry.to_version else "none"
    yield f"{entry.number}. {entry.at[:19]} UTC, {entry.who}: {entry.action}; {entry.alias}: {before} -> {after}"
    yield f"   {entry.reason}"
    scores = "; ".join(
        f"version {version}: " + ", ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()))
        for version, values in sorted(entry.scores.items())
        if values
    )
    if scores:
        yield f"   {scores}"
    yield f"   run {entry.run_id or NONE}, hash {entry.sha256[:HASH_DIGITS]}"


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def _format_p(p_value: float | None) -> str:
    return "no p-value (fewer than two folds, or all differ alike)" if p_value is None else f"p = {p_value:.3f}"

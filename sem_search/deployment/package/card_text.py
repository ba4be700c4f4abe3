"""The model card as Markdown: what people read, on the terminal and as a version's description in MLflow's pages."""

import sys
from collections.abc import Iterator, Sequence

from sem_search.deployment.package.card import CardConfusion, CardScore, ModelCard
from sem_search.terminal import show_line

PAPER = (
    "Iwata, Hayashi et al., Classification of scanning electron microscope images of pharmaceutical excipients using "
    "deep convolutional neural networks with transfer learning, Int. J. Pharm. X 4 (2022) 100135"
)
"""Where the method comes from."""

COST_OF_VIEWS = (
    "Each tile is answered for in its eight views (turned and mirrored), which takes eight passes of the trunk: an "
    "image of 1280 x 960 px takes 3.1 s of one processor thread with MobileNetV2, and 0.4 s with a model that was "
    "searched for with augment=none."
)
"""What a model that learnt from all views costs whoever asks it."""

HEADS_TRAINED_AGAIN = (
    "The served head of each fold was trained again on the fold's training and validation images together: the test "
    "scores are theirs. The validation scores are of heads that learnt from the training images alone."
)
"""Of the model of a winner, with refit."""

LEFT_OUT = "*Too long for this place; `sem-search registry show` prints the rest.*"

HASH_DIGITS = 16


def render_card(card: ModelCard, *, name: str, version: str, limit: int = sys.maxsize) -> str:
    """Return the card as Markdown of at most `limit` characters: whole parts, as many from the top as fit."""
    kept: list[str] = []
    for part in _iter_parts(card, name=name, version=version):
        if len("\n\n".join([*kept, part, LEFT_OUT])) > limit:
            return "\n\n".join([*kept, LEFT_OUT])[:limit]
        kept.append(part)
    return "\n\n".join(kept)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns stand below one another on a terminal, too."""
    table = [list(header), *[[show_line(cell).replace("|", "\\|") for cell in row] for row in rows]]
    widths = [max(3, *(len(row[column]) for row in table)) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _iter_parts(card: ModelCard, *, name: str, version: str) -> Iterator[str]:
    """Yield the card's parts, the most important first."""
    yield f"# {name}, version {version}"
    yield (
        f"{card.backbone} with weights {card.weights_used}, {card.cell.to_text()}; chosen among {card.n_cells} cells "
        f"by the F-measure on {card.select_on} tiles. What is served are the {len(card.folds)} fold heads together; "
        "what is scored below is each head on images it never saw."
    )
    if card.settings.get("augment", "none") != "none":
        yield COST_OF_VIEWS
    if card.settings.get("refit"):
        yield HEADS_TRAINED_AGAIN
    if card.warnings:
        yield "## Warnings\n\n" + _format_list(card.warnings)
    yield "## Scores\n\nIn brackets: 95 % interval over the images.\n\n" + _format_scores(card.scores)
    for confusion in card.confusions:
        yield _format_confusion(confusion, card=card)
    yield f"## Data\n\n{card.data}: {card.n_images} images, {card.n_tiles} tiles.\n\n" + _format_classes(card)
    yield "## Folds\n\n" + _format_folds(card)
    if card.findings:
        yield "## What inspection found in the data\n\n" + _format_list(card.findings)
    yield "## How to cite\n\n" + cite(card, name=name, version=version)
    yield "## Hashes\n\n" + _format_list([f"{key}: `{value}`" for key, value in sorted(card.hashes.items())])
    yield "## Settings, as they were used\n\n" + _format_list(
        [f"{key}: {value}" for key, value in sorted(card.settings.items())]
    )
    yield "## Made with\n\n" + _format_list([f"{key} {value}" for key, value in sorted(card.versions.items())])


def cite(card: ModelCard, *, name: str, version: str) -> str:
    """Return the sentence for a paper that uses the model."""
    data = card.hashes.get("sem_search.data_sha256", "unknown")[:HASH_DIGITS]
    return (
        f"Classifier {name}, version {version} (study {card.study}, run {card.run_id}, {card.created_at[:10]}), made "
        f"with sem_search {card.versions.get('sem_search', 'unknown')} from {card.n_images} images (catalogue "
        f"{data}). Method after {PAPER}. Add the hash of the last entry of the registry's history (`sem-search "
        f"registry verify {version} --model {name}` prints it): it proves later which model was meant."
    )


def _format_list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _format_scores(scores: Sequence[CardScore]) -> str:
    rows = []
    for score in scores:
        has_interval = score.low is not None and score.high is not None
        interval = f" [{score.low:.4f}, {score.high:.4f}]" if has_interval else ""
        rows.append((score.split, score.unit, score.name, f"{score.value:.4f}{interval}"))
    return format_table(("split", "of", "score", "value"), rows)


def _format_classes(card: ModelCard) -> str:
    rows = [
        (
            each.name,
            str(each.n_images),
            str(each.n_groups),
            str(each.n_tiles),
            ", ".join(f"{size:g}" for size in each.pixel_sizes_nm) or "not stated",
        )
        for each in card.classes
    ]
    return format_table(("class", "images", "groups", "tiles", "pixel sizes in nm"), rows)


def _format_folds(card: ModelCard) -> str:
    """Return the folds in one sentence where they are of one size, as those of equal classes are; else as a table."""
    sizes = {(each.n_training, each.n_validation, each.n_test) for each in card.folds}
    if len(sizes) == 1:
        training, validation, test = next(iter(sizes))
        return f"{len(card.folds)} folds, each of {training} training, {validation} validation and {test} test images."
    rows = [
        (str(each.number + 1), str(each.n_training), str(each.n_validation), str(each.n_test)) for each in card.folds
    ]
    return format_table(("fold", "training images", "validation images", "test images"), rows)


def _format_confusion(confusion: CardConfusion, *, card: ModelCard) -> str:
    """Return the matrix; its columns have numbers, since ten class names side by side fit no page."""
    numbers = [str(number) for number in range(1, len(card.classes) + 1)]
    names = [f"{number} {each.name}" for number, each in zip(numbers, card.classes, strict=True)]
    rows = [(name, *map(str, row)) for name, row in zip(names, confusion.counts, strict=True)]
    title = f"## Confusion of {confusion.split} {confusion.unit}\n\nRows: true class; columns: predicted class."
    return f"{title}\n\n{format_table(('', *numbers), rows)}"

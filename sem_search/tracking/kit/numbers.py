"""The numbers behind each figure as a table: the same as in the JSON that is logged beside it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sem_search.tracking.entries.metrics import CURVE_NAMES
from sem_search.tracking.entries.tables import INDEX_NAMES
from sem_search.tracking.entries.types import TableArtifact
from sem_search.tracking.figures.catalogue import StudyFigure

Row = Mapping[str, Any]


def build_number_table(figure: StudyFigure, *, path: str) -> TableArtifact:
    """Return the numbers of one figure as rows; folds count from 1, as in all tables.

    Args:
        figure: With its numbers.
        path: Of the CSV.
    """
    rows = list(LISTS[figure.number](figure.numbers.content))
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return TableArtifact(path=path, columns=columns, rows=tuple(tuple(map(row.get, columns)) for row in rows))


def _list_confusion(content: Any) -> Iterator[Row]:
    for name, counts in zip(content["classes"], content["counts"], strict=True):
        yield {"true \\ predicted": name, **dict(zip(content["classes"], counts, strict=True))}


def _list_indices(content: Any) -> Iterator[Row]:
    """Yield each index of each class: its mean over the folds, and fold by fold."""
    for place, name in enumerate(content["classes"]):
        for index in INDEX_NAMES:
            folds = {f"fold_{n}": fold[index][place] for n, fold in enumerate(content["per_fold"], start=1)}
            yield {"class": name, "index": index, "mean_of_folds": content["mean_of_folds"][index][place], **folds}


def _list_pictures(content: Any) -> Iterator[Row]:
    """Yield what was answered and explained; the maps themselves are in the study's JSON."""
    for picture in content["pictures"]:
        yield {**{name: value for name, value in picture.items() if name != "heat_map"}, "fold": picture["fold"] + 1}


def _list_corners(content: Any) -> Iterator[Row]:
    for number, corner in enumerate(content["corners_px"]):
        place = {"top_px": corner["top"], "left_px": corner["left"]}
        yield {"image_id": content["image_id"], "tile": number, **place, "side_px": content["tile_px"]}


def _list_splits(content: Any) -> Iterator[Row]:
    for image in content:
        folds = {f"fold_{n}": split for n, split in enumerate(image["splits"], start=1)}
        yield {**{name: image[name] for name in ("image_id", "class", "group")}, **folds}


def _list_epochs(content: Any) -> Iterator[Row]:
    for fold in content:
        for epoch, values in enumerate(zip(*(fold[name] for name in CURVE_NAMES), strict=True), start=1):
            own = {"fold": fold["fold"] + 1, "epoch": epoch, "is_chosen": epoch == fold["best_epoch"]}
            yield {**own, **dict(zip(CURVE_NAMES, values, strict=True))}


def _list_intervals(content: Any) -> Iterator[Row]:
    """Yield every figure of the test data with its interval: of all classes, then of each."""
    test = content["test"]
    for row in ({"class": "all classes", **test}, *test["classes"]):
        for name, value in row.items():
            if isinstance(value, Mapping):
                yield {"class": row["class"], "figure": name, **value}


def _list_choices(content: Any) -> Iterator[Row]:
    """Yield what choosing did to the score, in either split."""
    for choice in content:
        corrected = {f"corrected_{name}": value for name, value in choice["corrected"].items()}
        yield {name: value for name, value in choice.items() if not isinstance(value, Mapping)} | corrected


def _list_bins(content: Any) -> Iterator[Row]:
    """Yield the bins of both curves; the figure joins those with few answers."""
    for state in ("as_answered", "scaled"):
        for one in content[state]["reliability"]:
            yield {"probabilities": state, **one}


def _list_risks(content: Any) -> Iterator[Row]:
    for coverage, risk in zip(content["coverage"], content["risk"], strict=True):
        yield {"coverage": coverage, "risk": risk}


LISTS: Mapping[str, Callable[[Any], Any]] = {
    "2": iter,
    "3": iter,
    "4a": _list_confusion,
    "4b": _list_confusion,
    "5": _list_indices,
    "6": _list_pictures,
    "S1": _list_corners,
    "S2": _list_splits,
    "S3": _list_epochs,
    "T1": _list_intervals,
    "T2": _list_choices,
    "T3": _list_bins,
    "T4": _list_risks,
}
"""What makes rows of the numbers of each figure."""

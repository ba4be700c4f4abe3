"""Two studies compared: the table, the verdict, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from sem_search.audits.study_comparison import (
    SettingDifference,
    StudyComparison,
    compare_studies,
    iter_comparison_entries,
    list_comparison,
)
from sem_search.audits.subject import AuditSubject
from sem_search.errors import NotComparableError
from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.comparison import Difference, compare_trials, compute_fold_test
from sem_search.records import Cell, FoldOutcome, StudyOutcome
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, Metrics, TableArtifact, TextArtifact


@pytest.fixture(scope="module")
def good(subject: AuditSubject) -> StudyOutcome:
    return StudyOutcome(
        name="good",
        backbone="tiny",
        select_on="validation",
        tiles=subject.tiles,
        trials=(subject.winner,),
        winner_number=0,
    )


@pytest.fixture(scope="module")
def poor(good: StudyOutcome) -> StudyOutcome:
    """A study that names every tile the first class."""
    folds = tuple(
        dataclasses.replace(fold, test_probabilities=np.tile([0.8, 0.1, 0.1], (len(fold.test_tiles), 1)))
        for fold in good.winner.folds
    )
    return dataclasses.replace(good, name="poor", trials=(dataclasses.replace(good.winner, folds=folds),))


@pytest.fixture(scope="module")
def compared(good: StudyOutcome, poor: StudyOutcome) -> StudyComparison:
    return compare_studies(good, poor)


def test_the_better_is_named(compared: StudyComparison) -> None:
    text = compared.to_text()
    assert text.startswith("First: good; second: poor; 15 test images, 3 folds.")
    assert compared.comparison.image_accuracy.second == pytest.approx(1 / 3)
    assert "good is better" in text
    assert "stripes" in text


def test_classes_are_marked_only_if_they_differ_all_classes_considered(
    compared: StudyComparison, good: StudyOutcome, poor: StudyOutcome
) -> None:
    alone = compare_trials(good.winner, poor.winner, tiles=good.tiles)
    together = compared.comparison.f_measure_of_class
    assert {entry.level for entry in together} == {1 - 0.05 / 3}
    assert all(
        wide.low < narrow.low and wide.value == narrow.value
        for wide, narrow in zip(together, alone.f_measure_of_class, strict=True)
    )
    assert compared.comparison.f_measure == alone.f_measure
    assert "The intervals of the 3 classes hold for all of them together (Bonferroni)." in compared.to_text()


@pytest.mark.parametrize(
    ("low", "high", "p_value", "verdict"),
    [
        (-0.1, 0.3, 0.01, "Neither is clearly better"),
        (0.05, 0.3, 0.4, "With other training images it might not be."),
        (0.05, 0.3, 0.01, "good is better. "),
        (0.05, 0.3, None, "Of other training images the folds say nothing."),
    ],
)
def test_a_verdict_needs_images_and_folds(
    compared: StudyComparison, low: float, high: float, p_value: float | None, verdict: str
) -> None:
    assert compared.comparison.fold_test is not None
    judged = dataclasses.replace(
        compared.comparison,
        f_measure=Difference(first=0.8, second=0.6, low=low, high=high),
        fold_test=dataclasses.replace(compared.comparison.fold_test, p_value=p_value),
    )
    assert verdict in dataclasses.replace(compared, comparison=judged).to_text().splitlines()[-1]


def test_one_fold_says_nothing_of_other_training_images(compared: StudyComparison) -> None:
    judged = dataclasses.replace(
        compared.comparison, f_measure=Difference(first=0.8, second=0.6, low=0.05, high=0.3), fold_test=None
    )
    assert (
        dataclasses.replace(compared, comparison=judged)
        .to_text()
        .endswith("Of other training images the folds say nothing.")
    )


def test_folds_that_differ_alike_have_no_p_value(compared: StudyComparison) -> None:
    fold_test = compute_fold_test(np.full(5, 0.2), test_share=0.25)
    judged = dataclasses.replace(compared, comparison=dataclasses.replace(compared.comparison, fold_test=fold_test))
    assert "+0.200 on average  none: all folds differ alike" in " ".join(judged.to_text().splitlines())
    assert list_comparison(judged)["corrected_resampled_t_test"]["p_value"] is None


@pytest.mark.parametrize(("p_value", "words"), [(0.0123, "0.012"), (0.0004, "< 0.001")])
def test_a_p_value_is_never_printed_as_zero(compared: StudyComparison, p_value: float, words: str) -> None:
    assert compared.comparison.fold_test is not None
    fold_test = dataclasses.replace(compared.comparison.fold_test, p_value=p_value)
    judged = dataclasses.replace(compared.comparison, fold_test=fold_test)
    (table,) = dataclasses.replace(compared, comparison=judged).to_answer().sections[2].parts
    assert table.rows[1].cells[-1] == words  # type: ignore[union-attr]


def test_what_answers_alike_is_told_as_such(good: StudyOutcome) -> None:
    twin = compare_studies(good, dataclasses.replace(good, name="twin"))
    assert twin.to_text().splitlines()[-1] == (
        f"The two answer alike. Both predict the same class for each of {good.tiles.n_tiles} test tiles, and for each "
        "image: no figure differs."
    )
    assert "Nothing: both searches had the same settings, and the same combination won." in twin.to_text()
    by_image = dataclasses.replace(twin, n_images_alike=twin.n_images_alike - 1)
    assert "The two answer alike" not in by_image.to_text()


def test_what_differs_in_the_settings_is_shown(good: StudyOutcome, poor: StudyOutcome) -> None:
    cell = Cell(learning_rate=1e-3, batch_size=good.winner.cell.batch_size)
    slower = dataclasses.replace(poor, trials=(dataclasses.replace(poor.winner, cell=cell),))
    settings = (SettingDifference(name="backbone", first="vgg16", second="tiny"),)
    (table,) = compare_studies(good, slower, settings=settings).to_answer().sections[0].parts
    assert [row.cells for row in table.rows] == [  # type: ignore[union-attr]
        ("backbone", "vgg16", "tiny"),
        ("learning rate of the winner", "0.1", "0.001"),
    ]


def test_a_linear_winner_differs_by_its_head_and_has_no_steps(good: StudyOutcome, poor: StudyOutcome) -> None:
    linear = dataclasses.replace(poor, trials=(dataclasses.replace(poor.winner, cell=Cell(head="linear")),))
    (table,) = compare_studies(good, linear).to_answer().sections[0].parts
    assert [row.cells for row in table.rows] == [  # type: ignore[union-attr]
        ("head of the winner", "finetune", "linear"),
        ("learning rate of the winner", "0.1", "none"),
        ("batch size of the winner", str(good.winner.cell.batch_size), "none"),
    ]


def test_table_numbers_and_figure_are_logged(compared: StudyComparison) -> None:
    entries = list(iter_comparison_entries(compared, command="do"))
    assert [type(entry) for entry in entries] == [
        TextArtifact,
        JsonArtifact,
        FigureArtifact,
        TextArtifact,
        TableArtifact,
        Metrics,
    ]
    numbers, figure, _, table = entries[1:5]
    assert [row[0] for row in table.rows][4:] == ["blobs", "grains", "stripes"]  # type: ignore[union-attr]
    content = numbers.content  # type: ignore[union-attr]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["figures"]["f_measure"]["difference"] == compared.comparison.f_measure.value
    figure.draw().canvas.draw()  # type: ignore[union-attr]


def test_other_images_are_refused(good: StudyOutcome) -> None:
    tiles = dataclasses.replace(good.tiles, image_ids=("blobs/new.png", *good.tiles.image_ids[1:]))
    with pytest.raises(NotComparableError, match="Studies 'good' and 'b' have other classes, images or groups"):
        compare_studies(good, dataclasses.replace(good, name="b", tiles=tiles))


def test_other_folds_are_refused(good: StudyOutcome) -> None:
    trial = dataclasses.replace(good.winner, folds=good.winner.folds[:2])
    with pytest.raises(NotComparableError, match="'good' and 'b' cannot be compared: the first has the finished folds"):
        compare_studies(good, dataclasses.replace(good, name="b", trials=(trial,)))


def test_other_tiles_of_the_same_images_are_compared_by_image(good: StudyOutcome) -> None:
    """Every second tile is left out, as a coarser pixel size would: the images are answered from fewer tiles."""
    is_kept = np.arange(good.tiles.n_tiles) % 2 == 0
    number_of = np.cumsum(is_kept) - 1
    tiles = dataclasses.replace(good.tiles, image_of_tile=good.tiles.image_of_tile[is_kept])

    def thin(split: str, fold: FoldOutcome) -> dict[str, np.ndarray]:
        at, answers = fold.get_split(split)
        return {
            f"{split}_tiles": number_of[at[is_kept[at]]],
            f"{split}_probabilities": answers[is_kept[at]],
        }

    folds = tuple(
        dataclasses.replace(fold, **thin("validation", fold), **thin("test", fold)) for fold in good.winner.folds
    )
    coarse = dataclasses.replace(
        good, name="coarse", tiles=tiles, trials=(dataclasses.replace(good.winner, folds=folds),)
    )
    compared = compare_studies(good, coarse, has_same_tiles=False)
    own = tabulate_answers(coarse.winner, tiles=tiles, split="test")
    assert compared.comparison.image_accuracy.second == pytest.approx(own.is_right.mean())
    assert (compared.n_tiles_alike, compared.n_tiles) == (None, good.tiles.n_tiles)
    assert "The two cut other tiles from the same images" in compared.to_text()

"""The records that search, tracking, audits and deployment share."""

import dataclasses

import numpy as np
import pytest

from sem_search.records import (
    Cell,
    FoldOutcome,
    StudyOutcome,
    TileTable,
    TrainingCurves,
    TrialOutcome,
)

TILES = TileTable(
    class_names=("coarse", "fine"),
    image_ids=("fine/0", "coarse/0", "fine/1"),
    label_of_image=np.array([1, 0, 1]),
    group_of_image=("g0", "g1", "g0"),
    image_of_tile=np.array([0, 0, 1, 2, 2, 2]),
)


@pytest.mark.parametrize(
    ("learning_rate", "batch_size", "name"),
    [
        (1e-3, 48, "lr1e-03_bs48"),
        (0.1, 16, "lr1e-01_bs16"),
        (1e-5, 1, "lr1e-05_bs1"),
        (1.0, 8, "lr1e+00_bs8"),
        (0.0015, 8, "lr1.5e-03_bs8"),
        (0.00125, 8, "lr1.25e-03_bs8"),
    ],
)
def test_cells_have_short_names(learning_rate: float, batch_size: int, name: str) -> None:
    assert Cell(learning_rate=learning_rate, batch_size=batch_size).name == name


def test_different_cells_never_share_a_name() -> None:
    """The name is the folder of a cell's finished folds: with one name for two, the second would take the first's."""
    rates = [*np.linspace(1e-3, 2e-3, 50).tolist(), 1e-3 + 1e-18, np.nextafter(1e-3, 1), 1 / 3, 0.1 + 0.2, 0.3]
    names = {Cell(learning_rate=float(rate), batch_size=size).name for rate in rates for size in (1, 11)}
    assert len(names) == 2 * len(set(rates))
    assert all(set(name) <= set("lrbse0123456789+-._") for name in names)


def test_cells_are_equal_by_their_values() -> None:
    cells = {Cell(learning_rate=rate, batch_size=size) for rate in (0.1, 0.01) for size in (32, 16)}
    assert Cell(learning_rate=0.1, batch_size=16) in cells
    assert Cell(learning_rate=0.1, batch_size=16, head="linear_init") not in cells
    assert Cell(head="linear") == Cell(head="linear")


@pytest.mark.parametrize("steps", [{}, {"learning_rate": 0.1}, {"batch_size": 16}])
def test_only_the_linear_head_has_no_steps(steps: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no learning rate"):
        Cell(**steps)
    with pytest.raises(ValueError, match="no learning rate"):
        Cell(head="linear", learning_rate=0.1, batch_size=16)


def test_a_tile_has_its_image_s_class() -> None:
    assert TILES.n_tiles == 6
    assert TILES.label_of_tile.tolist() == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("image_ids", "expected"),
    [
        (("coarse/0",), [2]),
        (("fine/1", "fine/0"), [0, 1, 3, 4, 5]),  # ascending, however they are asked for
        ((), []),
        (("unknown",), []),
    ],
)
def test_tiles_of_images(image_ids: tuple[str, ...], expected: list[int]) -> None:
    tiles = TILES.get_tiles_of(image_ids)
    assert tiles.tolist() == expected
    assert tiles.dtype == np.int64


def make_fold(number: int = 0) -> FoldOutcome:
    curve = np.array([1.0])
    return FoldOutcome(
        fold=number,
        validation_tiles=np.array([0]),
        validation_probabilities=np.array([[0.2, 0.8]]),
        test_tiles=np.array([2]),
        test_probabilities=np.array([[0.6, 0.4]]),
        curves=TrainingCurves(
            training_loss=curve, training_accuracy=curve, validation_loss=curve, validation_accuracy=curve
        ),
        best_epoch=0,
        is_diverged=False,
        training_s=1.0,
    )


def test_the_sides_of_a_fold_are_not_mixed_up() -> None:
    fold = make_fold()
    for split, tiles, probabilities in (
        ("validation", fold.validation_tiles, fold.validation_probabilities),
        ("test", fold.test_tiles, fold.test_probabilities),
    ):
        got_tiles, got_probabilities = fold.get_split(split)
        assert got_tiles is tiles
        assert got_probabilities is probabilities


def test_the_winner_is_found_by_its_number_not_by_its_place() -> None:
    cell = Cell(learning_rate=0.1, batch_size=8)
    trials = tuple(TrialOutcome(number=number, cell=cell, state="complete", folds=()) for number in (4, 7, 9))
    study = StudyOutcome(name="s", backbone="tiny", select_on="validation", tiles=TILES, trials=trials, winner_number=7)
    assert study.winner is trials[1]


@pytest.mark.parametrize("record", [TILES, make_fold(), Cell(learning_rate=0.1, batch_size=8)])
def test_records_cannot_be_changed(record: object) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, None)

"""The order of the cells."""

from sem_search.records import Cell
from sem_search.search.trials.space import order_cells
from sem_search.settings import build_settings


def test_every_cell_comes_once_and_likely_ones_first() -> None:
    cells = order_cells(build_settings({"preset": "paper"}))
    assert len(set(cells)) == len(cells) == 20
    assert {cell.learning_rate for cell in cells[:8]} == {1e-2, 1e-3}
    assert {cell.learning_rate for cell in cells[-4:]} == {1e-5}


def test_the_order_does_not_depend_on_how_the_lists_were_written() -> None:
    forwards = build_settings({"learning_rates": "1e-3,1e-2", "batch_sizes": "16,32"})
    backwards = build_settings({"learning_rates": "1e-2,1e-3", "batch_sizes": "32,16"})
    assert order_cells(forwards) == order_cells(backwards)


def test_names_are_fit_for_files() -> None:
    assert Cell(learning_rate=1e-3, batch_size=48).name == "lr1e-03_bs48"

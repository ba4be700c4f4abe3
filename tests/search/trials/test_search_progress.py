"""One bar on a terminal, plain lines elsewhere: which cell and fold, the best so far, and the time left."""

import io
from collections.abc import Iterator

import pytest

from sem_search.records import Cell
from sem_search.search.trials import search_progress as progress_module
from sem_search.search.trials.search_progress import LINE_EVERY_S, SearchProgress

CELL = Cell(learning_rate=0.1, batch_size=8)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time in seconds; a test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    yield now


def make(stream: io.StringIO, *, n_folds_total: int = 10, n_folds_done: int = 0) -> SearchProgress:
    return SearchProgress(n_folds_total=n_folds_total, n_folds_done=n_folds_done, stream=stream)


def show(progress: SearchProgress, *, fold: int = 0, epoch: int = 0) -> None:
    progress.show_epoch(cell=CELL, fold=fold, epoch=epoch, n_epochs=5)


def test_lines_tell_cell_fold_and_epoch_counted_from_one(clock: list[float]) -> None:
    stream = io.StringIO()
    show(make(stream), fold=1, epoch=2)
    assert stream.getvalue() == "0/10 folds, lr1e-01_bs8 fold 2 epoch 3/5, time left not known yet\n"


def test_lines_come_seldom_enough_for_a_log_file(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = make(stream)
    for seconds in (0, LINE_EVERY_S - 1, LINE_EVERY_S, LINE_EVERY_S + 1, 2 * LINE_EVERY_S):
        clock[0] = 100 + seconds
        show(progress)
    assert len(stream.getvalue().splitlines()) == 3


def test_the_time_left_is_reckoned_from_folds_that_were_trained(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = make(stream)
    for fold in range(4):  # found finished on disk, in no time
        progress.count_fold(cell=CELL, fold=fold, is_new=False)
    clock[0] += 100
    progress.count_fold(cell=CELL, fold=4, is_new=True)
    show(progress)
    assert stream.getvalue().endswith("at most about 0:08:20 left\n"), "five folds of 100 s"


def test_folds_of_the_linear_head_say_nothing_about_the_time_left(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = make(stream)
    for fold in range(4):
        clock[0] += 20
        progress.count_fold(cell=Cell(head="linear"), fold=fold, is_new=True)
    show(progress)
    assert stream.getvalue().endswith("time left not known yet\n")
    clock[0] += 100
    progress.count_fold(cell=CELL, fold=0, is_new=True)
    show(progress)
    assert stream.getvalue().endswith("at most about 0:08:20 left\n"), "five folds of 100 s"


def test_folds_of_a_pruned_cell_are_no_work_left(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = make(stream)
    clock[0] += 3600
    progress.count_fold(cell=CELL, fold=0, is_new=True)
    progress.skip_folds(8)
    show(progress)
    assert "1/2 folds" in stream.getvalue()
    assert "about 1:00:00 left" in stream.getvalue()


def test_a_resumed_search_begins_where_it_stopped(clock: list[float]) -> None:
    stream = io.StringIO()
    show(SearchProgress(n_folds_total=10, n_folds_done=7, best=0.75, stream=stream))
    assert stream.getvalue().startswith("7/10 folds")
    assert ", best F 0.750, " in stream.getvalue()


def test_the_best_value_is_kept_and_pruned_cells_have_none(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = make(stream)
    for text, value in (("first", 0.5), ("second", 0.9), ("third", 0.7), ("pruned", None)):
        progress.show_trial(text, value=value)
    clock[0] += LINE_EVERY_S
    show(progress)
    lines = stream.getvalue().splitlines()
    assert lines[:4] == ["first", "second", "third", "pruned"], "the end of a trial is always told"
    assert ", best F 0.900, " in lines[4]


def test_on_a_terminal_there_is_one_bar_and_trials_stand_above_it() -> None:
    stream = Terminal()
    progress = make(stream)
    show(progress, fold=2)
    progress.count_fold(cell=CELL, fold=2, is_new=True)
    progress.show_trial("a trial has ended", value=0.25)
    progress.close()
    drawn = stream.getvalue()
    assert "a trial has ended\n" in drawn
    assert "fold 3 done" in drawn
    assert "best F 0.250" in drawn
    assert "1/10" in drawn
    assert "time left not known yet" not in drawn, "the bar tells the time left in its own words"

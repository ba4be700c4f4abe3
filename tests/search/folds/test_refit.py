"""The winner's heads are trained again once the search is over: each fold is written at once, and once only."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest

from sem_search.errors import FailedTrialError
from sem_search.micrographs.folds import Fold
from sem_search.records import Cell
from sem_search.search.folds.refit import refit_winner
from sem_search.search.folds.train import LocalFolds
from sem_search.search.results.outcome import read_study_outcome
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.transfer.heads.training import get_tile_splits
from tests.search.finished_trials import finish_trial

FIRST, BETTER = Cell(learning_rate=0.1, batch_size=8), Cell(learning_rate=0.01, batch_size=16)


@pytest.fixture
def again(prepared, trainer) -> Any:
    """The search with `refit`."""
    again = dataclasses.replace(prepared, settings=prepared.settings.model_copy(update={"refit": True}))
    vars(again).update(trainer=trainer)
    return again


@pytest.fixture
def open_source(again) -> Callable[[SearchProgress], LocalFolds]:
    return lambda progress: LocalFolds(prepared=again, progress=progress)


def list_refits(prepared) -> list[str]:
    return sorted(f"{path.parent.name}/{path.name}" for path in prepared.store.folder.glob("*/refit_*.bin"))


def test_without_refit_nothing_is_trained(study: optuna.Study, prepared) -> None:
    refit_winner(study, prepared=prepared, open_source=lambda _: pytest.fail("nothing is to be trained"))


def test_without_a_winner_there_is_nothing_to_train(study: optuna.Study, again, open_source) -> None:
    with pytest.raises(FailedTrialError, match="so there is no winner"):
        refit_winner(study, prepared=again, open_source=open_source)


def test_the_winner_alone_is_trained_again_on_its_own_splits(
    study: optuna.Study, again, trainer, open_source, store_folds, capsys: pytest.CaptureFixture[str]
) -> None:
    store_folds(cell=BETTER)
    searched = store_folds(cell=FIRST)
    finish_trial(study, cell=BETTER, value=0.5)
    finish_trial(study, cell=FIRST, value=0.75)
    refit_winner(study, prepared=again, open_source=open_source)
    assert list_refits(again) == [f"{FIRST.name}/refit_{number}.bin" for number in range(3)]
    assert f"{FIRST.name} has won: its heads are trained again" in capsys.readouterr().err
    outcome = read_study_outcome(study, prepared=again)
    for fold, one, served in zip(again.data.folds.folds, searched, outcome.winner.folds, strict=True):
        splits = get_tile_splits(fold, tiles=again.data.tiles)
        expected = trainer.refit_fold(one, splits=splits, cell=FIRST).outcome
        np.testing.assert_array_equal(served.test_probabilities, expected.test_probabilities)
        assert np.abs(served.test_probabilities - one.outcome.test_probabilities).max() > 1e-3
        np.testing.assert_array_equal(served.validation_probabilities, one.outcome.validation_probabilities)


def test_a_search_that_was_stopped_goes_on_with_the_next_fold(
    study: optuna.Study, again, trainer, open_source, store_folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_folds(cell=FIRST)
    finish_trial(study, cell=FIRST, value=0.75)
    train, trained = trainer.refit_fold, []

    def stop(*args: Any, **kwargs: Any) -> Any:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(kwargs["splits"].number)
        return train(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "refit_fold", stop)
        with pytest.raises(KeyboardInterrupt):
            refit_winner(study, prepared=again, open_source=open_source)
    assert list_refits(again) == [f"{FIRST.name}/refit_0.bin"]
    monkeypatch.setattr(trainer, "refit_fold", lambda *a, **k: trained.append(k["splits"].number) or train(*a, **k))
    for _ in range(2):
        refit_winner(study, prepared=again, open_source=open_source)
    assert trained == [0, 1, 2]


def test_a_better_cell_that_a_worker_has_finished_meanwhile_is_trained_again_in_its_turn(
    study: optuna.Study, again, open_source, store_folds
) -> None:
    store_folds(cell=FIRST)
    store_folds(cell=BETTER)
    finish_trial(study, cell=FIRST, value=0.75)
    asked: list[tuple[str, int]] = []

    class Source(LocalFolds):
        def refit(self, cell: Cell, *, folds: Sequence[Fold]) -> None:
            if not asked:
                finish_trial(study, cell=BETTER, value=0.9)
            asked.append((cell.name, len(folds)))
            super().refit(cell, folds=folds)

    refit_winner(study, prepared=again, open_source=lambda progress: Source(**vars(open_source(progress))))
    assert asked == [(FIRST.name, 3), (BETTER.name, 3)]
    assert read_study_outcome(study, prepared=again).winner.cell == BETTER

"""Folds that were reported and lost are trained again, to the same numbers, before anything is reported."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from sem_search.errors import StoreError
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.records import Cell
from sem_search.search.folds.repair import repair_folds
from sem_search.search.folds.train import LocalFolds
from sem_search.search.results.outcome import read_study_outcome

CELL = Cell(learning_rate=0.1, batch_size=8)
SPACE = {
    "learning_rate": CategoricalDistribution([0.1, 0.01]),
    "batch_size": CategoricalDistribution([8, 16]),
}


@pytest.fixture
def finished(study: optuna.Study, prepared, progress) -> list[float]:
    """A trial whose three folds were trained and reported; their F-measures."""
    values = []
    for fold in prepared.data.folds.folds:
        kept = LocalFolds(prepared=prepared, progress=progress).obtain(cell=CELL, fold=fold)
        values.append(compute_fold_f_measure(kept.outcome, tiles=prepared.data.tiles, split="validation"))
    study.add_trial(
        optuna.trial.create_trial(
            params={"learning_rate": 0.1, "batch_size": 8},
            distributions=SPACE,
            value=sum(values) / 3,
            intermediate_values=dict(enumerate(values)),
            state=TrialState.COMPLETE,
        )
    )
    return values


def locate(prepared, number: int) -> Path:
    return prepared.store.folder / CELL.name / f"fold_{number}.bin"


@pytest.mark.usefixtures("finished", "untouched_trainer")
def test_where_all_are_whole_nothing_is_done(study, prepared) -> None:
    assert repair_folds(study, prepared=prepared) == ()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(bytes(content))


def seal_another_format(path: Path) -> None:
    body = b"an archive of another version"
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda path: path.write_bytes(b""), seal_another_format])
def test_a_lost_fold_is_trained_again_to_the_same_numbers(
    study, prepared, finished: list[float], harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_study_outcome(study, prepared=prepared).winner.folds[1]
    harm(locate(prepared, 1))
    with pytest.raises(StoreError, match=r"lr1e-01_bs8: 1 of 3 finished folds are lost or damaged in .* again"):
        read_study_outcome(study, prepared=prepared)
    (warning,) = repair_folds(study, prepared=prepared)
    assert warning == (
        "lr1e-01_bs8, fold 2, could not be read on this machine (lost, damaged, or stored by a worker on another "
        "machine) and has been trained again"
    )
    assert warning in capsys.readouterr().err
    after = read_study_outcome(study, prepared=prepared).winner.folds[1]
    assert after.test_probabilities.tobytes() == before.test_probabilities.tobytes()
    assert compute_fold_f_measure(after, tiles=prepared.data.tiles, split="validation") == finished[1]


@pytest.mark.usefixtures("finished")
def test_another_number_is_warned_of(study, prepared) -> None:
    study.trials[0].intermediate_values[0] = 0.123
    study._storage.get_all_trials(study._study_id, deepcopy=False)[0].intermediate_values[0] = 0.123
    locate(prepared, 0).unlink()
    (warning,) = repair_folds(study, prepared=prepared)
    assert warning.endswith("0.123 before (another machine, or another number of threads?)")

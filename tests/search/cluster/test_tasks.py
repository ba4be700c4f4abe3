"""What a worker does: results in shared storage, with the numbers of the search."""

from pathlib import Path

import numpy as np
import pytest

from sem_search.places import CACHE_VARIABLE
from sem_search.records import Cell, TrainingCurves
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.cluster.tasks import refit_remote_fold, train_remote_fold
from sem_search.search.cluster.worker_context import open_context
from sem_search.search.folds.store import FoldStore, name_fold
from sem_search.search.prepare.features import compute_views
from sem_search.search.prepare.network import build_trainer
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.pruning.curve_extrapolation import Incumbent
from sem_search.transfer.heads.training import HeadTrainer, get_tile_splits
from sem_search.transfer.views import VIEWS
from tests.search.cluster.conftest import N_EPOCHS

pytestmark = pytest.mark.usefixtures("shards")

CELL = Cell(learning_rate=0.1, batch_size=8)
NAME = name_fold("a study", cell=CELL, fold=1)
BEYOND = Incumbent(trial=0, accuracy=1.0)


def train(context: str, shared: SharedStore, *, incumbent: Incumbent | None = None) -> TrainingCurves | None:
    return train_remote_fold(shared=shared.url, context=context, cell=CELL, fold=1, incumbent=incumbent)


def test_a_worker_without_micrographs_gives_the_search_s_numbers(
    context: str, shared: SharedStore, remote: PreparedSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(context, shared) is None
    finished = FoldStore(folder=tmp_path / "a study", shared=shared).read(cell=CELL, fold=1)
    opened = open_context(context, shared=shared)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    settings, data = remote.settings.model_copy(update={"shared": None}), remote.data
    views = compute_views(settings, data=data, network=remote.network)
    assert len(views) == VIEWS["dihedral"]
    for shards, view in zip(opened.shards, views, strict=True):
        for index, shard in enumerate(shards.read_all(pytest.fail)):
            for array, other in zip(shard, shards.cut(view.arrays, index=index), strict=True):
                np.testing.assert_array_equal(array, other)
    trainer = build_trainer(settings.model_dump(), cut=remote.network.cut, tiles=data.tiles, views=views)
    own = trainer.train_fold(get_tile_splits(data.folds.folds[1], tiles=data.tiles), cell=CELL).outcome
    assert finished is not None
    np.testing.assert_array_equal(finished.outcome.test_probabilities, own.test_probabilities)
    assert len(finished.outcome.curves.validation_loss) == N_EPOCHS


def test_a_task_whose_work_is_done_finds_it_done(
    context: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(context, shared)
    before = (Path(shared.url) / NAME).stat().st_mtime_ns
    monkeypatch.setattr(HeadTrainer, "train_fold", lambda *_, **__: pytest.fail("trained twice"))
    assert train(context, shared, incumbent=BEYOND) is None
    assert (Path(shared.url) / NAME).stat().st_mtime_ns == before


def test_a_head_is_trained_again_as_the_search_would_once(
    context: str, shared: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(context, shared)
    store = FoldStore(folder=tmp_path / "a study", shared=shared)
    first = store.get(cell=CELL, fold=1)
    refit_remote_fold(shared=shared.url, context=context, cell=CELL, first=first)
    opened = open_context(context, shared=shared)
    own = opened.trainer.refit_fold(first, splits=get_tile_splits(opened.folds.folds[1], tiles=opened.tiles), cell=CELL)
    again = store.refits.get(cell=CELL, fold=1)
    np.testing.assert_array_equal(again.outcome.test_probabilities, own.outcome.test_probabilities)
    assert np.abs(again.outcome.test_probabilities - first.outcome.test_probabilities).max() > 1e-3
    monkeypatch.setattr(HeadTrainer, "refit_fold", lambda *_, **__: pytest.fail("trained twice"))
    refit_remote_fold(shared=shared.url, context=context, cell=CELL, first=first)


@pytest.mark.usefixtures("impatient")
def test_a_fold_that_cannot_catch_up_is_stopped_and_not_written(context: str, shared: SharedStore) -> None:
    curves = train(context, shared, incumbent=BEYOND)
    assert {len(curve) for curve in vars(curves).values()} == {10}
    assert not shared.has(NAME)

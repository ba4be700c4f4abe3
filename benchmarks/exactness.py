"""What speed costs in answers: the trunk by ONNX Runtime or in bfloat16, features kept in float16, and the fast head.

All are held, against plain float32, to what a scientist would see. The same head asked with the features of either
trunk: on how many tiles does it give the same answer? And heads trained anew on either, or by either way, with several
seeds: does their F differ by more than that of two seeds of one way?
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
from sklearn.metrics import f1_score

from sem_search.records import Cell
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.search.prepare.features import compute_features, compute_views
from sem_search.search.prepare.network import PreparedNetwork, build_trainer, prepare_network
from sem_search.settings import SearchSettings, build_settings
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads import linear, training
from sem_search.transfer.heads.passes import GeneralPass, choose_pass
from sem_search.transfer.heads.training import HeadTrainer, get_tile_splits
from sem_search.transfer.trunk import COMPUTATIONS

N_SEEDS = 5
PARTS = (1, 3, 10)
"""A linear head learns from one row of so many; a row is a tile in one view."""

CELL, EPOCHS = Cell(learning_rate=1e-2, batch_size=16), 10


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """One head: its score and answers on test tiles, and the answers it would give on other features."""

    f_measure: float
    probabilities: np.ndarray
    """Of the test tiles."""
    trainer: HeadTrainer
    head_weights: tuple[np.ndarray, ...]

    @property
    def answers(self) -> np.ndarray:
        """The class of each test tile."""
        return self.probabilities.argmax(axis=1)


def measure_exactness(backbone: str, *, weights: str, data: str, threads: int) -> dict[str, float]:
    """Return agreement of each trunk with the plain one, and mean and spread of F by each way over `N_SEEDS` seeds."""
    common = {"backbone": backbone, "weights": weights, "data": data, "threads": str(threads)}
    common |= {"epochs": str(EPOCHS), "patience": "0"}
    exact, *others = (
        build_settings({**common, "engine": one.engine, "precision": one.precision}) for one in COMPUTATIONS
    )
    prepared = prepare_data(exact)
    network = prepare_network(exact)
    features = compute_features(exact, data=prepared, network=network)
    halved = replace(features, arrays=tuple(array.astype(np.float16).astype(np.float32) for array in features.arrays))
    plain, fast = [], []
    for seed in range(N_SEEDS):
        with mock.patch.object(training, "choose_pass", lambda head, convolution: GeneralPass(head)):
            plain.append(_train(exact, data=prepared, network=network, features=features, seed=seed))
        fast.append(_train(exact, data=prepared, network=network, features=features, seed=seed))
    given = {"data": prepared, "network": network, "features": halved}
    half = [_train(exact, **given, seed=seed) for seed in range(N_SEEDS)]
    heads, agreements = (
        {"plain": plain, "fast": fast, "float16": half},
        {"float16": _compare(fast, half, data=prepared)},
    )
    for settings in others:
        other = prepare_network(settings)
        given = {
            "data": prepared,
            "network": other,
            "features": compute_features(settings, data=prepared, network=other),
        }
        name = f"{settings.engine}.{settings.precision}"
        heads[name] = [_train(settings, **given, seed=seed) for seed in range(N_SEEDS)]
        agreements[name] = _compare(fast, heads[name], data=prepared)
    way = type(choose_pass(fast[0].trainer.head, convolution=network.cut.convolution)).__name__
    key = f"exactness.{backbone}"
    figures = {
        f"{key}.test_tiles": float(len(fast[0].answers)),
        f"{key}.asked_tiles": float(len(_list_unseen_tiles(prepared))),
        f"{key}.{way}": 1.0,
    }
    for name, trained in heads.items():
        scores = [head.f_measure for head in trained]
        figures |= {
            f"{key}.{name}.f_mean": statistics.mean(scores),
            f"{key}.{name}.f_spread": statistics.stdev(scores),
        }
    for name, shares in agreements.items():
        figures |= {
            f"{key}.{name}.same_answers": statistics.mean(shares),
            f"{key}.{name}.fewest_same_answers": min(shares),
        }
    solved = [
        _train(exact, data=prepared, network=network, features=some, seed=0, cell=Cell(head="linear"))
        for some in (features, halved)
    ]
    return {
        **figures,
        **_measure_fewer_rows(exact, data=prepared, network=network, key=key),
        f"{key}.float16.same_answers_when_trained": _average_agreement(fast, half),
        f"{key}.float16.same_answers_of_the_linear_head": _average_agreement(solved[:1], solved[1:]),
        f"{key}.float16.largest_difference": max(
            float(np.abs(one.probabilities - other.probabilities).max())
            for one, other in zip([*fast, solved[0]], [*half, solved[1]], strict=True)
        ),
        f"{key}.fast.same_answers_when_trained": _average_agreement(plain, fast),
    }


def _measure_fewer_rows(
    settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork, key: str
) -> dict[str, float]:
    """Return the mean F over the folds of linear heads that learn from all tiles in all views, and from some."""
    of_views = settings.model_copy(update={"augment": "dihedral"})
    views = compute_views(of_views, data=data, network=network)
    n_rows, figures = len(views) * data.tiles.n_tiles, {}
    for part in PARTS:
        with mock.patch.object(linear, "MOST_ROWS", n_rows // part):
            trainer = build_trainer(of_views.model_dump(), cut=network.cut, tiles=data.tiles, views=views)
            outcomes = [
                trainer.train_fold(get_tile_splits(fold, tiles=data.tiles), cell=Cell(head="linear")).outcome
                for fold in data.folds.folds
            ]
        scores = [
            f1_score(data.tiles.label_of_tile[one.test_tiles], one.test_probabilities.argmax(axis=1), average="macro")
            for one in outcomes
        ]
        figures[f"{key}.linear_from_one_row_of_{part}.f_mean"] = statistics.mean(scores)
    return figures


def _average_agreement(heads: Sequence[TrainedHead], others: Sequence[TrainedHead]) -> float:
    """Return on which share of the test tiles heads that were trained in two ways answer the same."""
    return statistics.mean(
        float((one.answers == other.answers).mean()) for one, other in zip(heads, others, strict=True)
    )


def _train(
    settings: SearchSettings,
    *,
    data: PreparedData,
    network: PreparedNetwork,
    features: FeatureStore,
    seed: int,
    cell: Cell = CELL,
) -> TrainedHead:
    """Train the head of the first fold; `EPOCHS` epochs, the last one is used."""
    of_seed = settings.model_copy(update={"seed": seed})
    trainer = build_trainer(of_seed.model_dump(), cut=network.cut, tiles=data.tiles, views=[features])
    tiles, fold = data.tiles, data.folds.folds[0]
    trained = trainer.train_fold(get_tile_splits(fold, tiles=tiles), cell=cell)
    probabilities = trained.outcome.test_probabilities
    truth = tiles.label_of_tile[trained.outcome.test_tiles]
    return TrainedHead(
        f_measure=float(f1_score(truth, probabilities.argmax(axis=1), average="macro")),
        probabilities=probabilities,
        trainer=trainer,
        head_weights=trained.head_weights,
    )


def _compare(some: Sequence[TrainedHead], others: Sequence[TrainedHead], *, data: PreparedData) -> list[float]:
    """Return, for each seed, on what share of the tiles that the first head has not seen both features answer alike."""
    tiles = _list_unseen_tiles(data)
    return [_compare_answers(one, other, tiles=tiles) for one, other in zip(some, others, strict=True)]


def _compare_answers(exact: TrainedHead, rounded: TrainedHead, *, tiles: np.ndarray) -> float:
    """Return on which share of the tiles the exact head answers the same from either trunk's features."""
    answers = [
        trainer.predict(exact.head_weights, tiles).argmax(axis=1) for trainer in (exact.trainer, rounded.trainer)
    ]
    return float((answers[0] == answers[1]).mean())


def _list_unseen_tiles(data: PreparedData) -> np.ndarray:
    """Return the tiles that the head of the first fold was not trained on."""
    fold = data.folds.folds[0]
    return data.tiles.get_tiles_of((*fold.validation, *fold.test))

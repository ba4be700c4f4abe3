"""What speed costs in answers: the trunk by ONNX Runtime or in bfloat16, and the head by its fast way.

Both are held to what a scientist would see. The same head asked with the features of either trunk: on how many tiles
does it give the same answer? And heads trained anew on either, or by either way, with several seeds: does their F
differ by more than that of two seeds of one way?
"""

import statistics
from dataclasses import dataclass
from unittest import mock

import numpy as np
from sklearn.metrics import f1_score

from sem_search.records import Cell
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.search.prepare.features import compute_features
from sem_search.search.prepare.network import PreparedNetwork, build_trainer, prepare_network
from sem_search.settings import SearchSettings, build_settings
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads import training
from sem_search.transfer.heads.passes import GeneralPass, choose_pass
from sem_search.transfer.heads.training import HeadTrainer, get_tile_splits
from sem_search.transfer.trunk import COMPUTATIONS

N_SEEDS = 5
LEARNING_RATE, BATCH_SIZE, EPOCHS = 1e-2, 16, 10


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """One head: its score and answers on test tiles, and the answers it would give on other features."""

    f_measure: float
    answers: np.ndarray
    trainer: HeadTrainer
    head_weights: tuple[np.ndarray, ...]


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
    plain, fast = [], []
    for seed in range(N_SEEDS):
        with mock.patch.object(training, "choose_pass", lambda head, convolution: GeneralPass(head)):
            plain.append(_train(exact, data=prepared, network=network, features=features, seed=seed))
        fast.append(_train(exact, data=prepared, network=network, features=features, seed=seed))
    heads, agreements = {"plain": plain, "fast": fast}, {}
    for settings in others:
        other = prepare_network(settings)
        given = {
            "data": prepared,
            "network": other,
            "features": compute_features(settings, data=prepared, network=other),
        }
        name = f"{settings.engine}.{settings.precision}"
        heads[name] = [_train(settings, **given, seed=seed) for seed in range(N_SEEDS)]
        agreements[name] = [
            _compare_answers(one, two, tiles=_list_unseen_tiles(prepared))
            for one, two in zip(fast, heads[name], strict=True)
        ]
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
    return {
        **figures,
        f"{key}.fast.same_answers_when_trained": statistics.mean(
            float((one.answers == other.answers).mean()) for one, other in zip(plain, fast, strict=True)
        ),
    }


def _train(
    settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork, features: FeatureStore, seed: int
) -> TrainedHead:
    """Train the head of the first fold; `EPOCHS` epochs, the last one is used."""
    of_seed = settings.model_copy(update={"seed": seed})
    trainer = build_trainer(of_seed, data=data, network=network, views=[features])
    tiles, fold = data.tiles, data.folds.folds[0]
    trained = trainer.train_fold(
        get_tile_splits(fold, tiles=tiles), cell=Cell(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)
    )
    answers = trained.outcome.test_probabilities.argmax(axis=1)
    truth = tiles.label_of_tile[trained.outcome.test_tiles]
    return TrainedHead(
        f_measure=float(f1_score(truth, answers, average="macro")),
        answers=answers,
        trainer=trainer,
        head_weights=trained.head_weights,
    )


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

"""One epoch of head training, against what a Keras user would write.

(a) `plain_fit`: `fit` of the whole network, frozen but for the last convolution and the new layers, on tiles in memory;
(b) `head_fit`: `fit` of the head alone, on the same stored features.
All three train and validate alike; an epoch is both. Compilation is not counted: every one is called once before.
"""

import time
from dataclasses import replace

import keras
import numpy as np

from benchmarks.timing import measure_side_by_side
from sem_search.records import Cell, TileSplits
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, build_head, cut_network
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings

N_CLASSES = 10
TILE_PX = 224
LEARNING_RATE = 1e-3
TRAINING_PER_VALIDATION = 3
"""As in the paper: 6 originals per class for training, 2 for validation."""


def measure_epoch(backbone_name: str, *, n_tiles: int, batch_sizes: tuple[int, ...]) -> dict[str, float]:
    """Return seconds per epoch of `n_tiles` training tiles for each batch size, and the two ratios.

    Cost: about eight epochs of the whole network per batch size; VGG16 takes 0.15 s a tile.
    """
    keras.utils.set_random_seed(0)
    backbone = get_backbone(backbone_name)
    model = backbone.build(tile_px=TILE_PX)
    cut = cut_network(model)
    rng = np.random.default_rng(0)
    n_validation = n_tiles // TRAINING_PER_VALIDATION
    pictures = rng.random((n_tiles + n_validation, TILE_PX, TILE_PX), dtype=np.float32)
    tiles = np.asarray(backbone.preprocess(pictures))
    outputs = cut.trunk.predict(tiles, batch_size=16, verbose=0)
    features = outputs if isinstance(outputs, list) else [outputs]
    labels = rng.integers(0, N_CLASSES, len(tiles))
    head = _compile(build_head(cut, n_classes=N_CLASSES, seed=0))
    whole = _compile(build_head(replace(cut, tail=model), n_classes=N_CLASSES, seed=0))
    clock = EpochClock(cut, features=features, labels=labels, n_training=n_tiles)

    figures = {f"epoch.{backbone_name}.tiles": float(n_tiles)}
    for batch_size in batch_sizes:
        times_s = measure_side_by_side(
            {
                "here": lambda: clock.time_epoch(batch_size),  # noqa: B023 - called within this turn
                "head_fit": lambda: _time_fit(head, features, labels, n_tiles, batch_size),  # noqa: B023
                "plain_fit": lambda: _time_fit(whole, [tiles], labels, n_tiles, batch_size),  # noqa: B023
            }
        )
        key = f"epoch.{backbone_name}.b{batch_size}"
        figures |= {f"{key}.{name}_s": seconds for name, seconds in times_s.items()}
        figures[f"{key}.vs_head_fit"] = times_s["head_fit"] / times_s["here"]
        figures[f"{key}.vs_plain_fit"] = times_s["plain_fit"] / times_s["here"]
    return figures


class EpochClock:
    """Times single epochs of a fold as the search trains it: between the end of the first and of the second one."""

    def __init__(self, cut: CutNetwork, *, features: list[np.ndarray], labels: np.ndarray, n_training: int) -> None:
        self._splits = TileSplits(
            number=0,
            training=np.arange(n_training),
            validation=np.arange(n_training, len(labels) - 1),
            test=np.array([len(labels) - 1]),  # only predicted, outside of the epochs
        )
        self._trainer = HeadTrainer(
            cut,
            features=[features],
            labels=labels,
            groups=[str(index) for index in range(len(labels))],
            n_classes=N_CLASSES,
            settings=TrainingSettings(epochs=2, patience=0),
            seed=0,
        )

    def time_epoch(self, batch_size: int) -> float:
        """Return the seconds that one epoch took."""
        ends_s: list[float] = []
        self._trainer.train_fold(
            self._splits,
            cell=Cell(learning_rate=LEARNING_RATE, batch_size=batch_size),
            on_epoch=lambda _figures: ends_s.append(time.perf_counter()),
        )
        return ends_s[1] - ends_s[0]


def _time_fit(
    network: keras.Model, inputs: list[np.ndarray], labels: np.ndarray, n_training: int, batch_size: int
) -> float:
    begun = time.perf_counter()
    network.fit(
        [array[:n_training] for array in inputs],
        labels[:n_training],
        validation_data=([array[n_training:] for array in inputs], labels[n_training:]),
        batch_size=batch_size,
        epochs=1,
        verbose=0,
    )
    return time.perf_counter() - begun


def _compile(network: keras.Model) -> keras.Model:
    network.compile(
        optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network

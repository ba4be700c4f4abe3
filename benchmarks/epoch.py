"""One epoch of head training, against what a Keras user would write.

(a) `fit` of the whole network, frozen but for the last convolution and the new layers, on tiles in memory;
(b) `fit` of the head alone, on the same kept features. Validation is a third of the training tiles.
"""

import keras
import numpy as np

from benchmarks.timing import measure_side_by_side
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, build_uncut, cut_network
from sem_search.transfer.training import HeadTrainer, TrainingSettings

N_CLASSES = 10
TILE_PX = 224
LEARNING_RATE = 1e-3
VALIDATION_SHARE = 3


def measure_epoch(backbone_name: str, *, n_tiles: int, batch_size: int) -> dict[str, float]:
    """Return seconds per epoch of `n_tiles` training tiles, and the two ratios."""
    keras.utils.set_random_seed(0)
    backbone = get_backbone(backbone_name)
    model = backbone.build(tile_px=TILE_PX)
    cut = cut_network(model)
    rng = np.random.default_rng(0)
    n_validation = n_tiles // VALIDATION_SHARE
    n_all = n_tiles + 2 * n_validation
    tiles = np.asarray(backbone.preprocess(rng.random((n_all, TILE_PX, TILE_PX), dtype=np.float32)))
    outputs = cut.trunk.predict(tiles, batch_size=16, verbose=0)
    features = outputs if isinstance(outputs, list) else [outputs]
    labels = rng.integers(0, N_CLASSES, n_all)
    training, validation = np.arange(n_tiles), np.arange(n_tiles, n_tiles + n_validation)

    trainer = HeadTrainer(
        cut,
        features=features,
        labels=labels,
        groups=[str(index) for index in range(n_all)],
        n_classes=N_CLASSES,
        settings=TrainingSettings(epochs=1, patience=0),
        seed=0,
    )

    def train_here() -> None:
        trainer.train_fold(
            fold=0,
            learning_rate=LEARNING_RATE,
            batch_size=batch_size,
            training=training,
            validation=validation,
            test=np.arange(n_tiles + n_validation, n_all),
        )

    head = _compile(build_head(cut, n_classes=N_CLASSES, seed=0))
    whole = _compile(build_uncut(model, n_classes=N_CLASSES, seed=0))

    def fit(network: keras.Model, inputs: list[np.ndarray]) -> None:
        network.fit(
            [array[training] for array in inputs],
            labels[training],
            validation_data=([array[validation] for array in inputs], labels[validation]),
            batch_size=batch_size,
            epochs=1,
            verbose=0,
        )

    times_s = measure_side_by_side(
        {"here": train_here, "head_fit": lambda: fit(head, features), "plain_fit": lambda: fit(whole, [tiles])}
    )
    key = f"epoch.{backbone_name}.b{batch_size}"
    return {
        f"{key}.tiles": float(n_tiles),
        **{f"{key}.{name}_s": seconds for name, seconds in times_s.items()},
        f"{key}.vs_head_fit": times_s["head_fit"] / times_s["here"],
        f"{key}.vs_plain_fit": times_s["plain_fit"] / times_s["here"],
    }


def _compile(network: keras.Model) -> keras.Model:
    network.compile(
        optimizer=keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network

"""An epoch in one compiled call is an epoch of Keras: same steps, same figures, one compilation for all cells."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.transfer.heads.epochs import EVALUATION_TILES, HeadLoop
from sem_search.transfer.heads.passes import GeneralPass

N_TILES, N_CLASSES = 22, 3
MOMENTUM = 0.9

MakeHead = Callable[..., keras.Model]
MakeFeatures = Callable[..., list[np.ndarray]]


class Bench:
    """A head, its loop, and tiles to train on."""

    def __init__(self, head: keras.Model, features: list[np.ndarray], *, pass_type: type[GeneralPass]) -> None:
        self.head = head
        self.features = features
        self.labels = np.arange(len(features[0])) % N_CLASSES
        head_pass = pass_type(head)
        self.prepared = head_pass.prepare([tf.constant(array) for array in features])
        specs = [
            tf.TensorSpec([None if axis == head_pass.tile_axis else size for axis, size in enumerate(t.shape)])
            for t in self.prepared
        ]
        self.loop = HeadLoop(head, head_pass=head_pass, specs=specs, momentum=MOMENTUM)
        self.first_weights = head.get_weights()

    def train(
        self, order: np.ndarray, *, batch_size: int, learning_rate: float = 0.05, weights: Sequence[float] = (1, 1, 1)
    ) -> tuple[float, int]:
        loss, n_right = self.loop.train(
            self.prepared,
            tf.constant(order, tf.int64),
            tf.constant(self.labels[order], tf.int32),
            tf.constant(batch_size, tf.int64),
            tf.constant(learning_rate, tf.float32),
            tf.constant(weights, tf.float32),
        )
        return float(loss), int(n_right)

    def compute_logits(self, places: np.ndarray) -> np.ndarray:
        return self.loop.compute_logits(self.prepared, tf.constant(places, tf.int64)).numpy()

    def begin_again(self) -> None:
        self.head.set_weights(self.first_weights)
        self.loop.reset()


@pytest.fixture
def make_bench(make_head: MakeHead, make_features: MakeFeatures) -> Callable[..., Bench]:
    def make(*, n_tiles: int = N_TILES, dropout: float = 0.0, pass_type: type[GeneralPass] = GeneralPass) -> Bench:
        head = make_head(dropout=dropout)
        return Bench(head, make_features(head, n_tiles=n_tiles), pass_type=pass_type)

    return make


def shuffle(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(N_TILES)


def assert_same_weights(weights: list[np.ndarray], others: list[np.ndarray], *, atol: float = 0.0) -> None:
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(weight, other, rtol=0, atol=atol)


@pytest.mark.parametrize("batch_size", [4, 11, 64])  # 22 tiles: 4 leaves a last batch of 2
def test_epochs_equal_those_of_keras(make_bench: Callable[..., Bench], make_head: MakeHead, batch_size: int) -> None:
    bench, twin = make_bench(), make_head()
    twin.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    for epoch in range(3):
        order = shuffle(epoch)
        loss, n_right = bench.train(order, batch_size=batch_size)
        features = [array[order] for array in bench.features]
        history = twin.fit(
            features, bench.labels[order], batch_size=batch_size, epochs=1, shuffle=False, verbose=0
        ).history
        assert loss / N_TILES == pytest.approx(history["loss"][0], abs=1e-5)
        assert n_right == round(history["accuracy"][0] * N_TILES)
        assert_same_weights(bench.head.get_weights(), twin.get_weights(), atol=1e-5)
    assert not np.allclose(bench.head.get_weights()[0], bench.first_weights[0], atol=1e-3), "nothing was trained"


def test_tiles_may_lie_along_any_axis(make_bench: Callable[..., Bench], pass_type: type[GeneralPass]) -> None:
    bench, plain = make_bench(pass_type=pass_type), make_bench()
    assert bench.train(shuffle(0), batch_size=4) == plain.train(shuffle(0), batch_size=4)
    assert_same_weights(bench.head.get_weights(), plain.head.get_weights())


def test_class_weights_are_those_of_keras(make_bench: Callable[..., Bench], make_head: MakeHead) -> None:
    bench, twin, weights = make_bench(), make_head(), (0.5, 2.0, 0.25)
    twin.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    order = shuffle(0)
    bench.train(order, batch_size=4, weights=weights)
    features = [array[order] for array in bench.features]
    labels, by_class = bench.labels[order], dict(enumerate(weights))
    twin.fit(features, labels, batch_size=4, epochs=1, shuffle=False, verbose=0, class_weight=by_class)
    assert_same_weights(bench.head.get_weights(), twin.get_weights(), atol=1e-5)


def test_the_order_matters(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.train(shuffle(0), batch_size=4)
    one = bench.head.get_weights()
    bench.begin_again()
    bench.train(shuffle(1), batch_size=4)
    assert np.abs(one[0] - bench.head.get_weights()[0]).max() > 1e-5


def test_reset_forgets_momentum_and_nothing_else_does(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()

    def train_from_the_start() -> list[np.ndarray]:
        bench.head.set_weights(bench.first_weights)
        bench.train(shuffle(0), batch_size=4)
        return bench.head.get_weights()

    first = train_from_the_start()
    with_momentum = train_from_the_start()
    assert np.abs(first[0] - with_momentum[0]).max() > 1e-4, "momentum of the epoch before is still there"
    bench.loop.reset()
    assert_same_weights(train_from_the_start(), first)


def test_cells_share_one_compiled_loop_and_none_disturbs_another(make_bench: Callable[..., Bench]) -> None:
    shared = make_bench()
    cells = [(4, 0.05), (7, 0.05), (4, 0.001)]
    for batch_size, learning_rate in cells:
        alone = make_bench()
        expected = alone.train(shuffle(0), batch_size=batch_size, learning_rate=learning_rate)
        shared.begin_again()
        assert shared.train(shuffle(0), batch_size=batch_size, learning_rate=learning_rate) == expected
        assert_same_weights(shared.head.get_weights(), alone.head.get_weights())


def test_nothing_is_compiled_twice(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    for batch_size, learning_rate, n_tiles in ((4, 0.1, 22), (5, 0.01, 21), (16, 0.1, 3)):
        bench.train(np.arange(n_tiles), batch_size=batch_size, learning_rate=learning_rate)
        bench.compute_logits(np.arange(n_tiles))
    assert bench.loop.train.experimental_get_tracing_count() == 1
    assert bench.loop.compute_logits.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("n_places", [1, EVALUATION_TILES, EVALUATION_TILES + 1, 150])
def test_logits_are_those_of_the_head_in_the_order_asked_for(
    make_bench: Callable[..., Bench], pass_type: type[GeneralPass], n_places: int
) -> None:
    bench = make_bench(n_tiles=80, dropout=0.5, pass_type=pass_type)
    places = np.random.default_rng(3).integers(80, size=n_places)
    plain = bench.head([tf.constant(array[places]) for array in bench.features], training=False)
    np.testing.assert_allclose(bench.compute_logits(places), plain, atol=1e-6)


def test_dropout_is_drawn_anew_in_training_and_never_in_prediction(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(dropout=0.5)
    losses = [bench.train(np.arange(N_TILES), batch_size=8, learning_rate=0.0)[0] for _ in range(2)]
    assert losses[0] != losses[1]
    logits = [bench.compute_logits(np.arange(N_TILES)) for _ in range(2)]
    np.testing.assert_array_equal(*logits)

"""The digest of weights names their values and nothing else."""

import keras

from sem_search.transfer.weights.digest import compute_weights_digest


def test_digest_depends_on_values_and_not_on_how_keras_numbered_the_layers():
    first, second = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]) for _ in range(2))
    assert first.layers[0].name != second.layers[0].name
    second.set_weights(first.get_weights())
    assert compute_weights_digest(first) == compute_weights_digest(second)
    second.layers[0].bias.assign([0.0, 1e-7])
    assert compute_weights_digest(first) != compute_weights_digest(second)

"""The graphs that are served, held to the Keras network that was trained."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import keras
import numpy as np
import pytest
from scipy.special import softmax

from sem_search.deployment.classifier.ensemble import HeadEnsemble
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, build_head, cut_network
from sem_search.transfer.engine import OnnxFunction
from sem_search.transfer.features import embed_stored_features
from sem_search.transfer.gradcam import compute_heat_maps
from sem_search.transfer.names import OFFERED_BACKBONES, TINY
from sem_search.transfer.served_graphs import convert_network
from sem_search.transfer.trunk import Computation, set_computation
from tests.transfer.test_engine import check_close

N_CLASSES = 4
N_HEADS = 2
PROBABILITY_TOLERANCE = 1e-5
HEAT_TOLERANCE = 1e-4
"""Of the largest heat."""

pytestmark = pytest.mark.usefixtures("cache")


def build(name: str, *, tile_px: int) -> tuple[CutNetwork, keras.Model, list[list[np.ndarray]]]:
    """Return a cut network, a head, and weights of two heads that answer otherwise than a fresh one.

    Their logits are about as large as those of trained heads: of logits near 100 the rounding alone is 1e-5.
    """
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone(name).build(tile_px=tile_px))
    head = build_head(cut, n_classes=N_CLASSES, hidden_units=16, seed=0)
    rng = np.random.default_rng(1)
    weights = [
        [weight * rng.uniform(0.5, 1.5, weight.shape).astype("float32") for weight in head.get_weights()]
        for _ in range(N_HEADS)
    ]
    return cut, head, weights


def open_ensemble(name: str, *, cut: CutNetwork, head: keras.Model, weights: list[list[np.ndarray]]) -> HeadEnsemble:
    graphs = convert_network(
        cut.trunk, head=head, head_weights=weights, backbone=get_backbone(name), convolution=cut.convolution
    )
    tile_px = cut.trunk.inputs[0].shape[1]
    return HeadEnsemble(trunk=OnnxFunction(graphs.trunk), heads=OnnxFunction(graphs.heads), tile_px=tile_px)


def test_a_network_answers_and_explains_as_keras_does() -> None:
    compare_with_keras(TINY)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFERED_BACKBONES)
def test_every_backbone_answers_and_explains_as_keras_does(name: str) -> None:
    """In a process of its own: to convert a network takes up to 7 GB, which this one would keep."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(compare_with_keras, name).result()


def compare_with_keras(name: str) -> None:
    """Compare a network's graphs with the network, for one backbone."""
    tile_px = 96
    cut, head, weights = build(name, tile_px=tile_px)
    ensemble = open_ensemble(name, cut=cut, head=head, weights=weights)
    tiles = np.random.default_rng(0).random((3, tile_px, tile_px), dtype=np.float32)
    run = ensemble.run(tiles)
    features = [np.asarray(tensor) for tensor in keras.tree.flatten(cut.trunk(get_backbone(name).preprocess(tiles)))]
    check_close(run.features, features)
    np.testing.assert_allclose(run.embeddings, embed_stored_features(features), rtol=1e-4, atol=1e-5)
    for index, some in enumerate(weights):
        head.set_weights(some)
        wanted = softmax(np.asarray(head(features)).astype(np.float64), axis=-1)
        assert np.abs(run.head_probabilities[index] - wanted).max() < PROBABILITY_TOLERANCE
    for label in range(N_CLASSES):
        maps = []
        for some in weights:
            head.set_weights(some)
            labels = np.full(len(tiles), label)
            maps.append(
                compute_heat_maps(head, features=features, class_index=labels, convolution=cut.convolution).strengths
            )
        found = ensemble.compute_heat_maps(run.features, label=label)
        assert np.abs(found - np.mean(maps, axis=0)).max() <= HEAT_TOLERANCE * np.max(maps)


def test_some_class_of_a_head_is_explained_by_some_place() -> None:
    """Or the comparison above would compare nothing with nothing."""
    cut, head, weights = build(TINY, tile_px=32)
    ensemble = open_ensemble(TINY, cut=cut, head=head, weights=weights)
    features = ensemble.compute_features(np.random.default_rng(0).random((3, 32, 32), dtype=np.float32))
    assert max(ensemble.compute_heat_maps(features, label=label).max() for label in range(N_CLASSES)) > 0


def test_a_trunk_that_was_computed_in_bfloat16_is_served_in_float32() -> None:
    cut, head, weights = build(TINY, tile_px=32)
    rounded = set_computation(cut, computation=Computation(engine="tensorflow", precision="bfloat16"))
    tiles = np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)
    wanted, found = (
        open_ensemble(TINY, cut=one, head=head, weights=weights).run(tiles).head_probabilities for one in (cut, rounded)
    )
    assert np.abs(found - wanted).max() < PROBABILITY_TOLERANCE


def test_one_trunk_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cut, head, weights = build(TINY, tile_px=32)
    open_ensemble(TINY, cut=cut, head=head, weights=weights)
    monkeypatch.setattr("sem_search.transfer.trunk.convert_function", lambda *_, **__: pytest.fail("it was stored"))
    open_ensemble(TINY, cut=cut, head=head, weights=weights)

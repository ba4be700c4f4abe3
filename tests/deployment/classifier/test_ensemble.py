from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pytest

from sem_search.deployment.classifier.ensemble import HeadEnsemble
from sem_search.deployment.package.writing import ClassifierParts
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.engine import OnnxFunction
from sem_search.transfer.features import embed_stored_features
from sem_search.transfer.served_graphs import convert_network
from sem_search.transfer.views import VIEWS, turn_tiles

TILE_PX = 32
N_VIEWS = VIEWS["dihedral"]


def build_heads(parts: ClassifierParts) -> list[keras.Model]:
    heads = []
    for weights in parts.head_weights:
        head = keras.models.clone_model(parts.head)
        head.set_weights(weights)
        heads.append(head)
    return heads


@pytest.fixture(scope="module")
def heads(parts: ClassifierParts) -> list[keras.Model]:
    return build_heads(parts)


def build_ensemble(parts: ClassifierParts, *, weights: list[Any], n_views: int = 1) -> HeadEnsemble:
    graphs = convert_network(
        parts.trunk,
        head=parts.head,
        head_weights=weights,
        backbone=get_backbone("tiny"),
        convolution=parts.description.convolution,
    )
    trunk, heads = OnnxFunction(graphs.trunk), OnnxFunction(graphs.heads)
    return HeadEnsemble(trunk=trunk, heads=heads, tile_px=TILE_PX, n_views=n_views)


@pytest.fixture(scope="module")
def ensemble(parts: ClassifierParts) -> HeadEnsemble:
    return build_ensemble(parts, weights=list(parts.head_weights))


@pytest.fixture(scope="module")
def of_views(parts: ClassifierParts) -> HeadEnsemble:
    """The same heads, answering by all views of a tile."""
    return build_ensemble(parts, weights=list(parts.head_weights), n_views=N_VIEWS)


def draw_tiles(n: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(size=(n, TILE_PX, TILE_PX)).astype(np.float32)


def test_each_head_answers_with_its_softmax(
    parts: ClassifierParts, heads: list[keras.Model], ensemble: HeadEnsemble
) -> None:
    tiles = draw_tiles(5)
    features = parts.trunk(get_backbone("tiny").preprocess(tiles))
    logits = np.stack([keras.ops.convert_to_numpy(head(features)).astype(np.float64) for head in heads])
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    probabilities = ensemble.run(tiles).head_probabilities
    assert probabilities.dtype == np.float64
    assert np.abs(probabilities - softmax).max() < 1e-6
    assert np.abs(softmax - softmax.mean(axis=0)).max() > 0.01, "the heads must differ for this test to mean anything"


def test_rows_sum_to_one(ensemble: HeadEnsemble) -> None:
    assert np.allclose(ensemble.run(draw_tiles(7)).head_probabilities.sum(axis=-1), 1, atol=1e-12)


def test_embeddings_are_the_trunk_s_channels_averaged(ensemble: HeadEnsemble) -> None:
    run = ensemble.run(draw_tiles(4))
    wanted = np.concatenate([np.asarray(array).mean(axis=(1, 2)) for array in run.features], axis=1)
    assert np.abs(run.embeddings - wanted).max() < 1e-5
    assert embed_stored_features([np.asarray(array) for array in run.features]) == pytest.approx(run.embeddings)


def test_a_head_answers_with_the_geometric_mean_of_its_answers_to_the_views(
    ensemble: HeadEnsemble, of_views: HeadEnsemble
) -> None:
    tiles = draw_tiles(5)
    alone = np.stack([ensemble.run(turn_tiles(tiles, view=view)).head_probabilities for view in range(N_VIEWS)])
    product = np.exp(np.log(alone).mean(axis=0))
    wanted = product / product.sum(axis=-1, keepdims=True)
    assert np.abs(of_views.run(tiles).head_probabilities - wanted).max() < 1e-6
    assert np.abs(wanted - alone[0]).max() > 0.001, "the views must differ for this test to mean anything"


def test_a_turned_tile_gets_the_same_answer(of_views: HeadEnsemble) -> None:
    tiles = draw_tiles(3)
    wanted = of_views.run(tiles).head_probabilities
    for view in range(1, N_VIEWS):
        found = of_views.run(turn_tiles(tiles, view=view)).head_probabilities
        assert np.abs(found - wanted).max() < 1e-6


def test_what_is_shown_of_a_tile_is_the_tile_as_it_is(ensemble: HeadEnsemble, of_views: HeadEnsemble) -> None:
    tiles = draw_tiles(4)
    wanted, found = ensemble.run(tiles), of_views.run(tiles)
    np.testing.assert_array_equal(found.embeddings, wanted.embeddings)
    for features in (found.features, of_views.compute_features(tiles)):
        for one, other in zip(features, wanted.features, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_head_without_numbers_gives_equal_probabilities_in_all_views(parts: ClassifierParts, value: float) -> None:
    sound = parts.head_weights[1]
    broken = [np.full_like(weight, value) for weight in sound]
    ensemble = build_ensemble(parts, weights=[broken, sound], n_views=N_VIEWS)
    run = ensemble.run(draw_tiles(2))
    assert run.head_probabilities[0] == pytest.approx(np.full((2, 3), 1 / 3))
    assert np.abs(run.head_probabilities[1] - 1 / 3).max() > 0.01
    assert np.isfinite(ensemble.compute_heat_maps(run.features, label=0)).all()


@pytest.mark.parametrize("n_looks", [1, 3, N_VIEWS])
def test_a_run_can_be_ended_between_views(of_views: HeadEnsemble, n_looks: int) -> None:
    looks = []

    def check() -> None:
        looks.append(len(looks))
        if len(looks) == n_looks:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        of_views.run(draw_tiles(1), check=check)
    assert len(looks) == n_looks


def test_a_tile_is_answered_alike_in_any_company(ensemble: HeadEnsemble) -> None:
    tiles = draw_tiles(9)
    together = ensemble.run(tiles).head_probabilities
    alone = np.concatenate([ensemble.run(tile[None]).head_probabilities for tile in tiles], axis=1)
    assert np.abs(together - alone).max() < 1e-6


def test_threads_get_the_answers_of_one_thread(ensemble: HeadEnsemble) -> None:
    requests = [draw_tiles(1 + n % 4) for n in range(32)]
    wanted = [ensemble.run(tiles).head_probabilities for tiles in requests]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda tiles: ensemble.run(tiles).head_probabilities, requests))
    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(found, wanted, strict=True))


def test_heat_maps_are_finite_and_depend_on_the_class(ensemble: HeadEnsemble) -> None:
    features = ensemble.run(draw_tiles(3)).features
    maps = [ensemble.compute_heat_maps(features, label=label) for label in range(3)]
    for one in maps:
        assert one.shape[0] == 3
        assert np.isfinite(one).all()
        assert one.min() >= 0
    assert not np.array_equal(maps[0], maps[1])


def test_the_map_of_all_heads_is_the_mean_of_those_of_each(ensemble: HeadEnsemble) -> None:
    features = ensemble.run(draw_tiles(2)).features
    n_heads = len(ensemble.run(draw_tiles(1)).head_probabilities)
    of_each = [ensemble.compute_heat_maps(features, label=1, head=head) for head in range(n_heads)]
    assert not np.array_equal(of_each[0], of_each[1])
    np.testing.assert_allclose(np.mean(of_each, axis=0), ensemble.compute_heat_maps(features, label=1), atol=1e-6)

"""Heat maps of all heads, weights permuted anew, and cells deleted and inserted."""

import numpy as np
import pytest

from sem_search.audits.heat_maps.heat import SHARES, Explainer, HeadWeights, compute_mean_features
from sem_search.audits.subject import AuditSubject


@pytest.fixture(scope="module")
def explainer(subject: AuditSubject) -> Explainer:
    return Explainer(subject)


@pytest.fixture(scope="module")
def weights(head_weights: dict[int, HeadWeights]) -> HeadWeights:
    return head_weights[0]


def test_every_tile_has_a_map(explainer: Explainer, weights: HeadWeights, subject: AuditSubject) -> None:
    maps = explainer.explain(weights, np.arange(subject.tiles.n_tiles))
    assert len(maps) == 60 and maps.ndim == 3
    assert maps.min() >= 0 and maps.max() == 1


def test_weights_keep_their_values_and_lose_their_places(explainer: Explainer, weights: HeadWeights) -> None:
    for with_convolution in (False, True):
        permuted = explainer.randomise(weights, with_convolution=with_convolution)
        assert all(
            np.array_equal(np.sort(a.ravel()), np.sort(b.ravel())) for a, b in zip(weights, permuted, strict=True)
        )
        is_moved = [not np.array_equal(a, b) for a, b in zip(weights, permuted, strict=True)]
        assert is_moved[0] is with_convolution, "the convolution comes first"
        assert is_moved[-2], "the last layer is always permuted anew"


def test_deletion_begins_and_insertion_ends_with_the_answer(
    explainer: Explainer, weights: HeadWeights, subject: AuditSubject
) -> None:
    tiles = subject.winner.folds[0].test_tiles
    maps = explainer.explain(weights, tiles)
    deletion, insertion = explainer.trace(weights, tiles, order=maps, mean=compute_mean_features(subject))
    answers = subject.winner.folds[0].test_probabilities
    of_true = answers[np.arange(len(tiles)), subject.tiles.label_of_tile[tiles]]
    assert deletion.shape == (len(tiles), len(SHARES))
    assert deletion[:, 0] == pytest.approx(of_true, abs=1e-5)
    assert insertion[:, -1] == pytest.approx(of_true, abs=1e-5)
    assert deletion[:, -1] == pytest.approx(insertion[:, 0], abs=1e-6)


def test_what_is_blank_is_the_mean(subject: AuditSubject) -> None:
    (mean,) = compute_mean_features(subject)
    assert mean == pytest.approx(np.asarray(subject.features.arrays[0]).mean(axis=(0, 1, 2)), rel=1e-4)

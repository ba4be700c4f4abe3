"""Answers of tiles combined to answers of images."""

import numpy as np
import pytest

from sem_search.evaluation.images import PROBABILITY_FLOOR, combine_tiles


def test_the_mean_of_log_probabilities_is_renormalised() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    images, combined = combine_tiles(probabilities, image_of_tile=np.array([5, 5, 2]))
    geometric = np.sqrt([0.9 * 0.4, 0.1 * 0.6])
    assert images.tolist() == [2, 5]
    np.testing.assert_allclose(combined, [[0.2, 0.8], geometric / geometric.sum()])


def test_a_sure_tile_outvotes_tiles_that_hesitate() -> None:
    probabilities = np.array([[0.01, 0.99], [0.6, 0.4], [0.6, 0.4]])
    _, combined = combine_tiles(probabilities, image_of_tile=np.zeros(3, dtype=np.int64))
    assert combined.argmax() == 1


def test_one_tile_cannot_forbid_a_class() -> None:
    probabilities = np.array([[0.0, 1.0], *[[0.99, 0.01]] * 9])
    _, combined = combine_tiles(probabilities, image_of_tile=np.zeros(10, dtype=np.int64))
    assert combined[0, 0] > 0.9


def test_contradicting_certainties_cancel() -> None:
    _, combined = combine_tiles(np.eye(2), image_of_tile=np.zeros(2, dtype=np.int64))
    np.testing.assert_allclose(combined, [[0.5, 0.5]])


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_tiles_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), size=30)
    image_of_tile = np.repeat(np.arange(10), 3)
    order = rng.permutation(30)
    images, combined = combine_tiles(probabilities, image_of_tile=image_of_tile)
    other_images, other = combine_tiles(probabilities[order], image_of_tile=image_of_tile[order])
    assert images.tolist() == other_images.tolist() == list(range(10))
    np.testing.assert_allclose(other, combined)
    np.testing.assert_allclose(combined.sum(axis=1), 1)


def test_one_tile_answers_for_its_image() -> None:
    _, combined = combine_tiles(np.array([[0.3, 0.7]]), image_of_tile=np.array([0]))
    np.testing.assert_allclose(combined, [[0.3, 0.7]], atol=PROBABILITY_FLOOR)


def test_a_tile_of_nan_leaves_its_image_without_an_answer() -> None:
    probabilities = np.array([[np.nan, np.nan], [0.5, 0.5], [0.1, 0.9]])
    _, combined = combine_tiles(probabilities, image_of_tile=np.array([0, 0, 1]))
    assert np.isnan(combined[0]).all()
    np.testing.assert_allclose(combined[1], [0.1, 0.9])


@pytest.mark.parametrize(
    ("shape", "n_indices", "message"),
    [((3, 2), 2, r"2 image indices do not match probabilities of \(3, 2\)"), ((3,), 3, "3 image indices")],
)
def test_shapes_must_match(shape: tuple[int, ...], n_indices: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine_tiles(np.full(shape, 0.5), image_of_tile=np.zeros(n_indices, dtype=np.int64))

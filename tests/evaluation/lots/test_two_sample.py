"""Equal lots pass, different ones are found, and what cannot be compared is named."""

import time

import numpy as np
import pytest
from scipy.stats import binom, permutation_test

from benchmarks.trust.lots import Sizes, simulate_lots
from sem_search.errors import DataError
from sem_search.evaluation.lots import two_sample
from sem_search.evaluation.lots.scores import score_permutations, whiten_images
from sem_search.evaluation.lots.two_sample import compare_lots, compute_smallest_p_value
from sem_search.evaluation.statistics import adjust_p_values, adjust_smallest_p_values

N_FEATURES = 30


def draw_lots(*sizes: int, shift: float = 0.0, n_tiles: int = 3, seed: int = 0) -> dict:
    """Lots of so many images; the second is shifted in the first feature."""
    rng = np.random.default_rng(seed)
    lot = np.repeat(np.arange(len(sizes)), sizes)
    images = rng.normal(size=(len(lot), N_FEATURES)) / np.sqrt(np.arange(1, N_FEATURES + 1))
    images[lot == 1, 0] += shift
    image = np.repeat(np.arange(len(lot)), n_tiles)
    return {
        "features": images[image] + 0.5 * rng.normal(size=(len(image), N_FEATURES)),
        "image_of_tile": image,
        "lot_of_image": lot,
        "lot_names": tuple("ABCDE"[: len(sizes)]),
    }


def compare(lots: dict, **options):
    return compare_lots(lots["features"], **{name: lots[name] for name in lots if name != "features"}, **options)


def test_different_lots_are_found() -> None:
    (pair,) = compare(draw_lots(12, 12, shift=6.0))
    assert pair.p_value == pair.adjusted_p_value == pair.smallest_p_value == 0.001
    assert pair.is_different()
    assert pair.auroc > 0.9
    assert pair.accuracy.low > 0.5
    assert (pair.first, pair.second, pair.n_first, pair.n_second) == ("A", "B", 12, 12)


def test_equal_lots_are_rarely_found_different() -> None:
    p_values = [
        compare(draw_lots(6, 8, seed=seed), n_permutations=99, n_power_tests=0)[0].p_value for seed in range(40)
    ]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.13
    assert 0.35 < np.mean(p_values) < 0.65


def test_areas_and_accuracies_are_counted() -> None:
    lots = draw_lots(7, 11, shift=1.0)
    (pair,) = compare(lots)
    groups = pair.score_of_tile.reshape(18, 3).mean(axis=1)
    right = [np.mean(groups[:7] > 0), np.mean(groups[7:] <= 0)]
    assert pair.accuracy.value == pytest.approx(np.mean(right), abs=0.2)
    assert 0.4 < pair.auroc < 1


def test_tiles_that_tell_most_are_named() -> None:
    lots = draw_lots(10, 10, shift=4.0)
    odd = 3 * 4  # one tile of a first-lot image that looks like the second lot
    lots["features"][odd, 0] += 12.0
    (pair,) = compare(lots)
    assert pair.tiles.tolist() == list(range(60))
    of_first = pair.score_of_tile[:30]
    assert of_first.argmin() == odd
    assert np.median(of_first) > 0 > np.median(pair.score_of_tile[30:])


def test_several_pairs_are_adjusted() -> None:
    pairs = compare(draw_lots(8, 8, 8, shift=6.0), n_permutations=199, n_power_tests=0)
    assert [(pair.first, pair.second) for pair in pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    raw = np.array([pair.p_value for pair in pairs])
    np.testing.assert_allclose([pair.adjusted_p_value for pair in pairs], adjust_p_values(raw))
    assert pairs[0].is_different() and pairs[2].is_different() and not pairs[1].is_different()
    assert pairs[1].tiles.tolist() == [*range(24), *range(48, 72)]


def test_holm_by_hand() -> None:
    adjusted = adjust_p_values(np.array([0.04, 0.01, 0.03, 0.5]))
    np.testing.assert_allclose(adjusted, [0.09, 0.04, 0.09, 0.5])
    np.testing.assert_allclose(adjust_p_values(np.array([0.6, 0.9])), [1.0, 1.0])


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(n_images=(10, 10), n_tiles=(1, 20)),
        Sizes(n_images=(5, 20), n_tiles=(1, 20)),
        Sizes(n_images=(8, 24), images_per_group=(1, 3)),
    ],
    ids=lambda sizes: sizes.name,
)
def test_equal_lots_of_images_of_unlike_size_are_rarely_found_different(sizes: Sizes) -> None:
    """Means over all tiles are told apart in 15 to 26 of 100 tests."""
    found = simulate_lots(n_images=sizes, shift=0.0, n_tests=250)["found"]
    assert found <= binom.ppf(0.999, 250, 0.05) / 250
    assert simulate_lots(n_images=sizes, shift=12.0, n_tests=10)["found"] > 0.6


def test_tiles_that_only_larger_images_have_are_left_out_and_it_is_told() -> None:
    lots = draw_lots(6, 6, n_tiles=5)
    is_kept = (lots["image_of_tile"] >= 6) | (np.arange(60) % 5 < 2)
    fewer = {**lots, **{name: lots[name][is_kept] for name in ("features", "image_of_tile")}}
    (pair,) = compare(fewer, n_power_tests=0)
    assert (pair.n_tiles_of_image, pair.n_tiles_left_out) == (2, 18)
    assert len(pair.tiles) == len(pair.score_of_tile) == 42
    (whole,) = compare(lots, n_power_tests=0)
    assert (whole.n_tiles_of_image, whole.n_tiles_left_out) == (5, 0)


@pytest.mark.parametrize(("n_first", "n_second"), [(4, 4), (4, 5), (5, 5)])
def test_the_p_value_of_few_images_is_that_of_all_deals(n_first: int, n_second: int) -> None:
    lots = draw_lots(n_first, n_second, shift=2.0)
    points = whiten_images(lots["features"], row_of_tile=lots["image_of_tile"]).points

    def compute_auroc(first: np.ndarray, second: np.ndarray) -> float:
        is_first = np.isin(np.arange(n_first + n_second), first).astype(float)
        return float(score_permutations(points, is_first[None]).compute_auroc()[0])

    expected = permutation_test(
        (np.arange(n_first), np.arange(n_first, n_first + n_second)),
        compute_auroc,
        alternative="greater",
        n_resamples=np.inf,
    )
    pairs = [compare(lots, n_power_tests=0, seed=seed)[0] for seed in (0, 1)]
    assert [pair.p_value for pair in pairs] == pytest.approx([expected.pvalue] * 2)
    assert pairs[0].p_value >= pairs[0].smallest_p_value


def test_what_many_pairs_of_few_images_cannot_show_is_known() -> None:
    """Six pairs of 4 + 4 images: 6 / 35 is the least p-value, however far apart the lots are."""
    lots = draw_lots(4, 4, 4, 4)
    lots["features"] += 40.0 * np.eye(N_FEATURES)[np.repeat(np.arange(4), 12)]
    pairs = compare(lots)
    assert all(pair.accuracy.value == pair.auroc == 1 for pair in pairs)
    assert [pair.adjusted_p_value for pair in pairs] == pytest.approx([6 / 35] * 6)
    assert [pair.smallest_p_value for pair in pairs] == pytest.approx([6 / 35] * 6)
    assert {pair.detectable_accuracy for pair in pairs} == {None}


def test_many_pairs_get_as_many_permutations_as_they_need() -> None:
    pairs = compare(draw_lots(*[8] * 4, shift=9.0), n_permutations=9, n_power_tests=0)
    assert {pair.smallest_p_value for pair in pairs if not pair.is_different()} == {6 / 600}
    assert [pair.is_different() for pair in pairs] == [True, False, False, True, True, False]


def test_the_smallest_adjusted_p_value_knows_the_other_pairs() -> None:
    smallest = adjust_smallest_p_values(np.array([0.001, 0.4]), smallest=np.array([0.001, 0.0286]))
    np.testing.assert_allclose(smallest, [0.002, 0.0286])
    np.testing.assert_allclose(adjust_smallest_p_values(np.array([0.2]), smallest=np.array([0.1])), [0.1])


def test_images_of_a_group_count_once() -> None:
    lots = draw_lots(16, 16, shift=2.0)
    (pair,) = compare(lots, group_of_image=np.arange(32) // 2)
    assert (pair.n_first, pair.n_second) == (8, 8)
    single = compare(lots)[0]
    assert pair.accuracy.high - pair.accuracy.low > single.accuracy.high - single.accuracy.low


def test_more_images_show_smaller_differences() -> None:
    few, many = (compare(draw_lots(n, n))[0].detectable_accuracy for n in (10, 25))
    assert few is not None and many is not None
    assert 0.55 < many < few < 1


def test_the_power_is_simulated_once_for_so_many_images_and_not_where_lots_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int, int]] = []

    def find(_: object, is_first: np.ndarray, *, n_pairs: int, **options: object) -> float:
        asked.append((int(is_first.sum()), int((1 - is_first).sum()), n_pairs))
        return 0.9

    monkeypatch.setattr(two_sample, "find_detectable_accuracy", find)
    pairs = compare(draw_lots(12, 12, 12, 14, 12, shift=12.0))
    assert sorted(asked) == [(12, 12, 10), (12, 14, 10)]
    assert [pair.detectable_accuracy for pair in pairs] == [None if pair.is_different() else 0.9 for pair in pairs]
    assert sum(pair.is_different() for pair in pairs) == 4, "each of the pairs with B"


def test_the_power_can_be_left_out() -> None:
    assert compare(draw_lots(6, 6), n_power_tests=0)[0].detectable_accuracy is None


def test_the_smallest_p_value_counts_deals() -> None:
    assert compute_smallest_p_value(3, 3) == pytest.approx(2 / 20)
    assert compute_smallest_p_value(4, 4) == pytest.approx(2 / 70)
    assert compute_smallest_p_value(4, 5) == pytest.approx(1 / 126)
    assert compute_smallest_p_value(10, 10) == 0.001


def test_the_same_seed_permutes_alike() -> None:
    lots = draw_lots(6, 6)
    one, again, other = (compare(lots, seed=seed)[0] for seed in (1, 1, 2))
    assert (one.p_value, one.detectable_accuracy) == (again.p_value, again.detectable_accuracy)
    assert (one.p_value, one.detectable_accuracy) != (other.p_value, other.detectable_accuracy)
    assert one.auroc == other.auroc


def test_a_thousand_permutations_take_seconds() -> None:
    started = time.process_time()
    compare(draw_lots(30, 30))
    assert time.process_time() - started < 10


def test_lots_that_cannot_be_compared_are_named() -> None:
    with pytest.raises(DataError, match="lot B has 3 independent images, and 4 are needed"):
        compare(draw_lots(6, 3))
    with pytest.raises(DataError, match="lot A has 1 independent image, and 4"):
        compare(draw_lots(6, 6), group_of_image=[0] * 6 + [*range(1, 7)])
    with pytest.raises(DataError, match="group 3 has images of the lots A and B"):
        compare(draw_lots(6, 6), group_of_image=[*range(6), 3, *range(7, 12)])


def test_features_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite: compute them again"):
        compare({**draw_lots(6, 6), "features": np.full((36, 2), np.inf)})

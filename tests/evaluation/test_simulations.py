"""Each statistic against a known truth; `python -m benchmarks.trust` prints the full tables of docs/trust.md."""

import numpy as np
import pytest

from benchmarks.trust.comparison import EQUAL, simulate_equal, simulate_fold_test
from benchmarks.trust.conformal import ANSWERS, simulate_coverage, simulate_ensemble, simulate_scores
from benchmarks.trust.intervals import WORLDS, simulate_trained
from benchmarks.trust.intervals import simulate_coverage as simulate_interval_coverage
from benchmarks.trust.label_errors import Pool as LabelPool
from benchmarks.trust.label_errors import compute_precision_at, exchange_labels, simulate_label_errors
from benchmarks.trust.lots import simulate_lots
from benchmarks.trust.rendered_lots import USUAL, build_network, embed_pool, simulate_pools
from benchmarks.trust.scores import simulate_calibration, simulate_novelty
from benchmarks.trust.selection import SPLITS, iter_grids, simulate_selection
from benchmarks.trust.worlds import World, compute_truth, draw_answers
from sem_search.evaluation.answers import compute_figures
from sem_search.micrographs.rendering.materials import MATERIALS

pytestmark = pytest.mark.slow

SMALL_WORLDS = [world for world in WORLDS if len(world.labels) <= 100 and world.n_classes <= 5]


def test_the_truth_of_the_worlds_is_what_many_images_show() -> None:
    world = World(name="many", n_classes=4, images_per_class=4000, tiles_per_image=3, n_folds=2)
    networks = np.array([[0.3, 0.0, 0.0, -0.3], [0.0, 0.2, 0.0, 0.0]])
    seen = compute_figures(draw_answers(world, networks, np.random.default_rng(0)))
    truth = compute_truth(world, networks)
    for name in ("f_measure", "tile_accuracy", "image_f_measure", "image_accuracy"):
        assert getattr(seen, name) == pytest.approx(float(getattr(truth, name)), abs=0.006)
    np.testing.assert_allclose(seen.of_class.precision, truth.of_class.precision, atol=0.015)


@pytest.mark.parametrize("world", SMALL_WORLDS, ids=lambda world: world.name)
def test_intervals_hold_the_true_figure_in_95_of_100_studies(world: World) -> None:
    """93 to 97 %, and two standard errors of 200 studies.

    Whole images right are a whole number: where nearly all are, no interval covers 95 % exactly, and ours cover more.
    """
    held = simulate_interval_coverage(world, n_studies=200, n_resamples=300, seed=1)
    of_tiles = [held[name] for name in ("f_measure", "tile_accuracy")]
    of_classes = [held[f"class {name}"] for name in ("f_measure", "precision", "recall", "one_vs_rest_accuracy")]
    assert all(0.9 < value < 0.99 for value in of_tiles)
    assert all(0.92 < value < 0.99 for value in of_classes)
    assert all(held[name] > 0.91 for name in ("image_f_measure", "image_accuracy"))
    assert 0.93 <= np.mean(of_tiles + of_classes) <= 0.97


def test_percentiles_would_not_hold_it_near_one() -> None:
    """Why the intervals are not plain percentiles: where no image was wrong none can be drawn."""
    world = World(name="near one", n_classes=4, images_per_class=8, n_folds=4, strength=6.0, neighbour=2.0)
    held = simulate_interval_coverage(world, n_studies=60, n_resamples=300, is_compared=True)
    assert held["image_accuracy percentile"] < 0.6
    assert held["image_accuracy"] > 0.9


def test_intervals_hold_for_classifiers_that_are_really_trained() -> None:
    assert 0.9 < simulate_trained(n_studies=150)["f_measure"] < 0.99


def test_equal_answers_are_told_apart_in_at_most_6_of_100_studies() -> None:
    small = [(world, likeness) for world, likeness in EQUAL if world.n_classes <= 5]
    found = [simulate_equal(world, likeness=likeness, n_studies=80, seed=1) for world, likeness in small]
    assert np.mean([entry["interval"] for entry in found]) <= 0.06
    assert np.mean([entry["mcnemar"] for entry in found]) <= 0.05
    assert 0.92 < np.mean([entry["held"] for entry in found]) < 0.98


def test_equal_classifiers_are_told_apart_over_folds_in_at_most_6_of_100_studies() -> None:
    found = simulate_fold_test(n_studies=150)
    assert found["corrected"] <= 0.06
    assert found["plain"] >= found["corrected"]


def test_the_corrected_score_is_closer_in_nine_of_ten_searches() -> None:
    grids = [grid for grid in iter_grids() if grid.images_per_class == 6 and grid.n_cells == 20]
    searches = [simulate_selection(grid, n_studies=8, n_draws=100, seed=1) for grid in grids]
    found = [search[split] for search in searches for split in SPLITS]
    assert np.mean([entry.is_closer for entry in found]) >= 0.9
    assert np.mean([entry.naive for entry in found]) > 0.03
    assert abs(np.mean([entry.corrected for entry in found])) < 0.02


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_prediction_sets_cover_as_promised(coverage: float) -> None:
    for answers in ANSWERS:
        found = simulate_coverage(answers, coverage=coverage, n_calibrations=150)
        assert found["coverage"] > coverage - 0.012, answers.name
        assert found["inside"] > 0.9, answers.name


def test_what_is_served_covers_as_promised() -> None:
    for images_per_class in (5, 10):
        assert simulate_ensemble(coverage=0.9, n_studies=40, images_per_class=images_per_class)["coverage"] > 0.89


def test_the_score_of_the_sets_gives_the_smallest() -> None:
    for answers in ANSWERS[:4]:
        sizes = simulate_scores(answers, coverage=0.9, n_calibrations=40)
        assert sizes["LAC"] == min(sizes[name] for name in ("LAC", "APS", "APS, random", "RAPS"))


def test_equal_lots_are_told_apart_in_at_most_6_of_100_tests() -> None:
    found = [simulate_lots(n_images=n_images, shift=0.0, n_tests=150, seed=1) for n_images in (4, 6, 10)]
    assert np.mean([entry["found"] for entry in found]) <= 0.06
    assert np.mean([entry["held"] for entry in found]) > 0.92
    assert simulate_lots(n_images=10, shift=6.0, n_tests=40)["found"] > 0.9


def test_the_power_foretold_is_the_power_found() -> None:
    foretold = simulate_lots(n_images=10, shift=0.0, n_tests=8, n_power_tests=40)["detectable"]
    weak, strong = (simulate_lots(n_images=10, shift=shift, n_tests=100) for shift in (3.0, 5.0))
    assert weak["found"] < 0.8 < strong["found"]
    assert weak["accuracy"] < foretold < strong["accuracy"] + 0.03


def test_rendered_lots_are_told_apart_where_they_differ_and_not_where_they_do_not() -> None:
    """Random weights see another material, not a rougher one: what ImageNet's see stands in docs/trust.md."""
    network = build_network("tiny", weights="random")
    usual = embed_pool(USUAL, n_images=48, network=network, name="usual")
    spheres = next(material for material in MATERIALS if material.name == "mannitol-spherical")
    other = embed_pool(spheres, n_images=24, network=network, name="spheres")
    same = simulate_pools(usual, None, n_images=8, n_tests=200)
    assert same["found"] <= 0.08
    assert same["held"] > 0.9
    assert simulate_pools(usual, other, n_images=8, n_tests=40)["found"] > same["found"] + 0.3


def test_scaling_mends_overconfidence_and_spoils_nothing() -> None:
    honest = simulate_calibration(n_images=100, overconfidence=1.0, n_studies=60)
    overconfident = simulate_calibration(n_images=100, overconfidence=3.0, n_studies=60)
    assert overconfident["alarm"] > 0.9
    assert max(honest["alarm"], honest["alarm after"], overconfident["alarm after"]) <= 0.13
    assert honest["log loss after"] < honest["log loss"] + 0.02
    assert overconfident["log loss after"] < honest["log loss"] + 0.02
    assert overconfident["temperature"] == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_known_images_are_alarms_no_oftener_than_asked(rate: float) -> None:
    found = simulate_novelty(images_per_class=10, rate=rate, n_studies=40)
    assert found["known"] <= rate + 0.015
    assert found["single tiles"] <= rate + 0.03
    assert found["unknown"] > 0.9


@pytest.mark.parametrize("sizes", [(10, 10, 10, 10), (40, 40, 10, 10)])
def test_sets_that_cover_each_class_hold_each_class_as_asked(sizes: tuple[int, ...]) -> None:
    """Of all images together the rarer and harder classes are covered less."""
    of_images, of_class = (
        simulate_ensemble(coverage=0.9, n_studies=100, images_per_class=sizes, coverage_of=kind)
        for kind in ("images", "class")
    )
    assert min(of_images[f"class {label}"] for label in range(4)) < 0.88
    assert all(0.88 < of_class[f"class {label}"] < 0.96 for label in range(4))
    assert of_class["size"] < of_images["size"] + 0.3


def test_exchanged_labels_stand_first_in_the_ranking() -> None:
    """Made-up features: four classes that hardly overlap, ten images each."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(4, 1, 1, 8))
    pool = LabelPool(features=centres + rng.normal(size=(4, 30, 1, 8)) + 0.5 * rng.normal(size=(4, 30, 3, 8)))
    right, exchanged = (
        simulate_label_errors(pool, images_per_class=10, share=share, n_studies=10) for share in (0.0, 0.1)
    )
    assert right["beyond chance"] <= 0.1
    assert exchanged["precision at recall"] > 0.8
    assert exchanged["recall"] > 0.8


def test_labels_are_exchanged_among_one_another() -> None:
    labels = np.repeat(np.arange(5), 4)
    given = exchange_labels(labels, n_exchanged=6, rng=np.random.default_rng(0))
    assert (given != labels).sum() == 6
    assert np.array_equal(np.sort(given), labels)


def test_the_precision_is_that_of_the_shortest_part_of_the_ranking_with_the_recall() -> None:
    is_exchanged = np.array([True, False, True, False, True])
    assert compute_precision_at(0.6, ranked=np.array([0, 1, 2, 3, 4]), is_exchanged=is_exchanged) == 2 / 3
    assert compute_precision_at(1.0, ranked=np.array([4, 2, 0, 1, 3]), is_exchanged=is_exchanged) == 1.0

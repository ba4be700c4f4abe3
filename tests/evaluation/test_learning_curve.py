"""The learning curve: the law is found where it is known, its limits hold, and what cannot be said is not said."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.trust.learning_curve import CurveWorld, iter_worlds, measure_curve, simulate_curve
from sem_search.evaluation.answers import compute_figures, tabulate_image_answers
from sem_search.evaluation.learning_curve import (
    EXPONENTS,
    LearningCurve,
    PowerLaw,
    compare_sizes,
    fit_power_law,
    measure_size,
)

NUMBERS = np.array([2.0, 3.0, 4.0, 6.0, 8.0])
LABELS = np.repeat([0, 1], 8)


def make_law(*, ceiling: float, gap: float, exponent: float) -> PowerLaw:
    return PowerLaw(ceiling=np.array(ceiling), gap=np.array(gap), exponent=np.array(exponent), reference=8.0)


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    world = CurveWorld(name="usual", ceiling=0.95, at_first=0.5, exponent=0.8, images_per_class=40)
    return measure_curve(world, rng=np.random.default_rng(0), n_resamples=200, seed=0)


@pytest.mark.parametrize(("ceiling", "gap"), [(0.9, 0.1), (1.0, 0.2), (0.6, 0.0)])
@pytest.mark.parametrize("place", [10, 50, 90])
def test_a_curve_without_noise_is_found_whatever_the_weights(ceiling: float, gap: float, place: int) -> None:
    truth = make_law(ceiling=ceiling, gap=gap, exponent=float(EXPONENTS[place]))
    scores = np.array([float(truth.compute(n)) for n in NUMBERS])
    law = fit_power_law(scores, numbers=NUMBERS, weights=np.array([1.0, 5.0, 2.0, 1.0, 3.0]))
    assert law.compute(16.0) == pytest.approx(float(truth.compute(16.0)), abs=1e-6)
    assert law.ceiling == pytest.approx(ceiling, abs=1e-6) or gap == 0
    assert law.gap == pytest.approx(gap, abs=1e-6)


def test_many_curves_are_fitted_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    scores = np.clip(0.9 - 0.5 / NUMBERS + 0.05 * rng.normal(size=(20, 5)), 0, 1)
    weights = np.arange(1.0, 6.0)
    many = fit_power_law(scores, numbers=NUMBERS, weights=weights)
    for number, row in enumerate(scores):
        one = fit_power_law(row, numbers=NUMBERS, weights=weights)
        assert (one.ceiling, one.gap, one.exponent) == pytest.approx(
            (many.ceiling[number], many.gap[number], many.exponent[number])
        )


def test_no_other_law_within_the_limits_is_nearer() -> None:
    """Against a search over all three parameters, also where the best ceiling would lie above 1."""
    rng = np.random.default_rng(2)
    weights = np.array([1.0, 1.0, 2.0, 2.0, 4.0])
    for scores in np.clip(np.linspace(0.6, 1.0, 5) + 0.1 * rng.normal(size=(6, 5)), 0, 1):
        law = fit_power_law(scores, numbers=NUMBERS, weights=weights)
        assert law.ceiling <= 1
        assert law.gap >= 0
        found = float(weights @ (np.array([law.compute(n) for n in NUMBERS]) - scores) ** 2)
        ceilings, gaps = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
        for exponent in EXPONENTS[::11]:
            basis = (NUMBERS / 8.0) ** -exponent
            rows = ceilings[..., None] - gaps[..., None] * basis
            assert found <= ((rows - scores) ** 2 @ weights).min() + 1e-12


def test_a_falling_curve_is_flat_and_endless_images_do_not_help() -> None:
    law = fit_power_law(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), numbers=NUMBERS, weights=np.ones(5))
    assert (law.gap, law.ceiling) == (0.0, pytest.approx(0.7))
    assert law.invert(0.8) == np.inf


def test_the_number_for_a_score_gives_that_score() -> None:
    law = make_law(ceiling=0.95, gap=0.15, exponent=0.7)
    assert law.compute(float(law.invert(0.9))) == pytest.approx(0.9)
    assert law.invert(0.95) == np.inf


def with_law(curve: LearningCurve, *, spread: float = 0.0, **law: float) -> LearningCurve:
    """The same measured scores, under another law whose ceiling is known to `spread`."""
    known = replace(make_law(**law), reference=1.0)
    gap, exponent = np.full(200, law["gap"]), np.full(200, law["exponent"])
    ceiling = law["ceiling"] + spread * np.linspace(-1, 1, 200)
    resampled = PowerLaw(ceiling=ceiling, gap=gap, exponent=exponent, reference=1.0)
    return replace(curve, law=known, resampled=resampled)


@pytest.mark.parametrize(
    ("target", "spread", "finding"),
    [
        (0.5, 0.0, "reached"),
        (0.87, 0.0, "found"),
        (0.999, 0.0, "ceiling"),
        (0.955, 0.05, "open"),  # the ceiling may lie above it, or below
        (0.939, 0.0, "far"),
    ],
)
def test_a_target_is_reached_can_be_or_cannot(curve: LearningCurve, target: float, spread: float, finding: str) -> None:
    need = with_law(curve, ceiling=0.95, gap=0.11, exponent=0.8, spread=spread).find_need(target)
    assert need.finding == finding
    if need.n_images is not None:
        assert curve.n_images <= need.n_images.low <= need.n_images.value <= need.n_images.high


def test_a_law_above_the_measured_score_asks_for_no_fewer_images_than_there_are(curve: LearningCurve) -> None:
    generous = with_law(curve, ceiling=0.99, gap=0.01, exponent=0.8)
    need = generous.find_need(curve.score + 0.001)
    assert need.finding == "near"
    assert need.n_images is not None and need.n_images.value == curve.n_images


@pytest.mark.parametrize("finding", ["few sizes", "flat"])
def test_what_cannot_be_said_is_not_said(curve: LearningCurve, finding: str) -> None:
    changed = {
        "few sizes": replace(curve, sizes=curve.sizes[-3:]),
        "flat": replace(curve, resampled=replace(curve.resampled, gap=np.where(np.arange(200) < 10, 0.0, 0.1))),
    }[finding]
    need = changed.find_need(0.94)
    assert (need.finding, need.n_images, changed.can_foretell) == (finding, None, False)


def test_figures_are_means_over_the_draws_and_their_error_has_both_parts() -> None:
    right, wrong = LABELS, np.where(np.arange(16) % 4, LABELS, 1 - LABELS)
    draws = [tabulate_image_answers(one, labels=LABELS, n_classes=2) for one in (right, wrong)]
    size = measure_size(draws, n_images=3.0)
    assert size.figures.image_accuracy == pytest.approx((1.0 + 0.75) / 2)
    assert size.intervals.image_accuracy.value == pytest.approx(0.875)
    assert size.figures.of_class.recall == pytest.approx(
        np.mean([compute_figures(one).of_class.recall for one in draws], axis=0)
    )
    single = measure_size(draws[1:], n_images=3.0)
    of_images, of_draws = (0.5**2) * single.resampled.image_accuracy.var(), (0.25 * np.sqrt(2) / 4) ** 2
    assert size.resampled.image_accuracy.var() > of_images + 0.8 * of_draws
    assert size.resampled.of_class.recall.shape == (2000, 2)


def test_sizes_are_compared_on_the_same_images() -> None:
    right, wrong = LABELS, np.where(np.arange(16) % 4, LABELS, 1 - LABELS)
    table = tabulate_image_answers(wrong, labels=LABELS, n_classes=2)
    many = measure_size([tabulate_image_answers(right, labels=LABELS, n_classes=2)], n_images=4.0)
    headline, of_class = compare_sizes(many, measure_size([table], n_images=2.0), table=table)
    assert headline["image_accuracy"].value == pytest.approx(0.25)
    assert len(of_class) == 2
    same = compare_sizes(many, many, table=table)[0]["image_accuracy"]
    assert (same.value, same.is_clear) == (0.0, False)


def test_the_score_foretold_is_held_by_its_interval() -> None:
    """Of the usual curve, in 40 studies of 250 test images; docs/trust.md has the others."""
    world = next(one for one in iter_worlds() if one.name == "usual" and one.images_per_class == 50)
    found = simulate_curve(world, n_studies=40, n_resamples=200)
    assert found["held"] >= 0.8
    assert found["width"] < 0.25
    assert abs(found["error"]) < 0.03


def test_a_flat_curve_is_called_flat() -> None:
    world = next(one for one in iter_worlds() if one.name == "flat" and one.images_per_class == 50)
    assert simulate_curve(world, n_studies=20, n_resamples=200)["flat"] >= 0.8

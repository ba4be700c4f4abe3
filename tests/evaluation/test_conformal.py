"""The promise kept on simulated answers, counted by hand on small ones, and never made on too few images."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import beta

from sem_search.evaluation.conformal import (
    CrossAnswers,
    compute_groups_needed,
    compute_risk_coverage,
    compute_set_scores,
    cross_predict_sets,
    fit_threshold,
    predict_cross_set,
    predict_sets,
)


def draw_answers(*, n: int, n_classes: int = 5, seed: int = 0, strength: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Answers of a network that is mostly right."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += strength
    return softmax(logits, axis=1), labels


def test_the_threshold_is_the_quantile_for_a_finite_sample() -> None:
    of_true_class = np.arange(1, 20) / 20  # 19 images: the promise of 90 % needs the 18th of 19
    probabilities = np.stack([of_true_class, 1 - of_true_class], axis=1)
    lowest = fit_threshold(probabilities, labels=np.zeros(19, dtype=np.int64), coverage=0.9)
    assert lowest == pytest.approx(2 / 20)


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_images_give_sets_of_all_classes(coverage: float, needed: int) -> None:
    assert compute_groups_needed(coverage) == needed
    probabilities, labels = draw_answers(n=needed)
    assert fit_threshold(probabilities, labels=labels, coverage=coverage) > 0
    if needed > 1:
        lowest = fit_threshold(probabilities[1:], labels=labels[1:], coverage=coverage)
        assert predict_sets(probabilities, lowest_probability=lowest).all()


def test_the_most_probable_class_is_always_in_the_set() -> None:
    sets = predict_sets(np.array([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]), lowest_probability=0.99)
    assert sets.tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_new_images_are_covered_as_promised(coverage: float, strength: float) -> None:
    covered = []
    for seed in range(300):
        probabilities, labels = draw_answers(n=40, seed=seed, strength=strength)
        lowest = fit_threshold(probabilities, labels=labels, coverage=coverage)
        new, new_labels = draw_answers(n=100, seed=10_000 + seed, strength=strength)
        sets = predict_sets(new, lowest_probability=lowest)
        covered.append(compute_set_scores(sets, labels=new_labels).coverage)
    assert coverage - 0.012 < np.mean(covered) < coverage + 0.035  # + 1 / (n + 1), and three standard errors


def test_realised_coverage_lies_in_its_interval() -> None:
    low, high = beta.interval(0.95, 41, 10)  # the 41st of 50 images (Vovk, ACML 2012)
    inside = []
    for seed in range(300):
        probabilities, labels = draw_answers(n=50, seed=seed, strength=0.5)
        lowest = fit_threshold(probabilities, labels=labels, coverage=0.8)
        new, new_labels = draw_answers(n=4000, seed=10_000 + seed, strength=0.5)
        covered = new[np.arange(4000), new_labels] >= lowest
        inside.append(low <= covered.mean() <= high)
    assert 0.91 < np.mean(inside) < 0.985


def test_images_of_a_group_share_its_weight() -> None:
    """Nine groups of one, one of a hundred bad ones: they weigh as one in ten, not as a hundred in 109."""
    of_true_class = np.concatenate([np.full(9, 0.9), np.full(100, 0.2)])
    probabilities = np.stack([of_true_class, 1 - of_true_class], axis=1)
    groups = np.concatenate([np.arange(9), np.full(100, 9)])
    lowest = fit_threshold(probabilities, labels=np.zeros(109, dtype=np.int64), coverage=0.8, group_of_row=groups)
    assert lowest == 0.9


def test_images_of_new_groups_are_covered() -> None:
    """Images of a group are alike: as independent images they would promise too much."""
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 12, size=31)
        of_true_class = np.repeat(rng.uniform(0, 0.9, size=31), sizes) + rng.uniform(0, 0.1, size=sizes.sum())
        probabilities = np.stack([of_true_class, 0.5 * (1 - of_true_class), 0.5 * (1 - of_true_class)], axis=1)
        group = np.repeat(np.arange(31), sizes)
        old = group < 30
        labels = np.zeros(old.sum(), dtype=np.int64)
        lowest = fit_threshold(probabilities[old], labels=labels, coverage=0.8, group_of_row=group[old])
        covered.append(np.mean(of_true_class[~old] >= lowest))
    assert np.mean(covered) > 0.8 - 3 * 0.4 / np.sqrt(200)


def test_sets_are_judged_by_the_rule_of_the_other_parts() -> None:
    probabilities, labels = draw_answers(n=60)
    part = np.arange(60) % 3
    sets = cross_predict_sets(probabilities, labels=labels, coverage=0.9, part_of_row=part)
    lowest = fit_threshold(probabilities[part != 1], labels=labels[part != 1], coverage=0.9)
    np.testing.assert_array_equal(sets[part == 1], predict_sets(probabilities[part == 1], lowest_probability=lowest))


def test_set_scores_are_counted_as_by_hand() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=bool)
    scores = compute_set_scores(sets, labels=np.array([0, 1, 0, 0]))
    assert (scores.coverage, scores.mean_size, scores.share_single) == (0.75, 1.75, 0.5)
    np.testing.assert_allclose(scores.coverage_of_class, [2 / 3, 1.0, np.nan])
    assert scores.least_covered == 0
    assert scores.coverage_interval == pytest.approx((0.1941, 0.9937), abs=1e-4)


def test_risk_falls_when_hesitant_images_are_left_out() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    curve = compute_risk_coverage(probabilities, labels=np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3, 1 / 2])
    np.testing.assert_allclose(curve.lowest_confidence, [0.9, 0.8, 0.7, 0.6])
    assert curve.area == curve.area_of_perfect_order == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert curve.get_coverage_at(0.0) == 0.5
    assert curve.get_coverage_at(0.4) == 0.75


def test_equal_confidences_are_answered_together() -> None:
    probabilities = np.tile([0.6, 0.4], (4, 1))
    curve = compute_risk_coverage(probabilities, labels=np.array([1, 1, 0, 0]))
    assert (curve.coverage.tolist(), curve.risk.tolist(), curve.area) == ([1.0], [0.5], 0.5)
    assert curve.get_coverage_at(0.1) == 0.0


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 90.0])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1, both excluded; got"):
        fit_threshold(np.full((4, 2), 0.5), labels=np.zeros(4, dtype=np.int64), coverage=coverage)


def test_unfit_answers_are_refused() -> None:
    labels = np.zeros(4, dtype=np.int64)
    with pytest.raises(ValueError, match="a diverged network cannot be calibrated"):
        fit_threshold(np.full((4, 2), np.nan), labels=labels, coverage=0.9)


def draw_cross_answers(rng: np.random.Generator, labels: np.ndarray, *, n_classes: int, skill: float) -> np.ndarray:
    logits = rng.normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += skill
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("images_per_group", [1, 3])
def test_one_network_gives_the_split_conformal_set(coverage: float, images_per_group: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    groups = np.arange(60) // images_per_group
    calibrated_on = draw_cross_answers(rng, labels, n_classes=4, skill=2.0)
    new = draw_cross_answers(rng, rng.integers(0, 4, 50), n_classes=4, skill=2.0)
    lowest = fit_threshold(calibrated_on, labels=labels, coverage=coverage, group_of_row=groups.tolist())
    wanted = predict_sets(new, lowest_probability=lowest)
    answers = CrossAnswers(
        of_true_class=calibrated_on[np.arange(60), labels],
        network_of_image=np.zeros(60, dtype=np.int64),
        group_of_image=groups,
    )
    found = [
        predict_cross_set(row[None], answers=answers, coverage=coverage, most_probable=int(row.argmax())) for row in new
    ]
    assert np.array_equal(np.stack(found), wanted)
    assert answers.is_attainable(coverage) == (lowest > 0)


def test_too_few_images_give_all_classes() -> None:
    answers = CrossAnswers(
        of_true_class=np.array([0.9, 0.8, 0.99]),
        network_of_image=np.array([0, 1, 2]),
        group_of_image=np.array([0, 1, 2]),
    )
    probabilities = np.tile([1.0, 0.0, 0.0], (3, 1))
    assert not answers.is_attainable(0.9)
    assert predict_cross_set(probabilities, answers=answers, coverage=0.9, most_probable=0).all()
    assert answers.is_attainable(0.7)
    assert predict_cross_set(probabilities, answers=answers, coverage=0.7, most_probable=0).tolist() == [
        True,
        False,
        False,
    ]


def test_each_network_is_compared_with_its_own_answers() -> None:
    """A network that is never sure, and one that always is: what counts is how the image looks to each of them."""
    answers = CrossAnswers(
        of_true_class=np.array([0.4] * 10 + [0.99] * 10),
        network_of_image=np.repeat([0, 1], 10),
        group_of_image=np.arange(20),
    )
    as_usual = np.array([[0.5, 0.5], [0.995, 0.005]])
    assert predict_cross_set(as_usual, answers=answers, coverage=0.5, most_probable=0).tolist() == [True, True]
    assert predict_cross_set(as_usual, answers=answers, coverage=0.45, most_probable=0).tolist() == [True, False]


def test_the_class_named_is_always_in_the_set() -> None:
    answers = CrossAnswers(
        of_true_class=np.full(30, 0.9), network_of_image=np.zeros(30, dtype=np.int64), group_of_image=np.arange(30)
    )
    assert predict_cross_set(np.array([[0.4, 0.6]]), answers=answers, coverage=0.8, most_probable=1).tolist() == [
        False,
        True,
    ]


def test_a_class_is_compared_with_its_own_images_where_each_class_is_to_be_covered() -> None:
    """Class 0 is answered surely, class 1 is not: of all images 0.45 is low, of class 1 it is usual."""
    answers = CrossAnswers(
        of_true_class=np.concatenate([np.full(45, 0.9), np.full(10, 0.4)]),
        network_of_image=np.zeros(55, dtype=np.int64),
        group_of_image=np.arange(55),
        label_of_image=np.repeat([0, 1], [45, 10]),
    )
    row = np.array([[0.55, 0.45]])
    assert predict_cross_set(row, answers=answers, coverage=0.8, most_probable=0).tolist() == [True, False]
    of_class = predict_cross_set(row, answers=answers, coverage=0.8, most_probable=1, coverage_of="class")
    assert of_class.tolist() == [False, True]


@pytest.mark.parametrize(("n_groups", "is_left_out"), [(8, False), (9, True)])
def test_a_class_with_too_few_groups_is_in_every_set_that_covers_each_class(n_groups: int, is_left_out: bool) -> None:
    """Two images of a group, and images of another class in the same groups, do not make more groups of it."""
    groups = np.tile(np.arange(n_groups), 3)
    answers = CrossAnswers(
        of_true_class=np.full(3 * n_groups, 0.9),
        network_of_image=np.zeros(3 * n_groups, dtype=np.int64),
        group_of_image=groups,
        label_of_image=np.repeat([0, 0, 1], n_groups),
    )
    assert answers.count_groups_of_class(3).tolist() == [n_groups, n_groups, 0]
    found = predict_cross_set(
        np.array([[0.0, 0.3, 0.7]]), answers=answers, coverage=0.9, most_probable=2, coverage_of="class"
    )
    assert found.tolist() == [not is_left_out, not is_left_out, True]


def test_coverage_of_each_class_needs_the_classes() -> None:
    answers = CrossAnswers(of_true_class=np.ones(9), network_of_image=np.zeros(9, int), group_of_image=np.arange(9))
    with pytest.raises(ValueError, match="classes of the images calibrated on are not known"):
        predict_cross_set(np.ones((1, 2)), answers=answers, coverage=0.8, most_probable=0, coverage_of="class")


def test_what_is_refused() -> None:
    answers = CrossAnswers(of_true_class=np.array([0.9]), network_of_image=np.array([2]), group_of_image=np.array([0]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        predict_cross_set(np.ones((3, 3)), answers=answers, coverage=1.0, most_probable=0)


@pytest.mark.slow
def test_sets_of_fold_networks_cover_as_asked() -> None:
    """Nearest class means of k folds, on data that they really learn from: 300 data sets, 20 new images each."""
    coverages = {coverage: [] for coverage in (0.8, 0.9)}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(4), 10)
        truth = np.eye(4) * 1.5
        seen = rng.normal(size=(40, 4)) + truth[labels]
        folds = np.tile(np.arange(5), 8)
        new_labels = rng.integers(0, 4, 20)
        new = rng.normal(size=(20, 4)) + truth[new_labels]
        of_true, of_new = np.empty(40), []
        for fold in range(5):
            kept = folds != fold
            means = np.stack([seen[kept & (labels == label)].mean(axis=0) for label in range(4)])
            of_fold = answer_by_means(seen[~kept], means)
            of_true[~kept] = of_fold[np.arange(8), labels[~kept]]
            of_new.append(answer_by_means(new, means))
        answers = CrossAnswers(of_true_class=of_true, network_of_image=folds, group_of_image=np.arange(40))
        heads = np.stack(of_new)
        for coverage, hits in coverages.items():
            for image, label in enumerate(new_labels):
                named = int(heads[:, image].mean(axis=0).argmax())
                members = predict_cross_set(heads[:, image], answers=answers, coverage=coverage, most_probable=named)
                hits.append(bool(members[label]))
    for coverage, hits in coverages.items():
        assert coverage - 0.015 < np.mean(hits) < coverage + 0.05, (coverage, np.mean(hits))


def answer_by_means(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    distances = ((points[:, None] - means[None]) ** 2).sum(axis=2) / 2
    exponentials = np.exp(-distances + distances.min(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)

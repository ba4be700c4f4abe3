"""Doubtful labels counted by hand on small answers, and how many of them chance shows where all labels are right."""

import numpy as np
import pytest
from scipy.special import softmax

from sem_search.evaluation import label_errors
from sem_search.evaluation.calibration import apply_temperature
from sem_search.evaluation.label_errors import LabelNoise, find_label_doubts, fit_label_noise
from sem_search.evaluation.statistics import MAX_P_VALUE, Interval

SURE = np.array(
    [
        [0.90, 0.06, 0.04],
        [0.80, 0.12, 0.08],
        [0.05, 0.90, 0.05],  # labelled 0
        [0.05, 0.85, 0.10],
        [0.10, 0.75, 0.15],
        [0.02, 0.04, 0.94],
        [0.45, 0.15, 0.40],  # labelled 2, and no class reaches its threshold
        [0.48, 0.02, 0.50],  # labelled 2, which is the most probable; class 0 has the lower threshold
    ]
)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def draw_study(
    rng: np.random.Generator, *, n: int, n_classes: int = 4, spread: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated answers, and labels that are right: drawn from them."""
    probabilities = softmax(spread * rng.normal(size=(n, n_classes)), axis=1)
    return probabilities, (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


@pytest.fixture
def as_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The temperature is 1, so that doubts can be counted by hand."""
    noise = LabelNoise(share=Interval(value=0, low=0, high=0), p_value=1.0, temperature=1.0)
    monkeypatch.setattr(label_errors, "fit_label_noise", lambda *_, **__: noise)


@pytest.mark.usefixtures("as_answered")
def test_an_image_that_surely_counts_as_another_class_is_doubtful() -> None:
    doubts = find_label_doubts(SURE, labels=LABELS)  # thresholds 0.583, 0.8 and 0.613
    assert doubts.ranked.tolist() == [2]
    assert doubts.others[2] == 1
    assert doubts.self_confidence[[0, 2, 6]] == pytest.approx([0.9, 0.05, 0.4])
    assert doubts.n_groups == 1


@pytest.mark.usefixtures("as_answered")
def test_the_most_doubtful_stands_first_with_what_chance_shows_of_its_kind() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.05, 0.95], [0.1, 0.9], [0.3, 0.7]])
    doubts = find_label_doubts(probabilities, labels=np.array([0, 0, 0, 0, 1, 1]))
    assert doubts.ranked.tolist() == [3, 2]
    # As low as 0.05 by chance: only in this image; as low as 0.2: in each image but those of 0.3 and 0.7.
    assert doubts.n_as_doubtful == pytest.approx([0.05, 0.1 + 0.2 + 0.05 + 0.1])


@pytest.mark.usefixtures("as_answered")
def test_a_label_that_is_the_most_probable_class_is_not_doubtful() -> None:
    """Class 0, whose own images are never sure, has a threshold that others' images reach."""
    probabilities = np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.38, 0.42, 0.2], [0.02, 0.96, 0.02]])
    doubts = find_label_doubts(probabilities, labels=np.array([0, 0, 1, 1]))
    assert doubts.ranked.tolist() == []
    assert doubts.n_groups == 0


@pytest.mark.parametrize(
    ("probabilities", "labels", "n_doubtful"),
    [
        (np.full((6, 3), 1 / 3), [0, 0, 1, 1, 2, 2], 0),
        (np.array([[0.2, 0.8]]), [0], 0),
        (np.array([[0.2, 0.8], [0.2, 0.8]]), [0, 1], 1),
        (np.roll(0.97 * np.eye(3), 1, axis=1) + 0.01, [0, 1, 2], 3),
        (np.eye(2)[[0, 1, 0, 1]], [0, 1, 1, 0], 2),
    ],
    ids=["ties", "one image", "one image of each class", "all wrong", "certain"],
)
def test_small_and_extreme_studies_are_answered(probabilities, labels, n_doubtful: int) -> None:
    doubts = find_label_doubts(probabilities, labels=np.array(labels))
    assert len(doubts.ranked) == n_doubtful
    assert 0 < doubts.noise.p_value <= 1
    chance = doubts.n_groups_by_chance
    assert 0 <= chance.low <= chance.high <= len(labels)


def test_a_class_without_an_image_is_no_one_s_other_class() -> None:
    probabilities = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    doubts = find_label_doubts(probabilities, labels=np.array([0, 0, 1]))
    assert doubts.ranked.tolist() == []
    assert doubts.others[0] == 2


def test_images_of_a_group_are_doubted_together() -> None:
    probabilities, labels = np.repeat(SURE, 5, axis=0), np.repeat(LABELS, 5)
    alone, together = (
        find_label_doubts(probabilities, labels=labels, group_of_row=groups)
        for groups in (None, np.repeat([f"g{n}" for n in range(len(SURE))], 5))
    )
    assert alone.ranked.tolist() == together.ranked.tolist() == [10, 11, 12, 13, 14]
    assert (alone.n_groups, together.n_groups) == (5, 1)
    assert together.n_groups_by_chance.high <= len(SURE)


def test_right_labels_of_a_calibrated_network_are_seldom_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    studies = [draw_study(rng, n=60) for _ in range(60)]
    found = [find_label_doubts(probabilities, labels=labels) for probabilities, labels in studies]
    assert np.mean([one.is_beyond_chance for one in found]) <= 0.1
    assert all(one.noise.share.low == 0 for one in found if not one.is_beyond_chance)
    expected = np.mean([one.n_groups_by_chance.value for one in found])
    assert np.mean([one.n_groups for one in found]) == pytest.approx(expected, rel=0.15)
    held = [one.n_groups_by_chance.low <= one.n_groups <= one.n_groups_by_chance.high for one in found]
    assert np.mean(held) >= 0.9


def test_exchanged_labels_are_found() -> None:
    probabilities, labels = draw_study(np.random.default_rng(1), n=200, spread=15.0)
    labels[:10] = (labels[:10] + 1) % 4
    doubts = find_label_doubts(probabilities, labels=labels)
    assert doubts.is_beyond_chance
    assert len(set(doubts.ranked[:10]) & set(range(10))) >= 7


@pytest.mark.parametrize(("n_wrong", "least", "most"), [(0, 0.0, 0.1), (10, 0.9, 1.0)])
def test_the_share_of_wrong_labels_and_the_temperature_are_found_again(n_wrong: int, least: float, most: float) -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(30):
        probabilities, labels = draw_study(rng, n=200, spread=5.0)
        labels[:n_wrong] = (labels[:n_wrong] + 1) % 4
        overconfident = apply_temperature(probabilities, temperature=0.5)
        found.append(fit_label_noise(overconfident, labels=labels, group=np.arange(200)))
    assert np.mean([one.share.low <= n_wrong / 200 <= one.share.high for one in found]) >= 0.9
    assert least <= np.mean([one.p_value <= MAX_P_VALUE for one in found]) <= most
    assert np.mean([one.temperature for one in found]) == pytest.approx(2.0, rel=0.2)


def test_images_of_a_group_weigh_as_one_in_the_share_of_wrong_labels() -> None:
    probabilities, labels = draw_study(np.random.default_rng(0), n=60, spread=5.0)
    surest = np.argsort(probabilities.max(axis=1))[-3:]
    labels[surest] = (labels[surest] + 1) % 4
    once = fit_label_noise(probabilities, labels=labels, group=np.arange(60))
    rows = np.repeat(np.arange(60), 3)
    thrice, grouped = (
        fit_label_noise(probabilities[rows], labels=labels[rows], group=group) for group in (np.arange(180), rows)
    )
    assert grouped.p_value == pytest.approx(once.p_value)
    assert thrice.p_value < once.p_value


def test_the_same_seed_gives_the_same_doubts() -> None:
    probabilities, labels = draw_study(np.random.default_rng(2), n=50)
    first, again, other = (find_label_doubts(probabilities, labels=labels, seed=seed) for seed in (0, 0, 1))
    assert first.n_groups_by_chance == again.n_groups_by_chance
    assert first.n_groups_by_chance.value != other.n_groups_by_chance.value


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a diverged network cannot be calibrated"):
        find_label_doubts(np.full((2, 2), np.nan), labels=np.array([0, 1]))


def test_few_wrong_labels_of_many_are_counted() -> None:
    """20 of 20,000: fewer than one in five hundred."""
    rng, n, n_wrong = np.random.default_rng(0), 20_000, 20
    probabilities = np.full((n, 4), 0.002)
    truth = rng.integers(4, size=n)
    probabilities[np.arange(n), truth] = 0.994
    drawn = np.array([rng.choice(4, p=row) for row in probabilities])
    labels = drawn.copy()
    labels[:n_wrong] = (labels[:n_wrong] + 1) % 4
    noise = fit_label_noise(probabilities, labels=labels, group=np.arange(n))
    assert noise.share.low <= n_wrong / n <= noise.share.high
    assert noise.share.low < 0.002

import numpy as np
import pytest

from sem_search.evaluation.conformal import fit_prediction_sets, predict_sets
from sem_search.evaluation.cross_conformal import CrossAnswers, predict_cross_set


def draw_answers(rng: np.random.Generator, labels: np.ndarray, *, n_classes: int, skill: float) -> np.ndarray:
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
    calibrated_on = draw_answers(rng, labels, n_classes=4, skill=2.0)
    new = draw_answers(rng, rng.integers(0, 4, 50), n_classes=4, skill=2.0)
    rule = fit_prediction_sets(calibrated_on, labels=labels, coverage=coverage, group_of_row=groups.tolist())
    wanted = predict_sets(new, lowest_probability=rule.lowest_probability)
    answers = CrossAnswers(
        of_true_class=calibrated_on[np.arange(60), labels],
        network_of_image=np.zeros(60, dtype=np.int64),
        group_of_image=groups,
    )
    found = [
        predict_cross_set(row[None], answers=answers, coverage=coverage, most_probable=int(row.argmax())) for row in new
    ]
    assert np.array_equal(np.stack(found), wanted)
    assert answers.is_attainable(coverage) == rule.is_attainable


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


def test_what_is_refused() -> None:
    answers = CrossAnswers(of_true_class=np.array([0.9]), network_of_image=np.array([2]), group_of_image=np.array([0]))
    with pytest.raises(ValueError, match=r"2 networks answered.*network 2"):
        predict_cross_set(np.ones((2, 3)), answers=answers, coverage=0.9, most_probable=0)
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

"""The linear head is logistic regression as scikit-learn has it, and fits exactly into the head of a network."""

from typing import Any

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from sem_search.errors import SettingsError
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network
from sem_search.transfer.heads import linear as room
from sem_search.transfer.heads.linear import check_hidden_units, choose_rows, fit_linear, set_linear_head

N_TILES, N_FEATURES = 60, 5


def make_features(*, n_classes: int = 3, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features of tiles of two per group, whose first columns tell the class, the last of which never changes."""
    rng = np.random.default_rng(0)
    labels = np.arange(N_TILES) // 2 % n_classes
    features = rng.normal(scale=spread, size=(N_TILES, N_FEATURES)) * [1, 10, 0.01, 1, 0] + 3
    features[:, 0] += 2 * labels
    return features.astype(np.float32), labels, [f"image {tile // 2}" for tile in range(N_TILES)]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_it_is_scikit_learns(n_classes: int, class_weight: room.ClassWeight) -> None:
    features, labels, groups = make_features(n_classes=n_classes)
    keep = (labels > 0) | (np.arange(N_TILES) % 4 < 2)  # unequal classes
    features, labels, groups = features[keep], labels[keep], list(np.array(groups)[keep])
    solution = fit_linear(
        features, labels=labels, groups=groups, n_classes=n_classes, class_weight=class_weight, strength=0.1
    )
    weight = None if class_weight == "none" else "balanced"
    twin = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight=weight, max_iter=1000))
    expected = twin.fit(features.astype(np.float64), labels).predict_proba(features.astype(np.float64))
    np.testing.assert_allclose(solution.predict(features), expected, atol=2e-3)
    assert solution.strength == 0.1


def test_the_strength_is_chosen_by_groups_left_out() -> None:
    """Features that the two tiles of a group share would tell a tile's class, were its twin among those fitted."""
    features, labels, groups = make_features()
    chosen = fit_linear(features, labels=labels, groups=groups, n_classes=3).strength
    hopeless = []
    for seed in range(9):
        noise = np.random.default_rng(seed).normal(size=(N_TILES // 2, 200))  # fits anything, and tells nothing
        shared = np.repeat(noise, 2, axis=0)
        hopeless.append(fit_linear(shared, labels=labels, groups=groups, n_classes=3).strength)
    assert np.median(hopeless) == room.STRENGTHS[0] < chosen


def test_no_group_is_fitted_and_judged_at_once() -> None:
    _, labels, groups = make_features()
    names = np.array(groups)
    splits = list(room._iter_splits(labels, groups=names))
    assert len(splits) == room.MOST_FOLDS
    for fitted, judged in splits:
        assert not set(names[fitted]) & set(names[judged])
    assert sorted(np.concatenate([judged for _, judged in splits])) == list(range(N_TILES))


def test_a_class_of_one_group_leaves_the_usual_strength() -> None:
    features, labels, groups = make_features()
    groups = ["one" if label == 0 else group for label, group in zip(labels, groups, strict=True)]
    assert fit_linear(features, labels=labels, groups=groups, n_classes=3).strength == room.USUAL_STRENGTH


def test_a_class_without_a_tile_is_never_predicted() -> None:
    features, labels, groups = make_features(n_classes=2)
    answers = fit_linear(features, labels=2 * labels, groups=groups, n_classes=4).predict(features)
    np.testing.assert_array_equal(answers[:, [1, 3]], 0)
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def test_views_weigh_together_as_much_as_the_tile() -> None:
    features, labels, groups = make_features()
    once = fit_linear(features, labels=labels, groups=groups, n_classes=3, strength=0.1)
    views = {"labels": np.tile(labels, 3), "groups": groups, "n_views": 3}
    thrice = fit_linear(np.tile(features, (3, 1)), n_classes=3, strength=0.1, **views)
    np.testing.assert_allclose(once.predict(features), thrice.predict(features), atol=2e-3)


def test_all_tiles_in_all_views_are_learnt_from_where_they_are_not_too_many() -> None:
    tiles = np.array([7, 3, room.MOST_ROWS // 2 - 1])
    for view in (0, 1):
        np.testing.assert_array_equal(choose_rows(tiles, n_tiles=room.MOST_ROWS // 2, view=view, n_views=2), tiles)


@pytest.mark.parametrize(("tiles_per_image", "n_views"), [(20, 8), (20, 1), (5, 1), (1, 8), (7, 8)])
def test_of_very_many_some_are_learnt_from_evenly(
    monkeypatch: pytest.MonkeyPatch, tiles_per_image: int, n_views: int
) -> None:
    monkeypatch.setattr(room, "MOST_ROWS", 2000)
    n_images = 1000
    tiles = np.arange(n_images * tiles_per_image)
    chosen = [choose_rows(tiles, n_tiles=len(tiles), view=view, n_views=n_views) for view in range(n_views)]
    share = min(1, 2000 / (len(tiles) * n_views))
    assert sum(map(len, chosen)) == pytest.approx(len(tiles) * n_views * share, rel=0.01)
    for counts in (
        [len(some) for some in chosen],
        np.bincount(np.concatenate(chosen) % tiles_per_image, minlength=tiles_per_image),
    ):
        assert min(counts) > 0.8 * np.mean(counts), "each view, and each place in an image"
    of_image = np.bincount(np.concatenate(chosen) // tiles_per_image, minlength=n_images)
    assert np.ptp(of_image) <= 3
    fold = tiles[tiles // tiles_per_image % 5 > 0]
    np.testing.assert_array_equal(
        choose_rows(fold, n_tiles=len(tiles), n_views=n_views), np.intersect1d(chosen[0], fold)
    )


def test_features_are_standardised_some_at_a_time_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    whole = room._standardise(features)
    monkeypatch.setattr(room, "COLUMNS_AT_ONCE", 3)
    for one, other in zip(whole, room._standardise(features), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_head_of_a_network_gives_its_answers(n_classes: int) -> None:
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone("tiny").build(tile_px=32))
    head = build_head(cut, n_classes=n_classes, hidden_units=2 * n_classes + 1, seed=0)
    pool = keras.Model(head.inputs, head.get_layer("head_hidden").input)
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(N_TILES, *tensor.shape[1:])).astype(np.float32) for tensor in cut.tail.inputs]
    pooled = pool.predict_on_batch(features)
    labels = np.arange(N_TILES) % n_classes
    solution = fit_linear(pooled, labels=labels, groups=list(map(str, labels)), n_classes=n_classes)
    set_linear_head(head, solution)
    logits = head.predict_on_batch(features)
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers, solution.predict(pooled), atol=1e-5)


def test_too_few_hidden_units_are_refused() -> None:
    check_hidden_units(6, n_classes=3)
    with pytest.raises(SettingsError, match="hidden_units=6 or more"):
        check_hidden_units(5, n_classes=3)


def test_a_single_class_is_what_is_always_predicted() -> None:
    features, labels, groups = make_features()
    answers = fit_linear(features, labels=np.ones_like(labels), groups=groups, n_classes=3).predict(features)
    np.testing.assert_array_equal(answers, np.eye(3)[np.ones(N_TILES, dtype=int)])


def test_a_feature_that_hardly_ever_changes_does_not_answer_alone() -> None:
    features, labels, groups = make_features()
    features[:, -1] = 0
    features[0, -1] = 1e-6
    solution = fit_linear(features, labels=labels, groups=groups, n_classes=3, strength=1.0)
    one = features[:1].copy()
    usual = solution.predict(one)
    one[0, -1] = 1e-3
    np.testing.assert_allclose(solution.predict(one), usual, atol=0.05)


def test_a_class_without_a_tile_has_no_part_in_the_hidden_layer() -> None:
    keras.utils.set_random_seed(0)
    head = build_head(cut_network(get_backbone("tiny").build(tile_px=32)), n_classes=3, hidden_units=6, seed=0)
    features, labels, groups = make_features(n_classes=2)
    n_channels = head.get_layer("head_hidden").kernel.shape[0]
    features = np.resize(features, (N_TILES, n_channels))
    set_linear_head(head, fit_linear(features, labels=labels, groups=groups, n_classes=3))
    assert np.abs(head.get_layer("head_hidden").bias.numpy()).max() < 100
    assert head.get_layer("head_logits").bias.numpy()[2] == room.NEVER


def test_the_solver_runs_on_one_thread_and_leaves_the_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads wait for each other at every step where other programs are at work."""
    used: list[int] = []
    fit = LogisticRegression.fit

    def watch(self: LogisticRegression, *args: Any, **options: Any) -> LogisticRegression:
        used.extend(count_threads())
        return fit(self, *args, **options)

    monkeypatch.setattr(LogisticRegression, "fit", watch)
    with threadpool_limits(2, user_api="blas"):
        before = count_threads()
        features = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
        fit_linear(features, labels=np.arange(12) % 2, groups=list("abcdefghijkl"), n_classes=2)
        assert count_threads() == before
    assert set(used) == {1}
    assert set(before) == {2}


def count_threads() -> list[int]:
    """Return how many threads each library of linear algebra may use."""
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

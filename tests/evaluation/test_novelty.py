"""Known images are known whatever their size and their class, unknown ones not, and a stored model scores as it did."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from sem_search.evaluation.novelty import (
    UNKNOWN_ABOVE,
    Limits,
    Metric,
    NoveltyModel,
    _choose_tile_counts,
    fit_novelty,
    score_novelty,
)
from sem_search.evaluation.statistics import fit_covariance

N_FEATURES = 40
OLDER = {"spread_of_images": 40.0, "spread_of_tiles": 160.0, "threshold": 1.7}


class World:
    """Classes as points far apart; images scatter in few directions, tiles scatter around their image."""

    def __init__(self, *, n_classes: int = 4, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.classes = self.rng.normal(scale=2.0, size=(n_classes, N_FEATURES))
        self.scales = 1.0 / np.arange(1, N_FEATURES + 1)

    def draw(self, labels: np.ndarray, *, n_tiles: int) -> tuple[np.ndarray, np.ndarray]:
        """Features of the tiles of one image per label, and the image of each tile."""
        image = np.repeat(np.arange(len(labels)), n_tiles)
        images = self.classes[labels] + self.scales * self.rng.normal(size=(len(labels), N_FEATURES))
        return images[image] + 1.5 * self.scales * self.rng.normal(size=(len(image), N_FEATURES)), image


def fit(world: World, *, images_per_class: int = 12, n_tiles: int = 6, false_alarm_rate: float = 0.1) -> NoveltyModel:
    labels = np.repeat(np.arange(4), images_per_class)
    features, image = world.draw(labels, n_tiles=n_tiles)
    return fit_novelty(
        features,
        image_of_tile=image,
        label_of_image=labels,
        part_of_image=np.arange(len(labels)) % 4,
        false_alarm_rate=false_alarm_rate,
    )


class VariedWorld:
    """Five tight classes and a varied one: a mixture of materials whose tiles differ, a few of them wildly."""

    def __init__(self, *, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.normal(scale=1.5, size=(9, N_FEATURES))
        self.scales = 1.0 / np.arange(1, N_FEATURES + 1)

    def draw(self, labels: np.ndarray, *, n_tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class 5 is any of three materials; label 6 is a stranger."""
        is_varied = labels == 5
        centre = np.where(is_varied, 5 + self.rng.integers(0, 3, len(labels)), np.where(labels == 6, 8, labels))
        image = np.repeat(np.arange(len(labels)), n_tiles)
        images = self.centres[centre] + self.scales * self.rng.normal(size=(len(labels), N_FEATURES))
        wild = np.where(is_varied[image] & (self.rng.random(len(image)) < 0.1), 40.0, 0.6)
        return images[image] + (wild * self.rng.normal(size=(N_FEATURES, len(image)))).T * self.scales, image


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Called unknown, mean over worlds."""

    known: np.ndarray
    """Of new images of each of the six classes."""
    stated: np.ndarray
    """Of the images fitted, left out, as the model states it of each class."""
    strange: float


@cache
def ask_varied(n_tiles: int) -> Shares:
    """What models of images of 1 to 20 tiles say of new images of so many."""
    n_worlds = 12
    known, stated, strange = np.zeros((n_worlds, 6)), np.zeros((n_worlds, 6)), np.zeros(n_worlds)
    for seed in range(n_worlds):
        world = VariedWorld(seed=seed)
        labels = np.repeat(np.arange(6), 9)
        features, image = world.draw(labels, n_tiles=world.rng.choice([1, 4, 20, 20], len(labels)))
        model = fit_novelty(
            features,
            image_of_tile=image,
            label_of_image=labels,
            part_of_image=np.arange(len(labels)) % 5,
            false_alarm_rate=0.1,
        )
        stated[seed] = model.class_alarms / model.class_sizes
        asked = np.repeat(np.arange(7), 40)
        features, image = world.draw(asked, n_tiles=np.full(len(asked), n_tiles))
        is_unknown = score_novelty(model, features, image_of_tile=image)[1] > UNKNOWN_ABOVE
        known[seed] = [is_unknown[asked == label].mean() for label in range(6)]
        strange[seed] = is_unknown[asked == 6].mean()
    return Shares(known=known.mean(axis=0), stated=stated.mean(axis=0), strange=float(strange.mean()))


@pytest.mark.parametrize("n_tiles", [1, 4, 20])
def test_a_varied_class_and_few_tiles_do_not_let_strangers_in(n_tiles: int) -> None:
    """The share promised is used up, whatever the number of tiles: a limit that is too far out calls none unknown."""
    shares = ask_varied(n_tiles)
    assert 0.03 < shares.known.mean() < 0.13
    assert shares.strange > 0.95


def test_the_alarms_stated_of_a_class_are_those_of_new_images() -> None:
    """The share is promised of all images together; where it falls on one class, the model knows."""
    shares = ask_varied(20)
    assert shares.stated[5] > 0.2
    assert shares.stated[5] == pytest.approx(shares.known[5], abs=0.15)
    assert max(shares.stated[:5]) < 0.1
    assert max(shares.known[:5]) < 0.1


@pytest.mark.parametrize("n_tiles", [1, 6, 24])
def test_known_images_are_known_whatever_their_tiles(n_tiles: int) -> None:
    world = World()
    model = fit(world)
    features, image = world.draw(np.arange(400) % 4, n_tiles=n_tiles)
    _, scores = score_novelty(model, features, image_of_tile=image)
    assert 0.3 < np.median(scores) < UNKNOWN_ABOVE
    assert (scores > UNKNOWN_ABOVE).mean() < 0.2


@pytest.mark.parametrize(("images_per_class", "lowest"), [(8, 0.02), (30, 0.06)])
def test_known_images_are_called_unknown_no_oftener_than_asked_for(images_per_class: int, lowest: float) -> None:
    """With few images somewhat less often: those left out were judged by a model of fewer images than the final one."""
    alarms = []
    for seed in range(30):
        world = World(seed=seed)
        model = fit(world, images_per_class=images_per_class)
        features, image = world.draw(np.arange(100) % 4, n_tiles=6)
        alarms.append((score_novelty(model, features, image_of_tile=image)[1] > UNKNOWN_ABOVE).mean())
    assert lowest < np.mean(alarms) < 0.12


def test_an_unseen_class_and_noise_are_unknown() -> None:
    world = World()
    model = fit(world)
    world.classes = np.concatenate([world.classes, np.full((1, N_FEATURES), 3.0)])
    features, image = world.draw(np.full(20, 4), n_tiles=6)
    assert (score_novelty(model, features, image_of_tile=image)[1] > UNKNOWN_ABOVE).all()
    noise = 20 * world.rng.normal(size=(6, N_FEATURES))
    assert score_novelty(model, noise, image_of_tile=np.zeros(6, dtype=np.int64))[1][0] > 10 * UNKNOWN_ABOVE


def test_the_distance_is_that_to_the_nearest_class() -> None:
    world = World()
    metric = fit(world).metric
    point = world.rng.normal(size=N_FEATURES)
    steps = point - metric.class_means
    nearest = metric.covariance.measure_from(steps, centres=np.zeros((1, N_FEATURES))).min()
    assert metric.measure(point[None])[0] == pytest.approx(nearest)


def test_classes_without_difference_are_not_told_apart() -> None:
    world = World()
    world.classes[:] = 0
    model = fit(world)
    features, image = world.draw(np.zeros(200, dtype=np.int64), n_tiles=6)
    assert (score_novelty(model, features, image_of_tile=image)[1] > UNKNOWN_ABOVE).mean() < 0.2


def test_limits_are_measured_on_images_left_out() -> None:
    """By hand: two classes on a line, each image left out once; one run of each image at a time, whatever it has."""
    points = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    n_tiles = np.array([1, 1, 2, 2, 2, 2])
    image = np.repeat(np.arange(6), n_tiles)
    step = np.array([0.0, 0.0, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5])
    features = (points[image] + step)[:, None] * np.ones((1, 2))
    model = fit_novelty(
        features,
        image_of_tile=image,
        label_of_image=np.arange(6) // 3,
        part_of_image=np.arange(6),
        false_alarm_rate=0.2,
    )
    runs = [[], []]
    for left_out in range(6):
        others = [number for number in range(6) if number != left_out]
        means = np.array([points[[i for i in others if i // 3 == label]].mean() for label in (0, 1)])
        steps = np.array([points[i] - means[i // 3] for i in others])[:, None] * np.ones((1, 2))
        metric = Metric(class_means=means[:, None] * np.ones((1, 2)), covariance=fit_covariance(steps))
        tiles = features[image == left_out]
        runs[0].append(metric.measure(tiles))
        if len(tiles) == 2:
            runs[1].append(metric.measure(tiles.mean(axis=0)[None]))
    highest = [max(some[j % len(some)] for some in runs[0]) for j in (0, 1)]  # rank ceil(7 x 0.8) of 6
    assert model.limits.tile_counts.tolist() == [1, 2]
    np.testing.assert_allclose(model.limits.distances, [np.mean(highest), max(float(some[0]) for some in runs[1])])
    assert model.class_sizes.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("n_tiles", "rate", "wanted"),
    [
        ([1], 0.1, [1]),
        ([20] * 50, 0.1, [1, 2, 4, 8, 16, 20]),
        ([16] * 50, 0.1, [1, 2, 4, 8, 16]),
        ([1] * 41 + [20] * 9, 0.1, [1, 2, 4, 8, 16, 20]),  # nine images are enough for one in ten
        ([1] * 42 + [20] * 8, 0.1, [1]),
        ([3, 5, 7], 0.1, [1, 2, 3]),  # too few for any count: all are needed
        ([3, 5, 7], 0.5, [1, 2, 4, 7]),
    ],
)
def test_limits_are_measured_where_enough_images_have_so_many_tiles(
    n_tiles: list[int], rate: float, wanted: list[int]
) -> None:
    assert _choose_tile_counts(np.array(n_tiles), false_alarm_rate=rate).tolist() == wanted


def test_between_two_counts_the_limit_is_linear_in_one_over_n_and_outside_it_is_the_nearest() -> None:
    limits = Limits(tile_counts=np.array([2.0, 4.0]), distances=np.array([8.0, 4.0]))
    np.testing.assert_allclose(limits.interpolate(np.array([1, 2, 3, 4, 100])), [8, 8, 4 + 4 / 3, 4, 4])
    assert Limits(tile_counts=np.array([1.0]), distances=np.array([0.0])).interpolate(np.array([5]))[0] > 0


def test_alarms_are_counted_for_each_class() -> None:
    """One class has an image like no other: it was called unknown when it was left out, and none of the rest was."""
    world = World()
    labels = np.repeat(np.arange(4), 12)
    features, image = world.draw(labels, n_tiles=6)
    features[image == 40] += 50
    model = fit_novelty(
        features,
        image_of_tile=image,
        label_of_image=labels,
        part_of_image=np.arange(48) % 4,
        false_alarm_rate=0.05,
    )
    assert model.class_sizes.tolist() == [12] * 4
    assert model.class_alarms.tolist() == [0, 0, 0, 1]


def test_a_stored_model_scores_as_it_did() -> None:
    world = World()
    model = fit(world)
    again = NoveltyModel.from_arrays({name: np.array(array) for name, array in model.to_arrays().items()})
    features, image = world.draw(np.arange(8) % 4, n_tiles=3)
    images, scores = score_novelty(model, features, image_of_tile=image + 5)
    assert images.tolist() == list(range(5, 13))
    np.testing.assert_array_equal(scores, score_novelty(again, features, image_of_tile=image)[1])
    assert (again.n_images, again.false_alarm_rate) == (48, 0.1)
    assert again.class_sizes.tolist() == [12] * 4
    assert again.class_alarms.tolist() == model.class_alarms.tolist()
    with pytest.raises(KeyError, match="directions"):
        NoveltyModel.from_arrays({"class_means": model.metric.class_means})


def test_a_model_of_an_older_version_is_read_and_judges_as_it_did() -> None:
    """It told a threshold, in multiples of what known images have on average with so many tiles."""
    world = World()
    model = fit(world)
    older = {
        name: array
        for name, array in model.to_arrays().items()
        if name not in ("tile_counts", "limits", "class_sizes", "class_alarms")
    }
    older |= {name: np.array(value) for name, value in OLDER.items()}
    again = NoveltyModel.from_arrays(older)
    for n_tiles in (1, 3, 20):
        features, image = world.draw(np.arange(8) % 4, n_tiles=n_tiles)
        means = features.reshape(8, n_tiles, -1).mean(axis=1)
        wanted = model.metric.measure(means) / (40.0 + 160.0 / n_tiles) / 1.7
        np.testing.assert_allclose(score_novelty(again, features, image_of_tile=image)[1], wanted)
    assert again.class_sizes.tolist() == again.class_alarms.tolist() == [0] * 4
    assert NoveltyModel.from_arrays(again.to_arrays()).limits.interpolate(np.array([7]))[0] == pytest.approx(
        1.7 * (40.0 + 160.0 / 7)
    )


def test_few_images_do_not_promise_a_low_rate() -> None:
    model = fit(World(), images_per_class=3, false_alarm_rate=0.05)
    assert model.attained_false_alarm_rate == 1 / 13
    assert fit(World(), images_per_class=12, false_alarm_rate=0.05).attained_false_alarm_rate == 0.05


def test_features_that_are_not_finite_are_unknown() -> None:
    model = fit(World())
    features = np.full((2, N_FEATURES), np.nan)
    assert score_novelty(model, features, image_of_tile=np.zeros(2, dtype=np.int64))[1].tolist() == [np.inf]


def test_images_of_one_tile_can_be_fitted() -> None:
    model = fit(World(), n_tiles=1)
    assert model.limits.tile_counts.tolist() == [1]
    assert model.limits.distances[0] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_of_image": np.arange(8)}, "4 images of 4 classes do not show how images of a class differ"),
        ({"features": np.full((16, 3), np.nan)}, "not finite: compute them again"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes: dict, message: str) -> None:
    arguments = {
        "features": np.random.default_rng(0).normal(size=(16, 3)),
        "image_of_tile": np.repeat(np.arange(8), 2),
        "label_of_image": np.arange(8) % 2,
        "part_of_image": np.arange(8) // 4,
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        fit_novelty(arguments.pop("features"), **arguments)


def test_the_novelty_of_each_left_out_image_is_stored() -> None:
    """What new images are compared with, one by one; models of before hold none."""
    model = fit(World(), images_per_class=12)
    assert np.bincount(model.left_out_classes, weights=model.left_out > UNKNOWN_ABOVE).tolist() == list(
        model.class_alarms
    )
    arrays = model.to_arrays()
    again = NoveltyModel.from_arrays(arrays)
    assert list(again.left_out) == list(model.left_out) and list(again.left_out_classes) == list(model.left_out_classes)
    older = {name: array for name, array in arrays.items() if not name.startswith("left_out")}
    assert len(NoveltyModel.from_arrays(older).left_out) == 0

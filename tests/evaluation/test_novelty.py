"""Known images score about 1 whatever their size, unknown ones more, and a stored model scores as it did."""

import numpy as np
import pytest

from sem_search.evaluation.novelty import (
    NoveltyModel,
    compute_auroc,
    cross_score_novelty,
    fit_novelty,
    leave_classes_out,
    score_novelty,
)

N_FEATURES = 40


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


@pytest.mark.parametrize("n_tiles", [1, 6, 24])
def test_known_images_score_about_one_whatever_their_tiles(n_tiles: int) -> None:
    world = World()
    model = fit(world)
    features, image = world.draw(np.arange(400) % 4, n_tiles=n_tiles)
    _, scores = score_novelty(model, features, image_of_tile=image)
    assert 0.6 < np.median(scores) < 1.4
    assert (scores > model.threshold).mean() < 0.2


@pytest.mark.parametrize(("images_per_class", "lowest"), [(8, 0.02), (30, 0.06)])
def test_known_images_are_called_unknown_no_oftener_than_asked_for(images_per_class: int, lowest: float) -> None:
    """With few images somewhat less often: those left out were judged by a model of fewer images than the final one."""
    alarms = []
    for seed in range(30):
        world = World(seed=seed)
        model = fit(world, images_per_class=images_per_class)
        features, image = world.draw(np.arange(100) % 4, n_tiles=6)
        alarms.append((score_novelty(model, features, image_of_tile=image)[1] > model.threshold).mean())
    assert lowest < np.mean(alarms) < 0.12


def test_an_unseen_class_and_noise_are_unknown() -> None:
    world = World()
    model = fit(world)
    world.classes = np.concatenate([world.classes, np.full((1, N_FEATURES), 3.0)])
    features, image = world.draw(np.full(20, 4), n_tiles=6)
    assert (score_novelty(model, features, image_of_tile=image)[1] > model.threshold).all()
    noise = 20 * world.rng.normal(size=(6, N_FEATURES))
    assert score_novelty(model, noise, image_of_tile=np.zeros(6, dtype=np.int64))[1][0] > 10 * model.threshold


def test_the_distance_is_that_to_the_nearest_class() -> None:
    world = World()
    metric = fit(world).metric
    point = world.rng.normal(size=N_FEATURES)
    nearest = min(metric.covariance.measure(point - metric.class_means))
    assert metric.measure(point[None])[0] == pytest.approx(nearest)


def test_left_out_classes_are_found() -> None:
    world = World()
    labels = np.repeat(np.arange(4), 12)
    features, image = world.draw(labels, n_tiles=6)
    found = leave_classes_out(
        features, image_of_tile=image, label_of_image=labels, part_of_image=np.arange(48) % 4, false_alarm_rate=0.1
    )
    assert [entry.label for entry in found] == [0, 1, 2, 3]
    assert all(entry.auroc > 0.95 and entry.share_found > 0.8 for entry in found)
    assert all(entry.share_of_false_alarms <= 0.1 for entry in found)


def test_classes_without_difference_are_not_found() -> None:
    world = World()
    world.classes[:] = 0
    labels = np.repeat(np.arange(4), 12)
    features, image = world.draw(labels, n_tiles=6)
    found = leave_classes_out(features, image_of_tile=image, label_of_image=labels, part_of_image=np.arange(48) % 4)
    assert np.mean([entry.auroc for entry in found]) < 0.65


def test_a_stored_model_scores_as_it_did() -> None:
    world = World()
    model = fit(world)
    again = NoveltyModel.from_arrays({name: np.array(array) for name, array in model.to_arrays().items()})
    features, image = world.draw(np.arange(8) % 4, n_tiles=3)
    images, scores = score_novelty(model, features, image_of_tile=image + 5)
    assert images.tolist() == list(range(5, 13))
    np.testing.assert_array_equal(scores, score_novelty(again, features, image_of_tile=image)[1])
    assert (again.threshold, again.n_images, again.false_alarm_rate) == (model.threshold, 48, 0.1)
    with pytest.raises(KeyError, match="directions"):
        NoveltyModel.from_arrays({"class_means": model.metric.class_means})


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
    assert model.spread.of_tiles == 0
    assert model.spread.of_images > 0


def test_an_auroc_is_counted() -> None:
    known, unknown = np.array([0.1, 0.2, 0.3]), np.array([0.3, np.inf])
    assert compute_auroc(known=known, unknown=unknown) == pytest.approx(5.5 / 6)
    with pytest.raises(ValueError, match="got 0 known and 2 unknown"):
        compute_auroc(known=known[:0], unknown=unknown)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"false_alarm_rate": 0.0}, "must lie between 0 and 1, both excluded; got 0.0"),
        ({"part_of_image": np.zeros(8, dtype=np.int64)}, "there must be two parts or more, got one"),
        ({"label_of_image": np.arange(8)}, "4 images of 4 classes do not tell how images of a class differ"),
        ({"label_of_image": np.zeros(7, dtype=np.int64)}, "of 8 images with 7 labels and 8 parts"),
        ({"image_of_tile": np.repeat(np.arange(8) + 1, 2)}, "numbered from 1 to 8, not 0 to 7"),
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


def test_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\) do not match 2 tiles of 40 features"):
        score_novelty(fit(World()), np.zeros((2, 3)), image_of_tile=np.zeros(2, dtype=np.int64))
    features = np.zeros((8, 3))
    with pytest.raises(ValueError, match="two parts or more"):
        cross_score_novelty(
            features,
            image_of_tile=np.arange(8),
            label_of_image=np.arange(8) % 2,
            part_of_image=np.zeros(8, dtype=np.int64),
        )

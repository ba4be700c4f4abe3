"""A training gives the same weights whether it was interrupted or not, and no other training is gone on with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pretraining.networks import build_twin
from pretraining.scans import ScanRecipe, open_scans
from pretraining.training import FAINT, Imitation, Teacher, TrainingError, TrainingRecipe, train_twin
from sem_search.errors import SettingsError
from sem_search.transfer.backbones import get_backbone
from tests.pretraining.recipes import SCANS, TWIN


def train(
    folder: Path,
    *,
    twin: TrainingRecipe,
    scans: ScanRecipe = SCANS,
    stop_after: int | None = None,
    teacher: Teacher | None = None,
) -> list[np.ndarray]:
    told = []

    def show(text: str) -> None:
        told.append(text)
        if stop_after == len(told):
            raise KeyboardInterrupt

    with open_scans(folder, recipe=scans, n_processes=1) as pool:
        trained = train_twin(
            pool, backbone=get_backbone("tiny"), recipe=twin, folder=folder / "twin", show=show, teacher=teacher
        )
    assert trained.training_s > 0
    return trained.network.get_weights()


def read_training_s(folder: Path) -> float:
    return float(json.loads((folder / "state.json").read_text(encoding="utf-8"))["training_s"])


def build_teacher(*, seed: int = 0, strides: int = 1) -> Teacher:
    """Return a tiny network as it comes, whose maps are as high and wide as a twin's unless it steps on."""
    keras.utils.set_random_seed(seed)
    twin = build_twin(get_backbone("tiny").build_open(), divisor=4)
    smaller = keras.layers.MaxPooling2D(strides)(twin.output)
    return Teacher(twin=keras.Model(twin.input, smaller), backbone=get_backbone("tiny"))


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    through = train(tmp_path / "through", twin=TWIN)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "again", twin=TWIN, stop_after=2)
    before_s = read_training_s(tmp_path / "again" / "twin")
    resumed = train(tmp_path / "again", twin=TWIN)
    assert read_training_s(tmp_path / "again" / "twin") > before_s > 0, "the time of both is counted"
    for one, other in zip(through, resumed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list((tmp_path / "again" / "twin").glob("*.weights.h5"))) == 1


def test_what_a_teacher_tells_is_learned_and_the_teacher_learns_nothing(tmp_path: Path) -> None:
    teacher = build_teacher()
    before = teacher.twin.get_weights()
    taught = train(tmp_path / "taught", twin=TWIN, teacher=teacher)
    for one, other in zip(before, teacher.twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    alone = train(tmp_path / "alone", twin=TWIN)
    of_another = train(tmp_path / "of_another", twin=TWIN, teacher=build_teacher(seed=1))
    assert not np.array_equal(taught[0], alone[0])
    assert not np.array_equal(taught[0], of_another[0])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "again", twin=TWIN, teacher=teacher, stop_after=1)
    for one, other in zip(taught, train(tmp_path / "again", twin=TWIN, teacher=teacher), strict=True):
        np.testing.assert_array_equal(one, other)


def test_imitation_costs_nothing_when_the_twin_is_its_teacher() -> None:
    teacher = build_teacher()
    imitation = Imitation(teacher)
    crops = np.random.default_rng(0).random((64, 32, 32), dtype=np.float32)
    maps = teacher.twin(teacher.backbone.preprocess(crops))
    imitation(crops, maps)
    values = np.asarray(maps)
    for layer, features in ((imitation.places, values), (imitation.means, values.mean(axis=(1, 2)))):
        flat = features.reshape(-1, features.shape[-1])
        scale = 1.0 / np.sqrt(flat.var(axis=0) + FAINT)
        layer.set_weights([np.diag(scale), -flat.mean(axis=0) * scale])  # what standardises, and is linear
    imitation(crops, maps)
    assert [float(loss) for loss in imitation.losses] == pytest.approx([0.0, 0.0], abs=1e-6)
    imitation(crops, maps[::-1])
    assert min(float(loss) for loss in imitation.losses) > 0.05, "of other crops it does"


def test_a_teacher_with_other_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the twin's maps are \(4, 4\), its teacher's \(2, 2\)"):
        train(tmp_path, twin=TWIN, teacher=build_teacher(strides=2))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"twin": replace(TWIN, n_rounds=1, seed=1)}, "recipe"),
        ({"scans": replace(SCANS, n_renewed=3)}, "scans"),
        ({"teacher_seed": 1}, "teacher"),
    ],
)
def test_another_training_is_not_gone_on_with(changed: dict[str, Any], what: str, tmp_path: Path) -> None:
    def train_taught(*, teacher_seed: int = 0, **given: Any) -> None:
        train(tmp_path, **{"twin": replace(TWIN, n_rounds=1), "teacher": build_teacher(seed=teacher_seed)} | given)

    train_taught()
    with pytest.raises(SettingsError, match=f"twin holds another training; what differs: {what}"):
        train_taught(**changed)


def test_a_loss_that_is_no_number_ends_it_and_is_not_kept(tmp_path: Path) -> None:
    wild = replace(TWIN, learning_rate=float("nan"))
    with pytest.raises(TrainingError, match=r"tiny: the loss of round 1 is nan; .* Lower the recipe's learning rate"):
        train(tmp_path, twin=wild)
    assert not list((tmp_path / "twin").iterdir())

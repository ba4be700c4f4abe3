"""A training gives the same weights whether it was interrupted or not, and whatever renders its scans."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from pretraining import packing, recipe
from pretraining.__main__ import main
from pretraining.crops import CropBatches, CropRecipe, expose
from pretraining.networks import build_twin
from pretraining.properties import PROPERTIES
from pretraining.recipe import PretrainingRecipe, shorten
from pretraining.scans import ScanRecipe, open_scans, render_scans
from pretraining.training import FAINT, Imitation, Teacher, TrainingRecipe, train_twin
from sem_search.transfer import backbones, particle_weights
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.particle_weights import load_particle_weights, read_card

SCANS = ScanRecipe(n_scans=6, n_renewed=2, side_px=64)
TWIN = TrainingRecipe(divisor=2, crop_px=32, batch_size=4, n_rounds=3, n_steps=2)


def train(
    folder: Path, *, twin: TrainingRecipe, stop_after: int | None = None, teacher: Teacher | None = None
) -> list[np.ndarray]:
    told = []

    def tell(text: str) -> None:
        told.append(text)
        if stop_after == len(told):
            raise KeyboardInterrupt

    with open_scans(folder, recipe=SCANS, n_processes=1) as pool:
        trained = train_twin(
            pool, backbone=get_backbone("tiny"), recipe=twin, folder=folder / "twin", tell=tell, teacher=teacher
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


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    train(tmp_path, twin=replace(TWIN, n_rounds=1))
    with pytest.raises(ValueError, match="holds another training"):
        train(tmp_path, twin=replace(TWIN, n_rounds=1, seed=1))


def test_scans_are_renewed_and_follow_from_their_numbers(tmp_path: Path) -> None:
    with open_scans(tmp_path, recipe=SCANS, n_processes=1) as pool:
        for number, indices in ((0, [0, 1, 2, 3, 4, 5]), (1, [6, 7, 2, 3, 4, 5])):
            pool.begin_rendering(round_number=number)
            came = sum(pool.finish_rendering())
            assert pool.indices.tolist() == indices
            assert came == (6 if number == 0 else 2), "what is there is not rendered again"
        pixels, bins = render_scans(np.array([7, 2]), recipe=SCANS)
        np.testing.assert_array_equal(pool.pixels[[1, 2]], pixels)
        np.testing.assert_array_equal(pool.bins[[1, 2]], bins)


def test_batches_follow_from_their_number(tmp_path: Path) -> None:
    crops = CropRecipe(side_px=32, batch_size=5, seed=3)
    with open_scans(tmp_path, recipe=SCANS, n_processes=1) as pool:
        pool.begin_rendering(round_number=0)
        assert sum(pool.finish_rendering()) == 6
        first = CropBatches(pool, recipe=crops, first=0, n_batches=3)
        later = CropBatches(pool, recipe=crops, first=2, n_batches=1)
        grey, bins = first[2]
        assert (grey.shape, grey.dtype, bins.shape) == ((5, 32, 32), np.float32, (5, len(PROPERTIES)))
        assert 0.0 <= grey.min() < grey.max() <= 1.0
        np.testing.assert_array_equal(grey, later[0][0])
        assert not np.array_equal(first[0][0], first[1][0])


def test_exposure_keeps_levels_in_range() -> None:
    levels = np.array([[[0, 255], [128, 30]]] * 50, dtype=np.uint8)
    grey = expose(levels, rng=np.random.default_rng(0))
    assert (grey.min() >= 0.0, grey.max() <= 1.0) == (True, True)
    assert np.isfinite(grey).all()
    assert len(np.unique(grey[:, 1, 0])) > 40, "each crop has its own"


def test_the_command_trains_packs_and_what_ships_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipe.RECIPES, "tiny", PretrainingRecipe(scans=SCANS, twin=TWIN, n_twins=2))  # type: ignore[index]
    monkeypatch.setattr(packing, "PARTICLES_FOLDER", tmp_path / "package")
    monkeypatch.setattr(particle_weights, "PARTICLES_FOLDER", tmp_path / "package")
    trial = CliRunner().invoke(main, ["tiny", "--folder", str(tmp_path / "work"), "--share", "0.4"])
    assert trial.exit_code == 0, trial.output
    assert "twin 2 of 2, round 1 of 1: loss " in trial.output
    assert "A trial is not packed" in trial.output
    assert not (tmp_path / "package").exists()
    done = CliRunner().invoke(main, ["tiny", "--folder", str(tmp_path / "work")])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(main, ["tiny", "--folder", str(tmp_path / "work")])
    assert "round" not in again.output, "nothing is trained, nor rendered, twice"
    load_particle_weights(get_backbone("tiny").build(tile_px=48), name="tiny")
    card = read_card("tiny")
    assert (card["n_crops"], card["n_scans"], card["recipe"]["twin"]["n_rounds"]) == (48, 10, 3)
    assert json.dumps(card), "a card is plain data"
    assert card["training_s"] == round(sum(read_training_s(tmp_path / "work" / f"tiny-{number}") for number in (0, 1)))


def test_the_command_trains_the_teacher_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pupil = replace(get_backbone("tiny"), name="pupil")
    monkeypatch.setattr(backbones, "BACKBONES", {**backbones.BACKBONES, "pupil": pupil})
    monkeypatch.setitem(recipe.RECIPES, "tiny", PretrainingRecipe(scans=SCANS, twin=TWIN))  # type: ignore[index]
    taught = PretrainingRecipe(scans=SCANS, twin=replace(TWIN, divisor=1, n_rounds=1, teacher="tiny"))
    monkeypatch.setitem(recipe.RECIPES, "pupil", taught)  # type: ignore[index]
    given = ["pupil", "--folder", str(tmp_path / "work"), "--pack", str(tmp_path / "packed")]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    told = [" ".join(line.split()[1:8]) for line in done.output.splitlines() if "round" in line]
    assert told == [f"tiny, twin 1 of 1, round {number}" for number in (1, 2, 3)] + ["pupil, twin 1 of 1, round 1"]
    assert [file.name for file in sorted((tmp_path / "packed").iterdir())] == ["pupil.json", "pupil.npz"]
    again = CliRunner().invoke(main, given)
    assert again.exit_code == 0, again.output
    assert "round" not in again.output


def test_every_teacher_has_a_recipe_and_no_teacher() -> None:
    teachers = {row.twin.teacher for row in recipe.RECIPES.values()} - {None}
    assert {recipe.RECIPES[str(name)].twin.teacher for name in teachers} <= {None}


def test_a_backbone_without_a_recipe_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["vgg19", "--folder", str(tmp_path)])
    assert done.exit_code == 2
    assert "'vgg19' has no recipe; choose one of: vgg16, resnet50, mobilenet_v2" in done.output


def test_a_share_of_a_recipe_keeps_a_round() -> None:
    whole = PretrainingRecipe(scans=SCANS, twin=TWIN)
    assert [shorten(whole, share=share).twin.n_rounds for share in (1.0, 0.5, 0.01)] == [3, 2, 1]

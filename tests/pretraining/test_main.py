"""The one command: trains, packs, goes on, and says in a sentence why not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from pretraining import packing, recipe
from pretraining.__main__ import main
from pretraining.recipe import PretrainingRecipe
from sem_search.transfer import backbones
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.weights import packed as particle_weights
from sem_search.transfer.weights.packed import load_particle_weights, read_card
from tests.pretraining.recipes import SCANS, TWIN


def test_the_command_trains_packs_and_what_ships_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipe.RECIPES, "tiny", PretrainingRecipe(scans=SCANS, twin=TWIN))
    monkeypatch.setattr(packing, "PARTICLES_FOLDER", tmp_path / "package")
    monkeypatch.setattr(particle_weights, "PARTICLES_FOLDER", tmp_path / "package")
    trial = CliRunner().invoke(main, ["tiny", "--folder", str(tmp_path / "work"), "--share", "0.4"])
    assert trial.exit_code == 0, trial.output
    assert "tiny, round 1 of 1: loss " in trial.output
    assert "A trial is not packed" in trial.output
    assert not (tmp_path / "package").exists()
    done = CliRunner().invoke(main, ["tiny", "--folder", str(tmp_path / "work")])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(main, ["tiny", "--folder", str(tmp_path / "work")])
    assert "round" not in again.output, "nothing is trained, nor rendered, twice"
    load_particle_weights(get_backbone("tiny").build(tile_px=48), name="tiny")
    card = read_card(tmp_path / "package" / "tiny.json")
    assert (card["n_crops"], card["n_scans"], card["recipe"]["twin"]["n_rounds"]) == (24, 10, 3)
    kept = json.loads((tmp_path / "work" / "tiny" / "state.json").read_text(encoding="utf-8"))
    assert card["training_s"] == round(kept["training_s"])
    assert 0.0 < card["rounding"] < 0.1
    assert "processors" in card["machine"] and "Keras 3" in card["software"]


def test_the_command_trains_the_teacher_first_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pupil = replace(get_backbone("tiny"), name="pupil")
    monkeypatch.setattr(backbones, "BACKBONES", {**backbones.BACKBONES, "pupil": pupil})
    monkeypatch.setitem(recipe.RECIPES, "tiny", PretrainingRecipe(scans=SCANS, twin=TWIN))
    taught = PretrainingRecipe(scans=SCANS, twin=replace(TWIN, divisor=1, n_rounds=1, teacher="tiny"))
    monkeypatch.setitem(recipe.RECIPES, "pupil", taught)
    given = ["pupil", "--folder", str(tmp_path / "work"), "--pack", str(tmp_path / "packed")]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    told = [" ".join(line.split()[1:5]) for line in done.output.splitlines() if "loss" in line]
    assert told == [f"tiny, round {number} of" for number in (1, 2, 3)] + ["pupil, round 1 of"]
    assert [file.name for file in sorted((tmp_path / "packed").iterdir())] == ["pupil.json", "pupil.npz"]
    again = CliRunner().invoke(main, given)
    assert again.exit_code == 0, again.output
    assert "round" not in again.output


def test_a_backbone_without_a_recipe_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["vgg19", "--folder", str(tmp_path)])
    assert done.exit_code == 2
    assert "'vgg19' has no recipe; choose one of: vgg16, resnet50, mobilenet_v2" in done.output


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock"):
        done = CliRunner().invoke(main, ["vgg16", "--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert f"Error: another training runs in {tmp_path}: wait for it, or give --folder." in done.output


def test_another_training_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["tiny", "--folder", str(tmp_path / "work"), "--pack", str(tmp_path / "packed")]
    for seed in (0, 1):
        row = PretrainingRecipe(scans=SCANS, twin=replace(TWIN, n_rounds=1, seed=seed))
        monkeypatch.setitem(recipe.RECIPES, "tiny", row)
        done = CliRunner().invoke(main, given)
    assert done.exit_code == 1
    assert "holds another training; what differs: recipe. Choose another folder" in done.output


def test_a_stop_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pretraining.scans.open_scans", interrupt)
    done = CliRunner().invoke(main, ["vgg16", "--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert "Error: stopped; the same command goes on." in done.output

"""Folders of accepted lots in, a reference out; a new lot in, a judgement out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from sem_search.errors import DataError, NotComparableError, SettingsError
from sem_search.search.commands import lots as room
from sem_search.search.commands.lots_reference import run_lot_judgement, run_lots_reference
from tests.conftest import draw_texture

TINY = {"backbone": "tiny", "weights": "random", "tile_px": 48, "threads": 1}
N_LOTS = 6


def write_lot(folder: Path, material: str, *, seed: int) -> Path:
    """A lot whose pictures are brighter or darker than those of others by chance."""
    folder.mkdir(parents=True)
    shift = 12 * np.random.default_rng(seed).normal()
    for number in range(5):
        picture = draw_texture(material, seed=1000 * seed + number).astype(float) + shift
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def lots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six lots of blobs, the last for judging, and one of stripes."""
    folder = tmp_path_factory.mktemp("lots")
    blobs = [write_lot(folder / f"lot-{number}", "blobs", seed=number) for number in range(N_LOTS)]
    return [*blobs, write_lot(folder / "stripes", "stripes", seed=N_LOTS)]


@pytest.fixture
def reference(lots: list[Path], network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    monkeypatch.setattr(room, "prepare_network", lambda _: network)
    monkeypatch.setattr(room, "configure_tensorflow", lambda **_: None)
    run_lots_reference(lots[: N_LOTS - 1], output=tmp_path / "reference", **TINY)
    return tmp_path / "reference"


def test_a_new_lot_is_judged_written_and_logged(
    reference: Path,
    lots: list[Path],
    tracking: MlflowClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual = run_lot_judgement(lots[N_LOTS - 1], reference=reference)
    far = run_lot_judgement(lots[N_LOTS], reference=reference, output=tmp_path / "out", show=print, margin=2.0)
    assert usual.judgement.distance.value < 3 < far.judgement.distance.value
    assert far.judgement.verdict == "different"
    printed = capsys.readouterr().out
    assert "\nDifferent. It lies " in printed
    experiments = [experiment.experiment_id for experiment in tracking.search_experiments()]
    (run,) = [run for run in tracking.search_runs(experiments) if run.data.tags.get("sem_search.kind") == "lots"]
    assert run.info.run_name == "lot stripes"
    asked = {"lot": "stripes", "n_lots": "5", "margin": "2.0", "backbone": "tiny", "tile_px": "48"}
    assert asked.items() <= run.data.params.items()
    assert len(run.data.params["weights_sha256"]) == 64 and "None" not in run.data.params.values()
    logged = {file.path for file in tracking.list_artifacts(run.info.run_id)}
    assert logged == {"lots.txt", "lots.json", "lots.html", "control_chart.png", "control_chart.csv"}
    assert logged == {file.name for file in (tmp_path / "out").iterdir()}
    page = (tmp_path / "out" / "lots.html").read_text()
    assert "Is stripes equivalent to the reference lots?" in page
    assert "--margin 2" in page


def test_the_reference_decides_how_a_lot_is_looked_at(reference: Path, lots: list[Path]) -> None:
    with pytest.raises(SettingsError, match="tile_px: the reference decides how a new lot is looked at"):
        run_lot_judgement(lots[N_LOTS], reference=reference, tile_px=32)
    with pytest.raises(SettingsError, match="margin=-1: give a number above 0"):
        run_lot_judgement(lots[N_LOTS], reference=reference, margin=-1.0)


def test_other_weights_are_refused(reference: Path, lots: list[Path], network, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(network, weights=replace(network.weights, sha256="0" * 64))
    monkeypatch.setattr(room, "prepare_network", lambda _: other)
    with pytest.raises(NotComparableError, match=r"tiny has other weights .* give the same with --weights"):
        run_lot_judgement(lots[N_LOTS], reference=reference)


def test_a_reference_is_of_one_pixel_size_that_later_lots_share(lots: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="pixel_size_nm=common: later lots may have coarser pixels"):
        run_lots_reference(lots, output=tmp_path / "reference", **TINY, pixel_size_nm="common")


def test_few_lots_are_refused_before_anything_is_computed(lots: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the reference has 4 lots: give 5 or more"):
        run_lots_reference(lots[:4], output=tmp_path / "reference", **TINY)
    assert list(tmp_path.iterdir()) == []

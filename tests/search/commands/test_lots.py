"""Folders in, files out: lots named, refused in words, and tested."""

from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from sem_search.errors import DataError
from sem_search.search.commands import lots as room
from sem_search.search.commands.lots import name_lots, prepare_lots, run_lots
from sem_search.settings import build_settings


def test_folders_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    named = name_lots([tmp_path / "may" / "lot", tmp_path / "june" / "lot", tmp_path / "other"])
    assert list(named) == ["may/lot", "june/lot", "other"]


def test_a_lot_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are not all different: give each lot once"):
        name_lots([tmp_path / "a", tmp_path / "a"])


def test_copies_within_a_lot_count_as_one_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for lot in ("a", "b"):
        (tmp_path / lot).mkdir()
        for number in range(2):
            pixels = rng.integers(0, 255, (96, 96)).astype(np.uint8)
            for copy in range(2):
                Image.fromarray(pixels).save(tmp_path / lot / f"{number}_{copy}.png")
    settings = build_settings({"data": str(tmp_path), "tile_px": 48, "backbone": "tiny"})
    data = prepare_lots({"a": tmp_path / "a", "b": tmp_path / "b"}, settings=settings)
    assert data.tiles.class_names == ("a", "b")
    assert len(data.tiles.image_ids) == 8
    assert len(set(data.tiles.group_of_image)) == 4


@pytest.mark.usefixtures("cache")
def test_lots_are_tested_written_and_logged(
    tiny_folder: Path,
    tmp_path: Path,
    network,
    tracking: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(room, "prepare_network", lambda _: network)
    monkeypatch.setattr(room, "configure_tensorflow", lambda **_: None)
    audit = run_lots(
        [tiny_folder / "blobs", tiny_folder / "stripes"],
        output=tmp_path / "out",
        show=print,
        backbone="tiny",
        weights="random",
        tile_px=48,
        threads=1,
    )
    assert audit.pairs[0].is_different()
    printed = capsys.readouterr().out
    assert "\nYes. blobs and stripes differ, p = " in printed
    experiments = [experiment.experiment_id for experiment in tracking.search_experiments()]
    (run,) = [run for run in tracking.search_runs(experiments) if run.data.tags.get("sem_search.kind") == "lots"]
    assert run.info.run_name == "lots blobs and stripes"
    assert run.data.metrics["lots/n_different"] == 1
    assert (run.data.params["lots"], run.data.params["backbone"]) == ("blobs, stripes", "tiny")
    assert f"/runs/{run.info.run_id}/artifacts/lots.html" in printed
    logged = {file.path for file in tracking.list_artifacts(run.info.run_id)}
    assert logged == {file.name for file in (tmp_path / "out").iterdir()}
    assert logged == {
        "lots.txt",
        "lots.json",
        "lots.csv",
        "lots.png",
        "telling_tiles.csv",
        "telling_tiles.jpg",
        "telling_regions.jpg",
        "telling_regions.json",
        "lots.html",
    }

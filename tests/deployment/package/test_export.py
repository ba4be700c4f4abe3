"""The export: what its page says is enough to repeat an answer with ONNX Runtime and NumPy alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from scipy.special import softmax

from sem_search.deployment.package.export import export_model
from sem_search.deployment.package.writing import ClassifierParts, write_model_folder
from sem_search.errors import SettingsError


@pytest.fixture
def model(make_parts: Callable[..., ClassifierParts], tmp_path: Path) -> Path:
    parts = make_parts(crop_bottom_px=6, stride_px=24, augment="dihedral")
    write_model_folder(parts, folder=tmp_path / "model")
    return tmp_path / "model"


def repeat_answer(folder: Path) -> np.ndarray:
    """Return the probabilities of the example's picture, step by step as the page has them."""
    facts = json.loads((folder / "preprocessing.json").read_text())
    trunk, heads = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("trunk", "heads"))
    grey = np.asarray(Image.open(folder / "example.png"), dtype=np.float32) / np.float32(255)
    grey = grey[: grey.shape[0] - facts["crop_bottom_px"]]
    size, stride = facts["tile_px"], facts["stride_px"]
    tiles = np.stack(
        [
            grey[top : top + size, left : left + size]
            for top in range(0, grey.shape[0] - size + 1, stride)
            for left in range(0, grey.shape[1] - size + 1, stride)
        ]
    )
    logits = []
    for view in range(facts["n_views"]):
        turned = np.rot90(tiles[:, :, ::-1] if view >= 4 else tiles, view % 4, axes=(1, 2))
        features = trunk.run(None, {"tiles": np.ascontiguousarray(turned)})
        names = [entry.name for entry in trunk.get_outputs()]
        logits += heads.run(["logits"], dict(zip(names, features, strict=True)))
    logs = np.log(np.maximum(softmax(np.mean(logits, axis=0), axis=-1), facts["probability_floor"]))
    return softmax(logs.mean(axis=(0, 1)) / facts["temperature"])


def test_the_example_is_answered_alike_by_the_steps_of_the_page(model: Path, tmp_path: Path) -> None:
    files = export_model(model, folder=tmp_path / "Ausgabe für C#", source="excipients version 3")
    folder = tmp_path / "Ausgabe für C#"
    assert sorted(files) == sorted(path.name for path in folder.iterdir())
    answer = json.loads((folder / "example.json").read_text())
    assert answer["n_tiles"] > 1
    found = repeat_answer(folder)
    assert found == pytest.approx(list(answer["probabilities"].values()), abs=1e-5)
    assert np.ptp(found) > 0.01, "equal probabilities would compare nothing"


def test_the_page_names_the_model_and_its_numbers(model: Path, tmp_path: Path) -> None:
    export_model(model, folder=tmp_path / "out", source="excipients version 3")
    page = (tmp_path / "out" / "README.md").read_text()
    for words in (
        "# excipients version 3",
        "cellulose, lactose, starch",
        "= 24 px",
        "8 views",
        "= 1.25",
        '{"crossing_0"}',
    ):
        assert words in page.replace("{ ", "{").replace(" }", "}"), words


def test_a_folder_with_something_in_it_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingsError, match="is not empty: name a new folder"):
        export_model(model, folder=tmp_path, source="x")
    with pytest.raises(SettingsError, match="cannot be written: File exists"):
        export_model(model, folder=tmp_path / "notes.txt", source="x")


def test_a_model_of_one_pixel_size_says_how_to_come_to_it(
    make_parts: Callable[..., ClassifierParts], tmp_path: Path
) -> None:
    write_model_folder(make_parts(pixel_size_nm=40.0), folder=tmp_path / "model")
    export_model(tmp_path / "model", folder=tmp_path / "out", source="x")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Then bring the image to `pixel_size_nm` = 40.0 nm per pixel" in page
    answer = json.loads((tmp_path / "out" / "example.json").read_text())
    found = repeat_answer(tmp_path / "out")
    assert found == pytest.approx(list(answer["probabilities"].values()), abs=1e-5)

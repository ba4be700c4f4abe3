import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sem_search.errors import DataError, SettingsError, StoreError
from sem_search.micrographs import demo
from sem_search.micrographs.demo import DEMO_SIZES, MATERIALS, DemoSize, Material, render_micrograph, write_demo_data
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.seeds import derive_seed

TINY = DemoSize(n_images_per_class=2, scan_width_px=96, scan_height_px=64, bar_height_px=16)
DIGESTS_OF_TINY = {  # of image 0, seed 0; when a change is meant to alter pixels, RECIPE_VERSION goes up with them
    "cellulose-fibrous": "7e98722d0eb9f909",
    "cellulose-elongated": "6316ec05af0ca718",
    "cellulose-irregular": "b04ef3332863799d",
    "cellulose-rounded": "cbdd38e6521872fa",
    "starch-polyhedral": "4b96bb36c260e00d",
    "mannitol-spherical": "ee1cdd555f3aaeba",
    "mannitol-rugged": "4bbf06cf29c44a4c",
    "lactose-fine": "b8e0d35667a6aebf",
    "lactose-medium": "95ac2a4cb1ade424",
    "lactose-coarse": "ca4a1d15f5f8f059",
}
SOME_MATERIALS = tuple(material for material in MATERIALS if material.name.startswith("lactose"))
RENDER_DIGESTS = """
import hashlib, json
from sem_search.micrographs.demo import MATERIALS, DemoSize, render_micrograph
from sem_search.seeds import derive_seed
size = DemoSize(n_images_per_class=2, scan_width_px=96, scan_height_px=64, bar_height_px=16)
images = {m.name: render_micrograph(m, size=size, seed=derive_seed(0, m.name, 0)) for m in MATERIALS}
print(json.dumps({name: hashlib.sha256(image.tobytes()).hexdigest()[:16] for name, image in images.items()}))
"""


def _compute_digest(material: Material) -> str:
    image = render_micrograph(material, size=TINY, seed=derive_seed(0, material.name, 0))
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


@pytest.fixture
def tiny_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MATERIALS", SOME_MATERIALS)
    monkeypatch.setitem(DEMO_SIZES, "small", TINY)
    monkeypatch.setitem(DEMO_SIZES, "paper", replace(TINY, n_images_per_class=3))


@pytest.mark.parametrize("material", MATERIALS, ids=lambda material: material.name)
def test_pixels_never_change(material: Material) -> None:
    assert _compute_digest(material) == DIGESTS_OF_TINY[material.name]


def test_pixels_do_not_depend_on_the_processor() -> None:
    features = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # type: ignore[call-overload,index]
    if not features:
        pytest.skip("this NumPy has no processor-specific code to switch off")
    result = subprocess.run(
        [sys.executable, "-c", RENDER_DIGESTS],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": ",".join(features), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == DIGESTS_OF_TINY


def test_sizes_are_those_of_the_issue_and_the_paper() -> None:
    small, paper = DEMO_SIZES["small"], DEMO_SIZES["paper"]
    assert (small.scan_width_px, small.scan_height_px, small.n_images_per_class) == (3 * 224, 2 * 224, 5)
    assert (paper.scan_width_px, paper.scan_height_px + paper.bar_height_px) == (1280, 960)
    assert (paper.scan_width_px // 224, paper.scan_height_px // 224, paper.n_images_per_class) == (5, 4, 10)


def test_micrograph_has_its_bar_at_the_bottom_and_the_bar_tells_nothing() -> None:
    first, other = (render_micrograph(MATERIALS[index], size=TINY, seed=index) for index in (0, 7))
    assert first.shape == (80, 96) and first.dtype == np.uint8
    assert np.array_equal(first[64:], other[64:]) and not np.array_equal(first[:64], other[:64])


@pytest.mark.parametrize("change", [{"width_px": 30.0}, {"aspect": 2.0}, {"graininess": 0.1}])
def test_a_lot_is_a_material_with_other_parameters(change: dict[str, float]) -> None:
    lot = replace(MATERIALS[5], **change)  # type: ignore[arg-type]
    assert not np.array_equal(
        render_micrograph(lot, size=TINY, seed=1), render_micrograph(MATERIALS[5], size=TINY, seed=1)
    )


@pytest.mark.usefixtures("tiny_set")
def test_set_is_one_folder_of_pngs_per_material(tmp_path: Path) -> None:
    folder = write_demo_data(tmp_path / "new" / "demo")
    assert folder == tmp_path / "new" / "demo"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == sorted(
        material.name for material in SOME_MATERIALS
    )
    assert len(list(folder.rglob("*.png"))) == 6
    with Image.open(folder / "lactose-medium" / "02.png") as image:
        assert image.mode == "L" and "Rendered, not measured" in image.info["Comment"]
        expected = render_micrograph(SOME_MATERIALS[1], size=TINY, seed=derive_seed(0, "lactose-medium", 1))
        assert np.array_equal(np.asarray(image), expected)


@pytest.mark.usefixtures("tiny_set")
def test_set_is_read_like_any_micrograph(tmp_path: Path) -> None:
    folder = write_demo_data(tmp_path / "demo")
    micrograph = read_micrograph(
        folder / "lactose-fine" / "01.png", reading=ReadingOptions(crop_bottom_px=TINY.bar_height_px)
    )
    assert micrograph.pixels.shape == (64, 96) and micrograph.warnings == ()


@pytest.mark.usefixtures("tiny_set")
def test_complete_set_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_data(tmp_path / "demo", seed=3)
    monkeypatch.setattr(demo, "render_micrograph", None)  # would fail if it were called
    assert write_demo_data(tmp_path / "demo", seed=3) == tmp_path / "demo"


@pytest.mark.usefixtures("tiny_set")
def test_same_seed_same_files_other_seed_others(tmp_path: Path) -> None:
    folders = [write_demo_data(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    contents = [[file.read_bytes() for file in sorted(folder.rglob("*.png"))] for folder in folders]
    assert contents[0] == contents[1]
    assert not set(contents[0]) & set(contents[2])
    assert len(set(contents[0])) == 6


@pytest.mark.usefixtures("tiny_set")
def test_empty_folder_and_leftovers_of_a_killed_process_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    leftover = tmp_path / ".demo.partial" / "cellulose-fibrous" / "01.png"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a picture")
    folder = write_demo_data(tmp_path / "demo")
    assert len(list(folder.rglob("*.png"))) == 6
    assert not (tmp_path / ".demo.partial").exists()


@pytest.mark.usefixtures("tiny_set")
@pytest.mark.parametrize(
    ("settings", "difference"),
    [({"seed": 1}, "seed 0 instead of 1"), ({"size": "paper"}, "size small instead of paper")],
    ids=["seed", "size"],
)
def test_another_set_is_not_overwritten(tmp_path: Path, settings: dict[str, int | str], difference: str) -> None:
    write_demo_data(tmp_path / "demo")
    with pytest.raises(SettingsError, match=rf"demo: holds another demonstration set \({difference}\); choose another"):
        write_demo_data(tmp_path / "demo", **settings)  # type: ignore[arg-type]


@pytest.mark.usefixtures("tiny_set")
@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "changed"])
def test_damaged_set_is_told(tmp_path: Path, is_lost: bool) -> None:
    victim = write_demo_data(tmp_path / "demo") / "lactose-fine" / "02.png"
    victim.unlink() if is_lost else victim.write_bytes(b"other")
    with pytest.raises(
        DataError, match=r"demo: 1 of 6 files .* changed or lost, the first is lactose-fine/02.png; delete"
    ):
        write_demo_data(tmp_path / "demo")


@pytest.mark.parametrize("content", ["{half", "[]", "{}"])
def test_damaged_listing_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / ".demo.json").write_text(content)
    with pytest.raises(DataError, match=r"\.demo\.json: does not list a demonstration set \(.*\); delete the folder"):
        write_demo_data(tmp_path)


def test_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty and holds no demonstration set; choose a folder"):
        write_demo_data(tmp_path)
    assert (tmp_path / "thesis.docx").read_text() == "mine"


def test_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    with pytest.raises(SettingsError, match="demo: is a file; the demonstration set needs a folder"):
        write_demo_data(tmp_path / "demo")


def test_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match="size: 'huge' is not a size of the demonstration set; choose small or paper"
    ):
        write_demo_data(tmp_path / "demo", size="huge")


def test_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="demonstration set could not be written"):
        write_demo_data(tmp_path / "file" / "demo")


@pytest.mark.usefixtures("tiny_set")
def test_progress_is_shown_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demo_data(tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    write_demo_data(tmp_path / "shown", progress=True)
    assert "Rendering: 6 of 6 images" in capsys.readouterr().err

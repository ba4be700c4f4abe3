"""A folder that is wrong in every way is found out, a good one is left in peace, and the real one is known by heart."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from sem_search.errors import SettingsError
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.inspection.finding import Finding
from sem_search.micrographs.inspection.inspect import Inspection, inspect_catalogue
from sem_search.micrographs.reading.options import ReadingOptions

REAL_FILES = Path(__file__).parents[4] / "shared" / "data" / "lung_cells_sem"
HEIGHT, WIDTH = 150, 200


def take(seed: int, *, place: int | None = None) -> np.ndarray:
    """Scan a place with noise of its own."""
    texture = gaussian_filter(np.random.default_rng(seed if place is None else place).normal(size=(HEIGHT, WIDTH)), 1.5)
    noise = np.random.default_rng(1000 + seed).normal(scale=8, size=(HEIGHT, WIDTH))
    return np.clip(120 + 25 * texture / texture.std() + noise, 0, 255).astype(np.uint8)


def write_fei(
    path: Path, pixels: np.ndarray, *, day: str = "13.02.2020", detector: str = "ETD", number: int = 0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = (
        f"[User]\r\nDate=01/01/2020\r\n[Scan]\r\nPixelWidth=1e-7\r\n[Beam]\r\nHV=5000\r\n"
        f"[Image]\r\nResolutionX={WIDTH}\r\nResolutionY={HEIGHT}\r\n[Detectors]\r\nName={detector}\r\n"
        f"[PrivateFei]\r\nTimeOfCreation={day} 10:{number:02}:07\r\n"
    )
    tifffile.imwrite(path, pixels, extratags=[(34682, "s", 0, tag, True)])


def inspect(folder: Path, **settings: Any) -> Inspection:
    return inspect_catalogue(
        read_catalogue(folder, reading=ReadingOptions(min_side_px=48, skip_unreadable=True)), **settings
    )


def get_kinds(inspection: Inspection, *, severity: str | None = None) -> list[str]:
    return [finding.kind for finding in inspection.findings if severity in (None, finding.severity)]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Two classes imaged alike, on the same two days."""
    for number in range(12):
        label, day = ("salt", "sand")[number % 2], ("13.02.2020", "14.02.2020")[number // 2 % 2]
        write_fei(tmp_path / "data" / label / f"{number}.tif", take(number), day=day, number=number)
    return tmp_path / "data"


def test_good_data_are_left_in_peace(good: Path) -> None:
    inspection = inspect(good)
    assert inspection.pairs == ()
    assert get_kinds(inspection) == ["few_tiles"]  # the pictures of a quick test are small
    assert [confound.is_warning for confound in inspection.confounds] == [False]
    assert list(inspection.thumbnails) == [record.image_id for record in inspection.catalogue.records]


def test_everything_wrong_is_found_at_once(good: Path) -> None:
    write_fei(good / "salt" / "again.tif", take(50, place=2), number=50)
    (good / "sand" / "copy.tif").write_bytes((good / "salt" / "0.tif").read_bytes())
    write_fei(good / "sand" / "02052019_TLD_15kV.tif", take(51), number=51)
    (good / "sand" / "torn.tif").write_bytes((good / "sand" / "1.tif").read_bytes()[:5000])
    for number in range(4):
        grey = np.full((HEIGHT, WIDTH), 128 + number // 2, dtype=np.uint8)
        grey[number] += 1
        Image.fromarray(grey).save(good / "salt" / f"even{number}.png")
        (good / "chalk").mkdir(exist_ok=True)
        tifffile.imwrite(good / "chalk" / f"{number}.tif", take(60 + number).astype(np.uint16) * 256)
    inspection = inspect(good)
    assert all(finding.message.endswith(finding.advice) for finding in inspection.findings), "the JSON gives it there"
    assert {"class_too_small", "label_conflict"} == set(get_kinds(inspection, severity="error"))
    assert set(get_kinds(inspection, severity="warning")) >= {
        "unusable_file",
        "identical_files",
        "same_field",
        "confounded_bit_depth",
        "name_contradicts_date",
        "name_contradicts_detector",
        "name_contradicts_voltage",
        "almost_constant",
    }
    assert set(get_kinds(inspection, severity="note")) >= {"no_pixel_size", "no_session", "no_detector", "hollow_bits"}
    assert [(pair.first, pair.second) for pair in inspection.pairs] == [
        ("salt/0.tif", "sand/copy.tif"),
        ("salt/2.tif", "salt/again.tif"),
    ]


def test_findings_stand_in_order_of_weight(good: Path) -> None:
    (good / "sand" / "copy.tif").write_bytes((good / "salt" / "0.tif").read_bytes())
    severities = [finding.severity for finding in inspect(good, n_folds=9).findings]
    assert severities == ["error"] * 2 + ["warning"] + ["note"]


def test_a_bar_left_on_is_told_and_gone_once_it_is_cut(tmp_path: Path) -> None:
    bar = np.zeros((20, WIDTH), dtype=np.uint8)
    bar[4:16, 10:150:3] = 255
    for number in range(6):
        path = tmp_path / ("salt", "sand")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.concatenate((take(number), bar))).save(path)
    left_on = inspect_catalogue(read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=48)), n_folds=3)
    assert "data_bar" in get_kinds(left_on)
    assert left_on.pairs == ()
    cut = inspect_catalogue(
        read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=48, crop_bottom_px=20)), n_folds=3
    )
    assert "data_bar" not in get_kinds(cut)


def test_too_few_folds_are_refused(good: Path) -> None:
    with pytest.raises(SettingsError, match="folds must be 3 or more"):
        inspect(good, n_folds=2)


def test_inspecting_twice_says_the_same(good: Path) -> None:
    assert inspect(good).to_json() == inspect(good).to_json()


# ---- the real files ----

CS, IPDI = "CS/CS_Bottom_of_Insert_DC_02052021_5KV", "IPDI/IPDI_DCs_5KV_1200x_ETD_HV_5spot_12.3WD"


@pytest.fixture(scope="module")
def real() -> Iterator[Inspection]:
    if not REAL_FILES.is_dir():
        pytest.skip(f"needs the real micrographs in {REAL_FILES}")
    yield inspect_catalogue(read_catalogue(REAL_FILES))


def get(inspection: Inspection, kind: str) -> Finding:
    (finding,) = [finding for finding in inspection.findings if finding.kind == kind]
    return finding


@pytest.mark.slow
def test_real_files_that_show_the_same_place(real: Inspection) -> None:
    """By stage position and by SIFT features at any turn and scale, these three pairs of 595 and no others."""
    assert [(pair.first, pair.second, pair.kind) for pair in real.pairs] == [
        (f"{CS}_2500_ETD-HV_10.tif", f"{CS}_2500_ICE-HV_10.tif", "identical_file"),
        (
            "CS/CS_DCs_5KV_12000x_ETD_HV_s5.0_13.6WD_010.tif",
            "CS/CS_DCs_5KV_1200x_ETD_HV_s5.0_13.6WD_011.tif",
            "overlapping",
        ),
        (f"{IPDI}_003.tif", f"{IPDI}_004.tif", "overlapping"),
    ]
    _, zoomed, shifted = real.pairs
    assert zoomed.scale == pytest.approx(10)
    assert zoomed.overlap == 1.0
    assert zoomed.shift_px == (pytest.approx(-4600, abs=30), pytest.approx(-6940, abs=30))
    assert shifted.shift_px == (pytest.approx(-179, abs=3), pytest.approx(-744, abs=3))
    assert shifted.overlap == pytest.approx(0.425, abs=0.01)
    assert min(zoomed.correlation, shifted.correlation) > 0.8


@pytest.mark.slow
def test_all_that_is_wrong_in_the_real_files(real: Inspection) -> None:
    assert get_kinds(real) == [
        "class_too_small",
        "identical_files",
        "zoomed_field",
        "overlapping_fields",
        "confounded_session",
        "confounded_pixel_size",
        "confounded_bit_depth",
        "single_session",
        "name_contradicts_date",
        "name_contradicts_detector",
        "unequal_classes",
        "telling_contrast",
        "telling_noise",
        "mixed_pixel_size",
        "mixed_detector",
        "mixed_bit_depth",
        "hollow_bits",
    ]
    assert [finding.severity for finding in real.findings] == ["error"] + 9 * ["warning"] + 7 * ["note"]
    assert get(real, "class_too_small").classes == ("Untreated",)
    assert get(real, "single_session").classes == ("IPDI",)
    assert (
        "come from one session (2020-11-12), in which no other class was imaged" in get(real, "single_session").message
    )
    assert get(real, "mixed_pixel_size").classes == ("Ag-NP", "CS")
    assert get(real, "mixed_detector").classes == ("CS",)
    assert get(real, "mixed_bit_depth").classes == ("Ag-NP", "CS", "NiO")


@pytest.mark.slow
def test_real_names_that_contradict_the_metadata(real: Inspection) -> None:
    dates = get(real, "name_contradicts_date")
    assert len(dates.images) == 13
    assert all("_02052021_" in image_id for image_id in dates.images)
    assert "the name gives 02052021 (2021-02-05 or 2021-05-02), the metadata 2020-02-06 (9 files)" in dates.message
    assert "the metadata 2020-02-05 (4 files)" in dates.message
    detectors = get(real, "name_contradicts_detector")
    assert detectors.images == (f"{CS}_2500_ICE-HV_10.tif", f"{CS}_2500_ICE-HV_8.tif")
    hollow = get(real, "hollow_bits")
    assert len(hollow.images) == 22


@pytest.mark.slow
def test_the_real_session_gives_the_class_away(real: Inspection) -> None:
    session = real.confounds[0]
    assert (session.attribute, session.n_right, session.n_images) == ("session", 27, 35)
    assert session.n_right_by_chance < 18
    assert session.p_value <= 0.001
    assert session.given_away == ("IPDI",)


@pytest.mark.slow
def test_the_real_reports(real: Inspection) -> None:
    assert max(map(len, real.to_text().splitlines())) <= 100
    assert "35 images of 5 classes, 32 separate fields of view" in real.to_text()
    assert json.loads(real.to_json())["n_fields"] == 32
    html = real.to_html()
    findings, _, pairs_and_images = html.partition('<h2 id="pairs">')
    pairs, _, images = pairs_and_images.partition('<h2 id="images">')
    assert (pairs.count("<img"), images.count("<img")) == (6, 35)
    shown = re.findall(r'<img [^>]*alt="([^"]+)"', findings)
    assert {image for one in real.findings if 0 < len(one.images) < 3 for image in one.images} <= set(shown)
    assert len(html) < 3_000_000


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """Two classes of three fields, each taken four times with a shift; one picture is there twice."""
    rng = np.random.default_rng(0)
    for number in range(6):
        texture = gaussian_filter(rng.normal(size=(150, 210)), 1.5)
        ground = 120 + 30 * texture / texture.std()
        for step in range(4):
            taken = ground[8 * step :, 10 * step :][:120, :160] + rng.normal(scale=6, size=(120, 160))
            file = tmp_path / "shifted" / ("salt", "sand")[number % 2] / f"{number}{step}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(taken, 0, 255).astype(np.uint8)).save(file)
    (tmp_path / "shifted" / "salt" / "copy.png").write_bytes((tmp_path / "shifted" / "salt" / "00.png").read_bytes())
    return tmp_path / "shifted"


def test_many_shifted_copies_are_one_finding(shifted: Path) -> None:
    inspection = inspect(shifted, n_folds=3)
    assert len(inspection.pairs) == 6 * 6 + 1, "each field's pairs; a copy is paired with its first alone"
    told = {finding.kind: finding for finding in inspection.findings if finding.severity != "note"}
    assert sorted(told) == ["identical_files", "overlapping_fields"]
    assert len(told) == sum(finding.severity != "note" for finding in inspection.findings)
    overlaps = told["overlapping_fields"]
    assert overlaps.message.startswith("36 times, on 24 images: salt/00.png and salt/01.png overlap by ")
    assert overlaps.message.count("correlation") == 3
    assert ". And 33 more. A search keeps overlapping images in one group" in overlaps.message
    assert len(overlaps.details) == 36
    written = {finding["kind"]: finding for finding in json.loads(inspection.to_json())["findings"]}
    assert len(written["overlapping_fields"]["details"]) == 36
    html = inspection.to_html()
    assert "<details><summary>all 36 cases</summary>salt/00.png and salt/01.png overlap" in html
    assert all(len(finding.message) < 900 for finding in inspection.findings)
    assert inspection.to_text().count("\n") < 50


@pytest.mark.parametrize(
    ("overlaps", "n_pairs", "n_fields", "kinds"),
    [
        ("group", 37, 6, {"identical_files", "overlapping_fields"}),
        ("report", 37, 24, {"identical_files", "overlapping_fields"}),
        ("ignore", 1, 24, {"identical_files"}),
    ],
)
def test_the_users_word_on_overlaps_counts(
    shifted: Path, overlaps: Any, n_pairs: int, n_fields: int, kinds: set[str]
) -> None:
    inspection = inspect(shifted, n_folds=3, overlaps=overlaps)
    assert len(inspection.pairs) == n_pairs
    assert len({record.group for record in inspection.grouped.records}) == n_fields
    assert json.loads(inspection.to_json())["n_fields"] == n_fields
    assert {finding.kind for finding in inspection.findings if finding.severity == "warning"} == kinds

"""Every usable file becomes one record, all others are told at once, and the digest stands for the data."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from sem_search.errors import DataError, SettingsError, StoreError, UnreadableDataError, UnreadableImageError
from sem_search.micrographs import catalogue as catalogue_module
from sem_search.micrographs.catalogue import (
    Catalogue,
    compute_noise,
    compute_pixels_sha256,
    read_catalogue,
)
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.unusable_files import SkippedFile, find_causes, sum_up_warnings

SHARED = Path(__file__).parents[3] / "shared"
REAL_FILES = SHARED / "data" / "lung_cells_sem"

RANDOM = np.random.default_rng(0)
FEI = "[User]\r\nDate=02/13/2020\r\nTime=07:16:19 PM\r\n[Scan]\r\nPixelWidth=1e-008\r\n[Image]\r\nResolutionY=30\r\n"


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_picture(height: int = 32, width: int = 40) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width), dtype=np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label in ("sand", "salt"):
        for number in range(3):
            save(tmp_path / "data" / label / f"{number}.png", make_picture())
    return tmp_path / "data"


def read(data: Path, *, allow_outside: bool = False, exclude: tuple[str, ...] = (), **reading: Any) -> Catalogue:
    options = ReadingOptions(**{"min_side_px": 16, **reading})
    return read_catalogue(data, exclude=exclude, allow_outside=allow_outside, reading=options)


def test_a_record_tells_all(data: Path) -> None:
    pixels = make_picture()
    tifffile.imwrite(data / "salt" / "fei.tif", pixels, extratags=[(34682, "s", 0, FEI, True)])
    catalogue = read(data)
    assert catalogue.class_names == ("salt", "sand")
    assert [record.image_id for record in catalogue.records] == [
        *(f"salt/{name}" for name in ("0.png", "1.png", "2.png", "fei.tif")),
        *(f"sand/{number}.png" for number in range(3)),
    ]
    record = catalogue.records[3]
    grey = pixels[:30] / np.float32(255)
    assert record.mean_grey == pytest.approx(grey.mean(), rel=1e-6)
    assert record.contrast == pytest.approx(grey.std(), rel=1e-6)
    assert dataclasses.replace(record, mean_grey=0, contrast=0, noise=0) == dataclasses.replace(
        record,
        image_id="salt/fei.tif",
        path=data / "salt" / "fei.tif",
        label="salt",
        group="salt/fei.tif",
        session="2020-02-13",
        sha256=hashlib.sha256((data / "salt" / "fei.tif").read_bytes()).hexdigest(),
        pixels_sha256=compute_pixels_sha256(grey),
        width_px=40,
        height_px=30,
        bit_depth=8,
        mode="L",
        pixel_size_nm=10.0,
        acquired_at="2020-02-13T19:16:19",
        detector=None,
        voltage_kv=None,
        mean_grey=0,
        contrast=0,
        noise=0,
        warnings=(),
    )
    assert catalogue.records[0].session is None


def test_group_and_session_of_a_csv_are_kept(data: Path) -> None:
    tifffile.imwrite(data / "fei.tif", make_picture(), extratags=[(34682, "s", 0, FEI, True)])
    (data / "all.csv").write_text(
        "image,label,group,session\nfei.tif,a,left,monday\nsalt/0.png,a,left,\nsand/0.png,b,,tuesday\n"
    )
    records = read(data / "all.csv").records
    assert [(record.image_id, record.label, record.group, record.session) for record in records] == [
        ("fei.tif", "a", "left", "monday"),
        ("salt/0.png", "a", "left", None),
        ("sand/0.png", "b", "sand/0.png", "tuesday"),
    ]


def test_all_unusable_files_are_told_at_once(data: Path) -> None:
    (data / "salt" / "empty.png").touch()
    (data / "salt" / "text.jpg").write_text("not a picture")
    (data / "sand" / "link.tif").symlink_to(data / "gone.tif")
    (data / "sand" / "dir.png").mkdir()
    save(data / "sand" / "small.png", make_picture(32, 15))
    whole = (data / "sand" / "0.png").read_bytes()
    (data / "sand" / "torn.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableDataError) as caught:
        read(data)
    lines = str(caught.value).splitlines()
    assert lines[0] == "6 of 12 files cannot be used:"
    assert [line.split(": ")[0] for line in lines[1:7]] == [
        "  - salt/empty.png",
        "  - salt/text.jpg",
        "  - sand/dir.png",
        "  - sand/link.tif",
        "  - sand/small.png",
        "  - sand/torn.png",
    ]
    assert "is 15 x 32 px without its data bar, smaller than a tile of 16 px" in lines[5]
    assert lines[7] == "Repair or remove them, or continue without them with skip_unreadable=true."

    catalogue = read(data, skip_unreadable=True)
    assert len(catalogue.records) == 6
    assert [skipped.path.name for skipped in catalogue.skipped] == [
        *("empty.png", "text.jpg", "dir.png", "link.tif", "small.png", "torn.png")
    ]
    assert catalogue.skipped[0].reason.startswith("is empty")
    assert catalogue.warnings[0].startswith("left out salt/empty.png: is empty")
    assert len(catalogue.warnings) == 6


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([(200, 200)], "is 200 x 200 px without its data bar, smaller than a tile of 224 px: set tile_px=192 or less"),
        ([(200, 90), (100, 220)], "the smallest 200 x 90 px: set tile_px=64 or less, or leave them out"),
        ([(31, 300)], "smaller than a tile of 224 px: leave it out"),
    ],
)
def test_a_folder_of_pictures_smaller_than_a_tile_is_one_line_with_the_tile_that_fits(
    data: Path, sizes: list[tuple[int, int]], words: str
) -> None:
    for number in range(140):
        width, height = sizes[number % len(sizes)]
        save(data / ("sand", "salt")[number % 2] / f"{number:03}.png", make_picture(height, width))
    for picture in data.glob("*/?.png"):
        save(picture, make_picture(230, 230))
    with pytest.raises(UnreadableDataError) as caught:
        read(data, min_side_px=224)
    first, line, last = str(caught.value).splitlines()
    assert first == "140 of 146 files cannot be used:"
    assert line.startswith("  - 140 files (salt/001.png, salt/003.png, ")
    assert " and 137 more), each: is " in line
    assert len(line) < 1000
    assert words in line
    assert last == "Repair or remove them, or continue without them with skip_unreadable=true."
    (warning,) = read(data, min_side_px=224, skip_unreadable=True).warnings
    assert warning.startswith("left out 140 files (salt/001.png, salt/003.png, salt/005.png and 137 more), each: is ")
    assert words in warning


@pytest.mark.parametrize(
    ("step", "told"),
    [(1, "for example s/0.tif: has 1 pages of 11 MB"), (0, "each: has 1 pages of 11 MB")],
)
def test_what_is_true_of_one_file_is_not_told_of_all(step: int, told: str) -> None:
    skipped = [SkippedFile(path=Path(f"data/s/{n}.tif"), reason=f"has {1 + step * n} pages of 11 MB") for n in range(6)]
    (cause,) = find_causes(skipped, root=Path("data"))
    assert cause.to_text() == f"6 files (s/0.tif, s/1.tif, s/2.tif and 3 more), {told}"


def test_no_way_out_is_named_that_leads_nowhere(data: Path) -> None:
    with pytest.raises(UnreadableDataError) as caught:
        read(data, min_side_px=224)
    assert str(caught.value).endswith("\nRepair or remove them.")
    with pytest.raises(UnreadableDataError) as caught:
        read(data, min_side_px=224, skip_unreadable=True)
    assert str(caught.value).endswith("\nRepair the files.")


def test_skipped_files_keep_their_size_in_a_stored_catalogue(data: Path) -> None:
    save(data / "sand" / "small.png", make_picture(32, 15))
    catalogue = read(data, skip_unreadable=True)
    assert catalogue.skipped[0].size_px == (15, 32)
    assert Catalogue.from_json(catalogue.to_json(), root=data).skipped == catalogue.skipped


def test_a_class_of_which_nothing_is_left_is_an_error(data: Path) -> None:
    (data / "rust").mkdir()
    (data / "rust" / "1.png").touch()
    with pytest.raises(UnreadableDataError, match=r"no usable image is left of class 'rust':\n  - rust/1.png: .*") as e:
        read(data, skip_unreadable=True)
    assert "leave the class out with exclude=rust" in str(e.value)
    assert read(data, exclude=["rust"]).class_names == ("salt", "sand")


def test_settings_reach_the_reader(data: Path) -> None:
    assert {record.height_px for record in read(data, crop_bottom_px=4).records} == {28}
    with pytest.raises(UnreadableDataError, match=r"more than the limit of 0\.001"):
        read(data, max_megapixels=0.001)
    with pytest.raises(SettingsError, match="exclude names 'gold'"):
        read(data, exclude=["gold"])


def test_equal_pictures_in_other_formats_have_equal_pixels(data: Path) -> None:
    grey = make_picture()
    save(data / "salt" / "a.png", grey)
    save(data / "salt" / "b.png", np.stack([grey] * 3, -1))
    tifffile.imwrite(data / "sand" / "c.tif", grey.astype(np.uint16) * 257)
    save(data / "sand" / "d.png", grey.reshape(40, 32))
    by_name = {record.path.name: record for record in read(data).records}
    assert len({by_name[name].pixels_sha256 for name in ("a.png", "b.png", "c.tif")}) == 1
    assert by_name["a.png"].pixels_sha256 != by_name["d.png"].pixels_sha256
    assert len({by_name[name].sha256 for name in ("a.png", "b.png", "c.tif")}) == 3


def test_warnings_of_images_are_summed_up(data: Path) -> None:
    for name in ("x", "y"):
        tifffile.imwrite(data / "sand" / f"{name}.tif", np.stack([make_picture()] * 2), photometric="minisblack")
    catalogue = read(data)
    assert catalogue.warnings == ("has 2 pages; only the first was read (2 images, first sand/x.tif)",)
    assert catalogue.records[-1].warnings == ("has 2 pages; only the first was read",)


def test_warnings_that_differ_in_numbers_are_one() -> None:
    warnings = {f"{number}.tif": (f"holds {number} of 99 bytes", "has 2 pages") for number in range(1, 1501)}
    assert sum_up_warnings(warnings) == [
        "holds 1 of 99 bytes (for example 1.tif; 1,500 images in all)",
        "has 2 pages (1,500 images, first 1.tif)",
    ]


def test_the_digest_depends_on_ids_labels_groups_and_pixels_alone(data: Path, tmp_path: Path) -> None:
    catalogue = read(data)
    moved = tmp_path / "moved"
    data.rename(moved)
    assert read(moved).digest == catalogue.digest
    assert dataclasses.replace(catalogue, records=catalogue.records[::-1]).digest == catalogue.digest
    first, *others = catalogue.records
    for field in ("image_id", "label", "group", "pixels_sha256"):
        changed = dataclasses.replace(catalogue, records=(dataclasses.replace(first, **{field: "x"}), *others))
        assert changed.digest != catalogue.digest, field
    same = dataclasses.replace(catalogue, records=(dataclasses.replace(first, session="x", sha256="x"), *others))
    assert same.digest == catalogue.digest


def test_the_digest_is_the_same_in_every_release(data: Path) -> None:
    record = dataclasses.replace(read(data).records[0], image_id="ä", label="a", group="g", pixels_sha256="0")
    catalogue = Catalogue(root=data, records=(record,))
    assert catalogue.digest == hashlib.sha256('[["ä", "a", "g", "0"]]'.encode()).hexdigest()
    assert compute_pixels_sha256(np.array([[0.5, 1.0]], np.float32)) == (
        hashlib.sha256(b"1 x 2 float32\n\x00\x00\x00\x3f\x00\x00\x80\x3f").hexdigest()
    )


def test_json_round_trip_keeps_all_and_names_no_place(data: Path, tmp_path: Path) -> None:
    (data / "salt" / "empty.png").touch()
    catalogue = read(data, skip_unreadable=True)
    text = catalogue.to_json()
    assert str(tmp_path) not in text
    assert Catalogue.from_json(text, root=data) == dataclasses.replace(catalogue, reading=ReadingOptions())
    elsewhere = Catalogue.from_json(text, root=Path("/other"))
    assert elsewhere.records[0].path == Path("/other/salt/0.png")
    assert elsewhere.digest == catalogue.digest


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"records": [{}], "skipped": [], "warnings": []}', "null"])
def test_damaged_json_is_told(text: str) -> None:
    with pytest.raises(StoreError, match="a stored catalogue is damaged"):
        Catalogue.from_json(text, root=Path())


def test_json_is_plain(data: Path) -> None:
    content = json.loads(read(data).to_json())
    assert content["records"][0]["path"] == "salt/0.png"
    assert set(content) == {"records", "skipped", "warnings"}


def test_the_frame_has_a_row_per_image(data: Path) -> None:
    catalogue = read(data)
    frame = catalogue.table
    assert list(frame["image_id"]) == [record.image_id for record in catalogue.records]
    assert frame.loc[0, "path"] == str(catalogue.records[0].path)
    assert {"label", "group", "session", "pixel_size_nm", "noise", "warnings"} <= set(frame.columns)
    assert len(dataclasses.replace(catalogue, records=()).table) == 0


def test_groups_can_be_replaced(data: Path) -> None:
    catalogue = read(data)
    grouped = catalogue.with_groups({"salt/0.png": "g", "sand/0.png": "g"})
    assert [record.group for record in grouped.records] == [
        *("g", "salt/1.png", "salt/2.png", "g", "sand/1.png", "sand/2.png")
    ]
    assert catalogue.records[0].group == "salt/0.png"


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_noise_is_estimated_below_structure(level: float) -> None:
    rows, columns = np.mgrid[:200, :300]
    disc = ((rows - 90) ** 2 + (columns - 150) ** 2 < 60**2) * 0.5
    noisy = (disc + 0.001 * rows + RANDOM.normal(0, level, disc.shape)).astype(np.float32)
    assert compute_noise(noisy) == pytest.approx(level, rel=0.1)


def test_progress_goes_to_stderr_and_only_if_asked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(data)
    assert capsys.readouterr() == ("", "")
    read_catalogue(data, reading=ReadingOptions(min_side_px=16), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Reading images" in captured.err


def test_the_instrument_files(tmp_path: Path) -> None:
    if not REAL_FILES.is_dir():
        pytest.skip(f"needs the instrument files in {REAL_FILES}")
    catalogue = read_catalogue(REAL_FILES)
    assert catalogue.class_names == ("Ag-NP", "CS", "IPDI", "NiO", "Untreated")
    assert len(catalogue.records) == 35
    assert (catalogue.skipped, catalogue.warnings) == ((), ())
    sessions = {record.session for record in catalogue.records if record.label == "IPDI"}
    assert sessions == {"2020-11-12"}
    assert {(record.width_px, record.height_px) for record in catalogue.records} == {(1536, 1024)}
    assert len({record.pixels_sha256 for record in catalogue.records}) == 34  # two files show the same picture
    assert all(0.01 < record.noise < 0.04 for record in catalogue.records)
    assert len(read_catalogue(REAL_FILES, exclude=["Untreated", "IPDI"]).records) == 22


def test_pictures_outside_the_csv_s_folder_are_written_down_relative_to_it(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "csv" / "list.csv"
    place.parent.mkdir()
    (place.parent / "torn.png").write_bytes(b"torn")
    rows = [f"../data/{label}/{number}.png,{label}" for label in ("salt", "sand") for number in range(3)]
    place.write_text("\n".join(["image,label", *rows, "torn.png,salt"]), encoding="utf-8")
    with pytest.raises(DataError, match="leaves the folder"):
        read(place)
    catalogue = read(place, allow_outside=True, skip_unreadable=True)
    assert len(catalogue.records) == 6
    assert Catalogue.from_json(catalogue.to_json(), root=catalogue.root).digest == catalogue.digest
    assert all(record.path.samefile(data / record.image_id.removeprefix("../data/")) for record in catalogue.records)


def test_a_file_that_vanishes_while_it_is_read_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = catalogue_module.read_micrograph

    def read_and_lose(path: Path, **options: object) -> object:
        micrograph = real(path, **options)  # type: ignore[arg-type]
        if path.name == "1.png":
            path.unlink()
        return micrograph

    monkeypatch.setattr(catalogue_module, "read_micrograph", read_and_lose)
    with pytest.raises(UnreadableDataError, match=r"salt/1\.png: vanished while it was read \(No such file"):
        read(data)


def test_a_picture_is_held_against_its_record_whenever_it_is_read_again(data: Path) -> None:
    catalogue = read(data)
    record = catalogue.records[0]
    assert compute_pixels_sha256(catalogue.read_image(record)) == record.pixels_sha256
    save(record.path, make_picture())
    with pytest.raises(DataError, match=r"salt/0\.png has changed since it was catalogued"):
        catalogue.read_image(record)
    record.path.unlink()
    with pytest.raises(UnreadableImageError, match=r"salt/0\.png: there is no such file"):
        catalogue.read_image(record)

"""From `data=...` to tiles dealt to folds; what is wrong with the data is said before anything slow begins."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sem_search.errors import ClassTooSmallError, DataError, SettingsError, UnreadableDataError
from sem_search.micrographs.demo import DEMO_SIZES
from sem_search.micrographs.inspection.finding import ALLOWABLE_ERRORS
from sem_search.micrographs.reading.micrograph import encode_tiff
from sem_search.search.prepare import data as data_module
from sem_search.search.prepare.data import PreparedData, check_findings, locate_data, prepare_data
from sem_search.search.prepare.features import get_content_key
from sem_search.search.prepare.fingerprint import compute_fingerprint
from sem_search.settings import SearchSettings, build_settings


def test_every_image_has_its_class_its_group_and_its_tiles(data: PreparedData) -> None:
    tiles, records = data.tiles, data.catalogue.records
    assert tiles.class_names == ("blobs", "grains", "stripes")
    assert tiles.image_ids == tuple(record.image_id for record in records)
    assert [tiles.class_names[label] for label in tiles.label_of_image] == [record.label for record in records]
    assert tiles.group_of_image == tuple(record.group for record in records)
    assert tiles.n_tiles == 15 * 4  # 96 x 96 px hold four tiles of 48 px
    assert np.bincount(tiles.image_of_tile).tolist() == [4] * 15
    assert (data.grid.size_px, data.grid.stride_px) == (48, 48)


def test_the_step_between_tiles_is_obeyed(settings: SearchSettings) -> None:
    overlapping = prepare_data(settings.model_copy(update={"stride_px": 24}))
    assert overlapping.tiles.n_tiles == 15 * 9


def test_some_tiles_of_each_image_are_enough(settings: SearchSettings, data: PreparedData) -> None:
    some = prepare_data(settings.model_copy(update={"tiles_per_image": 3}))
    assert np.bincount(some.tiles.image_of_tile).tolist() == [3] * 15
    assert some.folds == data.folds


@pytest.mark.parametrize("tiles_per_image", [4, 100])
def test_a_number_of_tiles_that_leaves_none_out_is_refused(settings: SearchSettings, tiles_per_image: int) -> None:
    with pytest.raises(
        SettingsError, match=f"tiles_per_image={tiles_per_image} has no effect: no image has more than 4"
    ):
        prepare_data(settings.model_copy(update={"tiles_per_image": tiles_per_image}))


def test_folds_are_those_asked_for_and_the_same_each_time(settings: SearchSettings, data: PreparedData) -> None:
    assert len(data.folds.folds) == 3
    assert prepare_data(settings).folds == data.folds
    assert prepare_data(settings.model_copy(update={"seed": 1})).folds != data.folds


def test_overlapping_images_stand_on_one_split(settings: SearchSettings, tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    scene = np.asarray(Image.open(folder / "grains" / "0.png"))
    Image.fromarray(np.roll(scene, 7, axis=1)[:, 7:]).save(folder / "grains" / "again.png")
    prepared = prepare_data(settings.model_copy(update={"data": str(folder)}))
    group_of = dict(zip(prepared.tiles.image_ids, prepared.tiles.group_of_image, strict=True))
    assert group_of["grains/0.png"] == group_of["grains/again.png"]
    assert len(set(group_of.values())) == 15
    for fold in prepared.folds.folds:
        splits = [{"grains/0.png", "grains/again.png"} & set(ids) for ids in fold.splits.values()]
        assert sorted(map(len, splits)) == [0, 0, 2]
    assert any("grains/again.png" in finding.message for finding in prepared.findings)


def test_a_class_that_is_too_small_is_told_before_the_slow_look_for_overlaps(
    settings: SearchSettings, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    for name in ("0.png", "1.png", "2.png"):
        (folder / "blobs" / name).unlink()
    monkeypatch.setattr(data_module, "inspect_catalogue", lambda *_, **__: pytest.fail("looked for overlaps first"))
    with pytest.raises(ClassTooSmallError, match="'blobs' has 2 groups"):
        prepare_data(settings.model_copy(update={"data": str(folder)}))


def test_a_class_that_is_too_small_once_copies_are_one_is_refused(
    settings: SearchSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    for number in range(2, 5):
        shutil.copyfile(folder / "blobs" / "0.png", folder / "blobs" / f"{number}.png")
    with pytest.raises(ClassTooSmallError, match=r"'blobs' has 2 groups \(5 images\)"):
        prepare_data(settings.model_copy(update={"data": str(folder)}))


def test_unreadable_files_stop_a_search_unless_they_are_to_be_skipped(
    settings: SearchSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    (folder / "grains" / "broken.png").write_bytes(b"no picture")
    broken = settings.model_copy(update={"data": str(folder)})
    with pytest.raises(UnreadableDataError, match=r"broken\.png"):
        prepare_data(broken)
    prepared = prepare_data(broken.model_copy(update={"skip_unreadable": True}))
    assert [skipped.path.name for skipped in prepared.catalogue.skipped] == ["broken.png"]
    assert len(prepared.tiles.image_ids) == 15


def test_classes_are_left_out_by_name(settings: SearchSettings) -> None:
    prepared = prepare_data(settings.model_copy(update={"exclude": ("grains",)}))
    assert prepared.tiles.class_names == ("blobs", "stripes")
    with pytest.raises(SettingsError, match="no-such"):
        prepare_data(settings.model_copy(update={"exclude": ("no-such",)}))


def test_the_data_bar_is_cut_off(settings: SearchSettings) -> None:
    prepared = prepare_data(settings.model_copy(update={"crop_bottom_px": 10}))
    assert prepared.catalogue.reading.crop_bottom_px == 10
    assert prepared.tiles.n_tiles == 15 * 2  # 86 rows hold one row of tiles


def test_the_pixels_digest_knows_pictures_and_order_but_no_labels(
    data: PreparedData, settings: SearchSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    rows = [record.pixels_sha256 for record in data.catalogue.records]
    assert data.pixels_digest == hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    renamed = shutil.copytree(tiny_folder, tmp_path / "data")
    (renamed / "blobs").rename(renamed / "bubbles")
    other = prepare_data(settings.model_copy(update={"data": str(renamed)}))
    assert other.pixels_digest == data.pixels_digest
    assert other.catalogue.digest != data.catalogue.digest


def test_data_that_are_not_there_are_named_with_what_could_be_given(settings: SearchSettings) -> None:
    with pytest.raises(DataError, match=r"data=no/such: .*a CSV with the columns image and label, or data=demo"):
        locate_data(settings.model_copy(update={"data": "no/such"}))


def test_a_folder_is_found_from_the_home_folder(
    settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    given = settings.model_copy(update={"data": "~/mine", "crop_bottom_px": 3})
    place, reading = locate_data(given)
    assert (place, reading.crop_bottom_px) == (tmp_path / "mine", 3)


def test_the_demonstration_set_is_made_in_the_cache_once_per_seed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def write(folder: Path, *, size: str, seed: int, progress: bool) -> Path:
        made.append((folder, size, seed))
        return folder

    monkeypatch.setattr(data_module, "write_demo_data", write)
    folders = [locate_data(build_settings({"seed": seed}))[0] for seed in (0, 1, 0)]
    assert folders[0] == folders[2] != folders[1]
    assert all(folder.parent == cache / "demo" for folder in folders)
    assert [(size, seed) for _, size, seed in made] == [("small", 0), ("small", 1), ("small", 0)]
    assert locate_data(build_settings({}))[1].crop_bottom_px == DEMO_SIZES["small"].bar_height_px


@pytest.fixture
def twice_labelled(settings: SearchSettings, tiny_folder: Path, tmp_path: Path) -> SearchSettings:
    """One picture under two labels."""
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    shutil.copyfile(folder / "blobs" / "0.png", folder / "stripes" / "copy.png")
    return settings.model_copy(update={"data": str(folder)})


def test_an_error_of_the_inspection_stops_a_search_unless_it_is_allowed_by_name(
    twice_labelled: SearchSettings,
) -> None:
    data = prepare_data(twice_labelled)
    with pytest.raises(DataError) as caught:
        check_findings(data.findings, allowed=())
    assert str(caught.value) == (
        "The same place is in 2 classes: blobs/0.png in blobs and stripes/copy.png in stripes. At least one label is "
        "wrong: find out which one, and move or remove that file. To continue without a change, set "
        "allow_errors=label_conflict."
    )
    check_findings(data.findings, allowed=("label_conflict",))
    check_findings((), allowed=())


def test_every_error_that_can_be_allowed_is_one_that_inspection_finds(twice_labelled: SearchSettings) -> None:
    found = {finding.kind for finding in prepare_data(twice_labelled).findings if finding.severity == "error"}
    assert found == set(ALLOWABLE_ERRORS)


def test_copies_are_grouped_whatever_is_said_of_overlaps(twice_labelled: SearchSettings) -> None:
    for overlaps in ("group", "report", "ignore"):
        records = prepare_data(twice_labelled.model_copy(update={"overlaps": overlaps})).catalogue.records
        group_of = {record.image_id: record.group for record in records}
        assert group_of["stripes/copy.png"] == group_of["blobs/0.png"]


def test_overlapping_fields_are_in_one_group_if_the_user_does_not_say_otherwise(
    settings: SearchSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    with Image.open(folder / "grains" / "0.png") as picture:
        picture.point(lambda level: level * 0.8 + 10).save(folder / "grains" / "again.png")
    given = settings.model_copy(update={"data": str(folder)})
    digests = {}
    for overlaps, n_groups in (("group", 15), ("report", 16), ("ignore", 16)):
        prepared = prepare_data(given.model_copy(update={"overlaps": overlaps}))
        assert len({record.group for record in prepared.catalogue.records}) == n_groups
        digests[overlaps] = prepared.catalogue.digest
        assert any(finding.kind == "same_field" for finding in prepared.findings) is (overlaps != "ignore")
    assert digests["group"] != digests["report"] == digests["ignore"], "the fingerprint of a study knows its groups"


def test_a_class_made_too_small_by_overlaps_is_told_with_the_way_out(
    settings: SearchSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    with Image.open(folder / "grains" / "0.png") as picture:
        for number in range(1, 5):
            picture.point(lambda level, k=number: level * (1 - k / 10) + 10).save(folder / "grains" / f"{number}.png")
    given = settings.model_copy(update={"data": str(folder)})
    with pytest.raises(ClassTooSmallError, match=r"'grains' has 1 group .* in separate groups, set overlaps=report\.$"):
        prepare_data(given)
    assert prepare_data(given.model_copy(update={"overlaps": "report"})).tiles.n_tiles == 60


def test_groups_of_a_csv_are_not_overruled_in_silence(
    settings: SearchSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    shutil.copyfile(folder / "blobs" / "0.png", folder / "blobs" / "copy.png")
    lines = [
        f"{file.relative_to(folder).as_posix()},{file.parent.name},{file.stem}-lot" for file in folder.glob("*/*.png")
    ]
    (folder / "set.csv").write_text("\n".join(["image,label,group", *lines]), encoding="utf-8")
    found = prepare_data(settings.model_copy(update={"data": str(folder / "set.csv")})).findings
    (joined,) = [finding for finding in found if finding.kind == "groups_joined"]
    assert joined.message.startswith(
        "The groups 0-lot and copy-lot are joined, because of blobs/0.png and blobs/copy.png"
    )


@pytest.fixture
def two_sizes(tmp_path: Path) -> Path:
    """Two classes of seven images of 96 x 96 px, at 20 and at 40 nm per pixel."""
    for name, pixel_nm in (("coarse", 40.0), ("fine", 20.0)):
        (tmp_path / name).mkdir()
        for number in range(7):
            levels = np.random.default_rng(number + int(pixel_nm)).integers(0, 256, (96, 96), dtype=np.uint8)
            (tmp_path / name / f"{number}.tif").write_bytes(encode_tiff(levels, pixel_nm=pixel_nm))
    return tmp_path


def test_one_pixel_size_changes_tiles_and_nothing_that_is_known_of_the_images(
    settings: SearchSettings, two_sizes: Path
) -> None:
    as_they_are = prepare_data(settings.model_copy(update={"data": str(two_sizes)}))
    brought = prepare_data(settings.model_copy(update={"data": str(two_sizes), "pixel_size_nm": "common"}))
    assert brought.catalogue.reading.pixel_size_nm == 40.0
    assert np.bincount(as_they_are.tiles.image_of_tile).tolist() == [4] * 14
    assert np.bincount(brought.tiles.image_of_tile).tolist() == [4] * 7 + [1] * 7
    assert brought.catalogue.records == as_they_are.catalogue.records
    assert (brought.folds, brought.catalogue.digest) == (as_they_are.folds, as_they_are.catalogue.digest)
    (warning,) = [text for text in brought.warnings if text.startswith("The pixel size alone")]
    assert "All images are brought to 40 nm per pixel (pixel_size_nm), which leaves 35 of 56 tiles" in warning


def test_images_that_cannot_be_brought_to_it_stop_a_search_before_the_slow_look(
    settings: SearchSettings, two_sizes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "inspect_catalogue", lambda *_, **__: pytest.fail("looked for overlaps first"))
    with pytest.raises(UnreadableDataError, match=r"7 of 14 files cannot be used:\n  - 7 files .*too coarse"):
        prepare_data(settings.model_copy(update={"data": str(two_sizes), "pixel_size_nm": 20.0}))


def test_a_pixel_size_makes_another_study_with_other_features_however_it_was_asked_for(
    settings: SearchSettings, two_sizes: Path, network
) -> None:
    fingerprints, keys = {}, {}
    for asked in (None, "common", 40.0, 34.0):
        own = settings.model_copy(update={"data": str(two_sizes), "pixel_size_nm": asked})
        data = prepare_data(own)
        fingerprints[asked] = compute_fingerprint(own, data=data, network=network)
        keys[asked] = get_content_key(data, network=network)
    assert "pixel_size_nm" not in fingerprints[None]
    assert fingerprints["common"] == fingerprints[40.0] == fingerprints[None] | {"pixel_size_nm": 40.0}
    assert keys["common"] == keys[40.0]
    assert len(set(keys.values())) == 3

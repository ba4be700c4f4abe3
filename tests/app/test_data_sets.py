"""What a person has chosen, as the command line takes it."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sem_search.app.data_sets import (
    DataSet,
    list_classes,
    read_data_set,
    write_arguments,
    write_inspection_arguments,
)
from sem_search.app.folders import Folders
from sem_search.cli.main import commands
from sem_search.errors import DataError, RefusedRequestError, SettingsError
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.settings import build_settings
from sem_search.words import read_list
from tests.conftest import write_tiny_folder

READING = ReadingOptions(min_side_px=32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_folder(tmp_path / "my p\u00fclver", n_images=3)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders([tmp_path], uploads=tmp_path / "uploads")


def ask(place: Path, /, *, folders: Folders, **given: Any) -> DataSet:
    return read_data_set({"data": str(place), "settings": {}, **given}, folders=folders)


def list_ids(place: Path, *, folders: Folders) -> list[str]:
    found = list_classes(str(place), folders=folders)
    return [image for each in found["classes"] for image in each["images"]]


def parse(words: list[str]) -> dict[str, Any]:
    """Return what the command line makes of the words."""
    return commands.commands["search"].make_context("search", list(words)).params


def test_settings_become_options_that_the_command_line_reads_alike(
    data: Path, folders: Folders, tmp_path: Path
) -> None:
    settings = {
        "backbone": "mobilenet_v2",
        "exclude": [],
        "crop_bottom_px": 48,
        "skip_unreadable": True,
        "learning_rates": "1e-2, 1e-3",
        "epochs": None,
        "study": "",
    }
    data_set = ask(data, folders=folders, settings=settings)
    found = parse(write_arguments(data_set, folders=folders, work=tmp_path))
    assert found["data"] == str(data)
    assert found["exclude"] is None
    assert (found["crop_bottom_px"], found["skip_unreadable"], found["epochs"]) == ("48", "true", None)
    assert build_settings({**data_set.settings, "data": data_set.data}).learning_rates == (0.01, 0.001)


@pytest.mark.parametrize("name", ["storage", "study_folder", "cluster", "shared", "allow_outside", "timeout", "evil"])
def test_what_belongs_to_the_machine_cannot_be_set_on_the_page(data: Path, folders: Folders, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be set on the page"):
        ask(data, folders=folders, settings={name: "x"})


@pytest.mark.parametrize(
    "given",
    [
        {"data": 1},
        {"data": " "},
        {"settings": []},
        {"left_out": "a"},
        {"left_out": [1]},
        {"together": ["a"]},
        {"settings": {"epochs": {"a": 1}}},
    ],
)
def test_what_is_not_formed_so_is_refused(data: Path, folders: Folders, given: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        ask(data, folders=folders, **given)


def test_values_out_of_range_are_refused_before_anything_starts(data: Path, folders: Folders) -> None:
    with pytest.raises(SettingsError, match="epochs"):
        ask(data, folders=folders, settings={"epochs": 0})


def test_weights_are_a_word_or_a_file_that_may_be_read(data: Path, folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"")
    assert (
        ask(data, folders=folders, settings={"weights": str(tmp_path / "w.npz")}).settings["weights"].endswith("w.npz")
    )
    assert ask(data, folders=folders, settings={"weights": "particles"}).settings == {"weights": "particles"}
    with pytest.raises(RefusedRequestError):
        ask(data, folders=folders, settings={"weights": "/etc/passwd"})


def test_the_demonstration_set_of_the_cache_is_not_read_here(folders: Folders) -> None:
    with pytest.raises(RefusedRequestError):
        read_data_set({"data": "demo", "settings": {}}, folders=folders)


def test_classes_are_listed_without_opening_a_picture(data: Path, folders: Folders) -> None:
    for file in data.rglob("*.png"):
        file.write_bytes(b"no picture")
    found = list_classes(str(data), folders=folders)
    assert [each["name"] for each in found["classes"]] == sorted(path.name for path in data.iterdir())
    assert all(len(each["images"]) == 3 for each in found["classes"])
    assert (found["name"], found["empty"], found["paths"]) == ("my p\u00fclver", [], {})


def test_a_selection_leaves_images_out_and_keeps_others_together(data: Path, folders: Folders, tmp_path: Path) -> None:
    ids = list_ids(data, folders=folders)
    asked = {"left_out": [ids[0]], "together": [[ids[1], ids[2]], [ids[4]]]}
    data_set = ask(data, folders=folders, **asked)
    found = parse(write_arguments(data_set, folders=folders, work=tmp_path))
    assert found["allow_outside"] == "true"
    table = Path(found["data"])
    catalogue = read_catalogue(table, allow_outside=True, reading=READING)
    assert len(catalogue.records) == len(ids) - 1
    groups = {record.image_id: record.group for record in catalogue.records}
    assert set(groups) == set(ids[1:]), "images keep their names"
    assert groups[ids[1]] == groups[ids[2]]
    assert len(set(groups.values())) == len(ids) - 2
    again = parse(write_arguments(ask(data, folders=folders, **asked), folders=folders, work=tmp_path))
    assert again == found, "the same selection is the same search"
    words, place = write_inspection_arguments(data_set, folders=folders, work=tmp_path)
    assert (words, place) == (["--allow-outside", "true"], str(table))


def test_a_class_and_an_image_of_another_are_left_out_together(data: Path, folders: Folders, tmp_path: Path) -> None:
    ids, (first, *others) = list_ids(data, folders=folders), sorted(path.name for path in data.iterdir())
    (data / "empty").mkdir()
    data_set = ask(data, folders=folders, settings={"exclude": [first, "empty"]}, left_out=[ids[-1]])
    found = parse(write_arguments(data_set, folders=folders, work=tmp_path))
    place, exclude = Path(found["data"]), read_list(found["exclude"])
    catalogue = read_catalogue(place, exclude=exclude, allow_outside=True, reading=READING)
    assert catalogue.class_names == tuple(others)
    assert len(catalogue.records) == len(ids) - 4
    words, _ = write_inspection_arguments(data_set, folders=folders, work=tmp_path)
    assert words == ["--exclude", first, "--allow-outside", "true"]


def test_groups_that_share_an_image_become_one(data: Path, folders: Folders, tmp_path: Path) -> None:
    ids = list_ids(data, folders=folders)
    data_set = ask(data, folders=folders, together=[[ids[0], ids[1]], [ids[1], ids[2]]])
    table = Path(parse(write_arguments(data_set, folders=folders, work=tmp_path))["data"])
    catalogue = read_catalogue(table, allow_outside=True, reading=READING)
    assert len({record.group for record in catalogue.records}) == len(ids) - 2


def test_classes_of_any_name_are_left_out(tmp_path: Path, folders: Folders) -> None:
    data = write_tiny_folder(tmp_path / "set", n_images=2)
    for old, new in zip(sorted(data.iterdir()), ("MCC, 50 um", "-x", 'the "fine" one'), strict=True):
        old.rename(data / new)
    data_set = ask(data, folders=folders, settings={"exclude": ["MCC, 50 um"]})
    found = parse(write_arguments(data_set, folders=folders, work=tmp_path))
    assert read_list(found["exclude"]) == ("MCC, 50 um",)


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\ud800", "\x1b[2J"])
def test_characters_that_no_command_can_be_given_are_refused(data: Path, folders: Folders, text: str) -> None:
    for settings in ({"study": text}, {"exclude": [text]}):
        with pytest.raises(DataError, match="a text in one line"):
            ask(data, folders=folders, settings=settings)


def test_links_that_lead_out_are_refused_before_anything_reads_them(
    data: Path, folders: Folders, tmp_path: Path
) -> None:
    beside = tmp_path.parent / f"{tmp_path.name} beside"
    beside.mkdir()
    (beside / "secret.png").write_bytes(next(data.rglob("*.png")).read_bytes())
    (next(data.iterdir()) / "link.png").symlink_to(beside / "secret.png")
    data_set = ask(data, folders=folders)
    for act in (
        lambda: list_classes(str(data), folders=folders),
        lambda: write_arguments(data_set, folders=folders, work=tmp_path),
        lambda: write_inspection_arguments(data_set, folders=folders, work=tmp_path),
    ):
        with pytest.raises(RefusedRequestError, match=r"1 image of my p.*link\.png") as refusal:
            act()
        assert refusal.value.status == 403


def test_a_csv_may_name_images_of_other_folders_that_may_be_read(data: Path, folders: Folders, tmp_path: Path) -> None:
    table = tmp_path / "lists" / "one.csv"
    table.parent.mkdir()
    rows = [f"../{data.name}/{file.parent.name}/{file.name},{file.parent.name}" for file in data.rglob("*.png")]
    table.write_text("image,label\n" + "\n".join(rows))
    assert len(list_ids(table, folders=folders)) == len(rows)
    found = parse(write_arguments(ask(table, folders=folders), folders=folders, work=tmp_path))
    assert (found["data"], found["allow_outside"]) == (str(table), "true")
    table.write_text("image,label\n../../elsewhere.png,a\n/etc/passwd,b\n")
    with pytest.raises(RefusedRequestError):
        list_classes(str(table), folders=folders)


def test_a_class_without_a_picture_is_named_and_the_others_are_shown(data: Path, folders: Folders) -> None:
    (data / "to be imaged").mkdir()
    found = list_classes(str(data), folders=folders)
    assert found["empty"] == ["to be imaged"]
    assert len(found["classes"]) == 3


def test_names_from_a_mac_lead_to_their_files(tmp_path: Path, folders: Folders) -> None:
    data = write_tiny_folder(tmp_path / "set", n_images=2)
    old = next(data.rglob("*.png"))
    new = old.with_name(unicodedata.normalize("NFD", "\u00e4.png"))
    old.rename(new)
    found = list_classes(str(data), folders=folders)
    assert found["paths"] == {f"{new.parent.name}/\u00e4.png": str(new)}


def test_an_image_that_is_gone_is_not_missed(data: Path, folders: Folders, tmp_path: Path) -> None:
    data_set = ask(data, folders=folders, left_out=["a/gone.png"])
    found = parse(write_arguments(data_set, folders=folders, work=tmp_path))
    assert len(read_catalogue(Path(found["data"]), allow_outside=True, reading=READING).records) == 9

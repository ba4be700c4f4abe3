"""`sem-search inspect`: what is wrong is found, printed and written, and nothing of it is an error."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import pytest

from sem_search.cli.main import commands
from sem_search.errors import DataError, SettingsError
from sem_search.programs import find_command
from sem_search.search.commands import inspect as inspecting
from sem_search.search.commands.inspect import run_inspection
from sem_search.settings import SearchSettings, build_settings


@pytest.fixture
def faulty(settings: SearchSettings, tiny_folder: Path, tmp_path: Path) -> SearchSettings:
    """A copy of a picture under a second label, a file that is no picture, and a class too small for its folds."""
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    shutil.copyfile(folder / "blobs" / "0.png", folder / "stripes" / "copy.png")
    (folder / "grains" / "broken.png").write_bytes(b"no picture")
    for number in (0, 1, 2):
        (folder / "grains" / f"{number}.png").unlink()
    return settings.model_copy(update={"data": str(folder)})


def test_what_is_wrong_is_printed_and_written(
    faulty: SearchSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made" / "for it"
    inspection = run_inspection(faulty, output=output, show=print)
    printed = capsys.readouterr().out
    written = json.loads((output / "inspection.json").read_text(encoding="utf-8"))
    html = (output / "inspection.html").read_text(encoding="utf-8")
    kinds = {finding.kind for finding in inspection.findings}
    assert {"unusable_file", "label_conflict", "class_too_small"} <= kinds
    assert kinds == {finding["kind"] for finding in written["findings"]}
    for name in ("grains/broken.png", "blobs/0.png", "stripes/copy.png"):
        assert name in printed
        assert name in html
    assert f"Written: {output / 'inspection.html'} and {output / 'inspection.json'}" in printed


def remove_pictures(folder: Path, n_left: dict[str, int]) -> None:
    for name, n in n_left.items():
        for number in range(n, 5):
            (folder / name / f"{number}.png").unlink()


@pytest.mark.parametrize(
    ("n_left", "broken", "given", "step", "changes"),
    [
        ({}, False, {}, "Next, search:", {}),
        ({}, False, {"crop_bottom_px": 6, "exclude": "blobs"}, "Next, search:", {}),
        ({}, True, {}, "Next, search:", {"skip_unreadable": True}),
        ({"grains": 2}, False, {}, "Next, add images of grains, or search without:", {"exclude": ("grains",)}),
        ({"grains": 2}, False, {"exclude": "blobs"}, "Next, repair the errors, then search:", {}),
        ({"grains": 2, "blobs": 2}, False, {}, "Next, repair the errors, then search:", {}),
    ],
)
def test_the_last_line_is_the_search_to_type_next(
    n_left: dict[str, int],
    broken: bool,
    given: dict[str, object],
    step: str,
    changes: dict[str, object],
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    """A shell and the command line understand it as the settings that were inspected, but for what is left out."""
    folder = shutil.copytree(tiny_folder, tmp_path / "Meine Bilder")
    remove_pictures(folder, n_left)
    if broken:
        (folder / "grains" / "broken.png").write_bytes(b"no picture")
    asked = build_settings({"data": str(folder), "tile_px": "48", **given})
    told: list[str] = []
    run_inspection(asked, output=tmp_path / "inspection", show=told.append)
    said, command = told[-1].split("\n  ")
    arguments = shlex.split(command.removeprefix(f"{find_command()} search "))
    with commands.commands["search"].make_context("search", arguments) as context:
        understood = build_settings(context.params)
    assert said == step
    assert understood == asked.model_copy(update=changes)


@pytest.mark.parametrize(("folds", "is_small"), [(5, False), (6, True)])
def test_classes_are_held_against_the_folds_asked_for(
    settings: SearchSettings, tmp_path: Path, folds: int, is_small: bool
) -> None:
    inspection = run_inspection(settings.model_copy(update={"folds": folds}), output=tmp_path)
    assert any(finding.kind == "class_too_small" for finding in inspection.findings) is is_small


@pytest.mark.parametrize(("tile_px", "n_told"), [(48, 0), (64, 15), (128, None)])
def test_small_pictures_are_held_against_the_tile_asked_for(
    settings: SearchSettings, tmp_path: Path, tile_px: int, n_told: int | None
) -> None:
    """96 px hold four tiles of 48 px, one of 64 px, and none of 128 px: those files cannot be used at all."""
    asked = settings.model_copy(update={"tile_px": tile_px})
    if n_told is None:
        with pytest.raises(DataError, match="128"):
            run_inspection(asked, output=tmp_path)
        return
    inspection = run_inspection(asked, output=tmp_path)
    found = [finding for finding in inspection.findings if finding.kind == "few_tiles"]
    assert sum(len(finding.images) for finding in found) == n_told
    assert all(f"tiles of {tile_px} px" in finding.message for finding in found)


def test_classes_can_be_left_out_and_bars_cut_off(settings: SearchSettings, tmp_path: Path) -> None:
    inspection = run_inspection(
        settings.model_copy(update={"exclude": ("blobs",), "crop_bottom_px": 6}), output=tmp_path
    )
    assert inspection.catalogue.class_names == ("grains", "stripes")
    assert {record.height_px for record in inspection.catalogue.records} == {90}


def test_a_second_inspection_replaces_the_first(settings: SearchSettings, tmp_path: Path) -> None:
    (tmp_path / "inspection.json").write_text("old", encoding="utf-8")
    run_inspection(settings, output=tmp_path)
    assert json.loads((tmp_path / "inspection.json").read_text(encoding="utf-8"))["n_images"] == 15


def test_a_folder_that_cannot_be_written_is_told_in_one_sentence_before_anything_is_read(
    settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "read_data", lambda *_, **__: pytest.fail("read the images first"))
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file/inside cannot be written \(Not a directory\): name another folder"):
        run_inspection(settings, output=tmp_path / "file" / "inside")

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(inspecting.tempfile, "TemporaryFile", refuse)
    with pytest.raises(SettingsError, match=r"cannot be written \(Read-only file system\)"):
        run_inspection(settings, output=tmp_path / "made")


def test_a_disk_that_fills_up_meanwhile_is_told_in_one_sentence(settings: SearchSettings, tmp_path: Path) -> None:
    (tmp_path / "inspection.json").mkdir()
    with pytest.raises(SettingsError, match=r"cannot be written \(Is a directory\): name another folder"):
        run_inspection(settings, output=tmp_path)

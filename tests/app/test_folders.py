"""What the page may read of this machine."""

from pathlib import Path

import pytest

from sem_search.app.folders import Folders
from sem_search.errors import RefusedRequestError, SettingsError
from tests.conftest import write_tiny_folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """`open` may be read and holds a data set, `closed` may not."""
    write_tiny_folder(tmp_path / "open" / "my powders", n_images=2)
    write_tiny_folder(tmp_path / "closed", n_images=2)
    (tmp_path / "open" / "list.csv").write_text("image,label\n")
    (tmp_path / "open" / ".hidden").mkdir()
    return tmp_path


@pytest.fixture
def folders(place: Path) -> Folders:
    return Folders([place / "open"], uploads=place / "uploads")


def test_a_folder_shows_its_data_sets_and_tables(folders: Folders, place: Path) -> None:
    view = folders.view("")
    assert [(folder.name, folder.n_pictures, folder.n_classes) for folder in view.folders] == [("my powders", 0, 3)]
    assert [table.name for table in view.tables] == ["list.csv"]
    assert view.parents == (("open", str(place / "open")),)
    inner = folders.view(str(place / "open" / "my powders"))
    assert [name for name, _ in inner.parents] == ["open", "my powders"]
    assert (inner.n_classes, inner.n_pictures) == (3, 0)
    assert folders.view(inner.folders[0].path).n_pictures == 2


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../closed", "/", "a/../../closed", "~"])
def test_what_lies_elsewhere_is_refused(
    folders: Folders, place: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "open")
    with pytest.raises(RefusedRequestError) as refusal:
        folders.find(path)
    assert refusal.value.status == (404 if path == "~" else 403)


def test_a_link_that_leads_out_is_refused_and_not_shown(folders: Folders, place: Path) -> None:
    (place / "open" / "way out").symlink_to(place / "closed")
    (place / "open" / "picture.png").symlink_to(next((place / "closed").rglob("*.png")))
    assert [folder.name for folder in folders.view("").folders] == ["my powders"]
    for name in ("way out", "picture.png"):
        with pytest.raises(RefusedRequestError, match="nothing else"):
            folders.find(str(place / "open" / name))


@pytest.mark.parametrize("path", ["no such", "a\0b", "x" * 5000])
def test_what_is_not_there_is_said(folders: Folders, place: Path, path: str) -> None:
    with pytest.raises(RefusedRequestError) as refusal:
        folders.find(str(place / "open" / path))
    assert refusal.value.status == 404


def test_links_in_a_circle_end(folders: Folders, place: Path) -> None:
    (place / "open" / "round").symlink_to(place / "open" / "round")
    (place / "open" / "round.png").symlink_to(place / "open" / "round.png")
    assert [folder.name for folder in folders.view("").folders] == ["my powders"]
    with pytest.raises(RefusedRequestError):
        folders.find(str(place / "open" / "round"))


def test_uploads_may_be_read_once_they_are_there(folders: Folders, place: Path) -> None:
    with pytest.raises(RefusedRequestError):
        folders.find(str(place / "uploads"))
    (place / "uploads" / "one").mkdir(parents=True)
    assert folders.find(str(place / "uploads" / "one")) == place / "uploads" / "one"


def test_a_file_is_no_folder(folders: Folders, place: Path) -> None:
    with pytest.raises(RefusedRequestError, match="is no folder"):
        folders.view(str(place / "open" / "list.csv"))
    with pytest.raises(SettingsError, match="There is no folder"):
        Folders([place / "open" / "list.csv"], uploads=place)

"""What is dropped on the page, and what archives try."""

import stat
import zipfile
from pathlib import Path

import pytest

from sem_search.app import uploads
from sem_search.app.uploads import check_name, keep_file, open_part, unpack
from sem_search.errors import DataError, RefusedRequestError, StoreError


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


GOOD = {"a/1.png": b"1", "a/2.png": b"22", "b/1.tif": b"333"}


@pytest.mark.parametrize("around", ["", "my set/", "one/two/"])
def test_an_archive_of_class_folders_becomes_a_data_set(tmp_path: Path, around: str) -> None:
    others = {
        "__MACOSX/a/._1.png": b"",
        f"{around}a/.DS_Store": b"",
        f"{around}notes.md": b"",
        f"{around}b/1.txt": b"n",
    }
    archive = write_zip(tmp_path / "a.zip", {f"{around}{name}": content for name, content in GOOD.items()} | others)
    place, n_pictures = unpack(archive, folder=tmp_path / "up", data="powders")
    found = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert found == GOOD | {"b/1.txt": b"n"}
    assert n_pictures == 3
    assert [path.name for path in (tmp_path / "up").iterdir()] == ["powders"]


def test_a_single_class_is_not_taken_for_the_folder_around(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a/1.png": b"1", "a/2.png": b"2"})
    place, _ = unpack(archive, folder=tmp_path / "up", data="one")
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.png")) == ["a/1.png", "a/2.png"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../../evil/1.png": b"1"}, "leads out"),
        ({"/etc/1.png": b"1"}, "leads out"),
        ({"C:/1.png": b"1"}, "leads out"),
        ({"a\\..\\..\\1.png": b"1"}, "leads out"),
        ({"1.png": b"1", "a/1.png": b"1"}, "lie in no class"),
        ({"a/readme.md": b"1"}, "holds no PNG"),
        ({"a/con.png": b"1", "b/1.png": b"1"}, "cannot be the name"),
        ({"a/x\x1b[2J.png": b"1", "b/1.png": b"1"}, "cannot be the name"),
    ],
)
def test_an_archive_that_is_none_is_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    with pytest.raises(DataError, match=words):
        unpack(write_zip(tmp_path / "a.zip", files), folder=tmp_path / "up", data="powders")
    assert list((tmp_path / "up").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "bomb.zip", {"a/1.png": bytes(30_000_000), "b/1.png": b"1"})
    assert archive.stat().st_size < 60_000
    with pytest.raises(RefusedRequestError, match="unpacks to more") as refusal:
        unpack(archive, folder=tmp_path / "up", data="powders")
    assert refusal.value.status == 413
    assert list((tmp_path / "up").iterdir()) == []


def test_an_archive_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a/1.png": bytes(5_000_000), "b/1.png": b"1"})
    content = archive.read_bytes()
    archive.write_bytes(content.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises((DataError, RefusedRequestError)):
        unpack(archive, folder=tmp_path / "up", data="powders")
    assert list((tmp_path / "up").iterdir()) == []


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    place, n_pictures = unpack(tmp_path / "a.zip", folder=tmp_path / "up", data="powders")
    assert n_pictures == 3
    assert not (place / "a" / "link.png").exists()


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_said(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
        for name in ("a/1.png", "b/1.png"):
            archive.writestr(name, bytes(range(256)) * 200)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="pack it again"):
        unpack(tmp_path / "a.zip", folder=tmp_path / "up", data="powders")
    assert list((tmp_path / "up").iterdir()) == []


def test_a_name_that_comes_twice_is_said(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a/1.png", "a/ 1.png", "b/1.png"):
            archive.writestr(name, b"x")
    with pytest.raises(DataError, match="in the ZIP twice"):
        unpack(tmp_path / "a.zip", folder=tmp_path / "up", data="powders")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", bytes(100)])
def test_what_is_no_archive_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", folder=tmp_path / "up", data="powders")


def test_a_password_is_said(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", GOOD)
    content = bytearray(archive.read_bytes())
    for at in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[at] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="without a password"):
        unpack(archive, folder=tmp_path / "up", data="powders")


def test_a_name_that_is_taken_stays_with_what_has_it(tmp_path: Path) -> None:
    unpack(write_zip(tmp_path / "a.zip", GOOD), folder=tmp_path / "up", data="powders")
    with pytest.raises(RefusedRequestError, match="already") as refusal:
        unpack(write_zip(tmp_path / "b.zip", {"c/1.png": b"", "d/1.png": b""}), folder=tmp_path / "up", data="powders")
    assert refusal.value.status == 409


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILES", 2)
    with pytest.raises(RefusedRequestError, match="holds 3 files"):
        unpack(write_zip(tmp_path / "a.zip", GOOD), folder=tmp_path / "up", data="powders")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "FREE_BYTES", 10**18)
    with pytest.raises(RefusedRequestError, match="disk has room"):
        unpack(write_zip(tmp_path / "a.zip", GOOD), folder=tmp_path / "up", data="powders")
    with pytest.raises(StoreError, match="nearly full"):
        open_part(tmp_path)


def keep(folder: Path, content: bytes, *, data: str = "a", label: str = "b", name: str = "1.png") -> Path:
    """Receive a file as the server does."""
    with open_part(folder) as part:
        part.write(content)
        part.flush()
        return keep_file(Path(part.name), folder=folder, data=data, label=label, name=name)


def test_a_file_gets_its_place_and_stays_what_it_is(tmp_path: Path) -> None:
    names = {"data": "Pulver \u00fc", "label": "St\u00e4rke", "name": "1 a.TIF"}
    place = keep(tmp_path, b"abc", **names)
    assert (place / "St\u00e4rke" / "1 a.TIF").read_bytes() == b"abc"
    keep(tmp_path, b"abc", **names)  # the same once more
    with pytest.raises(RefusedRequestError, match="another file") as refusal:
        keep(tmp_path, b"other", **names)
    assert refusal.value.status == 409
    assert (place / "St\u00e4rke" / "1 a.TIF").read_bytes() == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == [place.name], "no part is left"


@pytest.mark.parametrize("name", ["page.html", "a.svg", "a.exe", "png", "a.zip"])
def test_only_pictures_are_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is no PNG"):
        keep(tmp_path, b"", name=name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "a\\b",
        ".hidden",
        "end.",
        "nul",
        "COM1.png",
        "a\0",
        "a\nb",
        "<b>",
        "x" * 201,
        "\u202ea",
    ],
)
def test_names_that_not_every_system_can_have_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot be the name of a class"):
        check_name(name, what="class")


@pytest.mark.parametrize("name", ["lactose", "MCC, 50 um", "St\u00e4rke (fein)", "a'b", "100 %"])
def test_names_of_people_are_taken(name: str) -> None:
    assert check_name(f" {name} ", what="class") == name

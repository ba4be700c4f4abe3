"""What a CSV names, and that it does not leave its folder."""

import unicodedata
from pathlib import Path

import pytest

from sem_search.errors import DataError, SettingsError
from sem_search.micrographs.csv_table import read_class_facts
from sem_search.micrographs.listing import list_images
from tests.micrographs.conftest import labels_of, make_files


def write_csv(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "data.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "image,label,group,session\na/1.png,A,g1,s1\nb/2.png,B,,\n",
        "\ufeffimage,label,group,session\r\na/1.png,A,g1,s1\r\nb/2.png,B,,\r\n",
        "Image ; LABEL ; group ; session\na/1.png ; A ; g1 ; s1\n\n;;;\nb/2.png;B\n",
        "session\tgroup\tlabel\timage\ns1\tg1\tA\ta\\1.png\n\t\tB\t./b//2.png\n",
        '"image","label","group","session"\n"a/1.png","A","g1","s1"\n"b/2.png","B","",""',
    ],
)
def test_csvs_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    listing = list_images(write_csv(tmp_path, text))
    rows = [(image.image_id, image.label, image.group, image.session) for image in listing.images]
    assert rows == [("a/1.png", "A", "g1", "s1"), ("b/2.png", "B", None, None)]
    assert listing.root == tmp_path
    assert listing.images[0].path == tmp_path / "a" / "1.png"
    assert listing.warnings == ()


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_csv", ["NFC", "NFD"])
def test_a_csv_may_spell_names_in_either_form(tmp_path: Path, on_disk: str, in_csv: str) -> None:
    (tmp_path / unicodedata.normalize(on_disk, "Körner.png")).touch()
    rows = unicodedata.normalize(in_csv, "image,label\nKörner.png,ä\nb.png,b\n")
    images = list_images(write_csv(tmp_path, rows)).images
    assert (images[0].image_id, images[0].label) == ("Körner.png", "ä")
    assert images[0].path.exists()
    assert images[1].path == tmp_path / "b.png"


def test_what_else_a_csv_says_is_gathered_class_by_class(tmp_path: Path) -> None:
    text = "image,label,group,Supplier,grade\n1.png,a,g,X,\n2.png,a,g,Y,\n3.png,a,g,X,\n4.png,b,g,,PH-101\n5.png,b\n"
    assert read_class_facts(write_csv(tmp_path, text)) == {
        "a": {"supplier": "X and Y", "grade": ""},
        "b": {"supplier": "", "grade": "PH-101"},
    }


def test_columns_that_are_not_used_are_told(tmp_path: Path) -> None:
    listing = list_images(write_csv(tmp_path, "image,label,operator\n1.png,a,me\n2.png,b,me\n"))
    assert listing.warnings == ("columns of the CSV that were not used: operator",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: its first line should be image,label"),
        ("\n\n", "is empty"),
        ("image,label\n", "names no images"),
        ("file,class\n1.png,a\n", "has no column 'image' and 'label': its first line is 'file,class'"),
        ("image\n1.png\n", "has no column 'label'"),
        ("image,label\n1.png,\n", r"faulty lines \(1\):\n  line 2: image is '1.png' and label is ''; both are needed"),
        ("image,label\n\n,a\n", "line 3: image is '' and label is 'a'"),
        ("image,label\n/etc/1.png,a\n", "line 2: '/etc/1.png' leaves the folder of the CSV"),
        ("image,label\n../1.png,a\n", r"'\.\./1.png' leaves the folder"),
        ("image,label\na/../../1.png,a\n", "leaves the folder"),
        ("image,label\n..\\1.png,a\n", "leaves the folder"),
        ("image,label\nC:\\x\\1.png,a\n", "leaves the folder"),
        ("image,label\na\0.png,a\n", "control characters are not allowed"),
        ("image,label\n1.png,a\x1b[31m\n", r"label is 'a\\x1b\[31m'; control characters"),
        (f"image,label\n{'x' * 300}.png,a\n", r"image 'x{60}\.\.\.' or label 'a' is longer than a file's name can be"),
        ("image,label\n1.png,a,b\n", r"line 2: more values than columns \('b'\)"),
        ('image,label\n"1.png,a\n', "is not a well-formed CSV: line 2"),
        ("image,label\n1.png,a\na/../1.png,b\n", "1.png: named 2 times"),
        ("image,label\n1.png,a\n2.png,a\n", "has only the class 'a'"),
    ],
)
def test_faulty_csvs_name_line_and_fault(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_images(write_csv(tmp_path, text))


@pytest.fixture
def with_links(tmp_path: Path) -> Path:
    """A CSV beside links that lead out of its folder, into it, and round in a circle."""
    make_files(tmp_path, "elsewhere/secret.png", "data/real/1.png")
    data = tmp_path / "data"
    (data / "file.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (data / "folder").symlink_to(tmp_path / "elsewhere")
    (data / "inner.png").symlink_to(data / "real" / "1.png")
    (data / "circle").symlink_to(data / "circle")
    return data


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("file.png", "'file.png' leads through a link out of the folder of the CSV; give paths relative to it, or set"),
        ("folder/secret.png", "'folder/secret.png' leads through a link out"),
        ("folder/none.png", "leads through a link out"),
        ("circle/1.png", "'circle/1.png' cannot be followed: its links run in a circle"),
    ],
)
def test_a_csv_does_not_leave_its_folder_through_links(with_links: Path, image: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_images(write_csv(with_links, f"image,label\n{image},a\nreal/1.png,b\n"))


def test_links_within_the_folder_are_followed(with_links: Path) -> None:
    listing = list_images(write_csv(with_links, "image,label\ninner.png,a\nreal/1.png,b\n"))
    assert labels_of(listing) == {"inner.png": "a", "real/1.png": "b"}


def test_a_csv_that_is_trusted_may_leave_its_folder(with_links: Path) -> None:
    outside = with_links.parent / "elsewhere" / "secret.png"
    rows = f"image,label\nfile.png,a\n../elsewhere/secret.png,a\n{outside},b\n"
    listing = list_images(write_csv(with_links, rows), allow_outside=True)
    assert labels_of(listing) == {"file.png": "a", "../elsewhere/secret.png": "a", outside.as_posix(): "b"}
    assert all(image.path.exists() for image in listing.images)


def test_all_faulty_lines_are_told_but_not_without_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"faulty lines \(30\):\n(  line \d+: .*\n){10}  and 20 more$"):
        list_images(write_csv(tmp_path, "image,label\n" + "/x.png,a\n" * 30))


def test_a_csv_of_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not UTF-8 text \\(byte 12\\): save it as CSV UTF-8"):
        list_images(write_csv(tmp_path, "image,label\nä.png,a\n", encoding="cp1252"))


def test_exclude_works_on_a_csv(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "image,label\n1.png,a\n2.png,b\n3.png,c\n")
    assert labels_of(list_images(path, exclude=["b"])) == {"1.png": "a", "3.png": "c"}
    with pytest.raises(SettingsError, match="exclude names 'd', but the classes are 'a', 'b', 'c'"):
        list_images(path, exclude=["d"])


def test_a_csv_may_say_what_an_image_is_called(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.png", "b/2.png")
    listing = list_images(write_csv(tmp_path, "id,image,label\nfirst \u00e4,a/1.png,A\n,b/2.png,B\n"))
    assert {image.image_id: image.path.name for image in listing.images} == {
        "first \u00e4": "1.png",
        "b/2.png": "2.png",
    }
    assert listing.warnings == ()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("x", "x"), "named 2 times"),
        (("x", "a/1.png"), ""),
        (("x" * 5000, "y"), "longer than"),
        (("a\tb", "y"), "control"),
    ],
)
def test_names_of_images_are_checked_as_paths_are(tmp_path: Path, ids: tuple[str, str], message: str) -> None:
    make_files(tmp_path, "a/1.png", "b/2.png")
    file = write_csv(tmp_path, f'id,image,label\n"{ids[0]}",a/1.png,A\n"{ids[1]}",b/2.png,B\n')
    if message:
        with pytest.raises(DataError, match=message):
            list_images(file)
    else:
        assert len(list_images(file).images) == 2

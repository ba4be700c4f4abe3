"""Which files are taken for which class, and that nothing is passed over in silence."""

import re
import unicodedata
from pathlib import Path

import pytest

from sem_search.errors import DataError, SettingsError
from sem_search.micrographs.class_folders import DOUBT
from sem_search.micrographs.listing import list_folders, list_images
from tests.micrographs.conftest import labels_of, make_files


def test_each_sub_folder_is_a_class_and_nested_files_belong_to_it(tmp_path: Path) -> None:
    make_files(tmp_path, "b/2.PNG", "b/deep/er/1.tif", "a/1.jpg", "a/1.TIFF", "a/x.bmp", "a/y.jpeg")
    listing = list_images(tmp_path)
    assert labels_of(listing) == {
        "a/1.TIFF": "a",
        "a/1.jpg": "a",
        "a/x.bmp": "a",
        "a/y.jpeg": "a",
        "b/2.PNG": "b",
        "b/deep/er/1.tif": "b",
    }
    assert [image.image_id for image in listing.images] == sorted(labels_of(listing))
    assert listing.warnings == ()


def test_what_is_no_picture_is_left_out_in_silence_only_where_it_is_expected(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.png", "b/1.png", "b/2.png")
    make_files(
        tmp_path, "SOURCE.md", "a/1.txt", "a/Thumbs.db", "a/desktop.ini", "a/1-png.hdr", "a/.hidden.png", ".git/x.png"
    )
    make_files(tmp_path, "__MACOSX/a/._1.png", "a/.cache/1.png", "@eaDir/1.png")
    assert list_images(tmp_path).warnings == ()
    make_files(tmp_path, "b/1.dm3", "b/2.dm3", "b/README", "loose.png")
    assert list_images(tmp_path).warnings == (
        "files outside any class folder were left out: loose.png",
        "class 'b': files of unknown kind were left out (.dm3: 2, no suffix: 1)",
    )


def test_pictures_that_cannot_be_read_are_listed_to_be_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.gif", "b/1.webp", "b/folder.png/inside.txt")
    assert list(labels_of(list_images(tmp_path))) == ["a/1.gif", "b/1.webp", "b/folder.png"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make_files(tmp_path / "data", "a/1.png", "b/1.png")
    make_files(tmp_path / "elsewhere", "2.png")
    (tmp_path / "data" / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "circle").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "data" / "b" / "file.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere")
    assert labels_of(list_images(tmp_path / "data")) == {
        "a/1.png": "a",
        "a/linked/2.png": "a",
        "b/1.png": "b",
        "b/file.png": "b",
        "c/2.png": "c",
    }


def test_names_are_composed_so_that_ids_survive_a_move(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Körner")
    make_files(tmp_path, f"{decomposed}/ä1.png", "b/1.png")
    listing = list_images(tmp_path)
    assert labels_of(listing) == {"Körner/ä1.png": "Körner", "b/1.png": "b"}
    assert all(image.path.exists() for image in listing.images)
    assert list_images(make_files(tmp_path, "c/1.png"), exclude=[decomposed]).images[0].label == "b"


def test_excluded_classes_are_left_out_even_if_empty(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.png", "b/1.png", "c/readme.txt")
    with pytest.raises(DataError, match=r"class 'c' has no picture: folder .* or leave it out with exclude=c"):
        list_images(tmp_path)
    assert set(labels_of(list_images(tmp_path, exclude=["c"])).values()) == {"a", "b"}


@pytest.mark.parametrize(
    ("files", "exclude", "error", "message"),
    [
        (["1.png"], [], DataError, "has no sub-folders: put the images of each class into a folder"),
        (["a/1.png"], [], DataError, "has only the class 'a': at least 2 are needed"),
        (["a/1.png", "b/1.png"], ["b"], DataError, "has only the class 'a' that is not excluded"),
        (["a/1.png", "b/1.png"], ["b", "a"], DataError, "has no class that is not excluded"),
        (["a/1.png", "b/1.png"], ["c", "B"], SettingsError, "exclude names 'B', 'c', but the classes are 'a', 'b'"),
    ],
)
def test_folders_that_cannot_be_used(
    tmp_path: Path, files: list[str], exclude: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list_images(make_files(tmp_path, *files), exclude=exclude)


def test_what_is_neither_folder_nor_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder or CSV file"):
        list_images(tmp_path / "none")
    with pytest.raises(DataError, match="is neither a folder nor a CSV file"):
        list_images(make_files(tmp_path, "1.png") / "1.png")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.png", "b/1.png")
    try:
        (tmp_path / "a" / "\udce4.png").touch()
    except OSError:
        pytest.skip("needs a file system that takes any bytes as a name")
    with pytest.raises(DataError, match=r"the name is not valid UTF-8, rename it"):
        list_images(tmp_path)


def test_folders_from_anywhere_are_lots(tmp_path: Path) -> None:
    make_files(tmp_path, "x/may/1.png", "x/may/deep/2.tif", "y/june/1.png", "y/june/read.me")
    listing = list_folders({"may": tmp_path / "x" / "may", "june": tmp_path / "y" / "june"})
    assert labels_of(listing) == {"may/1.png": "may", "may/deep/2.tif": "may", "june/1.png": "june"}
    assert listing.root == tmp_path
    assert listing.warnings == ("class 'june': files of unknown kind were left out (.me: 1)",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["full", "gone"], "there is no folder .*gone"),
        (["full", "empty"], "empty holds no PNG, JPEG, BMP or TIFF file"),
    ],
)
def test_lots_that_cannot_be_compared_are_named(tmp_path: Path, names: list[str], message: str) -> None:
    make_files(tmp_path, "full/1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        list_folders({name: tmp_path / name for name in names})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("train/a/1.png", "test/a/1.png"), "the folders test and train in .* are named as parts of a divided data"),
        (("Train/a/1.png", "Train/b/1.png", "VAL/a/1.png", "VAL/b/1.png"), "Give data=.*/Train for its a and b"),
        (("training/1.png", "validation/1.png", "a/1.png"), "A search divides the images itself"),
        (
            ("batch1/lactose/1.png", "batch1/starch/1.png", "batch2/lactose/1.png"),
            "batch1 and batch2 in .* hold sub-folders lactose and starch, which seem to be the classes. Give data=.*1 ",
        ),
        (
            ("2024-05-01/lactose/1.png", "2024-05-02/lactose/1.png", "2024-05-02/starch/1.png"),
            "Give data=.*2024-05-02 for its lactose and starch alone; to take all, .* CSV",
        ),
        *(
            ((f"{word}1/lactose/1.png", f"{word}1/starch/1.png", f"{word}2/lactose/1.png"), "which seem to be the cl")
            for word in ("", "Batch_", "LOT-", "run ", "day", "session", "series.")
        ),
        (("batch1/lactose/1.png", "batch1/starch/1.png"), "only the class 'batch1': .* Give data=.*batch1 for its lac"),
    ],
)
def test_folders_that_cannot_be_classes_are_refused_with_the_way_out(
    tmp_path: Path, files: tuple[str, ...], words: str
) -> None:
    make_files(tmp_path, *files)
    with pytest.raises(DataError, match=words):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("files", "is_told"),
    [
        (("lactose/lot1/1.png", "lactose/lot2/1.png", "starch/lot1/1.png", "starch/lot2/1.png"), False),
        (("lactose/2024-05-01/1.png", "starch/2024-05-01/1.png"), False),
        (("lactose/a/1.png", "starch/b/1.png"), False),
        (("test/1.png", "control/1.png"), False),
        (("batch1/1.png", "batch2/1.png"), False),
        (("lactose/1.png", "lactose/raw/1.png", "starch/raw/1.png"), False),
        (("lactose/raw/notes.txt", "lactose/1.png", "starch/raw/1.png"), False),
        (("lactose/coarse/1.png", "starch/coarse/1.png"), True),
        (("sample1/area1/1.png", "sample2/area1/1.png"), True),
        (("day1/x/1.png", "day2/x/1.png"), True),
        (("PH101/surface/1.png", "PH101/fracture/1.png", "PH200/surface/1.png", "PH200/fracture/1.png"), True),
        (("grade 1/raw/1.png", "grade 1/cut/1.png", "grade 2/raw/1.png"), True),
    ],
)
def test_nested_folders_that_may_be_parts_of_a_class_go_on(
    tmp_path: Path, files: tuple[str, ...], is_told: bool
) -> None:
    make_files(tmp_path, *files)
    listing = list_images(tmp_path)
    assert {image.label for image in listing.images} == {file.split("/")[0] for file in files}
    assert [warning.startswith(f"{DOUBT} All hold sub-folders") for warning in listing.warnings] == [True] * is_told


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("lactose/1.png", "starch/1.png", "old/lactose/1.png", "old/starch/1.png"), "'old' .*(lactose and starch)"),
        (("lactose/1.png", "starch/1.png", "train/lactose/1.png"), "'train' .*(lactose).* exclude=train"),
        (("lactose/1.png", "lactose/starch/1.png", "starch/1.png"), ""),
        (("lactose/lactose/1.png", "starch/1.png"), ""),
    ],
)
def test_sub_folders_named_as_other_classes_are_doubted(tmp_path: Path, files: tuple[str, ...], words: str) -> None:
    make_files(tmp_path, *files)
    found = [one for one in list_images(tmp_path).warnings if one.startswith(DOUBT)]
    assert len(found) == bool(words)
    assert all(re.search(words, one) for one in found)


def test_excluded_folders_play_no_part_in_that(tmp_path: Path) -> None:
    make_files(tmp_path, "train/1.png", "test/1.png", "a/1.png", "b/1.png")
    with pytest.raises(DataError, match="named as parts of a divided data set"):
        list_images(tmp_path)
    assert list_images(tmp_path, exclude=("train", "test")).warnings == ()


def test_files_of_unknown_kind_in_many_classes_are_one_warning(tmp_path: Path) -> None:
    for number in range(30):
        make_files(tmp_path, f"class{number:02}/1.png", f"class{number:02}/1.xyz")
    assert list_images(tmp_path).warnings == (
        "classes 'class00', 'class01', 'class02' and 27 more: files of unknown kind were left out (.xyz: 30)",
    )


def test_absolute_paths_inside_the_folder_of_the_csv_are_inside(tmp_path: Path) -> None:
    make_files(tmp_path, "data/a/1.png", "data/b/1.png", "else/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    lines = [f"{tmp_path}/data/a/1.png,a", f"{tmp_path}/data/b/../b/1.png,b"]
    table = tmp_path / "data" / "set.csv"
    table.write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    for reached in (table, tmp_path / "link" / "set.csv"):
        listing = list_images(reached)
        assert labels_of(listing) == {"a/1.png": "a", "b/1.png": "b"}
        assert all(image.path.is_file() for image in listing.images)
    for outside in (f"{tmp_path}/else/1.png,a", f"{tmp_path}/data/../else/1.png,a", f"{tmp_path}/data2/1.png,a"):
        table.write_text("\n".join(["image,label", *lines, outside]), encoding="utf-8")
        with pytest.raises(DataError, match="leaves the folder of the CSV"):
            list_images(table)


def test_one_image_by_two_spellings_of_its_path_is_named_twice(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "set.csv").write_text(f"image,label\na/1.png,a\n{tmp_path}/a/1.png,a\nb/1.png,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a/1\.png: named 2 times"):
        list_images(tmp_path / "set.csv")


def test_advice_quotes_a_class_with_a_comma(tmp_path: Path) -> None:
    make_files(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "MCC, 50 um").mkdir()
    with pytest.raises(DataError, match='exclude="MCC, 50 um"'):
        list_images(tmp_path)
    assert len(list_images(tmp_path, exclude=["MCC, 50 um"]).images) == 2


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("MCC", "50 um"), ["a", "b"]),  # what is left of "MCC, 50 um" when a shell has taken its quotation marks
        (("b", "MCC", "50 um"), ["a"]),
        (("MCC, 50 um", "a"), ["b"]),
    ],
)
def test_a_class_with_a_comma_is_left_out_with_or_without_quotes(
    tmp_path: Path, exclude: tuple[str, ...], left: list[str]
) -> None:
    make_files(tmp_path, "MCC, 50 um/1.png", "a/1.png", "b/1.png", "c/1.png")
    listing = list_images(tmp_path, exclude=exclude)
    assert sorted({image.label for image in listing.images}) == [*left, "c"]


def test_classes_of_the_parts_names_are_meant_where_there_are_some(tmp_path: Path) -> None:
    make_files(tmp_path, "x,y/1.png", "x/1.png", "y/1.png", "c/1.png")
    listing = list_images(tmp_path, exclude=("x", "y"))
    assert sorted({image.label for image in listing.images}) == ["c", "x,y"]
    with pytest.raises(SettingsError, match="exclude names 'z', but the classes are 'c', 'x', 'x,y', 'y'"):
        list_images(tmp_path, exclude=("x", "z"))

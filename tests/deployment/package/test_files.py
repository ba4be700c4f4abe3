import json
from pathlib import Path

import pytest

from sem_search.deployment.package.files import FILE_LIST, check_files, read_file_list, write_file_list
from sem_search.errors import StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "code" / "größe.py").write_text("x = 1\n")
    (tmp_path / "weights.npz").write_bytes(bytes(range(256)))
    write_file_list(tmp_path)
    return tmp_path


def test_every_file_is_listed_but_the_list(folder: Path) -> None:
    assert list(read_file_list(folder / FILE_LIST)) == ["MLmodel", "code/größe.py", "weights.npz"]
    report = check_files(folder)
    assert (report.n_files, report.problems, report.n_bytecode) == (3, (), 0)


def test_the_same_files_have_the_same_list(folder: Path) -> None:
    before = (folder / FILE_LIST).read_bytes()
    write_file_list(folder)
    assert (folder / FILE_LIST).read_bytes() == before


@pytest.mark.parametrize("byte", [0, 17, 255])
def test_one_byte_is_seen_and_its_file_named(folder: Path, byte: int) -> None:
    content = bytearray((folder / "weights.npz").read_bytes())
    content[byte] ^= 1
    (folder / "weights.npz").write_bytes(content)
    (problem,) = check_files(folder).problems
    assert problem.startswith("weights.npz is not the file that was logged: its sha256 is ")


def test_missing_and_added_files_are_named(folder: Path) -> None:
    (folder / "code" / "größe.py").unlink()
    (folder / "code" / "other.py").write_text("")
    assert check_files(folder).problems == (
        "code/größe.py is missing.",
        "code/other.py was not logged: it was put there later.",
    )


def test_what_loading_leaves_is_counted_and_not_taken_for_tampering(folder: Path) -> None:
    (folder / "code" / "__pycache__").mkdir()
    (folder / "code" / "__pycache__" / "größe.cpython-311.pyc").write_bytes(b"x")
    (folder / "registered_model_meta").write_text("model_name: m\n")
    report = check_files(folder)
    assert (report.problems, report.n_bytecode) == ((), 1)


def test_a_list_that_points_elsewhere_finds_nothing_there(folder: Path) -> None:
    (folder.parent / "secret").write_text("s")
    content = json.loads((folder / FILE_LIST).read_text())
    content["files"] = {"../secret": "0", str(folder.parent / "secret"): "0"}
    (folder / FILE_LIST).write_text(json.dumps(content))
    assert [problem for problem in check_files(folder).problems if "secret" in problem] == [
        "../secret is missing.",
        f"{folder.parent / 'secret'} is missing.",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', '{"format_version": 1, "files": 3}'])
def test_a_damaged_list_is_named(folder: Path, text: str) -> None:
    (folder / FILE_LIST).write_text(text)
    with pytest.raises(StoreError, match=r"files\.json is damaged: it does not list the files of a model"):
        check_files(folder)


def test_a_list_of_a_later_format_is_named(folder: Path) -> None:
    (folder / FILE_LIST).write_text('{"format_version": 2, "files": {}}')
    with pytest.raises(StoreError, match=r"files\.json has format 2, and this sem_search reads formats up to 1"):
        check_files(folder)

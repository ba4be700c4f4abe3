from pathlib import Path

import pytest

from sem_search.deployment.package.code import PACKAGE_FOLDER, compute_code_sha256, copy_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    for name in ("micrographs", "transfer", "evaluation", "deployment", "search"):
        (folder / name).mkdir(parents=True)
        (folder / name / "room.py").write_text(f"NAME = {name!r}\n")
    return folder


def test_copy_has_all_code_and_no_weights(package: Path, tmp_path: Path) -> None:
    (package / "micrographs" / "__pycache__").mkdir()
    for name in ("micrographs/__pycache__/room.pyc", "transfer/particles.weights.h5", "transfer/a.npz", "report.html"):
        (package / name).write_bytes(b"x")
    copy_package(tmp_path / "copy", package=package)
    copied = {
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    rooms = ("micrographs", "transfer", "evaluation", "deployment", "search")
    assert copied == {f"{name}/room.py" for name in rooms} | {"report.html"}


def test_copy_of_this_package_hashes_as_this_package(tmp_path: Path) -> None:
    copy_package(tmp_path / "copy")
    assert compute_code_sha256(tmp_path / "copy") == compute_code_sha256(PACKAGE_FOLDER)


@pytest.mark.parametrize(("room", "changes_answers"), [("micrographs", True), ("deployment", True), ("search", False)])
def test_hash_follows_the_code_that_answers(package: Path, room: str, changes_answers: bool) -> None:
    before = compute_code_sha256(package)
    (package / room / "room.py").write_text("NAME = 'other'\n")
    assert (compute_code_sha256(package) != before) is changes_answers


def test_hash_is_the_same_with_windows_line_ends(package: Path) -> None:
    before = compute_code_sha256(package)
    (package / "transfer" / "room.py").write_bytes(b"NAME = 'transfer'\r\n")
    assert compute_code_sha256(package) == before


def test_hash_sees_a_moved_file(package: Path) -> None:
    before = compute_code_sha256(package)
    (package / "transfer" / "room.py").rename(package / "transfer" / "hall.py")
    assert compute_code_sha256(package) != before

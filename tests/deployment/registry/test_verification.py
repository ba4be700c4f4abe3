"""Every way of tampering is found and named; the laboratory is put back after each."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sem_search.deployment.registry import verify_version
from sem_search.deployment.registry.verification import Verification
from sem_search.deployment.registry.versions import TAG_DECISION, TAG_FILES, TAG_SCORE
from sem_search.errors import DataError, SettingsError


@contextmanager
def changed_file(path: Path, content: bytes | None) -> Iterator[None]:
    """Give a file another content, or none, for a while."""
    before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    yield
    path.write_bytes(before)


@contextmanager
def changed_tags(laboratory: Any, changes: dict[str, str | None]) -> Iterator[None]:
    """Give the registered model other tags for a while; None deletes one."""
    before = laboratory.client.get_registered_model(laboratory.name).tags
    for key, value in changes.items():
        if value is None:
            laboratory.client.delete_registered_model_tag(laboratory.name, key)
        else:
            laboratory.client.set_registered_model_tag(laboratory.name, key, value)
    yield
    for key in changes:
        laboratory.client.delete_registered_model_tag(laboratory.name, key)
        if key in before:
            laboratory.client.set_registered_model_tag(laboratory.name, key, before[key])


def flip(content: bytes, place: int) -> bytes:
    """Return a content with one bit turned."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def verify(laboratory: Any, version: str = "3", **given: Any) -> Verification:
    return verify_version(laboratory.name, version, **given)


def describe_failure(verification: Verification) -> str:
    failure = verification.first_failure
    return "sound" if failure is None else f"{failure.name}: {failure.detail}"


@pytest.mark.parametrize("version", ["1", "2", "3", "champion"])
def test_an_untouched_version_is_sound(old_laboratory: Any, version: str) -> None:
    verification = verify(old_laboratory, version)
    assert describe_failure(verification) == "sound"
    assert verification.is_sound
    assert {check.name: check.outcome for check in verification.checks} == dict.fromkeys(
        (
            "history",
            "end of the history",
            "tags of the version",
            "list of files",
            "files",
            "catalogue",
            "folds",
            "images",
        ),
        "ok",
    )
    assert verification.head_sha256 == old_laboratory.read_history().heads[0]


def test_each_check_says_what_it_looked_at(old_laboratory: Any) -> None:
    details = {check.name: check.detail for check in verify(old_laboratory).checks}
    assert details["history"] == "5 entries, each follows the one before"
    assert details["tags of the version"] == "as entry 3 of the history says"
    assert details["files"] == "6 files, weights and code among them"
    assert details["images"] == (
        f"the 27 image files below {old_laboratory.data} are those that the model was made from"
    )


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("MLmodel", "files: MLmodel is not the file that was logged"),
        ("artifacts/classifier/head_0.npz", "files: artifacts/classifier/head_0.npz is not the file that was logged"),
        ("artifacts/record/card.json", "files: artifacts/record/card.json is not the file that was logged"),
        ("artifacts/record/catalogue.json", "files: artifacts/record/catalogue.json is not the file that was"),
        ("artifacts/record/out_of_fold.npz", "files: artifacts/record/out_of_fold.npz is not the file that was logged"),
        ("files.json", "list of files: files.json is not what was registered"),
    ],
)
def test_one_bit_of_any_file_is_found_and_the_file_named(old_laboratory: Any, path: str, named: str) -> None:
    file = old_laboratory.find_model_folder("3") / path
    content = file.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        with changed_file(file, flip(content, place)):
            assert describe_failure(verify(old_laboratory)).startswith(named)


def test_another_version_is_not_to_blame(old_laboratory: Any) -> None:
    with changed_file(old_laboratory.find_model_folder("3") / "MLmodel", b"other"):
        assert not verify(old_laboratory).is_sound
        assert verify(old_laboratory, "2").is_sound


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("artifacts/classifier/head_0.npz", "files: artifacts/classifier/head_0.npz is missing."),
        ("files.json", "list of files: files.json is missing."),
    ],
)
def test_a_missing_file_is_named(old_laboratory: Any, path: str, named: str) -> None:
    with changed_file(old_laboratory.find_model_folder("3") / path, None):
        assert describe_failure(verify(old_laboratory)) == named


def test_an_added_file_is_named_and_bytecode_is_counted(old_laboratory: Any) -> None:
    folder = old_laboratory.find_model_folder("3")
    (folder / "code.py").write_text("")
    assert describe_failure(verify(old_laboratory)) == "files: code.py was not logged: it was put there later."
    (folder / "code.py").unlink()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "code.pyc").write_text("")
    (check,) = [check for check in verify(old_laboratory).checks if check.name == "files"]
    assert check.detail.endswith("; 1 files of bytecode, left by loading, are on no list")
    shutil.rmtree(folder / "__pycache__")


def test_a_file_altered_together_with_its_list_is_found_by_the_registered_hash(old_laboratory: Any) -> None:
    from sem_search.deployment.package.files import write_file_list

    folder = old_laboratory.find_model_folder("3")
    weights, listed = folder / "artifacts/classifier/head_0.npz", folder / "files.json"
    with changed_file(weights, b"other"), changed_file(listed, listed.read_bytes()):
        write_file_list(folder)
        assert describe_failure(verify(old_laboratory)).startswith("list of files: files.json is not what was")


def test_and_where_the_tag_is_altered_too_by_the_history(old_laboratory: Any) -> None:
    name, tag = old_laboratory.name, old_laboratory.client.get_model_version(old_laboratory.name, "3").tags[TAG_FILES]
    old_laboratory.client.set_model_version_tag(name, "3", TAG_FILES, "0" * 64)
    assert (
        describe_failure(verify(old_laboratory))
        == (f"tags of the version: files_sha256 is '{'0' * 64}', and entry 3 of the history says '{tag}'. ").strip()
    )
    old_laboratory.client.set_model_version_tag(name, "3", TAG_FILES, tag)


@pytest.mark.parametrize(("tag", "named"), [(TAG_SCORE, "score"), (TAG_DECISION, "decision")])
def test_an_altered_tag_of_a_version_is_named(old_laboratory: Any, tag: str, named: str) -> None:
    name, before = old_laboratory.name, old_laboratory.client.get_model_version(old_laboratory.name, "1").tags[tag]
    old_laboratory.client.set_model_version_tag(name, "1", tag, "0.999")
    assert describe_failure(verify(old_laboratory, "1")).startswith(f"tags of the version: {named} is ")
    old_laboratory.client.set_model_version_tag(name, "1", tag, before)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_an_altered_entry_is_named(old_laboratory: Any, number: int) -> None:
    entry = old_laboratory.read_history().entries[number - 1]
    with changed_tags(old_laboratory, {entry.key: entry.to_json().replace("iwata", "nobody")}):
        assert describe_failure(verify(old_laboratory)).startswith(f"history: entry {number} was altered")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_removed_entry_is_named_by_the_next(old_laboratory: Any, number: int) -> None:
    entry = old_laboratory.read_history().entries[number - 1]
    with changed_tags(old_laboratory, {entry.key: None}):
        assert describe_failure(verify(old_laboratory)).startswith(f"history: entry {number + 1} follows an entry with")


def test_the_last_entry_removed_is_found_by_the_alias(old_laboratory: Any) -> None:
    last = old_laboratory.read_history().entries[-1]
    with changed_tags(old_laboratory, {last.key: None}):
        assert describe_failure(verify(old_laboratory)).startswith(
            "end of the history: by the history version 2 is champion, but the alias stands at version 3"
        )


def test_and_where_the_alias_is_moved_too_by_the_hash_that_was_written_down(old_laboratory: Any) -> None:
    last = old_laboratory.read_history().entries[-1]
    with changed_tags(old_laboratory, {last.key: None}):
        old_laboratory.client.set_registered_model_alias(old_laboratory.name, "champion", "2")
        assert verify(old_laboratory).is_sound, "this is what cannot be found from inside"
        assert describe_failure(verify(old_laboratory, expect_head=last.sha256)).startswith(
            f"expected head: no entry has the hash {last.sha256[:16]}: the history was cut short or made anew."
        )
        old_laboratory.client.set_registered_model_alias(old_laboratory.name, "champion", "3")


def test_a_history_removed_as_a_whole_is_found_by_the_decisions(old_laboratory: Any) -> None:
    tags = old_laboratory.client.get_registered_model(old_laboratory.name).tags
    with changed_tags(old_laboratory, dict.fromkeys(tags)):
        assert describe_failure(verify(old_laboratory)) == (
            "end of the history: version 1 was given an alias when it was registered, and the history lacks the entry. "
            "(3 more)"
        )


def test_an_alias_that_something_else_moved_is_named(old_laboratory: Any) -> None:
    old_laboratory.client.set_registered_model_alias(old_laboratory.name, "champion", "1")
    assert describe_failure(verify(old_laboratory)).startswith(
        "end of the history: by the history version 3 is champion, but the alias stands at version 1"
    )
    old_laboratory.client.set_registered_model_alias(old_laboratory.name, "champion", "3")


def test_a_head_written_down_earlier_proves_what_was_then(old_laboratory: Any) -> None:
    entries = old_laboratory.read_history().entries
    for entry, since in ((entries[-1], "it is the last"), (entries[1], "3 moves since")):
        for given in (entry.sha256, entry.sha256[:8].upper(), f" {entry.sha256[:12]} "):
            (check,) = [
                check for check in verify(old_laboratory, expect_head=given).checks if check.name == "expected head"
            ]
            assert (check.outcome, check.detail) == ("ok", f"entry {entry.number} has this hash; {since}")


@pytest.mark.parametrize("given", ["", "abc", "0123456", "nothexadecimal"])
def test_a_head_that_is_no_hash_is_refused(old_laboratory: Any, given: str) -> None:
    with pytest.raises(SettingsError, match="is no hash: give the one that was printed"):
        verify(old_laboratory, expect_head=given)


def test_images_are_rehashed_and_the_first_that_differs_is_named(old_laboratory: Any) -> None:
    image = old_laboratory.data / "lactose" / "4.png"
    with changed_file(image, b"another picture"):
        assert describe_failure(verify(old_laboratory)) == (
            f"images: image lactose/4.png is not the file that the model was made from ({image})."
        )
    with changed_file(image, None):
        assert describe_failure(verify(old_laboratory)) == f"images: image lactose/4.png is missing ({image})."


def test_images_elsewhere_are_found_where_they_are_said_to_be(old_laboratory: Any, tmp_path: Path) -> None:
    shutil.copytree(old_laboratory.data, tmp_path / "moved")
    (tmp_path / "moved" / "list.csv").write_text("image,label\n")
    for given in (tmp_path / "moved", tmp_path / "moved" / "list.csv"):
        checks = {check.name: check for check in verify(old_laboratory, data=given).checks}
        assert checks["images"].outcome == "ok"
        assert str(tmp_path / "moved") in checks["images"].detail


def test_images_that_cannot_be_reached_are_said_to_be_unchecked(old_laboratory: Any, tmp_path: Path) -> None:
    old_laboratory.data.rename(tmp_path / "away")
    verification = verify(old_laboratory)
    (tmp_path / "away").rename(old_laboratory.data)
    (check,) = [check for check in verification.checks if check.name == "images"]
    assert (check.outcome, check.detail) == (
        "not checked",
        "their folder cannot be reached from here; give it with --data FOLDER",
    )
    assert verification.is_sound


def test_a_folder_that_is_not_there_is_refused(old_laboratory: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder or CSV file here"):
        verify(old_laboratory, data=tmp_path / "none")


def test_a_version_without_record_or_history_says_what_was_not_checked(laboratory: Any) -> None:
    laboratory.register()
    folder = laboratory.folder / "foreign"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    laboratory.client.create_model_version(laboratory.name, folder.as_uri())
    verification = verify(laboratory, "2")
    assert verification.is_sound
    outcomes = {check.name: check.outcome for check in verification.checks if check.outcome != "ok"}
    assert outcomes == dict.fromkeys(
        ("tags of the version", "list of files", "files", "catalogue", "folds", "images"), "not checked"
    )


def test_a_model_whose_files_are_gone_is_reported(laboratory: Any) -> None:
    laboratory.register()
    shutil.rmtree(laboratory.find_model_folder("1"))
    assert describe_failure(verify(laboratory, "1")) == "files: the model's files are gone from the store."


def test_a_catalogue_other_than_registered_is_named(laboratory: Any) -> None:
    laboratory.register()
    laboratory.client.set_model_version_tag(laboratory.name, "1", "sem_search.data_sha256", "0" * 64)
    details = {check.name: check for check in verify(laboratory, "1").checks}
    assert details["catalogue"].outcome == "failed"
    assert details["catalogue"].detail.endswith(f"and the registered version says {'0' * 16}.")


def test_a_deleted_run_is_no_failure(laboratory: Any) -> None:
    laboratory.register()
    run_id = laboratory.client.get_model_version(laboratory.name, "1").run_id
    laboratory.client.delete_run(run_id)
    assert verify(laboratory, "1").is_sound


def test_a_renamed_model_keeps_a_sound_history(laboratory: Any) -> None:
    laboratory.register()
    laboratory.client.rename_registered_model(laboratory.name, "renamed")
    verification = verify_version("renamed", "1")
    assert describe_failure(verification) == "sound"
    laboratory.register()  # a new model under the old name
    assert describe_failure(verify_version("renamed", "1")) == "sound"
    assert describe_failure(verify_version(laboratory.name, "1")) == "sound"


def test_verifying_changes_nothing(old_laboratory: Any) -> None:
    def list_files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(old_laboratory.folder.rglob("*")) if path.is_file()}

    before = list_files()
    verify(old_laboratory)
    after = list_files()
    assert list(after) == list(before)
    assert {path: after[path] for path in after if not path.endswith(".db")} == {
        path: before[path] for path in before if not path.endswith(".db")
    }

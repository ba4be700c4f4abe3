import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sem_search.deployment.batch.predict import load_model
from sem_search.deployment.package.description import compute_file_sha256
from sem_search.deployment.package.files import FILE_LIST, write_file_list
from sem_search.deployment.registry import show_version
from sem_search.deployment.registry.contents import (
    RECORD_PATH,
    fetch_files,
    fetch_model,
    find_missing_files,
    read_files_sha256,
)
from sem_search.deployment.registry.versions import TAG_FILES
from sem_search.deployment.server.rotation import load_version
from sem_search.errors import ModelNotFoundError, StoreError


def test_the_files_of_a_version_are_copied_and_removed(old_laboratory: Any) -> None:
    version = old_laboratory.client.get_model_version(old_laboratory.name, "1")
    with fetch_files(version) as folder:
        assert (folder / "artifacts" / "classifier" / "head_0.npz").read_bytes() == bytes(range(256))
        assert folder != old_laboratory.find_model_folder("1")
        (folder / "MLmodel").write_text("altered")
    assert not folder.exists()
    assert (old_laboratory.find_model_folder("1") / "MLmodel").read_text() == "flavors: {}\n"


def test_a_part_of_the_files(old_laboratory: Any) -> None:
    version = old_laboratory.client.get_model_version(old_laboratory.name, "1")
    with fetch_files(version, path=RECORD_PATH) as folder:
        assert {path.name for path in folder.iterdir()} >= {"card.json", "catalogue.json"}
    with fetch_files(version, path="artifacts/other") as folder:
        assert folder is None


def test_the_hash_of_a_logged_model(laboratory: Any) -> None:
    laboratory.register()
    source = laboratory.client.get_model_version(laboratory.name, "1").source
    expected = compute_file_sha256(laboratory.find_model_folder("1") / "files.json")
    assert read_files_sha256(source) == expected
    (laboratory.find_model_folder("1") / "files.json").unlink()
    assert read_files_sha256(source) is None


def fetch(laboratory: Any, folder: Path) -> Path:
    return fetch_model(f"models:/{laboratory.name}/1", folder=folder)


def test_a_model_is_fetched_as_it_was_registered_and_without_bytecode(
    laboratory: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.register()
    stored = laboratory.find_model_folder("1")
    (stored / "__pycache__").mkdir()
    (stored / "__pycache__" / "served_model.cpython-311.pyc").write_bytes(b"planted")
    model = fetch(laboratory, tmp_path / "copy")
    assert model.is_relative_to(tmp_path / "copy")
    assert (model / "artifacts" / "classifier" / "head_0.npz").read_bytes() == bytes(range(256))
    assert list(model.rglob("__pycache__")) == []
    assert (stored / "__pycache__").is_dir(), "the store is left as it was"
    assert caplog.text == ""


def _alter(stored: Path) -> None:
    (stored / "MLmodel").write_text("flavors: {python_function: {}}\n")


def _alter_and_list_anew(stored: Path) -> None:
    _alter(stored)
    (stored / FILE_LIST).unlink()
    write_file_list(stored)


def _add(stored: Path) -> None:
    (stored / "sitecustomize.py").write_text("")


def _remove_list(stored: Path) -> None:
    (stored / FILE_LIST).unlink()


ALTERED: list[tuple[Callable[[Path], None], str]] = [
    (_alter, "MLmodel is not the file that was logged"),
    (_alter_and_list_anew, "files.json is not what was registered"),
    (_add, "sitecustomize.py was not logged: it was put there later"),
    (_remove_list, "files.json is missing"),
    (lambda stored: (stored / "MLmodel").unlink(), "MLmodel is missing"),
]


@pytest.mark.parametrize(("alter", "message"), ALTERED)
def test_an_altered_model_is_not_fetched(
    laboratory: Any, tmp_path: Path, alter: Callable[[Path], None], message: str
) -> None:
    laboratory.register()
    alter(laboratory.find_model_folder("1"))
    with pytest.raises(StoreError, match=f"models:/{laboratory.name}/1 is not served: {message}.*registry verify"):
        fetch(laboratory, tmp_path / "copy")


def test_what_the_registry_holds_no_hash_of_is_compared_with_its_own_list(
    laboratory: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.register()
    stored = laboratory.find_model_folder("1")
    laboratory.client.delete_model_version_tag(laboratory.name, "1", TAG_FILES)
    caplog.set_level(logging.WARNING)
    fetch(laboratory, tmp_path / "listed")
    assert "The registry holds no hash of models:/sem-search-tiny/1" in caplog.text
    _alter(stored)
    for model_uri in (f"models:/{laboratory.name}/1", str(stored)):
        with pytest.raises(StoreError, match="MLmodel is not the file that was logged"):
            fetch_model(model_uri, folder=tmp_path / "altered")
    _remove_list(stored)
    assert fetch(laboratory, tmp_path / "unlisted").is_dir(), "a model of before, or of another program"


def test_a_model_is_looked_for_in_a_registry_that_is_there(laboratory: Any, tmp_path: Path) -> None:
    laboratory.register()
    (tmp_path / "mlflow.db").rename(tmp_path / "gone.db")
    with pytest.raises(ModelNotFoundError, match="There is no registry"):
        fetch(laboratory, tmp_path / "copy")


@pytest.mark.parametrize("name", ["artifacts", "My Search ü"])
def test_a_moved_folder_is_named_by_whoever_needs_it(laboratory: Any, name: str) -> None:
    """MLflow says of it: No such artifact: ''."""
    laboratory.artifacts = (laboratory.folder / name).as_uri()
    version = laboratory.register().version
    uri = f"models:/{laboratory.name}/{version}"
    files = laboratory.client.get_logged_model(
        laboratory.client.get_model_version(laboratory.name, version).source.removeprefix("models:/")
    ).artifact_location
    assert find_missing_files(uri) is None
    (laboratory.folder / name).rename(laboratory.folder / "moved")
    missing = find_missing_files(uri)
    assert missing is not None
    assert missing.is_relative_to(laboratory.folder / name)
    assert files.endswith(missing.name)
    said = r"should lie in .*" + name + r"/.*, which is not there.*move the search's folder back"
    for ask in (load_model, load_version, lambda _: show_version(laboratory.name, version)):
        with pytest.raises(ModelNotFoundError, match=said):
            ask(uri)


def test_a_model_that_is_not_known_misses_no_folder(laboratory: Any) -> None:
    assert find_missing_files("models:/nobody/1") is None
    assert find_missing_files("models:/m-0123") is None

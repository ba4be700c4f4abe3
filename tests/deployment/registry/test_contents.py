from typing import Any

import pytest

from sem_search.deployment.description import compute_file_sha256
from sem_search.deployment.predicting import load_model
from sem_search.deployment.registry import show_version
from sem_search.deployment.registry.contents import RECORD_PATH, fetch_files, find_missing_folder, read_files_sha256
from sem_search.deployment.rotation import _read_param_names
from sem_search.errors import ModelNotFoundError


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


@pytest.mark.parametrize("name", ["artifacts", "My Search ü"])
def test_a_moved_folder_is_named_by_whoever_needs_it(laboratory: Any, name: str) -> None:
    """MLflow says of it: No such artifact: ''."""
    laboratory.artifacts = (laboratory.folder / name).as_uri()
    version = laboratory.register().version
    uri = f"models:/{laboratory.name}/{version}"
    files = laboratory.client.get_logged_model(
        laboratory.client.get_model_version(laboratory.name, version).source.removeprefix("models:/")
    ).artifact_location
    assert find_missing_folder(uri) is None
    (laboratory.folder / name).rename(laboratory.folder / "moved")
    missing = find_missing_folder(uri)
    assert missing is not None
    assert missing.is_relative_to(laboratory.folder / name)
    assert files.endswith(missing.name)
    said = r"should lie in .*" + name + r"/.*, which is not there.*move the search's folder back"
    for ask in (load_model, _read_param_names, lambda _: show_version(laboratory.name, version)):
        with pytest.raises(ModelNotFoundError, match=said):
            ask(uri)


def test_a_model_that_is_not_known_misses_no_folder(laboratory: Any) -> None:
    assert find_missing_folder("models:/nobody/1") is None
    assert find_missing_folder("models:/m-0123") is None

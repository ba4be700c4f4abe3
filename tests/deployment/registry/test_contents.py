"""A version whose files are not where MLflow noted them: the folder is named."""

from typing import Any

import pytest

from sem_search.deployment.predicting import load_model
from sem_search.deployment.registry import show_version
from sem_search.deployment.registry.contents import find_missing_folder
from sem_search.deployment.rotation import _read_param_names
from sem_search.errors import ModelNotFoundError


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

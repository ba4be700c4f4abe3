from typing import Any

import pytest

from sem_search.deployment.registry.versions import (
    describe_store,
    find_version,
    list_model_versions,
    list_registered_names,
    resolve_model_uri,
)
from sem_search.errors import ModelNotFoundError

MODEL = "sem-search-tiny"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (f"models:/{MODEL}@champion", f"models:/{MODEL}/1"),
        (f"models:/{MODEL}@challenger", f"models:/{MODEL}/2"),
        (f"models:/{MODEL}/1", f"models:/{MODEL}/1"),
        (f"models:/{MODEL}/latest", f"models:/{MODEL}/2"),
        ("models:/m-0123", "models:/m-0123"),
        ("runs:/0123/classifier", "runs:/0123/classifier"),
        ("some/folder", "some/folder"),
    ],
)
def test_resolve_model_uri(laboratory: Any, given: str, wanted: str) -> None:
    laboratory.register()
    laboratory.register()
    assert resolve_model_uri(given) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("models:/other@champion", f"no registered model 'other' in sqlite:.*; there is {MODEL}"),
        (f"models:/{MODEL}@chumpion", r"no alias 'chumpion'; it has the aliases champion \(version 1\)"),
        (f"models:/{MODEL}/7", r"no version '7'; it has versions 1 and the aliases champion \(version 1\)"),
        (f"models:/{MODEL}/Production", "no version 'Production'"),
        ("models:/", "is not the address of a model"),
        (f"models:/{MODEL}/1/2", "is not the address of a model"),
        ("models:/@champion", "is not the address of a model"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(laboratory: Any, given: str, message: str) -> None:
    laboratory.register()
    with pytest.raises(ModelNotFoundError, match=message):
        resolve_model_uri(given)


def test_an_empty_registry(laboratory: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="there is none at all"):
        resolve_model_uri("models:/x@champion")
    assert list_registered_names(laboratory.client) == []


@pytest.mark.parametrize("word", ["1", "champion", "@champion"])
def test_a_version_is_found_by_number_and_by_alias(laboratory: Any, word: str) -> None:
    laboratory.register()
    laboratory.register()
    assert str(find_version(laboratory.client, name=MODEL, version=word).version) == "1"
    assert str(find_version(laboratory.client, name=MODEL, version="latest").version) == "2"


@pytest.mark.parametrize("word", ["0", "9", "-1", "", "@", "one"])
def test_a_version_that_is_not_there_is_told(laboratory: Any, word: str) -> None:
    laboratory.register()
    with pytest.raises(ModelNotFoundError, match=r"has no (version|alias) .*; it has "):
        find_version(laboratory.client, name=MODEL, version=word)


def test_many_versions_are_all_listed_in_order(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        laboratory.register()
    search = laboratory.client.search_model_versions
    monkeypatch.setattr(laboratory.client, "search_model_versions", lambda text, **given: search(text, 1, **given))
    assert [str(version.version) for version in list_model_versions(laboratory.client, name=MODEL)] == ["1", "2", "3"]


def test_a_password_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # By its variable: mlflow.set_registry_uri would hold every later test of this process to one registry.
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://user:secret@host/name")
    assert describe_store() == "postgresql://user:***@host/name"

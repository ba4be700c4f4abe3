"""Which model is meant where the user names none, or less than its whole address."""

from pathlib import Path

import mlflow
import pytest

from sem_search.deployment.registry import choose_model_name, complete_model_uri
from sem_search.errors import ModelNotFoundError


def register(*names: str, champions: tuple[str, ...] = ()) -> None:
    client = mlflow.MlflowClient()
    for name in names:
        client.create_registered_model(name)
        client.create_model_version(name, Path.cwd().as_uri())
    for name in champions:
        client.set_registered_model_alias(name, "champion", "1")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("a", "models:/a@champion"),
        ("Köln 2", "models:/Köln 2@champion"),
        ("a@challenger", "models:/a@challenger"),
        ("models:/a", "models:/a@champion"),
        ("models:a", "models:/a@champion"),
        ("models:/a/2", "models:/a/2"),
        ("models:/a@champion", "models:/a@champion"),
        ("models:/m-0123abcd", "models:/m-0123abcd"),
        ("runs:/0123/classifier", "runs:/0123/classifier"),
        ("folder", "folder"),
        ("some/folder", "some/folder"),
        ("C:\\some\\folder", "C:\\some\\folder"),
    ],
)
def test_an_address_is_completed_without_a_registry(
    given: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete_model_uri(given) == wanted


@pytest.mark.parametrize("given", [None, "auto"])
def test_the_only_champion_is_meant(laboratory: object, given: str | None) -> None:
    register("a", "b", champions=("b",))
    assert complete_model_uri(given) == "models:/b@champion"


@pytest.mark.parametrize(
    ("names", "champions", "message"),
    [
        ((), (), "There is no registered model in sqlite.*: a search registers one"),
        (("a", "b"), ("a", "b"), r"2 models have a champion in sqlite.*: a and b\. .*model=models:/a@champion"),
        (("a", "b"), (), r"No model in sqlite.* has a champion; there is a and b\. .*model=models:/a/1"),
    ],
)
def test_what_is_not_clear_is_listed(
    laboratory: object, names: tuple[str, ...], champions: tuple[str, ...], message: str
) -> None:
    register(*names, champions=champions)
    with pytest.raises(ModelNotFoundError, match=message):
        complete_model_uri(None)


@pytest.mark.parametrize("given", ["a", "a@champion", "models:/a", "models:a", "models:/a@champion", "models:/a/3"])
def test_a_name_is_taken_out_of_an_address(given: str) -> None:
    assert choose_model_name(given) == "a"


def test_the_only_model_is_meant(laboratory: object) -> None:
    register("a")
    assert choose_model_name(None) == "a"
    register("b")
    with pytest.raises(ModelNotFoundError, match=r"has 2 models: a and b\. Say which one: model=NAME"):
        choose_model_name(None)

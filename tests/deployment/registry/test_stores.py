from pathlib import Path

import mlflow
import pytest

from sem_search.deployment.registry.stores import describe_store, open_client
from sem_search.errors import ModelNotFoundError
from sem_search.places import find_sqlite_file


@pytest.fixture
def set_store():
    before = mlflow.get_tracking_uri()
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)


def test_a_question_in_the_wrong_folder_leaves_nothing_behind(tmp_path: Path, set_store) -> None:
    set_store(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ModelNotFoundError, match=r"There is no registry sqlite:.*mlflow\.db here: give the command in"):
        open_client()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_opened(tmp_path: Path, set_store, make_mlflow_store) -> None:
    set_store(make_mlflow_store(tmp_path))
    assert open_client().search_registered_models() == []


def test_a_password_is_not_told(set_store) -> None:
    set_store("postgresql://user:secret@host/name")
    assert describe_store() == "postgresql://user:***@host/name"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite:///a.db?mode=ro", None),
        ("sqlite:///", None),
        ("http://host", None),
        ("postgresql://host/name", None),
    ],
)
def test_the_file_of_a_store(uri: str, file: str | None) -> None:
    assert find_sqlite_file(uri) == (None if file is None else Path(file))


def test_a_store_is_found_in_a_folder_of_any_name(tmp_path: Path, set_store, make_mlflow_store) -> None:
    """MLflow's default URI is percent-encoded, its file is not."""
    folder = tmp_path / "My Search ü"
    folder.mkdir()
    make_mlflow_store(folder)
    set_store(f"sqlite:///{tmp_path}/My%20Search%20%C3%BC/mlflow.db")
    assert open_client().search_registered_models() == []

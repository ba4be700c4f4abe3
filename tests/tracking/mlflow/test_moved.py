"""A folder that was moved is named, with the command that makes a link."""

import subprocess
from pathlib import Path

import mlflow
import pytest

from sem_search.tracking.mlflow.moved import describe_move, find_missing_folder


@pytest.mark.parametrize(
    ("location", "is_missing"),
    [
        ("{folder}", False),
        ("{folder}/gone", True),
        ("file://{folder}/gone", True),
        ("file://{folder}/is%20here", False),
        ("mlflow-artifacts:/0/gone", False),
        ("s3://bucket/gone", False),
        ("mlruns/gone", False),
    ],
)
def test_only_a_folder_of_this_machine_can_be_missing(tmp_path: Path, location: str, is_missing: bool) -> None:
    (tmp_path / "is here").mkdir()
    missing = find_missing_folder(location.format(folder=tmp_path))
    assert missing == (tmp_path / "gone" if is_missing else None)


@pytest.mark.parametrize("name", ["Köln 1", "gone with it/Köln 1"])
def test_the_command_that_is_printed_makes_the_files_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    here, before = tmp_path / "Köln 2", tmp_path / name
    (here / "mlruns" / "1" / "run").mkdir(parents=True)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{here}/mlflow.db")
    missing = before / "mlruns" / "1" / "run"
    said = describe_move(missing)
    assert f"should lie in {missing}, which is not there" in said
    subprocess.run(said.rpartition("put a link to it there: ")[2].removesuffix("."), shell=True, check=True)
    assert missing.is_dir()


def test_no_command_is_printed_where_the_files_are_not_known_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{tmp_path}/mlflow.db")
    assert describe_move(tmp_path / "before" / "mlruns" / "1").endswith("put a link to it there.")

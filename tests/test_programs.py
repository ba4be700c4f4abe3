"""What starts this program and MLflow, from every folder in which it is printed."""

import shlex
from pathlib import Path

import pytest

from sem_search import programs


@pytest.mark.parametrize(
    ("stands", "expected"),
    [("clone", "scripts/sem-search"), ("elsewhere", "'{folder}/clone/scripts/sem-search'")],
)
def test_the_commands_that_are_named_exist_where_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands: str, expected: str
) -> None:
    """From another folder, the script's whole path, fit for a shell whatever letters it holds."""
    folder = tmp_path / "My Folder"
    (folder / "clone" / "scripts").mkdir(parents=True)
    (folder / "clone" / "scripts" / "sem-search").touch()
    (folder / "elsewhere").mkdir()
    monkeypatch.setattr(programs, "SCRIPT", folder / "clone" / "scripts" / "sem-search")
    monkeypatch.chdir(folder / stands)
    assert programs.find_command() == expected.format(folder=folder)
    assert Path(shlex.split(programs.find_command())[0]).is_file()


def test_mlflow_is_named_by_its_path_where_no_path_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my clone" / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "mlflow").touch()
    monkeypatch.setattr(programs.sys, "executable", str(folder / "python"))
    monkeypatch.setattr(programs, "SCRIPT", folder / "mlflow")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert programs.find_mlflow() == f"'{folder / 'mlflow'}'"
    monkeypatch.chdir(tmp_path / "my clone")
    assert programs.find_mlflow() == ".venv/bin/mlflow"
    monkeypatch.setenv("VIRTUAL_ENV", str(folder))
    assert programs.find_mlflow() == "mlflow"

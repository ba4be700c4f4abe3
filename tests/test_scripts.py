"""The scripts of the README, as a user calls them: their arguments go to the program, never to the installer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sem_search.places import find_sqlite_file

ROOT = Path(__file__).parents[1]

RECORDER = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >> "$RECORD"\n'
"""A program that does nothing but write down how it was called."""

INSTALL = "python -m pip install --quiet --disable-pip-version-check --editable"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv holds recorders, so that nothing is installed or run."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "mlflow", "mypy", "ruff", "lint-imports"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    return folder


def call(checkout: Path, script: str, *words: str, cwd: Path | None = None, **variables: str) -> list[str]:
    """Call a script and return how it called others, line by line."""
    system = checkout.parent / "bin"
    system.mkdir(exist_ok=True)
    if not (system / "python3").exists():
        (system / "python3").symlink_to(sys.executable)
    record = checkout.parent / "record.txt"
    record.unlink(missing_ok=True)
    ours = ("PYTHONPATH", "MLFLOW_", "SEM_SEARCH_")  # what other tests of this process have set
    before = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    subprocess.run(
        [str(checkout / "scripts" / script), *words],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=cwd or checkout,
        env={**before, "PATH": f"{system}{os.pathsep}/usr/bin{os.pathsep}/bin", "RECORD": str(record), **variables},
    )
    return record.read_text().splitlines()


@pytest.mark.parametrize(
    ("script", "words", "called"),
    [
        ("search", ["-P", "backbone=vgg16"], "mlflow run {checkout} --env-manager local -P backbone=vgg16"),
        ("sem-search", ["inspect", "a folder"], "python -m sem_search inspect a folder"),
        ("benchmark", ["epoch", "--batch-size", "16"], "python -m benchmarks epoch --batch-size 16"),
    ],
)
def test_arguments_go_to_the_program(checkout: Path, script: str, words: list[str], called: str) -> None:
    assert call(checkout, script, *words) == [f"{INSTALL} .", called.format(checkout=checkout)]


def test_tests_are_run_after_style_and_types(checkout: Path) -> None:
    calls = call(checkout, "test", "-m", "not slow")
    assert calls[0] == f"{INSTALL} .[dev]"
    assert [line.split()[0] for line in calls[1:]] == ["ruff", "ruff", "lint-imports", "mypy", "python"]
    assert calls[-1] == "python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m not slow"


def test_nothing_is_installed_twice_until_the_requirements_change(checkout: Path) -> None:
    assert len(call(checkout, "search")) == 2
    assert call(checkout, "search") == [f"mlflow run {checkout} --env-manager local"]
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (later, later))
    assert call(checkout, "search")[0].startswith(INSTALL)


@pytest.mark.parametrize("program", ["search", "sem-search", "benchmark", "pretrain"])
def test_a_path_is_relative_to_where_the_user_stands(checkout: Path, tmp_path: Path, program: str) -> None:
    """The project is found all the same, and MLflow's store is the one of this folder."""
    told = """printf '%s\n' "$PWD|$PYTHONPATH|$MLFLOW_TRACKING_URI|$SEM_SEARCH_FOLDER" >> "$RECORD"\n"""
    for name in ("python", "mlflow"):
        (checkout / ".venv" / "bin" / name).write_text(RECORDER + told)
    elsewhere = tmp_path / "My Search \u00fc 50%"
    elsewhere.mkdir()
    stood, packages, store, folder = call(checkout, program, cwd=elsewhere)[-1].split("|")
    assert stood == str(elsewhere)
    if program == "search":
        assert find_sqlite_file(store) == elsewhere / "mlflow.db"
        assert folder == str(elsewhere)
    if program in ("benchmark", "pretrain"):
        assert packages == str(checkout), "they are no part of the installed package"


def test_a_store_that_the_user_names_is_his(checkout: Path) -> None:
    told = """printf '%s\n' "$MLFLOW_TRACKING_URI" >> "$RECORD"\n"""
    (checkout / ".venv" / "bin" / "mlflow").write_text(RECORDER + told)
    assert call(checkout, "search", MLFLOW_TRACKING_URI="http://server:5000")[-1] == "http://server:5000"


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        ([], {}, "sem-search"),
        ([], {"MLFLOW_EXPERIMENT_NAME": "lot 7"}, "lot 7"),
        ([], {"MLFLOW_EXPERIMENT_ID": "3"}, ""),
        (["--experiment-name", "lot 7"], {}, ""),
        (["--experiment-id=3"], {}, ""),
    ],
)
def test_runs_go_to_the_program_s_experiment_unless_the_user_names_one(
    checkout: Path, words: list[str], variables: dict[str, str], expected: str
) -> None:
    told = """printf '%s\n' "$MLFLOW_EXPERIMENT_NAME" >> "$RECORD"\n"""
    (checkout / ".venv" / "bin" / "mlflow").write_text(RECORDER + told)
    assert call(checkout, "search", *words, **variables)[-1] == expected


def test_tests_install_nothing_but_the_project(checkout: Path) -> None:
    """Whoever runs the tests as root gets no package and no file in /etc; CI alone installs its own database."""
    system = checkout.parent / "bin"
    system.mkdir()
    (system / "apt-get").write_text(RECORDER)
    (system / "apt-get").chmod(0o755)
    assert not [line for line in call(checkout, "test") if "apt-get" in line]
    assert "apt-get install" in (ROOT / ".ci" / "run").read_text()
    assert not [path for path in (ROOT / "scripts").iterdir() if "/etc" in path.read_text()]


def test_a_tracking_server_that_is_away_is_told_before_mlflow_tries_it_for_minutes(checkout: Path) -> None:
    asked = "python -m sem_search registry list"
    assert asked not in call(checkout, "search")
    assert asked in call(checkout, "search", MLFLOW_TRACKING_URI="http://server:5000")
    (checkout / ".venv" / "bin" / "python").write_text(RECORDER + "exit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        call(checkout, "search", MLFLOW_TRACKING_URI="http://server:5000")
    assert "mlflow run" not in (checkout.parent / "record.txt").read_text()

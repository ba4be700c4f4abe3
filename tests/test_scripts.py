"""The scripts of the README, as a user calls them: their arguments go to the program, never to the installer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def call(checkout: Path, script: str, *words: str, cwd: Path | None = None) -> list[str]:
    """Call a script and return how it called others, line by line."""
    system = checkout.parent / "bin"
    system.mkdir(exist_ok=True)
    if not (system / "python3").exists():
        (system / "python3").symlink_to(sys.executable)
    record = checkout.parent / "record.txt"
    record.unlink(missing_ok=True)
    subprocess.run(
        [str(checkout / "scripts" / script), *words],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=cwd or checkout,
        env={**os.environ, "PATH": f"{system}{os.pathsep}/usr/bin{os.pathsep}/bin", "RECORD": str(record)},
    )
    return record.read_text().splitlines()


@pytest.mark.parametrize(
    ("script", "words", "called"),
    [
        ("search", ["-P", "backbone=vgg16"], "mlflow run . --env-manager local -P backbone=vgg16"),
        ("sem-search", ["inspect", "a folder"], "python -m sem_search inspect a folder"),
        ("benchmark", ["epoch", "--batch-size", "16"], "python -m benchmarks epoch --batch-size 16"),
    ],
)
def test_arguments_go_to_the_program(checkout: Path, script: str, words: list[str], called: str) -> None:
    assert call(checkout, script, *words) == [f"{INSTALL} .", called]


def test_tests_are_run_after_style_and_types(checkout: Path) -> None:
    calls = call(checkout, "test", "-m", "not slow")
    assert calls[0] == f"{INSTALL} .[dev]"
    assert [line.split()[0] for line in calls[1:]] == ["ruff", "ruff", "lint-imports", "mypy", "python"]
    assert calls[-1] == "python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m not slow"


def test_nothing_is_installed_twice_until_the_requirements_change(checkout: Path) -> None:
    assert len(call(checkout, "search")) == 2
    assert call(checkout, "search") == ["mlflow run . --env-manager local"]
    later = (checkout / ".venv" / ".installed").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (later, later))
    assert call(checkout, "search")[0].startswith(INSTALL)


def test_the_command_line_runs_where_it_was_called(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".venv" / "bin" / "python").write_text(RECORDER + 'pwd >> "$RECORD"\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert call(checkout, "sem-search", "--version", cwd=elsewhere)[-1] == str(elsewhere)

"""What starts this program and MLflow from where the user stands, as a shell takes it."""

import os
import shlex
import sys
from pathlib import Path

import sem_search

SCRIPT = Path(sem_search.__file__).parents[1] / "scripts" / "sem-search"
"""What starts this program from a checkout, with its own environment; installed, it has a name of its own."""


def find_command() -> str:
    """Return what starts this program from the current folder, as a shell takes it."""
    return _show(SCRIPT) if SCRIPT.is_file() else "sem-search"


def find_mlflow() -> str:
    """Return what starts MLflow: in a checkout whose environment is not activated, no path leads to it."""
    own = Path(sys.executable).with_name("mlflow")
    is_on_path = "VIRTUAL_ENV" in os.environ or not SCRIPT.is_file() or not own.is_file()
    return "mlflow" if is_on_path else _show(own)


def _show(program: Path) -> str:
    is_here = program.is_relative_to(Path.cwd())
    return shlex.quote(str(program.relative_to(Path.cwd()) if is_here else program))

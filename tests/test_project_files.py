"""The files around the package say the same as the package."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

from sem_search.cli.main import commands
from sem_search.settings import SearchSettings

ROOT = Path(__file__).parents[1]


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def read_dependencies() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]


def test_environments_name_the_same_requirements() -> None:
    conda = next(entry["pip"] for entry in read_yaml("conda.yaml")["dependencies"] if isinstance(entry, dict))
    assert read_yaml("python_env.yaml")["dependencies"] == read_dependencies()
    assert conda == read_dependencies()


def test_every_requirement_has_an_upper_or_lower_bound() -> None:
    for requirement in read_dependencies():
        assert re.search(r"[<>=]", requirement), f"{requirement} admits any version"


def test_python_env_leaves_the_interpreter_to_mlflow() -> None:
    assert "python" not in read_yaml("python_env.yaml")


def test_nothing_beside_mlproject_takes_its_name() -> None:
    alike = [path.name for path in ROOT.iterdir() if path.name.lower() == "mlproject"]
    assert alike == ["MLproject"]


def test_project_name_fits_a_kubernetes_job() -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", read_yaml("MLproject")["name"])


def test_main_has_one_parameter_per_setting() -> None:
    assert list(read_yaml("MLproject")["entry_points"]["main"]["parameters"]) == list(SearchSettings.model_fields)


def test_settings_are_written_in_the_project_file_and_the_readme() -> None:
    built = runpy.run_path(str(ROOT / "scripts" / "write_options.py"))["build_files"]()
    for name, text in built.items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run scripts/options"


def test_every_setting_has_a_description() -> None:
    for name, field in SearchSettings.model_fields.items():
        assert (field.description or "").endswith("."), name


ENTRY_POINTS = ("main", "worker", "paper", "predict", "inspect", "learning-curve", "demo-data")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_points_call_commands_that_exist(entry_point: str) -> None:
    entry = read_yaml("MLproject")["entry_points"][entry_point]
    words = entry["command"].split()
    assert words[:3] == ["python", "-m", "sem_search"]
    command = commands.commands[words[3]]
    known = {option for param in command.params for option in param.opts}
    for word in words[4:]:
        if word.startswith("--"):
            assert word in known, f"{entry_point}: {word} is no option of {words[3]}"
    used = set(re.findall(r"\{(\w+)\}", entry["command"]))
    assert used == set(entry["parameters"]), "every parameter reaches the command"


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_parameters_are_typed(entry_point: str) -> None:
    for name, parameter in read_yaml("MLproject")["entry_points"][entry_point]["parameters"].items():
        assert parameter["type"] in {"string", "float", "path", "uri"}, name


def test_shell_scripts_are_executable_and_strict() -> None:
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        text = path.read_text(encoding="utf-8")
        if text.startswith("#!/usr/bin/env bash"):
            assert path.stat().st_mode & 0o111, f"{path.name} cannot be run"
            assert "set -euo pipefail" in text, path.name


def test_no_page_holds_both_sides_of_a_conflict() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert pages
    for page in pages:
        assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text(encoding="utf-8"), re.MULTILINE), page.name

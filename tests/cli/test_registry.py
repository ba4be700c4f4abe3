"""The registry's commands: one sentence and exit code 2 for wrong input, 1 where something was tampered with."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sem_search.cli.main import EXIT_INPUT_ERROR, commands
from sem_search.errors import InputError


def run(*words: str) -> Any:
    """Call the command line in this process, as `main` does."""
    result = CliRunner().invoke(commands, ["registry", *words])
    if isinstance(result.exception, InputError):
        return SimpleNamespace(exit_code=EXIT_INPUT_ERROR, output=f"Error: {result.exception}")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def store(tmp_path: Path, make_mlflow_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two versions without record: 1 is champion."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    client = mlflow.MlflowClient()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    client.create_registered_model("m")
    for _ in range(2):
        client.create_model_version("m", (tmp_path / "model").as_uri())
    client.set_registered_model_alias("m", "champion", "1")
    yield tmp_path
    mlflow.set_tracking_uri(before)


def test_the_story_of_a_champion(store: Path) -> None:
    assert "m: 2 versions, champion 1, 0 moves in the history" in run("list").output
    refused = run("promote", "2", "--model", "m")
    assert refused.exit_code == 2
    assert "version 2 was not promoted: versions 2 and 1 carry no out-of-fold answers" in refused.output
    assert "promoted by hand; champion: version 1 -> version 2" in (
        run("promote", "2", "--model", "m", "--reason", "a new lot").output
    )
    assert json.loads(run("list", "--model", "m", "--json").output)[0]["champion"] == "2"
    moved = json.loads(run("rollback", "--json").output)  # there is no other model
    assert (moved["from_version"], moved["to_version"], moved["warnings"]) == ("2", "1", [])
    entries = json.loads(run("history", "--model", "m", "--json").output)
    assert [entry["action"] for entry in entries] == ["found", "promoted by hand", "rolled back"]
    assert entries[-1]["sha256"] == moved["sha256"]
    assert "carries no model card" in run("show", "champion", "--model", "m").output
    verified = json.loads(run("verify", "1", "--model", "m", "--expect-head", moved["sha256"], "--json").output)
    assert verified["is_sound"] is True
    assert verified["head_sha256"] == moved["sha256"]


def test_tampering_ends_with_exit_code_1_and_is_named(store: Path) -> None:
    import mlflow

    run("promote", "2", "--model", "m", "--reason", "a new lot")
    entry = json.loads(run("history", "--model", "m", "--json").output)[-1]
    key = f"sem_search.history.000002.{entry['sha256'][:8]}"
    text = mlflow.MlflowClient().get_registered_model("m").tags[key]
    mlflow.MlflowClient().set_registered_model_tag("m", key, text.replace("a new lot", "an old lot"))
    result = run("verify", "2", "--model", "m")
    assert result.exit_code == 1
    assert "m, version 2 is not what was written. First: history: entry 2 was altered" in result.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["show", "9", "--model", "m"], "no version '9'"),
        (["show", "1", "--model", "other"], "no registered model 'other'"),
        (["show", "--model", "m"], "VERSION"),
        (["promote", "1", "--model", "m"], "version 1 of m is champion already"),
        (["promote", "2", "--model", "m", "--reason", " "], "the reason is empty"),
        (["promote", "2", "--model", "m", "--confidence", "1"], "--confidence"),
        (["promote", "2", "--model", "m", "--margin", "-1"], "--margin"),
        (["rollback", "--model", "m"], "no other version was champion before version 1"),
        (["compare", "1", "--model", "m"], "'B'"),
        (["compare", "1", "1", "--model", "m"], "was to be compared with itself"),
        (["compare", "2", "1", "--model", "m"], "carry no out-of-fold answers"),
        (["verify", "1", "--model", "m", "--data", "no/such/folder"], "no/such/folder"),
        (["verify", "1", "--model", "m", "--expect-head", "xyz"], "expect_head='xyz' is no hash"),
        (["history", "--model", "other"], "there is m"),
        (["list", "--model", "other"], "there is m"),
        (["depose"], "depose"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(store: Path, words: list[str], named: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert named in result.output


@pytest.mark.parametrize(
    "command", [[], ["list"], ["show"], ["history"], ["promote"], ["rollback"], ["compare"], ["verify"]]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(commands, ["registry", *command, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from sem_search.cli.main import commands\n"
        "try: commands(['registry', 'promote', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('mlflow', 'numpy', 'pandas', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"


def list_documented_commands() -> list[str]:
    """Return the commands of the shell blocks in the registry's page."""
    text = (Path(__file__).parents[2] / "docs" / "registry.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("line", list_documented_commands())
def test_every_command_of_the_page_is_one(line: str) -> None:
    program, group, name, *words = shlex.split(line, comments=True)
    assert (program, group) == ("scripts/sem-search", "registry")
    commands.commands["registry"].commands[name].make_context(name, words)


def test_the_page_shows_every_command() -> None:
    shown = {line.split()[2] for line in list_documented_commands()}
    assert shown == set(commands.commands["registry"].commands)

"""The audits' commands: called correctly they call, called wrongly they say so before anything heavy is loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sem_search.cli.main import commands
from sem_search.progress import Show, show_nothing


def catch(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the calls of a command's function; what it is to show by is left out, and used."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def call(*args: Any, show: Show, show_progress: Show = show_nothing, **kwargs: Any) -> None:
        show("answer")
        show_progress("fold 1")
        calls.append((args, kwargs))

    monkeypatch.setattr(f"{module}.{name}", call)
    return calls


def test_audit_asks_everything_or_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.audit", "run_audit")
    runner = CliRunner()
    done = runner.invoke(commands, ["audit", "mine"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "answer\n", "  fold 1\n")
    assert runner.invoke(commands, ["audit", "mine", "--only", "leak, controls", "--threads", "1"]).exit_code == 0
    assert [call[0] for call in calls] == [("mine",), ("mine",)]
    assert calls[0][1]["questions"] == ("leak", "metadata", "left-out", "controls")
    assert calls[0][1]["storage"] == "sqlite:///optuna.db"
    assert calls[1][1]["questions"] == ("leak", "controls")
    assert calls[1][1]["threads"] == 1


@pytest.mark.parametrize("words", [["audit"], ["audit", "mine", "--threads", "0"]])
def test_a_wrong_call_ends_with_code_2(words: list[str]) -> None:
    assert CliRunner().invoke(commands, words).exit_code == 2


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from sem_search.cli.main import commands\n"
        "try: commands(['audit', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'tensorflow', 'mlflow', 'optuna', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


def test_compare_takes_two_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.compare", "run_comparison")
    assert CliRunner().invoke(commands, ["compare", "a"]).exit_code == 2
    assert CliRunner().invoke(commands, ["compare", "a", "b", "--storage", "sqlite:///x.db"]).exit_code == 0
    assert calls == [(("a", "b"), {"storage": "sqlite:///x.db", "study_folder": None})]


@pytest.mark.parametrize(("given", "target"), [((), None), (("--target", "auto"), None), (("--target", "0.95"), 0.95)])
def test_learning_curve_takes_a_target(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], target: float | None
) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.learning_curve", "run_learning_curve")
    assert CliRunner().invoke(commands, ["learning-curve", "mine", *given, "--threads", "1"]).exit_code == 0
    common = {"storage": "sqlite:///optuna.db", "study_folder": None, "threads": 1}
    assert calls == [(("mine",), {**common, "target": target})]


def test_a_target_that_is_no_number_is_refused() -> None:
    done = CliRunner().invoke(commands, ["learning-curve", "mine", "--target", "all"])
    assert done.exit_code == 2
    assert "'all' is no score: give a number such as 0.95, or auto." in done.output


def test_lots_takes_folders_and_what_a_network_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.lots", "run_lots")
    assert CliRunner().invoke(commands, ["lots"]).exit_code == 2
    assert CliRunner().invoke(commands, ["lots", "a", "b", "--backbone", "none"]).exit_code == 2
    assert CliRunner().invoke(commands, ["lots", "a", "b", "--backbone", "resnet50", "--tile-px", "96"]).exit_code == 0
    ((folders,), given) = calls[0]
    assert folders == (Path("a"), Path("b"))
    assert (given["backbone"], given["tile_px"], given["output"]) == ("resnet50", 96, Path("lots"))


def test_a_lot_is_judged_by_a_reference_that_decides_how_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.lots_reference", "run_lot_judgement")
    runner = CliRunner()
    assert runner.invoke(commands, ["lots", "new", "--reference", "kept", "--weights", "w.h5"]).exit_code == 0
    assert runner.invoke(commands, ["lots", "new", "--reference", "kept", "--margin", "2"]).exit_code == 0
    common = {"reference": Path("kept"), "output": Path("lots")}
    assert calls == [
        ((Path("new"),), {**common, "margin": None, "weights": "w.h5"}),
        ((Path("new"),), {**common, "margin": 2.0}),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b", "--margin", "2"], "--margin has no effect without --reference"),
        (["a", "b", "--reference", "kept"], "2 folders are given: --reference judges one lot"),
        (["a", "--reference", "kept", "--margin", "0"], "not in the range"),
    ],
)
def test_a_lot_is_not_judged_by_half_an_order(words: list[str], message: str) -> None:
    done = CliRunner().invoke(commands, ["lots", *words])
    assert done.exit_code == 2
    assert message in done.output


def test_lots_reference_takes_folders_and_what_a_network_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.lots_reference", "run_lots_reference")
    assert CliRunner().invoke(commands, ["lots-reference"]).exit_code == 2
    assert CliRunner().invoke(commands, ["lots-reference", "a", "b", "--tile-px", "96"]).exit_code == 0
    ((folders,), given) = calls[0]
    assert folders == (Path("a"), Path("b"))
    assert (given["backbone"], given["tile_px"], given["output"]) == ("vgg16", 96, Path("reference"))


def test_morphology_takes_a_study_and_another(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = catch(monkeypatch, "sem_search.search.commands.audit", "run_morphology")
    assert CliRunner().invoke(commands, ["morphology", "mine", "--study-folder", "kept"]).exit_code == 0
    assert CliRunner().invoke(commands, ["morphology", "mine", "--other", "yours"]).exit_code == 0
    common = {"storage": "sqlite:///optuna.db", "threads": None}
    assert calls == [
        (("mine",), {**common, "other": None, "study_folder": "kept"}),
        (("mine",), {**common, "other": "yours", "study_folder": None}),
    ]

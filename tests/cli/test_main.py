"""The command line: quick help, and refusals in one sentence with exit code 2."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from sem_search.cli.main import commands, print_without_secrets
from sem_search.errors import InputError
from sem_search.places import STORE_VARIABLE
from sem_search.settings import SearchSettings

HELP_LIMIT_S = 0.5
HEAVY = ("tensorflow", "keras", "mlflow", "optuna", "matplotlib", "skimage", "sklearn", "pandas", "scipy", "numpy")


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sem_search", *words], capture_output=True, text=True, cwd=cwd, timeout=120
    )


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["search"],
        ["paper"],
        ["worker"],
        ["predict"],
        ["monitor"],
        ["inspect"],
        ["demo-data"],
        ["cache"],
        ["serve"],
        ["app"],
    ],
)
def test_help_names_every_command(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "Usage: sem-search" in done.stdout


def test_help_is_quick() -> None:
    """In the processor's seconds: on the clock, other work beside it counts as well."""
    run("--help")
    times_s = []
    for _ in range(3):
        begun = os.times()
        run("search", "--help")
        ended = os.times()
        times_s.append(ended.children_user + ended.children_system - begun.children_user - begun.children_system)
    assert 0 < min(times_s) < HELP_LIMIT_S, f"median {statistics.median(times_s):.2f} s"


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from sem_search.cli.main import commands, print_without_secrets\n"
        "try: commands(['search', '--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["search", "--backbone", "vgg61"], "vgg61"),
        (["search", "--no-such", "1"], "--no-such"),
        (["search", "--epochs", "0"], "epochs"),
        (["search", "--data", "no/such/folder"], "no/such/folder"),
        (["search", "--epochs", "10", "--patience", "20"], "patience=20"),
        (["paper", "--backbones", "vgg16,vgg61"], "vgg61"),
        (["paper", "--backbone", "vgg16"], "--backbone"),
        (["inspect", "no/such/folder"], "no/such/folder"),
        (["demo-data", "x", "--size", "huge"], "huge"),
        (["no-such-command"], "no-such-command"),
        (["serve"], "There is no registry"),
        (["serve", "--model", "x", "--port", "0"], "--port"),
        (["app", "--model", "x", "--timeout", "none"], "--timeout"),
        (["predict", "x", "--model", "m", "--format", "xml"], "--format"),
        (["predict"], "IMAGES"),
        (["monitor"], "--journal"),
        (["worker"], "--study"),
        (["worker", "--study", "x", "--threads", "many"], "many"),
        (["worker", "--study", "x", "--threads", "0"], "--threads"),
        (["worker", "--study", "x"], "optuna.db"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(words: list[str], named: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop(STORE_VARIABLE, None)  # of a test before this one, whose store was somewhere else
    done = subprocess.run(
        [sys.executable, "-m", "sem_search", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


def test_what_a_file_is_called_is_no_command_to_the_terminal(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path / "\x1b[2J\x9b31m"))
    assert done.returncode == 2
    assert "\\u001b[2J\\u009b31m" in done.stderr
    assert not set(done.stderr) & {"\x1b", "\x9b"}


KEPT = "Stopped. What is finished is kept: the same command again goes on from there.\n"


@pytest.mark.parametrize(
    ("called", "arguments", "said"),
    [
        ("sem_search.search.commands.search.run_search", ["search"], KEPT),
        ("sem_search.search.commands.paper.run_paper", ["paper"], KEPT),
        ("sem_search.search.commands.worker.run_worker", ["worker", "--study", "a"], KEPT),
        ("sem_search.search.commands.audit.run_audit", ["audit", "a"], "Stopped.\n"),
        ("sem_search.search.commands.audit.run_morphology", ["morphology", "a"], "Stopped.\n"),
        ("sem_search.search.commands.compare.run_comparison", ["compare", "a", "b"], "Stopped.\n"),
        ("sem_search.search.commands.lots.run_lots", ["lots", "a", "b"], "Stopped.\n"),
        ("sem_search.search.commands.inspect.run_inspection", ["inspect", "a"], "Stopped.\n"),
        (
            "sem_search.deployment.batch.predict.predict_images",
            ["predict", "a.png", "--model", "models:/a@champion"],
            "Stopped.\n",
        ),
        ("sem_search.micrographs.demo.write_demo_data", ["demo-data", "a"], "Stopped.\n"),
    ],
)
def test_a_command_that_is_stopped_promises_to_go_on_only_where_it_does(
    monkeypatch: pytest.MonkeyPatch, called: str, arguments: list[str], said: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(called, interrupt)
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 130
    assert done.output.endswith(said)
    assert "Aborted" not in done.output


def test_a_search_shows_what_it_does_and_ends_with_the_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    def conclude(settings: SearchSettings, *, show: Callable[[str], None]) -> SimpleNamespace:
        show(f"data={settings.data}")
        return SimpleNamespace(to_text=lambda: "Winner")

    monkeypatch.setattr("sem_search.search.commands.search.run_search", conclude)
    done = CliRunner().invoke(commands, ["search", "--data", "here"])
    assert (done.exit_code, done.output) == (0, "data=here\nWinner\n")


def test_the_paper_is_asked_of_each_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SearchSettings] = []

    def conclude(searches: Sequence[SearchSettings], *, show: Callable[[str], None]) -> SimpleNamespace:
        asked.extend(searches)
        return SimpleNamespace(to_text=lambda: "Page")

    monkeypatch.setattr("sem_search.search.commands.paper.run_paper", conclude)
    done = CliRunner().invoke(commands, ["paper", "--data", "here", "--backbones", "tiny, vgg16", "--threads", "auto"])
    assert (done.exit_code, done.output) == (0, "Page\n")
    assert [(one.data, one.backbone, one.preset) for one in asked] == [
        ("here", "tiny", "paper"),
        ("here", "vgg16", "paper"),
    ]


def test_a_batch_system_s_signal_ends_a_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        "sem_search.search.commands.audit.run_audit", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    done = CliRunner().invoke(commands, ["audit", "a"])
    assert (done.exit_code, done.output) == (130, "Stopped.\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_unexpected_error_shows_its_traceback_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("no answer from https://me:s3cret@host/api")
    except RuntimeError as error:
        print_without_secrets(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "https://me:***@host/api" in printed
    assert "s3cret" not in printed


def test_inspect_can_follow_its_own_advice(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{file},{file.parent.name}" for file in sorted(tiny_folder.glob("*/*.png"))]
    (tmp_path / "set.csv").write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    words = ["inspect", "set.csv", "--folds", "3", "--tile-px", "48", "--overlaps", "ignore"]
    refused = CliRunner().invoke(commands, words)
    assert isinstance(refused.exception, InputError)
    assert "allow_outside=true" in str(refused.exception)
    assert CliRunner().invoke(commands, [*words, "--allow-outside"]).exit_code == 0
    assert json.loads(Path("inspection/inspection.json").read_text(encoding="utf-8"))["n_images"] == 15


def test_inspect_leaves_out_a_class_with_a_comma(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(tiny_folder, tmp_path / "data")
    (folder / "grains").rename(folder / "MCC, 50 um")
    words = ["inspect", "data", "--folds", "3", "--tile-px", "48", "--exclude", '"MCC, 50 um"']
    assert CliRunner().invoke(commands, words).exit_code == 0
    written = json.loads(Path("inspection/inspection.json").read_text(encoding="utf-8"))
    assert [found["name"] for found in written["classes"]] == ["blobs", "stripes"]


def test_inspect_looks_at_one_pixel_size(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["inspect", str(tiny_folder), "--folds", "3", "--tile-px", "48", "--pixel-size-nm", "common"]
    refused = CliRunner().invoke(commands, words)
    assert isinstance(refused.exception, InputError), "its pictures state no pixel size"
    assert str(refused.exception).startswith("pixel_size_nm=common: no image states its pixel size")


def test_a_folder_to_work_in_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "MLproject").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sem_search", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MLFLOW_RUN_ID": "x",
            "SEM_SEARCH_FOLDER": str(tmp_path / "no" / "such"),
        },
    )
    assert done.returncode == 2
    assert "The folder to work in is not there (No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr

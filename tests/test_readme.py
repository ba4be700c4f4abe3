"""The README tells the truth: each of its commands exists, with these options, and the quick ones do as it says.

Every command of a `sh` block, and every command named in the text, is held against the program that it calls: scripts
against their files, `sem-search` and `mlflow` against their own parsers, `-P name=value` against MLproject. Those that
end within a second are run, as they stand. What takes a server or a whole search is run elsewhere: `mlflow models
serve` and `curl` in `deployment/test_served_process.py`, `mlflow run` in `test_end_to_end.py`, `scripts/test` by CI.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

import sem_search
from sem_search.cli.main import commands
from sem_search.deployment.pyfunc.requests import IMAGE_COLUMN
from sem_search.errors import SettingsError
from sem_search.micrographs import demo
from sem_search.search.results.study_result import Study
from sem_search.seeds import derive_seed
from sem_search.settings import build_settings
from sem_search.transfer.names import TINY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

PROGRAMS = ("scripts/", "mlflow ", "sem-search ", "python -m sem_search", "conda ", "curl ")
"""How a command that stands in the text begins; `sem_search` and other names are no commands."""

MODEL_URI = re.compile(r"models:/(?P<name>[\w.-]+)@(?P<alias>\w+)")
REQUEST_FILE = "request.json"

PICTURE_PX = 256
"""Side of the pictures that stand for a user's own: just above the tile of a search."""

TILE_PX = 64
"""Side of a tile of the classifier that stands for a registered one."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of the README."""

    text: str
    """As it stands there, on one line."""
    words: tuple[str, ...]
    """As the shell would hand them over; comments left out, `$(...)` as it stands."""


def parse_command(text: str) -> Command:
    return Command(text=text, words=tuple(shlex.split(text, comments=True)))


def list_block_commands() -> list[Command]:
    """Return the commands of all `sh` blocks."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [command for line in lines if (command := parse_command(line)).words]


def list_text_commands() -> list[Command]:
    """Return the commands that are named in the text, in `back quotes`."""
    prose = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", prose)
    return [parse_command(span) for span in spans if f"{span} ".startswith(PROGRAMS)]


BLOCK_COMMANDS, TEXT_COMMANDS = list_block_commands(), list_text_commands()
COMMANDS = list(dict.fromkeys([*BLOCK_COMMANDS, *TEXT_COMMANDS]))


def check_click(command: click.Command, words: list[str], *, parent: click.Context | None = None) -> None:
    """Let a click program parse the words, sub-command by sub-command; nothing is run.

    Raises:
        click.UsageError: A sub-command or an option that does not exist, a value that is not taken.
    """
    try:
        context = command.make_context(command.name or "", list(words), parent=parent)
    except click.exceptions.Exit as done:
        assert done.exit_code == 0  # --help
        return
    if isinstance(command, click.Group):
        _, sub_command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert sub_command is not None
        check_click(sub_command, rest, parent=context)


def check_sem_search(words: list[str]) -> None:
    check_click(commands, words)
    if words[:1] == ["search"] and "--help" not in words:
        build_settings({})


def check_mlflow(words: list[str]) -> None:
    from mlflow.cli import cli

    if len(words) == 1:
        assert cli.get_command(click.Context(cli), words[0]) is not None, f"mlflow {words[0]}"
        return
    check_click(cli, words)
    if words[0] == "run":
        check_project_parameters(words)


def check_project_parameters(words: list[str]) -> None:
    """Hold each `-P name=value` against MLproject, and all of them together against the settings."""
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    entry_point = words[words.index("-e") + 1] if "-e" in words else "main"
    assert entry_point in project["entry_points"], f"MLproject has no entry point {entry_point}"
    given = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "-P")
    unknown = set(given) - set(project["entry_points"][entry_point]["parameters"])
    assert not unknown, f"{unknown} are no parameters of {entry_point}"
    if entry_point == "main":
        build_settings(given)


def check_script(words: list[str]) -> None:
    path = ROOT / words[0]
    assert path.is_file(), f"there is no {words[0]}"
    assert path.stat().st_mode & 0o111, f"{words[0]} cannot be run"
    if path.name == "sem-search":
        assert 'exec python -m sem_search "$@"' in path.read_text(encoding="utf-8")
        check_sem_search(words[1:])
    elif path.name == "search":
        assert 'exec mlflow run "$project" --env-manager local "$@"' in path.read_text(encoding="utf-8")
        check_mlflow(["run", ".", *words[1:]])


def list_ports() -> set[str]:
    """Return the ports of the servers that the README starts."""
    options = [command.words for command in BLOCK_COMMANDS if "serve" in command.words or "app" in command.words]
    return {words[at + 1] for words in options for at, word in enumerate(words) if word in ("-p", "--port")}


def check_curl(words: list[str]) -> None:
    """Hold the request against the server that the README starts, and its body against what the model takes."""
    assert words[1:] and set(words) & {f"http://127.0.0.1:{port}/invocations" for port in list_ports()}
    assert "Content-Type: application/json" in words
    assert words[words.index("-d") + 1] == f"@{REQUEST_FILE}"


def check_printf(words: list[str]) -> None:
    """Hold the request that is written against what the model takes."""
    body = json.loads(words[1] % "aGVsbG8=")
    assert {name for record in body["dataframe_records"] for name in record} == {IMAGE_COLUMN}
    assert words[-2:] == [">", REQUEST_FILE]


def check_conda(words: list[str]) -> None:
    assert words[:3] == ["conda", "env", "create"]
    assert (ROOT / words[words.index("-f") + 1]).is_file()


def check_command(command: Command) -> None:
    """Hold a command against the program that it calls."""
    program, *rest = command.words
    if program.startswith("scripts/"):
        check_script(list(command.words))
    elif program == "sem-search":
        check_sem_search(rest)
    elif command.words[:3] == ("python", "-m", "sem_search"):
        check_sem_search(rest[2:])
    elif program == "mlflow":
        check_mlflow(rest)
    elif program == "curl":
        check_curl(list(command.words))
    elif program == "printf":
        check_printf(list(command.words))
    elif program == "conda":
        check_conda(list(command.words))
    else:
        pytest.fail(f"no test knows {program!r}: teach `check_command` what to hold it against")


def test_the_readme_has_commands_and_its_first_two_are_the_promised_ones() -> None:
    assert [command.words for command in BLOCK_COMMANDS[:2]] == [
        ("scripts/search", "-P", "backbone=vgg16"),
        ("scripts/test",),
    ]
    assert TEXT_COMMANDS


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text.split(" #")[0].strip()[:60])
def test_every_command_exists_with_these_words(
    command: Command, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_command(command)


@pytest.mark.parametrize(
    "text",
    [
        "scripts/no-such",
        "scripts/search -P backbones=vgg16",
        "scripts/search -P backbone=vgg61",
        "scripts/search --no-such",
        "scripts/sem-search no-such",
        "scripts/sem-search inspect path --no-such 1",
        "scripts/sem-search demo-data folder --size huge",
        "sem-search predict",
        "mlflow no-such",
        "mlflow models no-such",
        "mlflow models serve --no-such",
        "mlflow run . -e no-such",
        "curl -s http://127.0.0.1:1/invocations -H 'Content-Type: application/json' -d @request.json",
        'printf \'{"dataframe_records": [{"picture": "%s"}]}\' x > request.json',
        "rm -r .",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(text: str, place: Path) -> None:
    with pytest.raises((AssertionError, click.UsageError, SettingsError, pytest.fail.Exception)):
        check_command(parse_command(text))


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def iter_tree_entries() -> Iterator[str]:
    """Yield the paths that the annotated tree names."""
    (tree,) = re.findall(r"^```\n(MLproject.*?)^```", README, re.DOTALL | re.MULTILINE)
    folder = ""
    for line in tree.splitlines():
        names = re.split(r" {2,}", line.strip())[0 if line.startswith(" ") else slice(None)]
        for name in [names] if isinstance(names, str) else names:
            if re.fullmatch(r"[\w.-]+/?", name) and ("." in name or name.endswith("/") or name == "MLproject"):
                yield folder + name if line.startswith(" ") else name
        if not line.startswith(" ") and line.split()[0].endswith("/"):
            folder = line.split()[0]


def test_the_annotated_tree_is_the_real_one() -> None:
    entries = list(iter_tree_entries())
    assert {"MLproject", "scripts/", "sem_search/", "sem_search/errors.py", "sem_search/micrographs/"} <= set(entries)
    assert [entry for entry in entries if not (ROOT / entry).exists()] == []


def find_commands(*begin: str) -> list[Command]:
    """Return the commands that call the program in these words; there is one at least."""
    found = [command for command in BLOCK_COMMANDS if command.words[: len(begin)] == begin]
    assert found, f"the README no longer tells of `{' '.join(begin)}`"
    return found


def draw_picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:PICTURE_PX, :PICTURE_PX]
    waves = np.sin(rows / rng.uniform(2, 9)) * np.sin(columns / rng.uniform(2, 9))
    return Image.fromarray(np.clip(128 + 60 * waves + rng.normal(scale=20, size=waves.shape), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every picture of the README lies where the README says."""
    folder = tmp_path_factory.mktemp("readme")
    for label in ("cellulose", "lactose", "starch"):
        (folder / "path/to/micrographs" / label).mkdir(parents=True)
        for number in range(5):
            seed = derive_seed(0, label, number)
            draw_picture(seed).save(folder / "path/to/micrographs" / label / f"{number}.png")
    (folder / "path/to/images").mkdir()
    for name in ("path/to/images/one.png", "path/to/images/two.jpg", "image.tif"):
        draw_picture(len(name)).save(folder / name)
    return folder


@pytest.fixture
def place(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, as the current one."""
    monkeypatch.chdir(pictures)
    return pictures


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, make_mlflow_store: Callable[[Path], str]) -> Iterator[str]:
    """A tiny classifier under every name and alias that the README asks for; the address of its store."""
    import keras
    import mlflow

    from sem_search.deployment.package.description import ClassifierDescription
    from sem_search.deployment.package.writing import ClassifierParts, log_classifier
    from sem_search.transfer.backbones import get_backbone
    from sem_search.transfer.cut import build_head, cut_network

    folder = tmp_path_factory.mktemp("registry")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(folder))
    client = mlflow.MlflowClient()
    experiment_id = client.create_experiment("readme", artifact_location=(folder / "artifacts").as_uri())
    run_id = client.create_run(experiment_id).info.run_id
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone(TINY).build(tile_px=TILE_PX))
    head = build_head(cut, n_classes=3, hidden_units=8, seed=0)
    parts = ClassifierParts(
        trunk=cut.trunk,
        head=head,
        head_weights=[head.get_weights()],
        description=ClassifierDescription(
            class_names=("cellulose", "lactose", "starch"),
            backbone=TINY,
            convolution=cut.convolution,
            n_heads=1,
            tile_px=TILE_PX,
            stride_px=TILE_PX,
            crop_bottom_px=0,
        ),
    )
    logged = log_classifier(parts, run_id=run_id)
    for name, alias in sorted(set(MODEL_URI.findall(README))):
        if not client.search_registered_models(filter_string=f"name='{name}'"):
            client.create_registered_model(name)
            client.create_model_version(name, source=logged.model_uri, run_id=run_id)
        client.set_registered_model_alias(name, alias, "1")
    yield mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(before)


def run_words(words: tuple[str, ...]) -> Result:
    """Run a `scripts/sem-search ...` command in this process."""
    assert words[0] == "scripts/sem-search"
    return CliRunner().invoke(commands, list(words[1:]), catch_exceptions=False)


def test_inspect_finds_what_is_there_and_writes_both_files(place: Path) -> None:
    for command in find_commands("scripts/sem-search", "inspect"):
        done = run_words(command.words)
        assert done.exit_code == 0
        assert "15 images of 3 classes" in done.output
    for name in ("inspection/inspection.html", "inspection/inspection.json"):
        assert f"`{name}`" in README
        assert (place / name).is_file()


def test_demo_data_writes_the_set_that_the_readme_promises(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered here as points of grey: the pictures themselves are tested where they are made."""
    sizes: list[demo.DemoSize] = []

    def render(_material: object, *, size: demo.DemoSize, seed: int) -> np.ndarray:
        sizes.append(size)
        return np.full((2, 2), seed % 256, dtype=np.uint8)

    monkeypatch.setattr(demo, "render_micrograph", render)
    command = find_commands("scripts/sem-search", "demo-data")[0]
    done = run_words(command.words)
    assert done.exit_code == 0
    folders = [path for path in (place / command.words[2]).iterdir() if path.is_dir()]
    assert [len(list(folder.glob("*.png"))) for folder in folders] == [10] * 10
    assert {(size.scan_width_px, size.scan_height_px + size.bar_height_px) for size in sizes} == {(1280, 960)}
    assert "ten materials, ten images of 1280 x 960 px each" in README


@pytest.mark.usefixtures("registered")
def test_predict_writes_a_line_for_each_image(place: Path) -> None:
    for command in find_commands("scripts/sem-search", "predict"):
        done = run_words(command.words)
        assert done.exit_code == 0, done.output
        table = pd.read_csv(place / command.words[command.words.index("--output") + 1])
        assert [Path(name).name for name in table["image"]] == ["one.png", "two.jpg"]
        assert set(table["label"]) <= {"cellulose", "lactose", "starch"}


@pytest.mark.usefixtures("registered", "place")
@pytest.mark.parametrize(("act", "told"), [("list", "sem-search-vgg16"), ("show", "Aliases: champion")])
def test_the_registry_can_be_looked_at(act: str, told: str) -> None:
    for command in find_commands("scripts/sem-search", "registry", act):
        done = run_words(command.words)
        assert done.exit_code == 0, done.output
        assert told in done.output


@pytest.mark.usefixtures("registered", "place")
def test_the_body_of_the_request_is_answered_as_the_readme_says() -> None:
    """The model is asked as MLflow's server asks it; the server itself is started in the tests of deployment."""
    import mlflow

    served = find_commands("mlflow", "models", "serve")[0].words
    model = mlflow.pyfunc.load_model(served[served.index("-m") + 1])
    for command in find_commands("printf"):
        frame = pd.DataFrame(write_request(command)["dataframe_records"])
        for params, wanted in (({}, set()), ({"explain": True}, {"overlay_png"}), ({"tiles": True}, {"tiles"})):
            assert not params or json.dumps(params) in README
            (answer,) = model.predict(frame, params=params).to_dict("records")
            assert {"label", "probability", "probabilities", "n_tiles"} | wanted <= set(answer)
            assert answer["n_tiles"] == (PICTURE_PX // TILE_PX) ** 2
            assert answer["probabilities"][answer["label"]] == answer["probability"]


@pytest.mark.usefixtures("place")
def test_a_micrograph_of_an_instrument_s_size_fits_into_a_request() -> None:
    # Linux hands a program no single word above 128 KiB, so that `curl -d "...$(base64 ...)"` would fail.
    pixels = np.random.default_rng(0).integers(0, 256, (960, 1280), dtype=np.uint8)
    Image.fromarray(pixels).save("image.tif")
    for command in find_commands("printf"):
        (record,) = write_request(command)["dataframe_records"]
        assert len(record[IMAGE_COLUMN]) > 4 * pixels.size / 3


def write_request(command: Command) -> dict[str, Any]:
    """Let a shell write the request, and return it."""
    subprocess.run(["bash", "-c", command.text], check=True)
    content: dict[str, Any] = json.loads(Path(REQUEST_FILE).read_text(encoding="utf-8"))
    return content


def test_the_python_of_the_readme_uses_public_functions_and_attributes() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    compile(block, "README.md", "exec")
    called = set(re.findall(r"\bss\.(\w+)", block))
    assert len(called) > 5
    assert called <= set(sem_search.__all__)
    for name in re.findall(r"\bstudy\.(\w+)", block):
        assert hasattr(Study, name) or name in Study.__dataclass_fields__, name

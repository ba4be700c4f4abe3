"""`sem-search report`: found where it lies, made again where it does not, and nothing is trained."""

import json
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner

from sem_search.cli import audits
from sem_search.cli.main import commands
from sem_search.deployment.registry import RegisteredVersion
from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.records import Cell, StudyOutcome
from sem_search.search.commands import report as reporting
from sem_search.search.commands.finished_study import FinishedStudy
from sem_search.search.commands.report import run_kit, run_report
from sem_search.search.prepare.study_folder import claim_study_folder
from sem_search.search.results import conclusion
from sem_search.search.results.outcome import read_study_outcome
from sem_search.search.results.run_description import describe_versions
from sem_search.search.trials.attributes import RUN_ID, SETTINGS
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.types import TextArtifact
from sem_search.tracking.kit.methods import StudyRecord, write_methods
from sem_search.tracking.report import pdf

CELL = Cell(learning_rate=0.1, batch_size=8)
STORAGE = "sqlite:///x.db"


@pytest.fixture
def made(study, prepared, untouched_trainer, store_folds, monkeypatch: pytest.MonkeyPatch) -> list[StudyContext]:
    """A finished study; the contexts of the reports that are made of it."""
    store_folds(cell=CELL)
    study.set_user_attr(SETTINGS, prepared.settings.model_dump_json())
    trial = optuna.trial.create_trial(
        value=1.0,
        params={"learning_rate": CELL.learning_rate, "batch_size": CELL.batch_size},
        distributions={
            "learning_rate": optuna.distributions.CategoricalDistribution([0.1]),
            "batch_size": optuna.distributions.CategoricalDistribution([8]),
        },
        intermediate_values=dict.fromkeys(range(3), 1.0),
        user_attrs={RUN_ID: "best"},
    )
    study.add_trial(trial)
    claim_study_folder(
        prepared.settings, name=prepared.name, fingerprint=prepared.fingerprint, folds=prepared.data.folds
    )
    prepared.__dict__["trainer"] = untouched_trainer
    outcome = read_study_outcome(study, prepared=prepared)
    contexts: list[StudyContext] = []

    def render(shown: StudyOutcome, *, context: StudyContext) -> str:
        contexts.append(context)
        return f"report {len(contexts)} of {shown.name}"

    def find(*, model_name: str, run_ids: list[str]) -> RegisteredVersion | None:
        assert (model_name, run_ids) == ("sem-search-tiny", ["best"])
        return RegisteredVersion(name=model_name, version="4", alias="champion", reason="")

    taken = FinishedStudy(prepared=prepared, outcome=outcome, run_id="study-run")
    monkeypatch.setattr(reporting, "load_study", lambda **_: study)
    monkeypatch.setattr(reporting, "take_up_study", lambda *_, **__: taken)
    monkeypatch.setattr(reporting, "render_report", render)
    monkeypatch.setattr(reporting, "find_registered", find)
    monkeypatch.setattr(conclusion, "read_audit_light", lambda **_: "good")
    monkeypatch.setattr(conclusion, "read_learning_curve", lambda **_: "About 20 images.")
    return contexts


def test_a_report_is_made_once_and_then_found(made: list[StudyContext], prepared, tmp_path: Path) -> None:
    file = run_report("a study", storage=STORAGE)
    assert file == Path(prepared.settings.study_folder) / "a study" / "report.html"
    assert file.read_text() == "report 1 of a study"
    (context,) = made
    assert (context.model_uri, context.run_id, context.audit_light) == (
        "models:/sem-search-tiny@champion",
        "study-run",
        "good",
    )
    assert context.heat_maps is not None
    copy = run_report("a study", storage=STORAGE, output=tmp_path / "new" / "copy.html")
    assert (copy, copy.read_text(), len(made)) == (tmp_path / "new" / "copy.html", "report 1 of a study", 1)
    assert run_report("a study", storage=STORAGE, is_new=True).read_text() == "report 2 of a study"


def test_the_only_study_needs_no_name(
    made: list[StudyContext], prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/optuna.db"
    with pytest.raises(SettingsError, match="there is no such file here"):
        run_report(storage=storage)
    optuna.create_study(study_name="a study", storage=storage)
    assert run_report(storage=storage) == Path(prepared.settings.study_folder) / "a study" / "report.html"
    optuna.create_study(study_name="another", storage=storage)
    with pytest.raises(StudyMismatchError, match="Name one of the studies of this storage: a study, another"):
        run_report(storage=storage)


def test_a_study_without_its_folder_is_refused(made: list[StudyContext], tmp_path: Path) -> None:
    with pytest.raises(StudyMismatchError, match="'a study' has no folder below"):
        run_report("a study", storage=STORAGE, study_folder=str(tmp_path / "none"))


def test_the_command_prints_the_file_and_opens_it_when_asked(
    made: list[StudyContext], prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(audits, "open_page", opened.append)
    done = CliRunner().invoke(commands, ["report", "a study"])
    file = Path(prepared.settings.study_folder) / "a study" / "report.html"
    assert (done.exit_code, done.stdout, opened) == (0, f"{file}\n", [])
    assert CliRunner().invoke(commands, ["report", "a study", "--open"]).exit_code == 0
    assert opened == [file.as_uri()]


@pytest.fixture
def kits(made: list[StudyContext], monkeypatch: pytest.MonkeyPatch) -> list[StudyRecord]:
    """The records that kits are made of; only their methods are written, and the versions are those of the search."""
    records: list[StudyRecord] = []

    def build(record: StudyRecord) -> list[TextArtifact]:
        records.append(record)
        return [TextArtifact(path="methods.md", text=write_methods(record))]

    def read(*, run_id: str, path: str) -> str:
        assert (run_id, path) == ("study-run", "study/versions.json")
        return json.dumps({**describe_versions(), "python": "3.10.99"})

    monkeypatch.setattr(reporting, "build_kit", build)
    monkeypatch.setattr(reporting, "read_text_artifact", read)
    return records


def test_a_kit_is_made_of_the_study_s_record(kits: list[StudyRecord], prepared, tmp_path: Path) -> None:
    folder = run_kit("a study", storage=STORAGE, folder=tmp_path / "Kit für alle")
    (record,) = kits
    assert record.study.winner.cell == CELL
    text = (folder / "methods.md").read_text("utf-8")
    for words in (
        "15 scanning electron micrographs of 3 classes: blobs (5), grains (5), stripes (5).",
        "tiles of 48 x 48 px",
        "random weights",
        "was chosen: learning rate 0.1, batch size 8.",
        "of learning rate (0.1, 0.01) and batch size (8, 16)",
        "with Python 3.10.99",
        f"data {prepared.data.catalogue.digest[:16]}",
    ):
        assert words in text
    with pytest.raises(SettingsError, match="holds files"):
        run_kit("a study", storage=STORAGE, folder=folder)


def test_originals_are_reduced_for_print_less_than_for_a_report(
    kits: list[StudyRecord], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert reporting.PRINTED_SIDE_PX > 2 * conclusion.SHOWN_SIDE_PX
    monkeypatch.setattr(reporting, "PRINTED_SIDE_PX", 48)
    run_kit("a study", storage=STORAGE, folder=tmp_path / "kit")
    context = kits[0].context
    assert {example.pixels.shape for example in (*context.examples, context.tiling.image)} == {(48, 48)}


def test_the_command_makes_a_kit_and_prints_the_report(
    kits: list[StudyRecord], prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[tuple[Path, Path]] = []

    def print_page(page: Path, *, target: Path, browser: str) -> Path:
        assert browser == "/bin/chromium"
        printed.append((page, target))
        return target

    monkeypatch.setattr(pdf, "find_browser", lambda: "/bin/chromium")
    monkeypatch.setattr(pdf, "print_pdf", print_page)
    file = Path(prepared.settings.study_folder) / "a study" / "report.html"
    done = CliRunner().invoke(commands, ["report", "a study", "--kit", str(tmp_path / "kit"), "--pdf"])
    target = tmp_path / "kit" / "report.pdf"
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'kit'}\n{file}\n{target}\n")
    assert CliRunner().invoke(commands, ["report", "a study", "--pdf"]).exit_code == 0
    assert printed == [(file, target), (file, file.with_suffix(".pdf"))]


def test_a_missing_browser_is_told_before_anything_is_made(
    kits: list[StudyRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(commands, ["report", "a study", "--kit", str(tmp_path / "kit"), "--pdf"])
    assert isinstance(done.exception, SettingsError)
    assert (kits, (tmp_path / "kit").exists()) == ([], False)

"""The end of a search: what is printed, what is registered with which score, and what the report is told."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest

from sem_search.deployment.registry import RegisteredVersion
from sem_search.errors import FailedTrialError, StoreError
from sem_search.evaluation.baselines import NAMES
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import Cell, Split, StudyOutcome, TrialOutcome
from sem_search.search.results import conclusion as concluding
from sem_search.search.results.conclusion import Conclusion, conclude_study
from sem_search.search.results.outcome import read_finished_folds
from sem_search.search.results.run_description import describe_machine
from sem_search.search.trials.attributes import MACHINE, RUN_ID, TRIAL_RUNS
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.entries.types import TextArtifact
from tests.search.finished_trials import finish_trial

PAGE = TextArtifact(path="report.html", text="<h1>a study, postgresql://me:hunter2@host</h1>")

BEST, OTHER = Cell(learning_rate=0.1, batch_size=8), Cell(learning_rate=0.01, batch_size=16)
"""The best on validation tiles, and the better one on test tiles."""


@pytest.fixture
def finished(study: optuna.Study, store_folds) -> optuna.Study:
    """Two finished trials."""
    store_folds(cell=BEST, shares_right=(1.0, 0.5))
    store_folds(cell=OTHER, shares_right=(0.75, 1.0))
    finish_trial(study, cell=OTHER, value=0.75, **{RUN_ID: "other"})
    finish_trial(study, cell=BEST, value=1.0, **{RUN_ID: "best"})
    return study


class World:
    """Stands for the registry and the tracking store, and remembers what they were given."""

    def __init__(self) -> None:
        self.registered: dict[str, Any] = {}
        self.outcome: StudyOutcome | None = None
        self.context: StudyContext | None = None
        self.logged: list[tuple[str, list[object]]] = []
        self.alias: str | None = "champion"
        self.described: dict[str, Any] = {}
        self.audit_light: str | None = None

    def register_winner(self, **arguments: Any) -> RegisteredVersion:
        self.registered = arguments
        return RegisteredVersion(
            name=arguments["model_name"], version="4", alias=self.alias, reason="champion: the first of its name"
        )

    def iter_study_entries(
        self, outcome: StudyOutcome, *, context: StudyContext, trust: StudyTrust
    ) -> Iterable[object]:
        self.outcome, self.context = outcome, context
        yield PAGE

    def read_audit_light(self, *, study: str, near_run_id: str) -> str | None:
        return self.audit_light

    def read_learning_curve(self, *, study: str, near_run_id: str) -> str | None:
        return f"of {study} near {near_run_id}"

    def log_entries(self, entries: Iterable[object], *, run_id: str, time_ms: int = 0) -> None:
        self.logged.append((run_id, list(entries)))


def name_page(*parts: str) -> str:
    return f"page of {'/'.join(parts)}"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for name in ("register_winner", "iter_study_entries", "log_entries", "read_audit_light", "read_learning_curve"):
        monkeypatch.setattr(concluding, name, getattr(world, name))
    monkeypatch.setattr(concluding, "link_run", lambda *parts, **artifact: name_page(*parts, *artifact.values()))
    monkeypatch.setattr(concluding, "link_version", lambda *parts: name_page(*parts))
    monkeypatch.setattr(concluding, "describe_study_runs", lambda *_, **facts: world.described.update(facts))
    monkeypatch.setattr(concluding, "build_optuna_page", lambda _: "optuna")
    monkeypatch.setenv("VIRTUAL_ENV", "activated")
    return world


def conclude(finished: optuna.Study, prepared) -> Conclusion:
    return conclude_study(finished, prepared=prepared, run_id="study-run")


def choose_on(prepared, split: Split):
    settings = prepared.settings.model_copy(update={"select_on": split})
    return dataclasses.replace(prepared, settings=settings)


def test_the_winner_is_registered_with_all_that_leads_back(finished, prepared, world: World) -> None:
    conclusion = conclude(finished, prepared)
    assert conclusion.outcome.winner.cell == BEST
    given = world.registered
    assert given["run_id"] == "best"
    assert given["model_name"] == "sem-search-tiny"
    tags = given["tags"]
    assert tags["sem_search.data_sha256"] == prepared.data.catalogue.digest
    assert tags["sem_search.folds_sha256"] == prepared.data.folds.digest
    assert tags["sem_search.study"] == "a study"
    assert tags["sem_search.weights_sha256"] == prepared.network.weights.sha256
    cell = [tags[f"sem_search.{name}"] for name in ("head", "learning_rate", "batch_size")]
    assert cell == ["finetune", "0.1", "8"]
    assert tags["sem_search.validation_f_measure"] == f"{conclusion.validation.f_measure:.6f}"
    assert tags["sem_search.test_f_measure"] == f"{conclusion.test.f_measure:.6f}"


def test_a_winner_that_was_trained_again_is_what_is_judged_explained_and_registered(
    finished, prepared, store_folds, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials stay as the search left them, also the one that has won."""
    for one in store_folds(cell=BEST, shares_right=(1.0, 0.75)):
        prepared.store.refits.write(one, cell=BEST)
    store_folds(cell=BEST, shares_right=(1.0, 0.5))
    logged: list[TrialOutcome] = []
    monkeypatch.setattr(concluding, "log_refit", lambda *_, winner, **__: logged.append(winner))
    settings = prepared.settings.model_copy(update={"refit": True})
    conclusion = conclude(finished, dataclasses.replace(prepared, settings=settings))
    outcome = conclusion.outcome
    assert logged == [outcome.winner]
    of_search, of_served = (
        compute_split_scores(trial, tiles=prepared.data.tiles, split="test").f_measure
        for trial in (outcome.chosen, outcome.winner)
    )
    assert of_search < of_served == conclusion.test.f_measure
    assert world.registered["tags"]["sem_search.test_f_measure"] == f"{of_served:.6f}"
    assert world.context is not None
    compared = world.context.baselines[-1].comparison
    assert compared is not None and compared.f_measure.first == pytest.approx(of_served)
    assert "trained again on training and validation images" in " ".join(conclusion.to_text().split())


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_score_that_counts_in_the_registry_is_that_of_the_split_that_chose(
    finished, prepared, world: World, split: Split
) -> None:
    search = choose_on(prepared, split)
    conclusion = conclude(finished, search)
    scores = {
        name: compute_split_scores(conclusion.outcome.winner, tiles=prepared.data.tiles, split=name).f_measure
        for name in ("validation", "test")
    }
    assert scores["validation"] != scores["test"]
    assert world.registered["score"] == scores[split]
    assert world.registered["tags"]["sem_search.select_on"] == split
    assert (conclusion.validation.f_measure, conclusion.test.f_measure) == tuple(scores.values())


def test_a_winner_without_a_run_cannot_be_registered(study, prepared, store_folds, world: World) -> None:
    store_folds(cell=BEST)
    finish_trial(study, cell=BEST, value=1.0)
    with pytest.raises(StoreError, match=r"winning trial 0 of study 'a study' has no MLflow run"):
        conclude(study, prepared)


def test_a_study_without_a_finished_trial_registers_nothing(study, prepared, world: World) -> None:
    with pytest.raises(FailedTrialError, match="no winner"):
        conclude(study, prepared)
    assert world.registered == {}


def test_study_and_optuna_s_page_are_logged_into_the_study_s_run(finished, prepared, world: World) -> None:
    conclude(finished, prepared)
    assert world.logged == [("study-run", [PAGE]), ("study-run", ["optuna"])]


def test_the_report_lies_beside_the_folds_without_passwords(finished, prepared, world: World) -> None:
    file = conclude(finished, prepared).report_file
    assert file == Path(prepared.settings.study_folder) / "a study" / "report.html"
    assert file.read_text(encoding="utf-8") == "<h1>a study, postgresql://me:***@host</h1>"


@pytest.mark.parametrize(
    ("share_right", "tag"),
    [
        (1.0, None),
        (0.0, "0 of 15 unseen images correctly classified: 0 % (0 to 24 %), chance 33 %"),
    ],
)
def test_a_winner_that_is_not_better_than_chance_is_registered_as_such(
    study, prepared, store_folds, world: World, share_right: float, tag: str | None
) -> None:
    store_folds(cell=BEST, shares_right=(1.0, share_right))
    finish_trial(study, cell=BEST, value=1.0, **{RUN_ID: "best"})
    conclude(study, prepared)
    assert world.registered["tags"].get("sem_search.at_chance") == tag


def test_the_report_is_told_of_data_folds_and_winner(finished, prepared, world: World) -> None:
    conclusion = conclude(finished, prepared)
    context = world.context
    assert context is not None
    assert [example.label for example in context.examples] == ["blobs", "grains", "stripes"]
    assert [example.image_id for example in context.examples] == ["blobs/0.png", "grains/0.png", "stripes/0.png"]
    assert [(example.width_px, example.height_px) for example in context.examples] == [(96, 96)] * 3
    assert context.tiling.corners_px == ((0, 0), (0, 48), (48, 0), (48, 48))
    assert context.folds == tuple(fold.splits for fold in prepared.data.folds.folds)
    assert set(context.cells) == {Cell(learning_rate=rate, batch_size=size) for rate in (0.1, 0.01) for size in (8, 16)}
    assert context.model_uri == "models:/sem-search-tiny@champion"
    assert context.run_id == "study-run"
    assert context.findings == tuple(finding.message for finding in prepared.data.findings)
    assert (context.confounds, context.unstated) == ((), ("pixel size", "session", "detector"))
    assert context.arguments["learning_rates"] == "0.1,0.01"
    assert context.began is not None and context.ended is not None and context.began <= context.ended
    assert context.machine == finished.user_attrs[MACHINE] == describe_machine()
    assert context.audit_light is None
    assert context.learning_curve == f"of {prepared.name} near study-run"
    assert [one.name for one in context.baselines] == list(NAMES)
    winner = compute_split_scores(conclusion.outcome.winner, tiles=prepared.data.tiles, split="test")
    compared = context.baselines[-1].comparison
    assert compared is not None and compared.f_measure.first == pytest.approx(winner.f_measure)
    assert context.heat_maps is not None
    tested = {image_id: fold.number for fold in prepared.data.folds.folds for image_id in fold.test}
    assert [picture.fold for picture in context.heat_maps.pictures] == [
        tested[picture.image_id] for picture in context.heat_maps.pictures
    ]


def test_the_heat_maps_are_the_winner_s(finished, prepared, world: World) -> None:
    conclusion = conclude(finished, prepared)
    assert world.context is not None
    assert world.context.heat_maps is not None
    winner = conclusion.outcome.winner
    folds = {kept.outcome.fold: kept.outcome for kept in read_finished_folds(prepared, trial=winner)}
    names = prepared.data.tiles.class_names
    for picture in world.context.heat_maps.pictures:
        outcome = folds[picture.fold]
        answer = outcome.test_probabilities[outcome.test_tiles.tolist().index(picture.tile)]
        assert picture.predicted_label == names[answer.argmax()]
    assert any(picture.predicted_label != picture.true_label for picture in world.context.heat_maps.pictures), (
        "the other cell classifies every test tile correctly"
    )


def test_without_a_grid_no_cell_is_missing(finished, prepared, world: World) -> None:
    settings = prepared.settings.model_copy(update={"sampler": "tpe"})
    conclude(finished, dataclasses.replace(prepared, settings=settings))
    assert world.context is not None
    assert world.context.cells == ()


def test_large_originals_are_shown_reduced(finished, prepared, world: World, monkeypatch) -> None:
    monkeypatch.setattr(concluding, "SHOWN_SIDE_PX", 32)
    conclude(finished, prepared)
    assert world.context is not None
    assert {example.pixels.shape for example in world.context.examples} == {(32, 32)}
    assert {example.width_px for example in world.context.examples} == {96}, "sizes are those of the original"


def test_the_last_lines_name_verdict_winner_and_what_to_do(
    finished, prepared, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concluding, "find_command", lambda: "scripts/sem-search")
    conclusion = conclude(finished, prepared)
    assert world.described["verdict"] == conclusion.verdict
    monkeypatch.chdir(prepared.settings.study_folder)
    uri = f"sqlite:///{Path.cwd()}/mlflow.db"  # the store of this folder, whatever a test before has set
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: uri)
    lines = [
        f"{conclusion.verdict.headline}.",
        "Not yet shown to be usable for any class; not for blobs and stripes; not known",
        "  for grains: too few images.",
        *concluding.wrap(conclusion.verdict.fine_tuning.sentence),
        "",
        "Winner of study a study: learning rate 0.1, batch size 8",
        f"  F-measure on tiles: validation 1.0000, test {conclusion.test.f_measure:.4f}; chosen on validation",
        "  Registered as sem-search-tiny version 4, champion: the first of its name",
        "",
        "Read the report:  'a study/report.html'",
        "In MLflow, once it runs (mlflow ui):",
        "  study   page of study-run",
        "  report  page of study-run/report.html",
        "  model   page of sem-search-tiny/4",
        "",
        "Classify images:  scripts/sem-search predict IMAGES... --model models:/sem-search-tiny@champion",
        "A page for it:    scripts/sem-search app --model models:/sem-search-tiny@champion",
        "Serve it:         scripts/sem-search serve --model models:/sem-search-tiny@champion",
    ]
    assert conclusion.to_text().splitlines() == ["", *lines]
    served = dataclasses.replace(
        conclusion.outcome, refitted=dataclasses.replace(conclusion.outcome.winner, is_refit=True)
    )
    text = " ".join(dataclasses.replace(conclusion, outcome=served).to_text().split())
    assert "validation 1.0000, of the heads of the search, which chose; test" in text
    assert "of the heads that are served, trained again on training and validation images" in text
    again = dataclasses.replace(conclusion, was_finished=True).to_text().splitlines()
    assert again == ["", "Study a study was finished: nothing was trained.", "", *lines]


def test_a_model_s_address_is_quoted_for_the_shell(finished, prepared, world: World) -> None:
    conclusion = conclude(finished, prepared)
    registered = dataclasses.replace(conclusion.registered, name="steel, lot 7")
    text = dataclasses.replace(conclusion, registered=registered).to_text()
    assert text.count(" --model 'models:/steel, lot 7@champion'") == 3


def test_the_machine_that_trained_is_kept(finished, prepared, world: World) -> None:
    finished.set_user_attr(MACHINE, "the one that trained")
    conclude(finished, prepared)
    assert world.context is not None
    assert world.context.machine == "the one that trained"


def test_a_long_reason_fits_a_terminal(finished, prepared, world: World) -> None:
    conclusion = conclude(finished, prepared)
    registered = dataclasses.replace(conclusion.registered, reason="challenger: " + "it does not beat version 1 " * 9)
    lines = dataclasses.replace(conclusion, registered=registered).to_text().splitlines()
    told = lines[next(n for n, line in enumerate(lines) if "Registered as" in line) :]
    told = told[: told.index("")]
    assert len(told) > 3
    assert max(map(len, told)) <= concluding.COLUMNS
    assert " ".join(line.strip() for line in told).endswith("it does not beat version 1")


@pytest.mark.parametrize(
    ("alias", "uri"),
    [("challenger", "models:/sem-search-tiny@challenger"), (None, "models:/sem-search-tiny/4")],
)
def test_what_can_be_served_is_named_by_alias_or_else_by_version(
    finished, prepared, world: World, alias: str | None, uri: str
) -> None:
    world.alias = alias
    text = conclude(finished, prepared).to_text()
    assert f"--model {uri}\n" in text
    assert world.context is not None
    assert world.context.model_uri == uri


def test_a_winner_that_was_logged_anew_names_its_earlier_runs(finished: optuna.Study, prepared, world: World) -> None:
    """So that a model that was registered from one of them is not registered twice."""
    finished.set_user_attr(TRIAL_RUNS, {"1": ["second", "third"]})
    conclude(finished, prepared)
    assert world.registered["run_id"] == "third"
    assert world.registered["earlier_run_ids"] == ["third", "second", "best"], "the newest first"

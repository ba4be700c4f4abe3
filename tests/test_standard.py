"""What `preset=standard` is, from end to end: heads taught with all views, and a winner that is trained again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

import sem_search as ss
from sem_search.audits.retraining import list_splits, retrain_winner
from sem_search.audits.study_audit import ALL_QUESTIONS
from sem_search.deployment.package.reading import read_classifier
from sem_search.evaluation.calibration import apply_temperature
from sem_search.evaluation.metrics import combine_tiles, compute_split_scores
from sem_search.places import CACHE_VARIABLE
from sem_search.records import Head
from sem_search.search.commands.audit import build_subject, run_morphology
from sem_search.search.commands.finished_study import take_up_study
from sem_search.search.commands.report import run_report
from sem_search.settings import AS_THE_PAPER, build_settings
from sem_search.transfer.heads.training import HeadTrainer

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "backbone": "tiny",
    "weights": "random",
    "tile_px": 48,
    "folds": 3,
    "epochs": 3,
    "learning_rates": (0.1,),
    "batch_sizes": (8,),
    "pruner": "none",
    "engine": "onnxruntime",
    "threads": 1,
}
"""What makes the standard preset small; none of it belongs to the settings of `AS_THE_PAPER`."""

DATA = "micrographs.csv"
SERVED_TOLERANCE = 1e-5
"""Of a probability: ONNX Runtime has computed what was measured, and TensorFlow what is served, in other batches."""


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, make_mlflow_store: Callable[[Path], str]
) -> Iterator[Path]:
    """The folder in which a user works, with an empty store and an empty cache."""
    place = tmp_path_factory.mktemp("standard")
    shutil.copytree(tiny_folder, place / "micrographs")
    (place / DATA).write_text(write_table(tiny_folder), encoding="utf-8")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(place))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv(CACHE_VARIABLE, str(place / "cache"))
        for command in ("prepare.prepared_search", "commands.lots"):
            patch.setattr(f"sem_search.search.{command}.configure_tensorflow", lambda **_: None)
        yield place
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def studies(home: Path) -> dict[Head, ss.Study]:
    """A study of both heads, which the linear one wins, and one of fine-tuning alone."""
    return {
        "linear": ss.search(DATA, **TINY, study="both"),
        "finetune": ss.search(DATA, **TINY, heads=("finetune",), study="fine-tuned"),
    }


@pytest.fixture(params=["linear", "finetune"])
def study(request: pytest.FixtureRequest, studies: dict[Head, ss.Study]) -> ss.Study:
    """A study with a linear winner, and one with a fine-tuned winner."""
    return studies[request.param]


def write_table(folder: Path) -> str:
    """Return a table of the images, every class in two sessions."""
    rows = [
        f"micrographs/{path.parent.name}/{path.name},{path.parent.name},day {int(path.stem) % 2}"
        for path in sorted(folder.glob("*/*.png"))
    ]
    return "\n".join(["image,label,session", *rows])


def list_trial_runs(study: ss.Study) -> dict[str, mlflow.entities.Run]:
    """Return the runs of a study's trials by the name of their cell."""
    store = MlflowClient()
    experiment = store.get_run(study.run_id).info.experiment_id
    runs = store.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study.run_id}'")
    trials = [run for run in runs if run.data.tags["sem_search.kind"] == "trial"]
    return {run.data.tags["sem_search.cell"]: run for run in trials}


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train_fold", "refit_fold"):
        monkeypatch.setattr(HeadTrainer, name, lambda *_, **__: pytest.fail("a finished fold was trained again"))


def drop_times(run: mlflow.entities.Run) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if not name.endswith("_s")}


def test_the_settings_of_before_are_none_of_these() -> None:
    settings = build_settings({**TINY, "data": DATA})
    assert settings.preset == "standard"
    same = [name for name, value in AS_THE_PAPER.items() if getattr(settings, name) == value]
    assert same == ["class_weight", "tiles_per_image", "pixel_size_nm"]


def test_each_head_wins_its_study(studies: dict[Head, ss.Study]) -> None:
    assert {head: study.outcome.winner.cell.head for head, study in studies.items()} == {
        "linear": "linear",
        "finetune": "finetune",
    }


def test_every_trial_is_a_run_with_its_head(studies: dict[Head, ss.Study]) -> None:
    runs = list_trial_runs(studies["linear"])
    assert {name: run.data.params["head"] for name, run in runs.items()} == {
        "linear": "linear",
        "lr1e-01_bs8": "finetune",
    }
    steps = {"learning_rate", "batch_size"}
    assert not steps & set(runs["linear"].data.params)
    assert steps <= set(runs["lr1e-01_bs8"].data.params)
    for name, run in runs.items():
        assert run.info.status == "FINISHED", name
        assert 0 <= run.data.metrics["test/f_measure"] <= 1
        history = MlflowClient().get_metric_history(run.info.run_id, "fold/validation_f_measure")
        assert [point.step for point in history] == [0, 1, 2]


def test_what_was_measured_is_what_is_served(study: ss.Study) -> None:
    classifier = read_classifier(Path(mlflow.artifacts.download_artifacts(study.model_uri), "artifacts", "classifier"))
    tiles, temperature = study.outcome.tiles, classifier.calibration.temperature
    assert classifier.description.augment == "dihedral"
    for place, fold in enumerate(study.outcome.winner.folds):
        images, measured = combine_tiles(fold.test_probabilities, image_of_tile=tiles.image_of_tile[fold.test_tiles])
        name = tiles.image_ids[images[0]]
        micrograph = classifier.read(Path(name).read_bytes(), name=name)
        (answer,) = classifier.classify([micrograph.pixels])
        expected = apply_temperature(measured[:1], temperature=temperature)[0]
        np.testing.assert_allclose(answer.head_probabilities[place], expected, rtol=0, atol=SERVED_TOLERANCE)


def test_the_same_search_again_trains_nothing(studies: dict[Head, ss.Study], monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: drop_times(run) for name, run in list_trial_runs(studies["linear"]).items()}
    forbid_training(monkeypatch)
    again = ss.search(DATA, **TINY, study="both")
    assert (again.run_id, again.model_uri) == (studies["linear"].run_id, studies["linear"].model_uri)
    assert {name: drop_times(run) for name, run in list_trial_runs(again).items()} == before
    assert ss.load_study("both").trials.equals(studies["linear"].trials)


def test_only_the_winner_is_trained_again(studies: dict[Head, ss.Study]) -> None:
    """Its run has the scores of both heads of each fold; the study's has those of the heads that are served."""
    study = studies["linear"]
    runs = list_trial_runs(study)
    scores = {name: run.data.metrics for name, run in runs.items()}
    assert [path.parent.name for path in Path("studies", "both").glob("*/refit_*.bin")] == ["linear"] * 3
    assert {name for name, run in runs.items() if "sem_search.refit" in run.data.tags} == {"linear"}
    assert not [key for key in scores["lr1e-01_bs8"] if key.startswith("refit/")]
    outcome = study.outcome
    for key, trial in (("test/f_measure", outcome.chosen), ("refit/test/f_measure", outcome.winner)):
        expected = compute_split_scores(trial, tiles=outcome.tiles, split="test").f_measure
        assert scores["linear"][key] == pytest.approx(expected)
    of_study = MlflowClient().get_run(study.run_id).data.metrics
    assert of_study["winner/test/f_measure"] == scores["linear"]["refit/test/f_measure"]
    assert study.best["test_f_measure"] == pytest.approx(scores["linear"]["test/f_measure"])


@pytest.mark.parametrize(
    ("method", "n_folds"), [("train_fold", 1), ("train_fold", 4), ("refit_fold", 0), ("refit_fold", 2)]
)
def test_a_stopped_search_goes_on_to_the_same_numbers(
    studies: dict[Head, ss.Study], monkeypatch: pytest.MonkeyPatch, method: str, n_folds: int
) -> None:
    """Within the linear cell, within the fine-tuned one, and while the winner is trained again."""
    train, trained = getattr(HeadTrainer, method), []

    def stop(*args: Any, **kwargs: Any) -> Any:
        if len(trained) == n_folds:
            raise KeyboardInterrupt
        trained.append(kwargs["cell"].name)
        return train(*args, **kwargs)

    name = f"stopped after {method} {n_folds}"
    with monkeypatch.context() as patch:
        patch.setattr(HeadTrainer, method, stop)
        with pytest.raises(KeyboardInterrupt):
            ss.search(DATA, **TINY, study=name)
    folder = Path("studies", name)
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/*_?.bin")}
    assert len(stamps) == n_folds + (6 if method == "refit_fold" else 0)
    done = ss.search(DATA, **TINY, study=name)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "finished folds are not trained again"
    expected = list_trial_runs(studies["linear"])
    now = list_trial_runs(done)
    assert {name: drop_times(run) for name, run in now.items()} == {
        name: drop_times(run) for name, run in expected.items()
    }


def test_every_audit_is_answered(study: ss.Study) -> None:
    audit = ss.audit(study, questions=ALL_QUESTIONS)
    of_test = study.predictions[study.predictions["split"] == "test"]
    assert audit.measured.value == (of_test["true"] == of_test["predicted"]).mean()
    assert audit.leak is not None
    assert audit.metadata is not None
    assert audit.nested is not None
    n_cells = len(study.trials)
    assert audit.nested.n_trained == (0 if n_cells == 1 else n_cells * 3 * 2), "inside each fold, the other two"
    session = audit.left_out[0]
    assert (session.attribute, sorted(session.values), session.n_images) == ("session", ["day 0", "day 1"], 15)
    assert len(audit.controls) == 4
    assert audit.controls[-1].row.light == "good", "the order of tiles does not matter"


def test_with_nothing_changed_the_winner_is_trained_again_to_the_same_bits(study: ss.Study) -> None:
    subject = build_subject(take_up_study(study.name, storage=study.settings.storage))
    again = retrain_winner(subject, splits=list_splits(subject), name="again", show=lambda _: None)
    for one, other in zip(again, study.outcome.winner.folds, strict=True):
        np.testing.assert_array_equal(one.test_probabilities, other.test_probabilities)
        np.testing.assert_array_equal(one.validation_probabilities, other.validation_probabilities)


def test_morphology_looks_at_the_winner_s_own_heads(study: ss.Study, studies: dict[Head, ss.Study]) -> None:
    other = next(one.name for one in studies.values() if one is not study)
    audit = run_morphology(study.name, storage=study.settings.storage, other=other)
    assert np.isfinite(audit.maps).all()
    assert audit.maps.reshape(len(audit.maps), -1).any(axis=1).mean() > 0.5, "most tiles have a warm place"
    assert audit.other is not None


def test_the_two_winners_are_compared(studies: dict[Head, ss.Study]) -> None:
    compared = ss.compare(studies["linear"], studies["finetune"])
    outcomes = [studies[head].outcome for head in ("linear", "finetune")]
    f_measures = [compute_split_scores(one.winner, tiles=one.tiles, split="test").f_measure for one in outcomes]
    assert compared.comparison.f_measure.first == pytest.approx(f_measures[0])
    assert compared.comparison.f_measure.second == pytest.approx(f_measures[1])


def test_the_report_is_made_again_without_training(study: ss.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_training(monkeypatch)
    file = run_report(study.name, storage=study.settings.storage, is_new=True)
    page = file.read_text(encoding="utf-8")
    words = {"linear": "linear head", "finetune": "learning rate 1e-1, batch size 8"}
    assert f"Winner: <b>{words[study.outcome.winner.cell.head]}</b>" in page

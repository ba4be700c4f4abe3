"""The whole way as a user goes it: `mlflow run`, the tracking store, the registry, a killed search, a refusal."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tests.programs import Program

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
LIMIT_S = 420

TINY_PARAMETERS = {
    "backbone": "tiny",
    "weights": "random",
    "engine": "tensorflow",  # what a processor finds faster may change from one measurement to the next
    "precision": "float32",
    "preset": "standard",
    "tile_px": "48",
    "epochs": "4",
    "heads": "finetune",
    "augment": "none",
    "refit": "false",
    "learning_rates": "1e-1,1e-2",
    "batch_sizes": "8,16",
    "threads": "1",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A working folder of its own: MLflow's store, Optuna's store, kept folds and cache."""

    folder: Path

    def make_environment(self) -> dict[str, str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "PYTHONPATH": str(ROOT),
            "SEM_SEARCH_CACHE": str(self.folder / "cache"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        return environment

    def start_search(self, **parameters: str) -> Program:
        words = [word for name, value in parameters.items() for word in (f"--{name.replace('_', '-')}", value)]
        return Program(["search", *words], folder=self.folder, environment=self.make_environment())

    def run_search(self, **parameters: str) -> subprocess.CompletedProcess[str]:
        process = self.start_search(**parameters)
        try:
            printed, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, printed, errors)

    def get_client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=f"sqlite:///{self.folder}/mlflow.db")

    def get_runs(self, kind: str) -> list[mlflow.entities.Run]:
        client = self.get_client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, filter_string=f"tags.`sem_search.kind` = '{kind}'"))

    def get_numbers(self) -> dict[str, dict[str, float]]:
        """Return every metric of every finished or pruned trial that was not superseded, but for wall-clock times."""
        return {
            run.data.tags["sem_search.cell"]: {
                key: value for key, value in run.data.metrics.items() if not key.endswith("_s")
            }
            for run in self.get_runs("trial")
            if "sem_search.superseded_by" not in run.data.tags
        }

    def stamp_finished_folds(self) -> dict[Path, int]:
        """Return when each finished fold was written, in ns."""
        return {path: path.stat().st_mtime_ns for path in self.folder.glob("studies/*/*/fold_*.bin")}

    def count_finished_folds(self) -> int:
        return len(self.stamp_finished_folds())


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Place, str]:
    """A search that ran through, and what it printed."""
    place = Place(folder=tmp_path_factory.mktemp("undisturbed"))
    done = place.run_search(data=str(tiny_folder), **TINY_PARAMETERS)
    assert done.returncode == 0, done.stderr[-4000:]
    return place, done.stdout


@pytest.mark.slow
def test_a_search_ends_with_its_winner_and_what_to_do_next(undisturbed: tuple[Place, str]) -> None:
    _, printed = undisturbed
    for words in ("Winner of study", "validation", "test", "mlflow ui", "workflowType=machine_learning", "@champion"):
        assert words in printed.replace("'", ""), "paths with blanks stand in quotation marks"


@pytest.mark.slow
def test_every_trial_is_a_child_run_with_all_that_was_promised(undisturbed: tuple[Place, str]) -> None:
    place, _ = undisturbed
    (study,) = place.get_runs("study")
    trials = place.get_runs("trial")
    assert study.info.status == "FINISHED"
    assert len(trials) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    client = place.get_client()
    for run in trials:
        assert run.info.status == "FINISHED"
        assert {"learning_rate", "batch_size", "backbone", "weights_used"} <= set(run.data.params)
    complete = [run for run in trials if run.data.tags["sem_search.trial_state"] == "complete"]
    assert complete
    for run in complete:
        assert 0 <= run.data.metrics["validation/f_measure"] <= 1
        assert len(client.get_metric_history(run.info.run_id, "fold/validation_f_measure")) == 5
    assert study.inputs.dataset_inputs, "the catalogue is logged as the run's data set"


@pytest.mark.slow
def test_the_tiny_materials_are_told_apart(undisturbed: tuple[Place, str]) -> None:
    place, _ = undisturbed
    best = max(numbers.get("validation/f_measure", 0) for numbers in place.get_numbers().values())
    assert best > 0.6, "three textures; a third of the tiles would be correctly classified by chance"


@pytest.mark.slow
def test_the_winner_is_the_champion_and_leads_back_to_its_origins(undisturbed: tuple[Place, str]) -> None:
    place, _ = undisturbed
    version = place.get_client().get_model_version_by_alias("sem-search-tiny", "champion")
    assert {
        "sem_search.data_sha256",
        "sem_search.weights_sha256",
        "sem_search.folds_sha256",
        "sem_search.study",
    } <= set(version.tags)


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_says_the_same(
    undisturbed: tuple[Place, str], tiny_folder: Path
) -> None:
    place, printed = undisturbed
    before, versions = place.get_numbers(), place.get_client().search_model_versions("name='sem-search-tiny'")
    stamps = place.stamp_finished_folds()
    again = place.run_search(data=str(tiny_folder), **TINY_PARAMETERS)
    assert again.returncode == 0, again.stderr[-4000:]
    assert place.get_numbers() == before
    assert place.stamp_finished_folds() == stamps
    assert len(place.get_client().search_model_versions("name='sem-search-tiny'")) == len(versions)
    winner = next(line for line in printed.splitlines() if line.startswith("Winner"))
    assert winner in again.stdout


@pytest.mark.slow
def test_a_search_killed_twice_goes_on_to_the_same_numbers(
    undisturbed: tuple[Place, str], tiny_folder: Path, tmp_path: Path
) -> None:
    place = Place(folder=tmp_path)
    parameters = {"data": str(tiny_folder), **TINY_PARAMETERS}
    kept: dict[Path, int] = {}
    for n_folds_before_kill in (1, 7):
        process = place.start_search(**parameters)
        ends_at = time.monotonic() + LIMIT_S
        while (
            place.count_finished_folds() < n_folds_before_kill and process.poll() is None and time.monotonic() < ends_at
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert place.count_finished_folds() >= n_folds_before_kill
        kept |= place.stamp_finished_folds()

    done = place.run_search(**parameters)
    assert done.returncode == 0, done.stderr[-4000:]
    now = place.stamp_finished_folds()
    assert {path: now[path] for path in kept} == kept, "finished folds are not trained again"
    assert place.get_numbers() == undisturbed[0].get_numbers()
    assert [run.info.status for run in place.get_runs("study")] == ["FINISHED"], "the killed search's run goes on"
    assert {run.info.status for run in place.get_runs("trial")} <= {"FINISHED", "KILLED"}


@pytest.mark.slow
def test_a_changed_setting_under_the_same_name_is_refused(undisturbed: tuple[Place, str], tiny_folder: Path) -> None:
    place, _ = undisturbed
    (name,) = {run.data.tags["sem_search.study"] for run in place.get_runs("study")}
    before = place.get_numbers()
    refused = place.run_search(data=str(tiny_folder), **{**TINY_PARAMETERS, "study": name, "epochs": "5"})
    assert refused.returncode == 2
    assert "epochs was 4 and is now 5" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert place.get_numbers() == before


@pytest.mark.slow
def test_mlflow_run_opens_the_study_run(tiny_folder: Path, tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    parameters = {
        **TINY_PARAMETERS,
        "data": str(tiny_folder),
        "trials": "1",
        "epochs": "2",
        "storage": f"sqlite:///{tmp_path}/optuna.db",
        "study_folder": str(tmp_path / "studies"),
    }
    words = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", *words],
        cwd=tmp_path,
        env=place.make_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (study,) = place.get_runs("study")
    (trial,) = place.get_runs("trial")
    assert study.info.status == "FINISHED"
    assert trial.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert (study.data.params["epochs"], study.data.params["patience"]) == ("2", "auto")
    assert study.data.params["weights_used"] == "random"
    settings = json.loads(
        Path(place.get_client().download_artifacts(study.info.run_id, "study/settings.json")).read_text()
    )
    assert settings["understood"]["patience"] == 0


@pytest.mark.slow
def test_two_searches_at_once_train_every_cell_once(tiny_folder: Path, tmp_path: Path) -> None:
    place = Place(folder=tmp_path)
    parameters = {"data": str(tiny_folder), **TINY_PARAMETERS, "pruner": "none"}
    both = [place.start_search(**parameters) for _ in range(2)]
    outputs = [process.communicate(timeout=LIMIT_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], json.dumps(outputs)[-6000:]
    numbers = [run for run in place.get_runs("trial") if run.info.status == "FINISHED"]
    assert sorted(run.data.tags["sem_search.cell"] for run in numbers) == sorted(
        {run.data.tags["sem_search.cell"] for run in numbers}
    )
    assert len(numbers) == 4

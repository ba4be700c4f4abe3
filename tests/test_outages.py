"""A search while its database or its tracking server is away, and when it is told to stop: nothing lost or doubled.

Every test here starts real servers and a real search as a process of its own, and compares each number with those of a
search that nobody disturbed, on SQLite.
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tests.programs import Program
from tests.servers.postgres import PASSWORD, Postgres, find_obstacle, run_postgres
from tests.servers.tracking import TrackingServer, run_tracking_server

ROOT = Path(__file__).parents[1]
LIMIT_S = 600
OUTAGE_S = 6.0
N_FOLDS = 6
IMAGE_TIME = re.compile(r"\+timestamp\+\d+\+[0-9a-f-]{36}")
"""What MLflow puts into the names of logged images."""
"""Two cells of three folds each."""

PARAMETERS = {
    "backbone": "tiny",
    "weights": "random",
    "engine": "tensorflow",  # what a processor finds faster may change from one measurement to the next
    "precision": "float32",
    "preset": "standard",
    "tile_px": "48",
    "folds": "3",
    "epochs": "3",
    "heads": "finetune",
    "augment": "none",
    "refit": "false",
    "learning_rates": "1e-1,1e-2",
    "batch_sizes": "16",
    "threads": "1",
    "outage_wait": "300",
}

needs_postgres = pytest.mark.skipif(find_obstacle() is not None, reason=find_obstacle() or "")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a search in it, and where that logs to."""

    folder: Path
    tracking_uri: str
    storage: str
    data: Path
    experiment: str

    def make_environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "SEM_SEARCH_CACHE": str(self.folder / "cache"),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_EXPERIMENT_NAME": self.experiment,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def start(self, **changes: str) -> Program:
        given = {
            "data": str(self.data),
            "storage": self.storage,
            "model_name": self.experiment,
            **PARAMETERS,
            **changes,
        }
        words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
        return Program(["search", *words], folder=self.folder, environment=self.make_environment(), merge=True)

    def finish(self, process: Program) -> str:
        """Wait for a search to end well; return what it printed."""
        try:
            printed, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        assert process.returncode == 0, printed[-5000:]
        assert PASSWORD not in printed
        return printed

    def wait_for_folds(self, n_folds: int, *, process: Program) -> None:
        ends_at = time.monotonic() + LIMIT_S
        while len(self.stamp_folds()) < n_folds:
            assert process.poll() is None, process.communicate()[0][-5000:]
            assert time.monotonic() < ends_at
            time.sleep(0.05)

    def stamp_folds(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.folder.glob("studies/*/*/fold_*.bin")}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.tracking_uri)

    def get_runs(self, kind: str) -> list[mlflow.entities.Run]:
        experiment = self.client.get_experiment_by_name(self.experiment)
        return list(
            self.client.search_runs([experiment.experiment_id], filter_string=f"tags.`sem_search.kind` = '{kind}'")
        )

    def get_numbers(self) -> dict[str, dict[str, float]]:
        """Return every metric of every trial that counts, but for wall-clock times."""
        return {
            run.data.tags["sem_search.cell"]: {
                key: value for key, value in run.data.metrics.items() if not key.endswith("_s")
            }
            for run in self.get_trials()
        }

    def get_trials(self) -> list[mlflow.entities.Run]:
        return [run for run in self.get_runs("trial") if "sem_search.superseded_by" not in run.data.tags]

    def list_files(self, run_id: str, path: str | None = None) -> set[str]:
        found = set()
        for entry in self.client.list_artifacts(run_id, path):
            found |= self.list_files(run_id, entry.path) if entry.is_dir else {entry.path}
        return found

    def describe(self) -> dict[tuple[str, str], object]:
        """Return what was logged of each cell: status, history of each number without its time, files, models."""
        told: dict[tuple[str, str], object] = {}
        for run in self.get_trials():
            histories = {
                key: sorted((point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, key))
                for key in run.data.metrics
                if not key.endswith("_s")
            }
            models = self.client.search_logged_models(
                [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
            )
            cell = run.data.tags["sem_search.cell"]
            told[cell, "status"] = run.info.status
            told[cell, "files"] = sorted(IMAGE_TIME.sub("", path) for path in self.list_files(run.info.run_id))
            told[cell, "models"] = [(model.name, str(model.status)) for model in models]
            told |= {(cell, key): history for key, history in histories.items()}
        return told

    def get_statuses(self) -> Counter[str]:
        return Counter(run.info.status for kind in ("trial", "study") for run in self.get_runs(kind))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """MLflow's server over PostgreSQL."""
    folder = tmp_path_factory.mktemp("server")
    with run_tracking_server(postgres.make_database("mlflow"), folder=folder) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Place, str]:
    """A search on SQLite that ran through, and its winner."""
    folder = tmp_path_factory.mktemp("undisturbed")
    place = Place(
        folder=folder,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        storage=f"sqlite:///{folder}/optuna.db",
        data=tiny_folder,
        experiment="undisturbed",
    )
    return place, find_winner(place.finish(place.start()))


@pytest.fixture
def place(
    postgres: Postgres, server: TrackingServer, tmp_path: Path, tiny_folder: Path, request: pytest.FixtureRequest
) -> Place:
    """A search over PostgreSQL and the server, both running."""
    if server.process is None:
        server.start()
    name = f"{request.node.originalname[5:35]}-{time.time_ns()}"
    return Place(
        folder=tmp_path,
        tracking_uri=server.uri,
        storage=postgres.make_database(name),
        data=tiny_folder,
        experiment=name,
    )


def find_winner(printed: str) -> str:
    return next(line.partition(":")[2] for line in printed.splitlines() if line.startswith("Winner"))


def check_same(place: Place, printed: str, *, undisturbed: tuple[Place, str]) -> None:
    """Nothing lost, nothing twice, nothing else than what an undisturbed search logged."""
    assert find_winner(printed) == undisturbed[1]
    assert place.get_numbers() == undisturbed[0].get_numbers()
    assert place.describe() == undisturbed[0].describe()
    assert set(place.get_statuses()) <= {"FINISHED", "KILLED"}


@needs_postgres
@pytest.mark.slow
def test_postgresql_and_a_server_give_the_numbers_of_sqlite(place: Place, undisturbed: tuple[Place, str]) -> None:
    check_same(place, place.finish(place.start()), undisturbed=undisturbed)
    for path in place.folder.rglob("*"):
        if path.is_file() and "cache" not in path.parts:
            assert PASSWORD.encode() not in path.read_bytes(), path


@needs_postgres
@pytest.mark.slow
def test_postgresql_stops_twice_and_comes_back(
    place: Place, postgres: Postgres, undisturbed: tuple[Place, str]
) -> None:
    """Both the study's database and what the tracking server keeps its runs in."""
    process = place.start()
    for n_folds, mode in ((1, "fast"), (4, "immediate")):
        place.wait_for_folds(n_folds, process=process)
        postgres.restart_after(OUTAGE_S, mode=mode)
    printed = place.finish(process)
    assert "does not answer" in printed
    check_same(place, printed, undisturbed=undisturbed)


@needs_postgres
@pytest.mark.slow
def test_work_goes_on_while_the_tracking_server_is_down(
    place: Place, server: TrackingServer, undisturbed: tuple[Place, str]
) -> None:
    process = place.start()
    place.wait_for_folds(1, process=process)
    server.kill()
    place.wait_for_folds(N_FOLDS, process=process)
    server.start()
    printed = place.finish(process)
    assert "The tracking store does not answer. Training goes on" in printed
    assert "The tracking store answers again" in printed
    check_same(place, printed, undisturbed=undisturbed)


@needs_postgres
@pytest.mark.long
def test_a_search_that_is_killed_while_the_server_is_down_loses_nothing(
    place: Place, server: TrackingServer, undisturbed: tuple[Place, str]
) -> None:
    process = place.start()
    place.wait_for_folds(1, process=process)
    server.kill()
    place.wait_for_folds(4, process=process)
    process.kill()
    process.communicate()
    kept = place.stamp_folds()
    server.start()
    printed = place.finish(place.start())
    assert {path: stamp for path, stamp in place.stamp_folds().items() if path in kept} == kept
    check_same(place, printed, undisturbed=undisturbed)


@needs_postgres
@pytest.mark.long
@pytest.mark.parametrize(("number", "is_up"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_a_search_that_is_told_to_stop_ends_its_runs(
    place: Place, server: TrackingServer, undisturbed: tuple[Place, str], number: signal.Signals, is_up: bool
) -> None:
    """Also with the server down: what was not logged is logged when the search goes on."""
    process = place.start()
    place.wait_for_folds(2, process=process)
    if not is_up:
        server.kill()
    process.send_signal(number)
    begun = time.monotonic()
    printed, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert "Stopped." in printed
    assert "Traceback" not in printed
    assert time.monotonic() - begun < 60
    kept = place.stamp_folds()
    if is_up:
        assert "RUNNING" not in place.get_statuses()
    else:
        server.start()
    printed = place.finish(place.start())
    assert {path: stamp for path, stamp in place.stamp_folds().items() if path in kept} == kept
    check_same(place, printed, undisturbed=undisturbed)


@needs_postgres
@pytest.mark.long
def test_two_searches_on_empty_stores_at_once(place: Place, undisturbed: tuple[Place, str]) -> None:
    both = [place.start() for _ in range(2)]
    printed = [place.finish(process) for process in both]
    for text in printed:
        check_same(place, text, undisturbed=undisturbed)


@needs_postgres
@pytest.mark.long
@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize(
    "fault",
    [
        test_postgresql_stops_twice_and_comes_back,
        test_work_goes_on_while_the_tracking_server_is_down,
        test_a_search_that_is_killed_while_the_server_is_down_loses_nothing,
    ],
)
def test_again_and_again(
    fault: Callable[..., None],
    attempt: int,
    place: Place,
    postgres: Postgres,
    server: TrackingServer,
    undisturbed: tuple[Place, str],
) -> None:
    given = {"place": place, "postgres": postgres, "server": server, "undisturbed": undisturbed}
    fault(**{name: given[name] for name in fault.__annotations__ if name in given})

"""A registry of its own on a real SQLite store, with models that carry a record and were never trained."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from sem_search.deployment.package.files import write_file_list
from sem_search.deployment.package.record import RECORD_FOLDER, ModelRecord, write_record
from sem_search.deployment.registry import GateRule, RegisteredVersion, promote_version, register_winner, roll_back
from sem_search.deployment.registry.history import History, iter_problems, read_history
from sem_search.evaluation.metrics import compute_split_scores

MODEL = "sem-search-tiny"

POOR, GOOD, BETTER = 0.5, 2.0, 9.0
"""Skills: right in about half of the tiles, in most of them, in all of them."""


@dataclass(kw_only=True)
class Laboratory:
    """A store, the data that its models were made from, and what a search does at its end."""

    client: MlflowClient
    folder: Path
    make_record: Callable[..., ModelRecord]
    artifacts: str | None = None
    """Where runs keep their files; None: where the store has them by default."""
    records: dict[str, ModelRecord] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The folder of the images."""
        return self.folder / "data"

    @property
    def name(self) -> str:
        """Of the registered model."""
        return MODEL

    def log_run(
        self, name: str = "classifier", *, is_finished: bool = True, with_record: bool = True, **changes: Any
    ) -> str:
        """Log a model that holds a record, a weights file and a list of both into a run of its own."""
        experiment = self.client.get_experiment_by_name("study")
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self.client.create_experiment("study", artifact_location=self.artifacts)
        )
        run_id = self.client.create_run(experiment_id).info.run_id
        self.client.log_param(run_id, "data", str(self.data))
        record = self.make_record(self.data, run_id=run_id, **changes)
        self.records[run_id] = record
        model = self.client.create_logged_model(experiment_id, name=name, source_run_id=run_id)
        if is_finished:
            self._write_files(record, model_id=model.model_id, with_record=with_record)
            self.client.finalize_logged_model(model.model_id, "READY")
        return run_id

    def register(
        self,
        skill: float = GOOD,
        *,
        run_id: str | None = None,
        model_name: str = MODEL,
        select_on: str = "validation",
        rule: GateRule | None = None,
        score: float | None = None,
        at_chance: str | None = None,
        earlier_run_ids: Sequence[str] = (),
        **changes: Any,
    ) -> RegisteredVersion:
        """Log a model and bring it to the registry, as a search does with its winner."""
        run_id = run_id or self.log_run(skill=skill, select_on=select_on, **changes)
        record = self.records[run_id]
        answers = record.out_of_fold
        scores = {
            split: compute_split_scores(answers.trial, tiles=answers.tiles, split=split).f_measure
            for split in ("validation", "test")
        }
        return register_winner(
            run_id=run_id,
            model_name=model_name,
            score=scores[select_on] if score is None else score,
            tags={
                "sem_search.data_sha256": record.catalogue.digest,
                "sem_search.folds_sha256": record.folds.digest,
                "sem_search.study": "tiny-quick-0123",
                "sem_search.select_on": select_on,
                "sem_search.validation_f_measure": f"{scores['validation']:.6f}",
                "sem_search.test_f_measure": f"{scores['test']:.6f}",
                **({"sem_search.at_chance": at_chance} if at_chance else {}),
            },
            rule=rule,
            earlier_run_ids=earlier_run_ids,
        )

    def read_history(self) -> History:
        """Return how the registered model stands."""
        return read_history(self.client, name=MODEL)

    def get_aliases(self) -> dict[str, str]:
        """Return alias -> version."""
        return dict(self.read_history().aliases)

    def list_moves(self) -> list[tuple[str, str, str | None, str | None]]:
        """Return action, alias, from and to of every entry; the history must be sound."""
        history = self.read_history()
        assert list(iter_problems(history)) == []
        return [(entry.action, entry.alias, entry.from_version, entry.to_version) for entry in history.entries]

    def find_model_folder(self, version: str) -> Path:
        """Return where the store keeps the files of a version."""
        source = self.client.get_model_version(MODEL, version).source
        location = self.client.get_logged_model(source.removeprefix("models:/")).artifact_location
        return Path(location.removeprefix("file://"))

    def _write_files(self, record: ModelRecord, *, model_id: str, with_record: bool) -> None:
        folder = self.folder / "staging"
        (folder / "artifacts" / "classifier").mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "artifacts" / "classifier" / "head_0.npz").write_bytes(bytes(range(256)))
        if with_record:
            write_record(record, folder=folder / "artifacts" / RECORD_FOLDER)
            write_file_list(folder)
        self.client.log_model_artifacts(model_id, str(folder))
        shutil.rmtree(folder)


@contextmanager
def open_laboratory(folder: Path, *, uri: str, make_record: Callable[..., ModelRecord]) -> Iterator[Laboratory]:
    """Give a laboratory whose store is MLflow's, and put everything back afterwards."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_USERNAME", "iwata")
        patched.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        artifacts = (folder / "artifacts").as_uri() if uri.startswith("sqlite") else None
        yield Laboratory(client=MlflowClient(), folder=folder, make_record=make_record, artifacts=artifacts)
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def make_laboratory(make_record: Callable[..., ModelRecord]) -> Callable[..., AbstractContextManager[Laboratory]]:
    """Opens a laboratory over any store."""
    return partial(open_laboratory, make_record=make_record)


@pytest.fixture
def laboratory(
    tmp_path: Path, make_mlflow_store: Callable[[Path], str], make_record: Callable[..., ModelRecord]
) -> Iterator[Laboratory]:
    """An empty laboratory."""
    with open_laboratory(tmp_path, uri=make_mlflow_store(tmp_path), make_record=make_record) as opened:
        yield opened


@pytest.fixture(scope="module")
def old_laboratory(
    tmp_path_factory: pytest.TempPathFactory,
    make_mlflow_store: Callable[[Path], str],
    make_record: Callable[..., ModelRecord],
) -> Iterator[Laboratory]:
    """A laboratory with a past, for tests that leave it as it was: three versions, champions 1, 3, 2 and 3 again."""
    folder = tmp_path_factory.mktemp("old")
    with open_laboratory(folder, uri=make_mlflow_store(folder), make_record=make_record) as opened:
        opened.register(POOR)
        opened.register(POOR, seed=1)
        opened.register(BETTER, seed=2)
        promote_version(MODEL, "2", reason="the client asked for it")
        roll_back(MODEL, reason="the client was wrong")
        yield opened


@pytest.fixture(scope="module")
def _three_template(
    tmp_path_factory: pytest.TempPathFactory,
    make_mlflow_store: Callable[[Path], str],
    make_record: Callable[..., ModelRecord],
) -> Laboratory:
    folder = tmp_path_factory.mktemp("three")
    with open_laboratory(folder, uri=make_mlflow_store(folder), make_record=make_record) as opened:
        opened.register(POOR)
        opened.register(POOR, seed=1)
        opened.register(BETTER, rule=GateRule(margin=0.99))
        assert opened.get_aliases() == {"champion": "1", "challenger": "3"}
    return opened


@pytest.fixture
def three(_three_template: Laboratory, tmp_path: Path) -> Iterator[Laboratory]:
    """Champion 1 is poor, 2 as poor, and challenger 3, never wrong, was held back by a margin.

    The database is this test's own, the artifacts are shared: a test that changes those takes `laboratory`.
    """
    shutil.copyfile(_three_template.folder / "mlflow.db", tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with open_laboratory(tmp_path, uri=uri, make_record=_three_template.make_record) as opened:
        opened.records.update(_three_template.records)
        yield opened

"""A search that is ready to train, made once: three tiny materials, the tiny network, three folds."""

import io
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pytest
from mlflow.tracking import MlflowClient

from sem_search.micrographs.folds import Fold
from sem_search.records import (
    Cell,
    FinishedFold,
    FoldOutcome,
    StudyOutcome,
    TileTable,
    TrainingCurves,
    TrialOutcome,
)
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.settings import AS_THE_PAPER, SearchSettings, build_settings

CELL = Cell(learning_rate=0.1, batch_size=8)
NO_PROCESS = 999_999
"""Above the largest process id that Linux gives by default."""


@pytest.fixture(scope="session")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchSettings:
    """Four cells of the tiny network; everything that is written goes to a folder of its own."""
    folder = tmp_path_factory.mktemp("search")
    return build_settings(
        {
            "data": str(tiny_folder),
            "backbone": "tiny",
            "weights": "random",
            "tile_px": "48",
            "folds": "3",
            "epochs": "3",
            **AS_THE_PAPER,
            "learning_rates": "1e-1,1e-2",
            "batch_sizes": "8,16",
            "pruner": "none",
            "threads": "1",
            "storage": f"sqlite:///{folder}/optuna.db",
            "study_folder": str(folder / "studies"),
        }
    )


@pytest.fixture(scope="session")
def data(settings: SearchSettings) -> PreparedData:
    return prepare_data(settings)


@pytest.fixture(scope="session")
def network(settings: SearchSettings):
    """The network in float32: which precision a busy machine would measure as faster is tested elsewhere."""
    from sem_search.search.prepare.network import prepare_network

    return prepare_network(settings.model_copy(update={"precision": "float32"}))


@pytest.fixture(scope="session")
def features(settings: SearchSettings, data: PreparedData, network, cache: Path):
    from sem_search.search.prepare.features import compute_features

    return compute_features(settings, data=data, network=network)


@pytest.fixture(scope="session")
def trainer(settings: SearchSettings, data: PreparedData, network, features):
    from sem_search.search.prepare.network import build_trainer

    return build_trainer(settings.model_dump(), cut=network.cut, tiles=data.tiles, views=[features])


@pytest.fixture
def prepared(settings: SearchSettings, data: PreparedData, network, features, trainer, tmp_path: Path):
    """A search that is ready to train, whose finished folds go to the test's own folder."""
    from sem_search.search.prepare.fingerprint import compute_fingerprint
    from sem_search.search.prepare.prepared_search import PreparedSearch

    own = settings.model_copy(update={"study_folder": str(tmp_path / "studies")})
    prepared = PreparedSearch(
        settings=own,
        name="a study",
        fingerprint=compute_fingerprint(own, data=data, network=network),
        data=data,
        network=network,
    )
    vars(prepared).update(views=(features,), trainer=trainer)  # made once for all tests
    return prepared


def make_study_outcome(tiles: TileTable, *, kept: Sequence[FinishedFold]) -> StudyOutcome:
    """Return the outcome of a study whose only trial has these folds."""
    winner = TrialOutcome(number=0, cell=CELL, state="complete", folds=tuple(one.outcome for one in kept))
    return StudyOutcome(
        name="a study",
        backbone="tiny",
        select_on="validation",
        tiles=tiles,
        trials=(winner,),
        winner_number=0,
    )


def make_outcome(tiles: TileTable, *, fold: Fold, shares_right: tuple[float, float] = (1.0, 1.0)) -> FoldOutcome:
    """Return the answers of a head that classifies these shares of the validation and of the test tiles correctly.

    The other tiles are predicted as the next class, with certainty.
    """
    n_classes = len(tiles.class_names)

    def answer(at: np.ndarray, share_right: float) -> np.ndarray:
        is_wrong = np.arange(len(at)) >= share_right * len(at)
        predicted = (tiles.label_of_tile[at] + is_wrong) % n_classes
        return 0.1 / n_classes + 0.9 * np.eye(n_classes)[predicted]

    validation, test = tiles.get_tiles_of(fold.validation), tiles.get_tiles_of(fold.test)
    curve = np.array([1.0, 0.5])
    return FoldOutcome(
        fold=fold.number,
        validation_tiles=validation,
        validation_probabilities=answer(validation, shares_right[0]),
        test_tiles=test,
        test_probabilities=answer(test, shares_right[1]),
        curves=TrainingCurves(
            training_loss=curve, training_accuracy=curve, validation_loss=curve, validation_accuracy=curve
        ),
        best_epoch=1,
        is_diverged=False,
        training_s=0.5,
    )


@pytest.fixture
def store_folds(prepared, trainer) -> Callable[..., tuple[FinishedFold, ...]]:
    """Puts finished folds of a cell on disk, as if they had been trained."""

    def keep(
        *, cell: Cell = CELL, n_folds: int = 3, shares_right: tuple[float, float] = (1.0, 1.0)
    ) -> tuple[FinishedFold, ...]:
        weights = tuple(trainer.head.get_weights())
        tiles, folds = prepared.data.tiles, prepared.data.folds.folds
        kept = tuple(
            FinishedFold(outcome=make_outcome(tiles, fold=fold, shares_right=shares_right), head_weights=weights)
            for fold in folds[:n_folds]
        )
        for one in kept:
            prepared.store.write(one, cell=cell)
        return kept

    return keep


@pytest.fixture
def untouched_trainer(trainer, monkeypatch: pytest.MonkeyPatch):
    """The trainer, where nothing may be trained."""
    monkeypatch.setattr(trainer, "train_fold", lambda *_, **__: pytest.fail("a finished fold was trained again"))
    return trainer


class RecordingProgress(SearchProgress):
    """Tells nobody, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(n_folds_total=12, n_folds_done=0, stream=io.StringIO())
        self.told: list[tuple[object, ...]] = []

    def show_epoch(self, *, cell: Cell, fold: int, epoch: int, n_epochs: int) -> None:
        self.told.append(("epoch", cell.name, fold, epoch, n_epochs))

    def count_fold(self, *, cell: Cell, fold: int, is_new: bool) -> None:
        self.told.append(("fold", cell.name, fold, is_new))

    def skip_folds(self, n_folds: int) -> None:
        self.told.append(("skip", n_folds))

    def show_trial(self, text: str, *, value: float | None) -> None:
        self.told.append(("trial", text, value))


@pytest.fixture
def progress() -> Iterator[RecordingProgress]:
    quiet = RecordingProgress()
    yield quiet
    quiet.close()


@pytest.fixture
def study() -> optuna.Study:
    """A study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="a study", direction="maximize", pruner=optuna.pruners.NopPruner())


@pytest.fixture
def tracking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_mlflow_store: Callable[[Path], str]
) -> Iterator[MlflowClient]:
    """An empty MLflow store, set as MLflow's; put back afterwards."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    experiment = MlflowClient().create_experiment("searches", artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)  # MLflow sets it; this way it is gone afterwards
    mlflow.set_experiment(experiment_id=experiment)
    yield MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def run_id(tracking: MlflowClient) -> str:
    """The study's run."""
    return str(tracking.create_run(tracking.get_experiment_by_name("searches").experiment_id).info.run_id)


@pytest.fixture(scope="session")
def dead_process() -> str:
    """The name of a process of this machine that is gone."""
    return f"{socket.gethostname()}:{NO_PROCESS}:1.00"

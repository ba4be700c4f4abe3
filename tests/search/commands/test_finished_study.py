"""A finished study taken up again, or refused in words."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import mlflow
import optuna
import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from sem_search.cli.main import commands
from sem_search.errors import ModelNotFoundError, SettingsError, StoreError, StudyMismatchError
from sem_search.search.commands import finished_study as room
from sem_search.search.commands.finished_study import open_question_run, read_study, take_up_study
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.search.prepare.study_folder import claim_study_folder
from sem_search.search.trials.attributes import FINGERPRINT, SETTINGS, STUDY_RUN_ID, TRIAL_RUNS
from sem_search.settings import SearchSettings
from sem_search.transfer.trunk import Computation, set_computation

NAME = "a study"


@pytest.fixture
def storage(prepared, tmp_path: Path) -> str:
    """A study in a database, signed by its search, whose one cell is complete."""
    url = f"sqlite:///{tmp_path}/finished.db"
    study = optuna.create_study(storage=url, study_name=NAME, direction="maximize")
    study.set_user_attr(SETTINGS, prepared.settings.model_dump_json())
    study.set_user_attr(STUDY_RUN_ID, "study-run")
    study.set_user_attr(FINGERPRINT, json.dumps(dict(prepared.fingerprint)))
    study.add_trial(
        optuna.trial.create_trial(
            value=1.0,
            params={"learning_rate": 0.1, "batch_size": 8},
            distributions={
                "learning_rate": optuna.distributions.CategoricalDistribution([0.1]),
                "batch_size": optuna.distributions.CategoricalDistribution([8]),
            },
            intermediate_values=dict.fromkeys(range(3), 1.0),
        )
    )
    return url


def claim(prepared) -> None:
    claim_study_folder(
        prepared.settings, name=prepared.name, fingerprint=prepared.fingerprint, folds=prepared.data.folds
    )


@pytest.fixture
def known_network(network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the session: building it again takes a second and the same numbers come out."""
    monkeypatch.setattr(prepare_room, "prepare_network", lambda _: network)
    monkeypatch.setattr(room, "check_study_run", lambda _: None)  # tried by itself below
    monkeypatch.setattr(prepare_room, "configure_tensorflow", lambda **_: None)  # only before TensorFlow has run


@pytest.mark.usefixtures("known_network", "cache")
def test_settings_folds_and_winner_are_the_search_s_own(
    prepared, storage: str, store_folds: Callable[..., object]
) -> None:
    claim(prepared)
    store_folds()
    taken = take_up_study(NAME, storage=storage, threads=1)
    assert taken.run_id == "study-run"
    assert taken.outcome.winner.number == 0
    assert len(taken.outcome.winner.folds) == 3
    assert taken.prepared.data.folds == prepared.data.folds
    assert taken.prepared.features.key == prepared.features.key
    assert taken.prepared.settings.threads == 1


@pytest.mark.usefixtures("known_network", "cache")
def test_a_study_is_taken_up_in_its_own_precision_whatever_would_be_chosen_here(
    prepared, network, storage: str, store_folds: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(settings: SearchSettings) -> object:
        precision = "bfloat16" if settings.precision == "auto" else settings.precision
        computation = Computation(engine=settings.engine, precision=precision)
        return dataclasses.replace(network, cut=set_computation(network.cut, computation=computation))

    monkeypatch.setattr(prepare_room, "prepare_network", prepare)
    claim(prepared)
    store_folds()
    assert prepared.settings.precision == "auto"
    assert take_up_study(NAME, storage=storage).prepared.network.computation.precision == "float32"


@pytest.mark.usefixtures("known_network", "cache")
def test_shared_storage_whose_password_is_not_kept_is_not_asked(
    prepared, storage: str, store_folds: Callable[..., object]
) -> None:
    shared = prepared.settings.model_copy(update={"shared": "ftp://me:secret@host/folder"})
    stored = shared.without_passwords.model_dump_json()
    assert "secret" not in stored
    optuna.load_study(study_name=NAME, storage=storage).set_user_attr(SETTINGS, stored)
    claim(prepared)
    store_folds()
    assert take_up_study(NAME, storage=storage).prepared.settings.shared is None


def have_no_registry() -> None:
    raise ModelNotFoundError("There is no registry here.")


def stay_away() -> None:
    raise StoreError("The store does not answer.")


@pytest.mark.parametrize(
    ("versions", "reach_registry", "model_uri", "warned"),
    [
        ({"first": 3}, str, "models:/sem-search-tiny/3", []),
        ({"later": 4}, str, "models:/sem-search-tiny/4", []),
        ({"later": 4, "first": 3}, str, "models:/sem-search-tiny/4", []),
        ({"of another": 5}, str, "models:/of the run", []),
        ({"later": 4}, have_no_registry, "runs:/later/tiny-lr1e-01-bs8", []),
        (
            {"later": 4},
            stay_away,
            "runs:/later/tiny-lr1e-01-bs8",
            ["The store does not answer. Until then, the study's"],
        ),
    ],
)
def test_a_study_names_the_version_of_its_winner_or_the_model_of_its_run(
    versions: dict[str, int],
    reach_registry: Callable[[], object],
    model_uri: str,
    warned: list[str],
    prepared,
    storage: str,
    store_folds: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    def find(*, model_name: str, run_ids: list[str]) -> SimpleNamespace | None:
        assert model_name == "sem-search-tiny"
        reach_registry()
        return next((SimpleNamespace(version=versions[one]) for one in run_ids if one in versions), None)

    monkeypatch.setattr(room, "find_registered", find)
    monkeypatch.setattr(room, "check_run_is_known", lambda _: None)
    monkeypatch.setattr(room, "find_model_uri", {"later": "models:/of the run"}.__getitem__)
    begun = optuna.load_study(study_name=NAME, storage=storage)
    begun.set_user_attr(TRIAL_RUNS, {"0": ["first", "later"]})
    claim(prepared)
    store_folds()
    assert read_study(NAME, storage=storage).model_uri == model_uri
    assert [str(one.message)[:50] for one in recwarn] == warned


def test_without_its_folder_nothing_is_made_up(prepared, storage: str, tmp_path: Path) -> None:
    with pytest.raises(StudyMismatchError, match="its finished folds are needed"):
        take_up_study(NAME, storage=storage, study_folder=str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere").exists()


def test_an_unknown_study_is_named(storage: str) -> None:
    with pytest.raises(StudyMismatchError, match="There is no study 'other' in this storage; there are: a study"):
        take_up_study("other", storage=storage)


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_a_question_s_run_ends_as_it_went(
    tracking: MlflowClient, run_id: str, error: type[BaseException] | None, status: str
) -> None:
    with (
        pytest.raises(error) if error else nullcontext(),
        open_question_run(study="a study", kind="audit", parent_run_id=run_id, name="asked") as own,
    ):
        if error:
            raise error
    run = tracking.get_run(own)
    assert run.info.status == status
    assert run.data.tags.get("mlflow.note.content") == ("ValueError: " if error is ValueError else None)
    assert (run.data.tags["sem_search.kind"], run.data.tags["mlflow.parentRunId"]) == ("audit", run_id)


@pytest.mark.parametrize("store", ["none here", "another", "away"])
def test_a_store_without_the_study_is_told_before_anything_is_computed(
    prepared, storage: str, tracking: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """An audit in the wrong folder leaves no empty database behind."""
    claim(prepared)
    monkeypatch.setattr(prepare_room, "prepare_data", lambda _: pytest.fail("it was computed"))
    if store == "none here":
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    if store == "away":
        mlflow.set_tracking_uri("http://127.0.0.1:9")
    expected = "does not answer" if store == "away" else "does not hold the study's run study-run.*in the folder of"
    with pytest.raises(StoreError if store == "away" else SettingsError, match=expected):
        take_up_study(NAME, storage=storage)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("ask", ["audit", "compare", "morphology"])
def test_in_a_folder_without_stores_it_is_one_sentence_and_nothing_is_left(
    ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [ask, "a study", *(["another"] if ask == "compare" else [])]
    answer = CliRunner().invoke(commands, words)
    assert isinstance(answer.exception, SettingsError)
    assert "Give this command in the folder of the search, or give the search's storage" in str(answer.exception)
    assert "worker" not in str(answer.exception)
    assert list(tmp_path.iterdir()) == []

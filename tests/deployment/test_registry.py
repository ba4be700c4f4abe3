from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from sem_search.deployment import registry
from sem_search.deployment.registry import RegisteredVersion, register_winner, resolve_model_uri
from sem_search.errors import ModelNotFoundError, StoreError

MODEL = "sem-search-tiny"


@dataclass(kw_only=True)
class Laboratory:
    """A registry of its own, and runs whose models are empty: the registry never opens one."""

    client: MlflowClient
    folder: Path
    run_ids: list[str] = field(default_factory=list)

    def log_run(self, name: str = "classifier", *, is_finished: bool = True) -> str:
        experiment = self.client.get_experiment_by_name("study")
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self.client.create_experiment("study", artifact_location=(self.folder / "artifacts").as_uri())
        )
        run_id = self.client.create_run(experiment_id).info.run_id
        model = self.client.create_logged_model(experiment_id, name=name, source_run_id=run_id)
        if is_finished:
            self.client.finalize_logged_model(model.model_id, "READY")
        return run_id

    def register(
        self,
        score: float,
        *,
        run_id: str | None = None,
        data: str = "data",
        folds: str = "folds",
        select_on: str = "validation",
        model_name: str = MODEL,
    ) -> RegisteredVersion:
        run_id = run_id or self.log_run()
        return register_winner(
            model_uri=f"runs:/{run_id}/classifier",
            run_id=run_id,
            model_name=model_name,
            score=score,
            data_digest=data,
            folds_digest=folds,
            tags={"sem_search.study": "s", "sem_search.select_on": select_on},
        )

    def get_aliases(self) -> dict[str, str]:
        return {alias: str(version) for alias, version in self.client.get_registered_model(MODEL).aliases.items()}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def laboratory(tmp_path: Path, make_mlflow_store: Callable[[Path], str]) -> Laboratory:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    yield Laboratory(client=MlflowClient(), folder=tmp_path)
    mlflow.set_tracking_uri(before)


def test_the_first_is_champion_and_carries_its_tags(laboratory: Laboratory) -> None:
    run_id = laboratory.log_run()
    registered = laboratory.register(0.7, run_id=run_id)
    assert registered == RegisteredVersion(
        name=MODEL, version="1", alias="champion", reason="champion: there was none."
    )
    version = laboratory.client.get_model_version(MODEL, "1")
    assert version.run_id == run_id
    assert version.tags == {
        "sem_search.study": "s",
        "sem_search.select_on": "validation",
        "sem_search.source_run_id": run_id,
        "sem_search.score": "0.7",
        "sem_search.data_sha256": "data",
        "sem_search.folds_sha256": "folds",
        "sem_search.decision": "champion: there was none.",
    }


@pytest.mark.parametrize(
    ("score", "changes", "alias", "reason"),
    [
        (0.8, {}, "champion", "champion: its score of 0.8000 beats the 0.7000 of version 1."),
        (0.7, {}, "challenger", "challenger: its score of 0.7000 does not beat the 0.7000 of the champion, version 1."),
        (0.1, {}, "challenger", "challenger: its score of 0.1000 does not beat the 0.7000 of the champion, version 1."),
        (
            0.9,
            {"data": "other"},
            "challenger",
            "challenger: the champion, version 1, was measured on other data, so the two were not compared.",
        ),
        (
            0.9,
            {"data": "other", "folds": "other"},
            "challenger",
            "challenger: the champion, version 1, was measured on other data and folds, so the two were not compared.",
        ),
        (
            0.9,
            {"select_on": "test"},
            "challenger",
            "challenger: the champion, version 1, was measured on other side of the score, "
            "so the two were not compared.",
        ),
    ],
    ids=["better", "equal", "worse", "other data", "other data and folds", "other side"],
)
def test_the_second(laboratory: Laboratory, score: float, changes: dict[str, str], alias: str, reason: str) -> None:
    laboratory.register(0.7)
    assert laboratory.register(score, **changes) == RegisteredVersion(
        name=MODEL, version="2", alias=alias, reason=reason
    )
    assert laboratory.get_aliases() == (
        {"champion": "2"} if alias == "champion" else {"champion": "1", "challenger": "2"}
    )


def test_a_new_champion_remembers_the_one_before(laboratory: Laboratory) -> None:
    laboratory.register(0.7)
    laboratory.register(0.8)
    assert laboratory.client.get_model_version(MODEL, "2").tags["sem_search.previous_champion"] == "1"


def test_a_champion_of_unknown_origin_is_not_compared(laboratory: Laboratory) -> None:
    laboratory.register(0.7)
    laboratory.client.delete_model_version_tag(MODEL, "1", "sem_search.score")
    assert "carries no score, so the two were not compared" in laboratory.register(0.9).reason


def test_the_same_run_is_registered_once(laboratory: Laboratory) -> None:
    run_id = laboratory.log_run()
    first = laboratory.register(0.7, run_id=run_id)
    again = laboratory.register(0.7, run_id=run_id)
    assert (again.version, again.alias) == (first.version, "champion")
    assert again.reason == "as before: champion: there was none."
    assert len(laboratory.client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_registering_again_moves_nothing(laboratory: Laboratory) -> None:
    run_id = laboratory.log_run()
    laboratory.register(0.7, run_id=run_id)
    laboratory.register(0.8)
    assert laboratory.register(0.7, run_id=run_id).alias is None
    assert laboratory.get_aliases() == {"champion": "2"}


@pytest.mark.parametrize("stopped_at", ["set_registered_model_alias", "set_model_version_tag"])
def test_a_search_stopped_in_the_middle_finishes_its_decision(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    laboratory.register(0.7)
    run_id = laboratory.log_run()
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, stopped_at, interrupt)
        with pytest.raises(KeyboardInterrupt):
            laboratory.register(0.8, run_id=run_id)
    assert laboratory.get_aliases() == {"champion": "1"}, "there is a champion at every moment"
    registered = laboratory.register(0.8, run_id=run_id)
    assert (registered.version, registered.alias) == ("2", "champion")
    assert laboratory.get_aliases() == {"champion": "2"}


def test_a_search_stopped_between_move_and_note_is_still_champion(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = laboratory.log_run()
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_model_version_tag", interrupt)
        with pytest.raises(KeyboardInterrupt):
            laboratory.register(0.7, run_id=run_id)
    assert laboratory.get_aliases() == {"champion": "1"}
    assert laboratory.register(0.7, run_id=run_id).alias == "champion"


def test_a_challenger_that_becomes_champion_is_challenger_no_more(
    laboratory: Laboratory,
) -> None:
    laboratory.register(0.7)
    run_id = laboratory.log_run()
    laboratory.register(0.6, run_id=run_id)
    laboratory.client.delete_registered_model_alias(MODEL, "champion")
    laboratory.client.delete_model_version_tag(MODEL, "2", registry.TAG_DECISION)
    assert laboratory.register(0.6, run_id=run_id).alias == "champion"
    assert laboratory.get_aliases() == {"champion": "2"}


def test_names_with_an_apostrophe(laboratory: Laboratory) -> None:
    run_id = laboratory.log_run()
    assert laboratory.register(0.7, run_id=run_id, model_name="o'hara").version == "1"
    assert laboratory.register(0.7, run_id=run_id, model_name="o'hara").version == "1"


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_that_is_none_is_refused(laboratory: Laboratory, score: float) -> None:
    with pytest.raises(StoreError, match="is no objective: it must lie between 0 and 1"):
        laboratory.register(score)


def test_a_run_without_model_is_named(laboratory: Laboratory) -> None:
    run_id = laboratory.log_run("another")
    with pytest.raises(ModelNotFoundError, match=f"Run {run_id} has no model 'classifier'"):
        laboratory.register(0.5, run_id=run_id)


def test_a_model_that_was_never_finished_is_none(laboratory: Laboratory) -> None:
    with pytest.raises(ModelNotFoundError, match="its trial was not finished"):
        laboratory.register(0.5, run_id=laboratory.log_run(is_finished=False))


def test_a_run_that_is_not_there_is_named(laboratory: Laboratory) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no run 0123"):
        laboratory.register(0.5, run_id="0123")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (f"models:/{MODEL}@champion", f"models:/{MODEL}/1"),
        (f"models:/{MODEL}@challenger", f"models:/{MODEL}/2"),
        (f"models:/{MODEL}/1", f"models:/{MODEL}/1"),
        (f"models:/{MODEL}/latest", f"models:/{MODEL}/2"),
        ("models:/m-0123", "models:/m-0123"),
        ("runs:/0123/classifier", "runs:/0123/classifier"),
        ("some/folder", "some/folder"),
    ],
)
def test_resolve_model_uri(laboratory: Laboratory, given: str, wanted: str) -> None:
    laboratory.register(0.7)
    laboratory.register(0.6)
    assert resolve_model_uri(given) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("models:/other@champion", f"no registered model 'other' in sqlite:.*; there is {MODEL}"),
        (f"models:/{MODEL}@chumpion", r"no alias 'chumpion'; it has the aliases champion \(version 1\)"),
        (f"models:/{MODEL}/7", r"no version '7'; it has versions 1 and the aliases champion \(version 1\)"),
        (f"models:/{MODEL}/Production", "no version 'Production'"),
        ("models:/", "is not the address of a model"),
        (f"models:/{MODEL}/1/2", "is not the address of a model"),
        ("models:/@champion", "is not the address of a model"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(laboratory: Laboratory, given: str, message: str) -> None:
    laboratory.register(0.7)
    with pytest.raises(ModelNotFoundError, match=message):
        resolve_model_uri(given)


def test_an_empty_registry(laboratory: Laboratory) -> None:
    with pytest.raises(ModelNotFoundError, match="there is none at all"):
        resolve_model_uri("models:/x@champion")

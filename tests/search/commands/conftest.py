"""What the tests of searches and of workers share: a search that stops where it would train."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient

from sem_search.search import attempt
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.settings import SearchSettings
from tests.search.commands.stopped import BEGINS, StoppedError


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that a search has begun; TensorFlow's threads stay as they are."""
    steps: list[str] = []

    def watch(name: str) -> None:
        real = getattr(BEGINS[name], name)

        def step(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            return None if name == "configure_tensorflow" else real(*args, **kwargs)

        monkeypatch.setattr(BEGINS[name], name, step)

    for name in BEGINS:
        watch(name)
    return steps


@pytest.fixture
def asked(settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSettings:
    """The settings of a search that works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return settings.model_copy(update={"study_folder": "studies", "storage": "sqlite:///optuna.db"})


@pytest.fixture
def stopped(
    settings: SearchSettings, monkeypatch: pytest.MonkeyPatch, data: PreparedData, network, tracking: MlflowClient
) -> dict[str, Any]:
    """What a search comes to `work` with; there it is stopped. The session's data and network are not made anew."""
    seen: dict[str, Any] = {}

    def work(study: optuna.Study, **arguments: Any) -> None:
        seen.update(study=study, **arguments)
        raise StoppedError

    monkeypatch.setattr(attempt, "work", work)
    monkeypatch.setattr(
        prepare_room, "prepare_data", lambda now: data if now.data == settings.data else prepare_data(now)
    )
    monkeypatch.setattr(prepare_room, "prepare_network", lambda _: network)
    return seen

"""Following an alias, with models that are none; and a real one that is loaded."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from sem_search.deployment.package.writing import LoggedClassifier
from sem_search.deployment.pyfunc.answers import ServedName
from sem_search.deployment.server import rotation as rotation_module
from sem_search.deployment.server.rotation import Rotation, ServedVersion, check_example, load_version
from sem_search.errors import DataError, ModelNotFoundError, StoreError
from tests.deployment.server.serving import LIMIT_S, TABLE, StoneClassifier

ADDRESS = "models:/lactose@champion"


class World:
    """A registry with one alias, and the models that were loaded."""

    def __init__(self) -> None:
        self.champion = "1"
        self.is_reachable = True
        self.lookup_failure: Exception = ModelNotFoundError("the registry is gone.")
        self.unloadable: set[str] = set()
        self.failure: Exception = StoreError("it does not answer.")
        self.loaded: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def resolve(self, address: str) -> str:
        if not self.is_reachable:
            raise self.lookup_failure
        return address if "@" not in address else f"models:/lactose/{self.champion}"

    def load(self, model_uri: str) -> ServedVersion:
        self.loaded.append(model_uri)
        assert self.gate.wait(LIMIT_S)
        if model_uri in self.unloadable:
            raise self.failure
        return build_version(model_uri)


def build_version(model_uri: str) -> ServedVersion:
    return ServedVersion(model_uri=model_uri, classifier=StoneClassifier())  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def watch(world: World, story: Callable[[Rotation], Coroutine[Any, Any, None]], address: str = ADDRESS) -> None:
    """Run a story beside a rotation that watches."""

    async def run() -> None:
        rotation = Rotation(address=address, watch_s=0.01, resolve=world.resolve, load=world.load)
        await rotation.start()
        watching = asyncio.create_task(rotation.watch())
        try:
            async with asyncio.timeout(LIMIT_S):
                await story(rotation)
            assert not watching.done()
        finally:
            world.gate.set()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(run())


async def wait_for(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


def get_uri(rotation: Rotation) -> str | None:
    return rotation.current.model_uri if rotation.current is not None else None


def test_a_new_champion_takes_the_place_of_the_old_one(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(rotation: Rotation) -> None:
        assert get_uri(rotation) == "models:/lactose/1"
        world.champion = "2"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")
        await asyncio.sleep(0.05)
        assert world.loaded == ["models:/lactose/1", "models:/lactose/2"]

    watch(world, story)
    assert "models:/lactose/2 answers now, in place of models:/lactose/1." in caplog.text


def test_the_old_one_answers_until_the_new_one_is_loaded(world: World) -> None:
    async def story(rotation: Rotation) -> None:
        world.gate.clear()
        world.champion = "2"
        await wait_for(lambda: len(world.loaded) == 2)
        await asyncio.sleep(0.05)
        assert get_uri(rotation) == "models:/lactose/1"
        world.gate.set()
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")

    watch(world, story)


@pytest.mark.parametrize("failure", [StoreError("it does not answer."), RuntimeError("it does not answer.")])
def test_a_version_that_cannot_be_loaded_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    world.unloadable.add("models:/lactose/2")
    world.failure = failure

    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: len(world.loaded) == 2)
        await asyncio.sleep(0.1)
        assert get_uri(rotation) == "models:/lactose/1"
        assert len(world.loaded) == 2, "it is not tried again at once"
        world.champion = "3"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/3")

    watch(world, story)
    assert "models:/lactose/2 could not be loaded (it does not answer); it is tried again in 60 s" in caplog.text
    assert "models:/lactose/1 goes on" in caplog.text


def test_a_version_that_could_not_be_loaded_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation_module, "RETRY_S", 0.05)
    world.unloadable.add("models:/lactose/2")

    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: len(world.loaded) == 3)
        world.unloadable.clear()
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")

    watch(world, story)


@pytest.mark.parametrize(
    "failure", [ModelNotFoundError("the registry is gone."), RuntimeError("the registry is gone.")]
)
def test_a_registry_that_does_not_answer_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    world.lookup_failure = failure

    async def story(rotation: Rotation) -> None:
        world.is_reachable = False
        await wait_for(lambda: "could not be looked up (the registry is gone)" in caplog.text)
        assert get_uri(rotation) == "models:/lactose/1"
        world.is_reachable, world.champion = True, "2"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")

    watch(world, story)


@pytest.mark.parametrize("work", ["look-up", "load"])
def test_the_end_of_the_server_waits_for_no_registry(world: World, work: str) -> None:
    has_begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def hang(_: str) -> Any:
        has_begun.set()
        may_end.wait(LIMIT_S)
        has_ended.set()
        raise StoreError("too late.")

    async def run() -> None:
        resolve, load = (hang, world.load) if work == "look-up" else (world.resolve, hang)
        starting = asyncio.create_task(Rotation(address=ADDRESS, watch_s=1, resolve=resolve, load=load).start())
        await wait_for(has_begun.is_set)
        starting.cancel()

    asyncio.run(run())
    assert not has_ended.is_set()
    may_end.set()
    assert has_ended.wait(LIMIT_S)


def test_one_version_is_never_exchanged(world: World) -> None:
    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await asyncio.sleep(0.05)
        assert get_uri(rotation) == "models:/lactose/1"
        assert len(world.loaded) == 1

    watch(world, story, address="models:/lactose/1")


@pytest.mark.parametrize("reason", ["no model", "no answer"])
def test_a_first_start_that_fails_is_reported(world: World, reason: str) -> None:
    world.is_reachable = reason != "no model"
    world.unloadable.add("models:/lactose/1")

    async def run() -> None:
        rotation = Rotation(address=ADDRESS, watch_s=1, resolve=world.resolve, load=world.load)
        with pytest.raises(ModelNotFoundError if reason == "no model" else StoreError):
            await rotation.start()
        assert rotation.current is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("model_uri", "name", "version"),
    [
        ("models:/lactose/12", "lactose", "12"),
        ("models:/a name with spaces/1", "a name with spaces", "1"),
        ("models:/m-0123", "models:/m-0123", None),
        ("runs:/0123/classifier", "runs:/0123/classifier", None),
        ("some/folder", "some/folder", None),
    ],
)
def test_names_of_versions(model_uri: str, name: str, version: str | None) -> None:
    served = build_version(model_uri)
    assert (served.name, served.registered.version) == (name, version)
    assert served.registered == ServedName(name=None if version is None else name, version=version)


def test_a_logged_model_is_loaded_and_its_copy_removed(
    logged: LoggedClassifier,
    tracking: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pictures: Any,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    served = load_version(logged.model_uri)
    assert list(tmp_path.glob("sem-search-*")) == []
    image = pictures.draw().astype(np.float32) / 255
    (answer,) = served.classifier.classify([image])
    assert answer.probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("damage", ["weights", "example"])
def test_a_model_that_does_not_answer_its_stored_example_is_not_loaded(
    logged: LoggedClassifier, tracking: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(rotation_module, "read_classifier" if damage == "weights" else "check_example", fail)
    with pytest.raises(StoreError, match=r"does not answer the example that is stored .*ValueError: shapes do not fit"):
        load_version(logged.model_uri)


class BrokenClassifier(StoneClassifier):
    """Answers with what is no probability."""

    def classify(self, *given: Any, **more: Any) -> Any:
        (answer,) = super().classify(*given, **more)
        answer.probabilities[:] = np.nan
        return (answer,)


def test_the_example_must_be_answered_with_a_class() -> None:
    example = json.dumps(TABLE).encode()
    check_example(StoneClassifier(), example)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="none of its 2 classes"):
        check_example(BrokenClassifier(), example)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot be answered"):
        check_example(StoneClassifier(), b'{"inputs": ["x"]}')  # type: ignore[arg-type]


def test_another_address_is_followed_at_once(world: World) -> None:
    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")
        rotation.follow("models:/lactose/1")
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/1")
        await asyncio.sleep(0.05)
        assert get_uri(rotation) == "models:/lactose/1"

    watch(world, story)


def test_a_rotation_may_begin_without_a_model_and_says_once_why(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    there: list[str] = []

    def resolve(address: str) -> str:
        assert address == ""
        if not there:
            raise ModelNotFoundError("There is no model yet.")
        return there[0]

    async def run() -> None:
        rotation = Rotation(address="", watch_s=0.01, resolve=resolve, load=world.load)
        watching = asyncio.create_task(rotation.watch())
        try:
            async with asyncio.timeout(LIMIT_S):
                await wait_for(lambda: rotation.trouble == "There is no model yet.")
                await asyncio.sleep(0.1)
                there.append("models:/lactose/1")
                await wait_for(lambda: get_uri(rotation) == "models:/lactose/1")
            assert rotation.trouble == ""
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(run())
    assert caplog.text.count("No model answers yet") == 1


def test_a_version_that_cannot_be_loaded_is_told_until_another_one_is_wanted(world: World) -> None:
    world.unloadable.add("models:/lactose/2")

    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: rotation.trouble == "it does not answer.")
        await asyncio.sleep(0.1)
        assert rotation.trouble == "it does not answer."
        world.champion = "1"
        await wait_for(lambda: rotation.trouble == "")

    watch(world, story)

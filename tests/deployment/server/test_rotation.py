"""Following an alias, with servers that are none."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from sem_search.deployment.server import rotation as rotation_module
from sem_search.deployment.server.child import ServerSettings
from sem_search.deployment.server.rotation import Rotation, ServedVersion
from sem_search.errors import ModelNotFoundError, StoreError

ADDRESS = "models:/lactose@champion"
SETTINGS = ServerSettings(timeout_s=1)


@dataclass
class FakeServer:
    """A child that is started, asked and ended without a process."""

    model_uri: str
    is_startable: bool = True
    is_running: bool = True
    is_drained: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_until_ready(self, *, limit_s: float) -> None:
        await asyncio.sleep(0)
        if not self.is_startable:
            raise StoreError("it ended with code 3.")

    async def wait_until_ended(self) -> int:
        await self.ended.wait()
        return 9

    async def drain_and_stop(self, *, limit_s: float) -> None:
        self.is_drained = True
        await self.stop()

    async def stop(self) -> None:
        self.die()

    def die(self) -> None:
        self.is_running = False
        self.ended.set()


class World:
    """A registry with one alias, and the servers that were started."""

    def __init__(self) -> None:
        self.champion = "1"
        self.is_reachable = True
        self.unstartable: set[str] = set()
        self.servers: list[FakeServer] = []

    def resolve(self, address: str) -> str:
        if not self.is_reachable:
            raise ModelNotFoundError("the registry is gone.")
        return address if "@" not in address else f"models:/lactose/{self.champion}"

    async def start(self, model_uri: str, *, settings: ServerSettings) -> FakeServer:
        assert settings is SETTINGS
        server = FakeServer(model_uri, is_startable=model_uri not in self.unstartable)
        self.servers.append(server)
        return server

    def list_running(self) -> list[str]:
        return [server.model_uri for server in self.servers if server.is_running]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(rotation_module, "start_model_server", made.start)
    monkeypatch.setattr(rotation_module, "_read_param_names", lambda model_uri: ("explain", model_uri))
    return made


def watch(world: World, story: Callable[[Rotation], Coroutine[Any, Any, None]], address: str = ADDRESS) -> None:
    """Run a story beside a rotation that watches."""

    async def run() -> None:
        rotation = Rotation(
            address=address,
            settings=SETTINGS,
            watch_s=0.01,
            resolve=world.resolve,
        )
        await rotation.start()
        watching = asyncio.create_task(rotation.watch())
        try:
            async with asyncio.timeout(10):
                await story(rotation)
            assert not watching.done()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await rotation.stop(limit_s=1)
        assert world.list_running() == []

    asyncio.run(run())


async def wait_for(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


def get_uri(rotation: Rotation) -> str | None:
    return rotation.current.model_uri if rotation.current is not None else None


def test_a_new_champion_takes_the_place_of_the_old_one(world: World) -> None:
    async def story(rotation: Rotation) -> None:
        first = rotation.current
        assert first is not None
        assert (first.name, first.version, first.param_names) == ("lactose", "1", ("explain", "models:/lactose/1"))
        world.champion = "2"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")
        await wait_for(lambda: world.servers[0].is_drained)
        assert world.list_running() == ["models:/lactose/2"]

    watch(world, story)


def test_the_old_one_answers_until_the_new_one_is_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    is_ready = asyncio.Event()

    async def wait_until_ready(server: FakeServer, *, limit_s: float) -> None:
        if server.model_uri.endswith("2"):
            await is_ready.wait()

    monkeypatch.setattr(FakeServer, "wait_until_ready", wait_until_ready)

    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: len(world.servers) == 2)
        await asyncio.sleep(0.05)
        assert get_uri(rotation) == "models:/lactose/1"
        assert not world.servers[0].is_drained
        is_ready.set()
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")

    watch(world, story)


def test_a_version_that_cannot_be_started_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.unstartable.add("models:/lactose/2")

    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: len(world.servers) == 2)
        await asyncio.sleep(0.1)
        assert get_uri(rotation) == "models:/lactose/1"
        assert len(world.servers) == 2, "it is not tried again at once"
        assert world.list_running() == ["models:/lactose/1"]
        world.champion = "3"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/3")

    watch(world, story)
    assert "models:/lactose/2 could not be started (it ended with code 3); it is tried again in 60 s" in caplog.text
    assert "models:/lactose/1 goes on" in caplog.text


def test_a_registry_that_does_not_answer_changes_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def story(rotation: Rotation) -> None:
        world.is_reachable = False
        await wait_for(lambda: "could not be looked up (the registry is gone)" in caplog.text)
        assert get_uri(rotation) == "models:/lactose/1"
        world.is_reachable, world.champion = True, "2"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")

    watch(world, story)


def test_a_server_that_dies_is_started_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def story(rotation: Rotation) -> None:
        world.servers[0].die()
        assert rotation.current is None
        await wait_for(lambda: rotation.current is not None)
        assert get_uri(rotation) == "models:/lactose/1"
        assert len(world.servers) == 2

    watch(world, story)
    assert "ended with code 9; it is started again" in caplog.text


def test_one_version_is_never_exchanged(world: World) -> None:
    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await asyncio.sleep(0.05)
        assert get_uri(rotation) == "models:/lactose/1"
        assert len(world.servers) == 1

    watch(world, story, address="models:/lactose/1")


@pytest.mark.parametrize("reason", ["no model", "no start"])
def test_a_first_start_that_fails_is_reported(world: World, reason: str) -> None:
    if reason == "no model":
        world.is_reachable = False
    else:
        world.unstartable.add("models:/lactose/1")

    async def run() -> None:
        rotation = Rotation(
            address=ADDRESS,
            settings=SETTINGS,
            watch_s=1,
            resolve=world.resolve,
        )
        with pytest.raises(ModelNotFoundError if reason == "no model" else StoreError):
            await rotation.start()
        assert rotation.current is None

    asyncio.run(run())
    assert world.list_running() == []


def test_moves_are_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(rotation: Rotation) -> None:
        world.champion = "2"
        await wait_for(lambda: get_uri(rotation) == "models:/lactose/2")

    watch(world, story)
    assert "models:/lactose/2 answers now, in place of models:/lactose/1." in caplog.text


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
    served = ServedVersion(model_uri=model_uri, param_names=(), server=FakeServer(model_uri))  # type: ignore[arg-type]
    assert (served.name, served.version) == (name, version)

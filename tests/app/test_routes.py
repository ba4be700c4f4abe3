"""What the page's server answers, and what it refuses, before a model of stone."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image

from sem_search.app.access import Access
from sem_search.app.events import Events
from sem_search.app.folders import Folders
from sem_search.app.jobs import Jobs
from sem_search.app.page import read_page
from sem_search.app.requests import Desk
from sem_search.app.results import Results
from sem_search.app.routes import App, build_routes
from sem_search.deployment.server.application import ServerLimits
from sem_search.errors import RefusedRequestError, StoreError
from tests.conftest import write_tiny_folder
from tests.deployment.server.serving import Bench, Reply, StoneRotation, open_bench

TOKEN = "a token of twelve"
STORAGE = "sqlite:///optuna.db"
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}


class Rotation(StoneRotation):
    """Knows one version, and notes what it is told to follow."""

    trouble = ""

    def follow(self, address: str) -> None:
        self.address = address


@dataclass
class PageBench:
    """The page's server, in a folder with a data set."""

    bench: Bench
    place: Path
    rotation: Rotation

    async def get(self, path: str, /, *, headers: dict[str, str] | None = None, **query: str) -> Reply:
        return await self.bench.call("GET", f"{path}?{urlencode(query)}", headers=headers or {})

    async def post(self, path: str, content: Any, /, *, headers: dict[str, str] | None = None, **query: str) -> Reply:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = (BYTES if isinstance(content, bytes) else JSON) | (headers or {})
        return await self.bench.call("POST", f"{path}?{urlencode(query)}", pieces=[data], headers=sent)


Story = Callable[[PageBench], Coroutine[Any, Any, None]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tiny_folder(tmp_path / "my p\u00fclver", n_images=2)
    return tmp_path


def tell(story: Story, place: Path, *, allowed_hosts: frozenset[str] = frozenset()) -> None:
    """Run a story before the page's server."""
    rotation = Rotation(current=None)
    folders, access = Folders([place], uploads=place / "uploads"), Access(TOKEN)
    desk, jobs, work = Desk(access), Jobs(place / "work"), place / "work"
    app = App(
        folders=folders,
        work=work,
        uploads=place / "uploads",
        jobs=jobs,
        results=Results(storage=STORAGE, folders=folders, kits=work / "kits"),
        rotation=rotation,  # type: ignore[arg-type]
        access=access,
        page=read_page(),
    )

    async def run() -> None:
        begun_s = time.monotonic()
        events = Events(
            jobs=jobs,
            storage=STORAGE,
            rotation=rotation,  # type: ignore[arg-type]
            desk=desk,
            is_ending=lambda: time.monotonic() - begun_s > 2.0,
        )
        limits = ServerLimits(allowed_hosts=ServerLimits().allowed_hosts | allowed_hosts)
        async with open_bench(limits=limits, routes=build_routes(app, events=events, desk=desk)) as bench:
            await story(PageBench(bench=bench, place=place, rotation=rotation))

    asyncio.run(run())


def test_a_person_finds_the_folder_its_classes_and_pictures(place: Path) -> None:
    async def story(page: PageBench) -> None:
        (folder,) = (await page.get("/api/folder")).to_json()["folders"]
        found = (await page.post("/api/classes", {"data": folder["path"]})).to_json()
        assert len(found["classes"]) == folder["n_classes"] == 3
        image = found["classes"][0]["images"][0]
        path = f"{found['root']}/{image}"
        reply = await page.get("/api/picture", path=path, side="small")
        assert Image.open(io.BytesIO(reply.content)).size == (96, 96)
        assert (reply.headers["Content-Type"], reply.headers["X-Content-Type-Options"]) == ("image/jpeg", "nosniff")
        assert (await page.get("/api/facts", path=path)).to_json()["height_px"] == 96

    tell(story, place)


@pytest.mark.parametrize("path", ["/api/picture", "/api/facts", "/api/folder"])
@pytest.mark.parametrize(
    "hostile", ["/etc/passwd", "../../../../etc/passwd", "/proc/self/environ", "a\0b", "\\\\host\\x"]
)
def test_nothing_else_of_the_machine_can_be_read(place: Path, path: str, hostile: str) -> None:
    async def story(page: PageBench) -> None:
        reply = await page.get(path, path=hostile)
        assert reply.status in (403, 404)
        assert b"root:" not in reply.content

    tell(story, place)


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/api/picture", {}, 400),
        ("/api/picture", {"path": "my p\u00fclver"}, 400),
        ("/api/picture", {"path": "my p\u00fclver", "side": "huge"}, 400),
        ("/api/study", {"name": "no such"}, 404),
        ("/api/study", {"name": "../.."}, 404),
        ("/api/study/picture", {"name": "x", "image": "../../etc/passwd"}, 404),
        ("/api/study/heat", {"name": "x", "image": "y", "label": "z"}, 404),
        ("/api/study/page", {"name": "../../etc"}, 404),
        ("/api/study/download", {"name": "..", "what": "kit"}, 404),
        ("/api/study/download", {"name": "..", "what": "x"}, 400),
        ("/api/inspection", {"id": "../../x"}, 404),
        ("/api/inspection", {"id": "."}, 404),
        ("/api/inspection", {"id": "0123abcd", "as": "py"}, 404),
        ("/api/inspection", {"id": "a" * 300}, 404),
        ("/api/version-card", {"model": "no such"}, 400),
        ("/api/nothing", {}, 404),
    ],
)
def test_what_is_not_there_is_one_sentence(place: Path, path: str, query: dict[str, str], status: int) -> None:
    async def story(page: PageBench) -> None:
        reply = await page.get(path, **query)
        assert reply.status == status, reply.content
        assert set(reply.to_json()) == {"error_code", "message"}

    tell(story, place)


CHANGES: list[tuple[str, Any]] = [
    ("/api/start-job", {"kind": "demo"}),
    ("/api/stop-job", {"kind": "search"}),
    ("/api/promote", {"model": "a", "version": "1"}),
    ("/api/roll-back", {"model": "a"}),
    ("/api/follow", {"model": "a", "version": "1"}),
    ("/api/upload", b"x"),
    ("/api/upload-zip", b"x"),
]


@pytest.mark.parametrize(("path", "content"), CHANGES)
def test_who_is_elsewhere_changes_nothing_without_the_token(place: Path, path: str, content: Any) -> None:
    async def story(page: PageBench) -> None:
        own = {"Host": "sem.example.org", "Origin": "https://sem.example.org"}
        reply = await page.post(path, content, headers=own, data="d", name="n.png", **{"class": "c"})
        assert (reply.status, "enter the token" in reply.to_json()["message"]) == (403, True)
        assert not (await page.get("/api/start", headers=own)).to_json()["may_change"]
        assert not (page.place / "uploads").exists()
        assert page.rotation.address == "models:/lactose@champion"
        told = {**own, "X-Sem-Search-Token": TOKEN}
        assert (await page.get("/api/start", headers=told)).to_json()["may_change"]

    tell(story, place, allowed_hosts=frozenset({"sem.example.org"}))


@pytest.mark.parametrize(("path", "content"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_pages_of_other_sites_and_their_forms_change_nothing(
    place: Path, path: str, content: Any, headers: dict[str, str]
) -> None:
    async def story(page: PageBench) -> None:
        reply = await page.post(path, content, headers=headers, data="d", name="n.png", **{"class": "c"})
        assert reply.status in (403, 415), reply.content
        assert not any(path.is_file() for path in (page.place / "uploads").rglob("*"))
        assert not (page.place / "work").exists()

    tell(story, place)


@pytest.mark.parametrize("hostile", ["/etc", "file:///etc", "http://192.0.2.1/m", "runs:/x/y", "a@champion", "../m"])
def test_only_registered_versions_are_followed(place: Path, hostile: str) -> None:
    async def story(page: PageBench) -> None:
        for given in ({"model": hostile, "version": "1"}, {"model": "m", "version": hostile}, {"address": hostile}):
            assert (await page.post("/api/follow", given)).status == 400
        assert page.rotation.address == "models:/lactose@champion"

    tell(story, place)


@pytest.mark.parametrize("path", ["/api/start", "/api/folder", "/api/events", "/api/studies", "/api/models"])
def test_pages_of_other_sites_do_not_even_look(place: Path, path: str) -> None:
    async def story(page: PageBench) -> None:
        assert (await page.get(path, headers={"Sec-Fetch-Site": "cross-site"})).status == 403

    tell(story, place)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nothing_is_changed_by_an_address(place: Path, method: str) -> None:
    async def story(page: PageBench) -> None:
        for path, _ in CHANGES:
            assert (await page.bench.call(method, path)).status == 405

    tell(story, place)


@pytest.mark.parametrize("content", ["[]", "{", "1", '{"kind": 1}', '{"kind": "evil"}', "[" * 100_000, ""])
def test_what_is_no_request_is_refused(place: Path, content: str) -> None:
    async def story(page: PageBench) -> None:
        reply = await page.post("/api/start-job", content.encode(), headers=JSON)
        assert reply.status == 400
        assert not (page.place / "work").exists()

    tell(story, place)


def test_a_request_that_is_too_large_is_refused(place: Path) -> None:
    async def story(page: PageBench) -> None:
        assert (await page.post("/api/classes", b" " * 6_000_000, headers=JSON)).status == 413

    tell(story, place)


def test_files_that_are_dropped_become_a_data_set(place: Path) -> None:
    pictures = sorted((place / "my p\u00fclver").rglob("*.png"))

    async def story(page: PageBench) -> None:
        for file in pictures:
            names = {"data": "Neu", "class": file.parent.name, "name": file.name}
            reply = await page.post("/api/upload", file.read_bytes(), **names)
            assert reply.status == 200, reply.content
        data = reply.to_json()["path"]
        found = (await page.post("/api/classes", {"data": data})).to_json()
        assert len(found["classes"]) == 3
        taken = await page.post("/api/upload", b"other", **names)
        assert (taken.status, taken.to_json()["error_code"]) == (409, "RESOURCE_CONFLICT")
        for hostile in ("..", "a/b", ".x", ""):
            assert (await page.post("/api/upload", b"x", **{**names, "class": hostile})).status == 400
        assert (await page.post("/api/upload-zip", b"no zip", data="Zip")).status == 400

    tell(story, place)


def test_a_second_visitor_sees_the_same(place: Path) -> None:
    async def story(page: PageBench) -> None:
        first, second = await asyncio.gather(page.get("/api/events"), page.get("/api/events"))
        events = [json.loads(reply.content.decode().split("data: ")[1].split("\n\n")[0]) for reply in (first, second)]
        assert events[0] == events[1]
        assert set(events[0]) == {"jobs", "grid", "model"}
        assert first.headers["Content-Type"].startswith("text/event-stream")

    tell(story, place)


def test_an_empty_place_has_neither_studies_nor_models(place: Path) -> None:
    async def story(page: PageBench) -> None:
        assert (await page.get("/api/studies")).to_json() == []
        assert not (page.place / "optuna.db").exists()

    tell(story, place)


def test_the_page_comes_with_its_policy_and_reports_run_nothing(place: Path) -> None:
    inspection = place / "work" / "inspections" / "0123abcd"
    inspection.mkdir(parents=True)
    (inspection / "inspection.html").write_text("<script>alert(1)</script>")

    async def story(page: PageBench) -> None:
        reply = await page.get("/")
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert "Which images?" in reply.content.decode()
        other = await page.get("/api/inspection", id="0123abcd", **{"as": "html"})
        policy = other.headers["Content-Security-Policy"]
        assert "sandbox" in policy
        assert "allow-scripts" not in policy
        assert "script-src" not in policy

    tell(story, place)


def test_heat_maps_that_wait_hold_up_neither_stop_nor_state(place: Path) -> None:
    gate = threading.Event()

    async def story(page: PageBench) -> None:
        desk = Desk(Access(TOKEN))
        waiting = [asyncio.create_task(desk.heat.work(gate.wait)) for _ in range(101)]
        await asyncio.sleep(0.05)
        with pytest.raises(RefusedRequestError, match="try again soon") as refusal:
            await desk.heat.work(lambda: None)
        assert refusal.value.status == 503
        assert await desk.state.work(lambda: "stopped") == "stopped"
        gate.set()
        assert all(await asyncio.gather(*waiting))

    tell(story, place)


def test_a_store_that_is_away_is_one_sentence() -> None:
    def fail() -> None:
        raise StoreError("The disk is full.")

    async def run() -> None:
        with pytest.raises(RefusedRequestError, match="The disk is full") as refusal:
            await Desk(Access(TOKEN)).short.work(fail)
        assert refusal.value.status == 503

    asyncio.run(run())

"""The front before a server that is none: what passes, what is refused, and in what words."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import test_utils, web

from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server import front as front_module
from sem_search.deployment.server.front import Front, FrontSettings
from sem_search.deployment.server.page import read_page
from sem_search.deployment.server.rotation import ServedVersion

PARAMS = ("explain", "on_error")
TABLE = {"inputs": ["AAAA"]}
Backend = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeServer:
    """Stands for a child process; counts what is under way."""

    address: str
    session: aiohttp.ClientSession
    is_running: bool = True
    n_entered: int = 0
    n_left: int = 0

    def __enter__(self) -> None:
        self.n_entered += 1

    def __exit__(self, *_: object) -> None:
        self.n_left += 1


@dataclass
class FakeRotation:
    """Knows one version, or none."""

    current: ServedVersion | None
    address: str = "models:/lactose@champion"


@dataclass
class Bench:
    """A front with its fakes."""

    client: test_utils.TestClient[Any, Any]
    rotation: FakeRotation
    server: FakeServer
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def post(self, body: Any, **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        async with self.client.post("/invocations", data=data, headers=sent) as response:
            return response.status, await response.json(), response.headers


async def answer_well(_: web.Request) -> web.Response:
    return web.json_response({"predictions": [{"label": "starch"}]})


@asynccontextmanager
async def open_bench(
    backend: Backend = answer_well,
    *,
    model_uri: str = "models:/lactose/7",
    settings: FrontSettings | None = None,
    has_page: bool = False,
) -> AsyncIterator[Bench]:
    bench_asked: list[dict[str, Any]] = []

    async def receive(request: web.Request) -> web.StreamResponse:
        bench_asked.append(await request.json())
        return await backend(request)

    behind = web.Application(client_max_size=10**9)
    behind.router.add_post("/invocations", receive)
    async with test_utils.TestServer(behind) as running, aiohttp.ClientSession() as session:
        server = FakeServer(address=str(running.make_url("")).rstrip("/"), session=session)
        version = ServedVersion(model_uri=model_uri, param_names=PARAMS, server=server)  # type: ignore[arg-type]
        rotation = FakeRotation(current=version)
        front = Front(
            rotation=rotation,  # type: ignore[arg-type]
            settings=settings or FrontSettings(limits=RequestLimits(max_bytes=10_000)),
            page=read_page() if has_page else None,
        )
        before = test_utils.TestServer(front.build_application())
        await before.start_server(auto_decompress=False)  # as `running` starts it
        async with test_utils.TestClient(before) as client:
            yield Bench(client=client, rotation=rotation, server=server, asked=bench_asked)


def test_an_answer_passes_with_the_version_that_gave_it() -> None:
    async def run() -> None:
        async with open_bench() as bench:
            status, body, headers = await bench.post(TABLE | {"params": {"explain": True}})
            assert (status, body) == (200, {"predictions": [{"label": "starch"}]})
            assert (headers["X-Model-Name"], headers["X-Model-Version"]) == ("lactose", "7")
            assert headers["Server"] == "sem-search"
            assert bench.asked == [
                {"dataframe_split": {"columns": ["image"], "data": [["AAAA"]]}, "params": {"explain": True}}
            ]
            assert (bench.server.n_entered, bench.server.n_left) == (1, 1)

    asyncio.run(run())


def test_a_model_that_is_not_registered_has_no_version() -> None:
    async def run() -> None:
        async with open_bench(model_uri="runs:/0123/classifier") as bench:
            _, _, headers = await bench.post(TABLE)
            assert headers["X-Model-Name"] == "runs:/0123/classifier"
            assert "X-Model-Version" not in headers

    asyncio.run(run())


REFUSALS: dict[str, tuple[int, str, int, str, str]] = {
    "what was sent is left out": (
        400,
        json.dumps(
            {
                "error_code": "BAD_REQUEST",
                "message": "Failed to predict data '  image\n0 AAAA'. \nError: row 0: is no picture.",
            }
        ),
        400,
        "BAD_REQUEST",
        "row 0: is no picture.",
    ),
    "stack traces and further lines are left out": (
        400,
        json.dumps({"message": "Failed.\n  File x.py", "stack_trace": "Traceback: /srv/x.py"}),
        400,
        "BAD_REQUEST",
        "Failed.",
    ),
    "a failure": (
        500,
        json.dumps({"message": "x\nError: The classifier failed on this request (KeyError)."}),
        500,
        "INTERNAL_ERROR",
        "The classifier failed on this request (KeyError).",
    ),
    "no JSON": (
        504,
        "Request processing time exceeded limit",
        504,
        "DEADLINE_EXCEEDED",
        "could not be answered in time",
    ),
    "no message": (400, "[]", 400, "BAD_REQUEST", "The request was refused."),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_of_the_server_behind_are_cleaned(kind: str) -> None:
    behind_status, behind_body, status, code, message = REFUSALS[kind]

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=behind_status, text=behind_body)

    async def run() -> None:
        async with open_bench(refuse) as bench:
            found, body, headers = await bench.post(TABLE)
            assert (found, body["error_code"]) == (status, code)
            assert message in body["message"]
            assert set(body) == {"error_code", "message"}
            assert "Failed to predict data" not in body["message"]
            assert ".py" not in body["message"]
            assert headers["X-Model-Version"] == "7"

    asyncio.run(run())


def test_what_is_refused_here_never_reaches_the_server_behind() -> None:
    async def run() -> None:
        async with open_bench() as bench:
            for request, headers, status, message in [
                (b"{bad", {}, 400, "not valid JSON"),
                (TABLE, {"Content_Type": "text/plain"}, 415, "application/json or text/csv"),
                (TABLE, {"Content_Encoding": "gzip"}, 415, "Compressed requests"),
                (b"x" * 10_001, {}, 413, "has 0.01 MB, and at most 0.01 MB"),
                (
                    TABLE | {"params": {"coverge": 1}},
                    {},
                    400,
                    "no parameter 'coverge'; the model knows explain, on_error",
                ),
            ]:
                found, body, _ = await bench.post(request, **headers)
                assert found == status, body
                assert message in body["message"]
            assert bench.asked == []

    asyncio.run(run())


def test_a_body_that_tells_no_length_is_cut_off() -> None:
    async def run() -> None:
        async with open_bench() as bench:
            async with bench.client.post(
                "/invocations", data=drip(b"x" * 1000, times=11), headers={"Content-Type": "application/json"}
            ) as response:
                assert response.status == 413
                assert "larger than this server takes" in (await response.json())["message"]
            assert (await bench.post(TABLE))[0] == 200

    asyncio.run(run())


def test_a_caller_who_asks_first_is_reported_before_sending() -> None:
    async def run() -> None:
        async with open_bench() as bench:
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
            writer.write(
                b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
            )
            assert b" 413 " in await reader.readline()
            writer.close()

    asyncio.run(run())


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "READ_LIMIT_S", 0.05)

    async def run() -> None:
        async with open_bench() as bench:
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
            writer.write(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
            assert b" 408 " in await reader.readline()
            writer.close()

    asyncio.run(run())


def test_without_a_version_everything_waits_politely() -> None:
    async def run() -> None:
        async with open_bench() as bench:
            async with bench.client.get("/ping") as response:
                assert (response.status, await response.json()) == (200, {"status": "ok"})
            bench.rotation.current = None
            for path in ("/ping", "/health"):
                async with bench.client.get(path) as response:
                    assert (response.status, response.headers["Retry-After"]) == (503, "2")
            status, body, headers = await bench.post(TABLE)
            assert (status, body["error_code"], headers["Retry-After"]) == (503, "TEMPORARILY_UNAVAILABLE", "2")
            async with bench.client.get("/version") as response:
                assert (await response.json())["version"] is None

    asyncio.run(run())


def test_the_version_that_answers_is_reported() -> None:
    async def run() -> None:
        async with open_bench() as bench, bench.client.get("/version") as response:
            told = await response.json()
            assert (told["address"], told["model"], told["version"]) == ("models:/lactose@champion", "lactose", "7")

    asyncio.run(run())


def test_a_server_that_breaks_off_is_a_502() -> None:
    async def break_off(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def run() -> None:
        async with open_bench(break_off) as bench:
            status, body, _ = await bench.post(TABLE)
            assert (status, body["error_code"]) == (502, "BAD_GATEWAY")
            assert bench.server.n_left == 1

    asyncio.run(run())


def test_bodies_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "REQUESTS_HELD", 1)

    async def run() -> None:
        go_on = asyncio.Event()

        async def wait(_: web.Request) -> web.Response:
            await go_on.wait()
            return web.json_response({"predictions": []})

        async with open_bench(wait) as bench:
            large = {"inputs": ["A" * 8000]}
            first = asyncio.create_task(bench.post(large))
            while not bench.asked:
                await asyncio.sleep(0.01)
            status, body, _ = await bench.post(large)
            assert (status, body["message"]) == (503, "Too many large requests are under way: try again soon.")
            go_on.set()
            assert (await first)[0] == 200
            assert (await bench.post(large))[0] == 200

    asyncio.run(run())


def test_callers_who_announce_much_and_send_little_shut_nobody_out() -> None:
    async def run() -> None:
        async with open_bench(settings=FrontSettings()) as bench:
            writers = []
            for _ in range(2 * front_module.REQUESTS_HELD):
                _, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
                writer.write(
                    b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 64000000\r\n\r\n{"
                )
                writers.append(writer)
            await asyncio.sleep(0.1)
            assert (await bench.post(TABLE))[0] == 200
            assert (await bench.post({"inputs": ["A" * 2_000_000]}))[0] == 200
            for writer in writers:
                writer.close()

    asyncio.run(run())


def test_large_bodies_that_are_held_leave_room_for_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "REQUESTS_HELD", 1)
    monkeypatch.setattr(front_module, "KEPT_SHARE", 0.5)

    async def run() -> None:
        go_on = asyncio.Event()

        async def wait(_: web.Request) -> web.Response:
            await go_on.wait()
            return web.json_response({"predictions": []})

        settings = FrontSettings(limits=RequestLimits(max_bytes=8_000_000), n_at_once=5)
        async with open_bench(wait, settings=settings) as bench:
            large, small = {"inputs": ["A" * 3_000_000]}, {"inputs": ["A" * 900_000]}
            waiting = [asyncio.create_task(bench.post(large))]
            while not bench.asked:
                await asyncio.sleep(0.01)
            assert (await bench.post(large))[0] == 503
            async with bench.client.post("/invocations", data=drip(b"x" * 500_000, times=4)) as response:
                assert response.status == 503, "its length is not told, and seen as it comes"
            waiting.append(asyncio.create_task(bench.post(small)))
            while len(bench.asked) < 2:
                await asyncio.sleep(0.01)
            go_on.set()
            assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200]
            assert (await bench.post(large))[0] == 200

    asyncio.run(run())


async def drip(piece: bytes, *, times: int, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(times):
        await asyncio.sleep(pause_s)
        yield piece


@pytest.mark.parametrize("pause_s", [0.03, 5.0], ids=["slow", "still"])
def test_a_caller_who_sends_too_slowly_is_dropped(monkeypatch: pytest.MonkeyPatch, pause_s: float) -> None:
    monkeypatch.setattr(front_module, "PACE_S", 0.2)

    async def run() -> None:
        async with open_bench() as bench:
            async with bench.client.post("/invocations", data=drip(b"x", times=100, pause_s=pause_s)) as response:
                assert response.status == 408
                assert "slower than" in (await response.json())["message"]
                assert response.headers["Connection"] == "close"
            assert (await bench.post(TABLE))[0] == 200

    asyncio.run(run())


def test_a_caller_who_keeps_the_pace_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "PACE_S", 0.3)
    monkeypatch.setattr(front_module, "PACE_BYTES", 100)

    async def run() -> None:
        body = json.dumps({"inputs": ["A" * 985]}).encode()

        async def send() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 100):
                await asyncio.sleep(0.05)
                yield body[at : at + 100]

        async with open_bench() as bench:
            headers = {"Content-Type": "application/json"}
            async with bench.client.post("/invocations", data=send(), headers=headers) as response:
                assert response.status == 200

    asyncio.run(run())


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_requests_to_other_names_and_of_foreign_pages_are_refused(headers: dict[str, str]) -> None:
    async def run() -> None:
        async with open_bench(has_page=True) as bench:
            for method, path in [("GET", "/"), ("DELETE", "/ping"), ("GET", "/version"), ("POST", "/invocations")]:
                async with bench.client.request(method, path, headers=headers) as response:
                    assert (response.status, (await response.json())["error_code"]) == (403, "PERMISSION_DENIED")
                    assert "X-Model-Name" not in response.headers
            assert bench.asked == []
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.client.port)
            lines = "".join(f"{name}: {text}\r\n" for name, text in ({"Host": "localhost"} | headers).items())
            writer.write(f"POST /invocations HTTP/1.1\r\n{lines}Expect: 100-continue\r\n\r\n".encode())
            assert b" 403 " in await reader.readline()
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("headers", [{"Host": "10.1.2.3:5001"}, *FOREIGN])
@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_a_probe_may_ask_by_any_name_and_learns_nothing_else(headers: dict[str, str], path: str) -> None:
    async def run() -> None:
        async with open_bench() as bench, bench.client.get(path, headers=headers) as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
            assert not {"X-Model-Name", "X-Model-Version"} & set(response.headers)

    asyncio.run(run())


def test_other_names_and_the_own_page_are_answered_where_they_are_allowed() -> None:
    settings = FrontSettings(allowed_hosts=frozenset({"sem.example.org"}))

    async def run() -> None:
        async with open_bench(settings=settings) as bench:
            for name, status in [("sem.example.org", 200), ("127.0.0.1", 403)]:
                found, _, _ = await bench.post(TABLE, Host=name, Origin=f"https://{name}")
                assert found == status

    asyncio.run(run())


def test_only_so_many_requests_are_worked_on_at_once() -> None:
    async def run() -> None:
        n_now, most = 0, 0

        async def work(_: web.Request) -> web.Response:
            nonlocal n_now, most
            n_now += 1
            most = max(most, n_now)
            await asyncio.sleep(0.02)
            n_now -= 1
            return web.json_response({"predictions": []})

        async with open_bench(work) as bench:
            answers = await asyncio.gather(*(bench.post(TABLE) for _ in range(12)))
            assert [status for status, _, _ in answers] == [200] * 12
            assert most == 2

    asyncio.run(run())


def test_a_request_waits_for_its_turn_only_so_long() -> None:
    async def run() -> None:
        async def work(_: web.Request) -> web.Response:
            await asyncio.sleep(0.4)
            return web.json_response({"predictions": []})

        settings = FrontSettings(n_at_once=1, timeout_s=0.1)
        async with open_bench(work, settings=settings) as bench:
            answers = await asyncio.gather(*(bench.post(TABLE) for _ in range(3)))
            assert sorted(status for status, _, _ in answers) == [200, 503, 503]

    asyncio.run(run())


def test_other_paths_and_methods_are_refused_in_one_sentence() -> None:
    async def run() -> None:
        async with open_bench() as bench:
            for method, path, status in [("GET", "/", 404), ("GET", "/invocations", 405), ("DELETE", "/ping", 405)]:
                async with bench.client.request(method, path) as response:
                    assert response.status == status
                    assert "this server knows POST /invocations" in (await response.json())["message"]

    asyncio.run(run())


def test_a_failure_of_the_front_is_a_500_without_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail in /srv/secret/file.py")

    monkeypatch.setattr(front_module, "admit_request", fail)

    async def run() -> None:
        async with open_bench() as bench:
            status, body, _ = await bench.post(TABLE)
            assert (status, body["message"]) == (500, "The server failed on this request; its log says why.")

    asyncio.run(run())
    assert "secret detail" in caplog.text


def test_the_page_comes_with_its_policy() -> None:
    async def run() -> None:
        async with open_bench(has_page=True) as bench, bench.client.get("/") as response:
            assert response.status == 200
            assert "Drop micrographs or a folder here" in await response.text()
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]

    asyncio.run(run())

"""Callers who send nothing, and callers who do not take their answers."""

import asyncio
import gc
import json
import socket
import time
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.responses import Response

from sem_search.deployment.server import connection as connection_module
from tests.deployment.server.serving import TABLE, Bench, open_bench, wait_for

MANY = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
"""More pages than fit into the buffers of a connection."""


async def take_until_end(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes on a connection that the server ends."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def test_a_connection_that_stays_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEAD_LIMIT_S", 0.1)

    async def run() -> None:
        async with open_bench() as bench:
            reader, _ = await asyncio.open_connection("127.0.0.1", bench.port)
            assert await take_until_end(reader) == b""
            assert (await bench.post(TABLE)).status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
        (b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", b"413"),
    ],
    ids=["a second request", "a body that was refused"],
)
def test_a_connection_is_ended_where_bytes_come_and_no_request(
    monkeypatch: pytest.MonkeyPatch, head: bytes, status: bytes
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_LIMIT_S", 0.3)

    async def trickle(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"G")
            await asyncio.sleep(0.05)

    async def run() -> None:
        async with open_bench() as bench:
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            writer.write(head)
            assert (await reader.readline()).split()[1] == status
            trickling = asyncio.create_task(trickle(writer))
            await take_until_end(reader)
            trickling.cancel()

    asyncio.run(run())


def test_a_connection_with_request_after_request_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEAD_LIMIT_S", 1.0)

    async def run() -> None:
        async with open_bench() as bench:
            bench.classifier.delay_s = 1.3
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            body = json.dumps(TABLE).encode()
            head = f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            for _ in range(2):
                writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
                answer = await asyncio.wait_for(reader.readuntil(b"}]}"), 10)
                assert answer.startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(run())


def test_a_connection_that_has_ended_is_not_kept_in_memory() -> None:
    def count() -> int:
        gc.collect()
        return sum(isinstance(one, connection_module.Connection) for one in gc.get_objects())

    async def run() -> None:
        async with open_bench() as bench:
            n_before = count()
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", bench.port)
                writer.close()
            await asyncio.sleep(0.1)
            await wait_for(lambda: count() <= n_before)

    asyncio.run(run())


def test_connections_above_the_limit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MOST_CONNECTIONS", 2)

    async def run() -> None:
        async with open_bench() as bench:
            held = [await asyncio.open_connection("127.0.0.1", bench.port) for _ in range(2)]
            reader, _ = await asyncio.open_connection("127.0.0.1", bench.port)
            assert await take_until_end(reader) == b""
            held[0][1].close()
            await asyncio.sleep(0.1)
            assert (await bench.post(TABLE)).status == 200

    asyncio.run(run())


async def ask_for_many(bench: Bench, *, take: Callable[[socket.socket], int]) -> int:
    """Ask for many pages, and return how many bytes came."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", bench.port)) as caller:
        caller.settimeout(10)
        sending = loop.run_in_executor(None, _send, caller)
        n_bytes = await loop.run_in_executor(None, take, caller)
        await sending
    return n_bytes


def _send(caller: socket.socket) -> None:
    try:
        caller.sendall(MANY + b"GET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    except OSError:
        return


def take_late(caller: socket.socket) -> int:
    """Take nothing for a while, and then all that there is."""
    time.sleep(1.0)
    return take_all(caller)


def take_all(caller: socket.socket) -> int:
    """Take all that comes until the end."""
    n_bytes = 0
    try:
        while part := caller.recv(1 << 20):
            n_bytes += len(part)
    except ConnectionResetError:
        return n_bytes
    return n_bytes


async def show_page(_: Request) -> Response:
    return Response(bytes(25_000))


def test_a_caller_who_does_not_take_the_answers_is_dropped_and_one_who_does_gets_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "PACE_S", 0.2)

    async def run() -> None:
        async with open_bench(routes={"/": {"GET": show_page}}) as bench:
            whole = await ask_for_many(bench, take=take_all)
            assert whole > 2000 * 20_000
            assert await ask_for_many(bench, take=take_late) < whole / 2
            assert (await bench.post(TABLE)).status == 200

    asyncio.run(run())

"""Callers who send nothing, and callers who do not take their answers."""

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from sem_search.deployment.server import connection as connection_module
from tests.deployment.server.serving import TABLE, Bench, open_bench

MANY = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
"""More pages than fit into the buffers of a connection."""


def test_a_connection_that_stays_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "FIRST_LIMIT_S", 0.1)

    async def run() -> None:
        async with open_bench() as bench:
            reader, _ = await asyncio.open_connection("127.0.0.1", bench.port)
            async with asyncio.timeout(10):
                assert await reader.read() == b""
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


def test_a_caller_who_does_not_take_the_answers_is_dropped_and_one_who_does_gets_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "PACE_S", 0.2)

    async def run() -> None:
        async with open_bench(has_page=True) as bench:
            whole = await ask_for_many(bench, take=take_all)
            assert whole > 2000 * 20_000
            assert await ask_for_many(bench, take=take_late) < whole / 2
            assert (await bench.post(TABLE)).status == 200

    asyncio.run(run())

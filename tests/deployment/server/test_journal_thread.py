"""The journal of a server: each answer is in it, and none waits for it."""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sem_search.deployment.monitoring.journal import AnswerJournal, JournalRow, describe_answer
from sem_search.deployment.server import application as application_module
from sem_search.deployment.server import journal_thread
from sem_search.deployment.server.application import ServerLimits
from sem_search.deployment.server.journal_thread import JournalThread
from tests.deployment.server.serving import GOOD, Bench, encode_picture, open_bench, wait_for


class StoneJournal:
    """A database that waits at its gate."""

    def __init__(self) -> None:
        self.n_lost = 0
        self.gate = threading.Event()
        self.written: list[JournalRow] = []
        self.failure: Exception | None = None

    def write(self, rows: Sequence[JournalRow]) -> None:
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        self.written += rows


async def ask(bench: Bench, *, n_times: int = 1) -> None:
    for _ in range(n_times):
        reply = await bench.post({"inputs": [GOOD, "x", encode_picture(200)], "params": {"on_error": "report"}})
        assert reply.status == 200


def test_every_answer_of_a_server_is_in_the_journal(tmp_path: Path) -> None:
    place = str(tmp_path / "Antworten für uns.db")

    async def run() -> None:
        journal = JournalThread(AnswerJournal.open(place))
        async with open_bench(journal=journal) as bench:
            await ask(bench)
            await bench.post(b"{bad")
            lines = (await bench.get("/metrics")).content.decode().splitlines()
            assert "sem_search_journal_lost_total 0" in lines
        journal.close()

    asyncio.run(run())
    table = AnswerJournal.open(place, is_new_allowed=False).read(model_name="lactose", model_version="7")
    assert list(table.label) == ["lactose", "starch"]
    assert table.image_sha256.nunique() == 2
    assert (table.duration_ms > 0).all()


def test_no_answer_waits_for_the_journal_and_what_cannot_be_held_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_thread, "MOST_WAITING", 4)
    stone = StoneJournal()
    journal = JournalThread(stone)  # type: ignore[arg-type]

    async def run() -> None:
        async with open_bench(journal=journal) as bench:
            await ask(bench, n_times=3)
            lines = (await bench.get("/metrics")).content.decode().splitlines()
            assert "sem_search_journal_lost_total 2" in lines

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert "The journal's database is too slow: 2 answers are not in it." in caplog.text
    stone.gate.set()
    journal.close()
    assert [row.label for row in stone.written] == ["lactose", "starch"] * 2


def open_journal(stone: StoneJournal) -> JournalThread:
    return JournalThread(stone)  # type: ignore[arg-type]


def test_the_end_of_the_server_does_not_wait_for_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_thread, "CLOSE_S", 0.1)
    stone = StoneJournal()
    journal = open_journal(stone)
    rows: list[Any] = [object()]
    for _ in range(3):
        journal.add(rows)
    journal.close()
    assert not stone.gate.is_set()
    assert journal.n_lost == 3
    assert caplog.messages == ["The journal's database did not take all answers within 0.1 s: 3 answers are not in it."]
    stone.gate.set()


def test_what_cannot_be_written_is_counted_whatever_the_error_and_the_next_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stone = StoneJournal()
    journal = open_journal(stone)
    rows: list[Any] = [object(), object()]
    stone.failure = TypeError("no number")
    stone.gate.set()
    journal.add(rows)
    while journal.n_lost == 0:
        time.sleep(0.005)
    stone.failure = None
    journal.add(rows)
    journal.close()
    assert (journal.n_lost, stone.written) == (2, rows)
    assert caplog.messages == ["The journal was not written (TypeError: no number): 2 answers are not in it."]


def test_an_answer_that_cannot_be_noted_is_given_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> JournalRow:
        raise MemoryError("no room")

    monkeypatch.setattr(application_module, "describe_answer", fail)
    journal = open_journal(StoneJournal())

    async def run() -> None:
        async with open_bench(journal=journal) as bench:
            await ask(bench)

    asyncio.run(run())
    assert journal.n_lost == 2
    assert "The journal cannot hold an answer (MemoryError: no room): 2 answers are not in it." in caplog.messages
    journal.close()


def test_an_answer_that_comes_too_late_is_not_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    has_ended = threading.Event()

    def describe_late(*given: Any, **more: Any) -> JournalRow:
        time.sleep(1.0)
        has_ended.set()
        return describe_answer(*given, **more)

    monkeypatch.setattr(application_module, "describe_answer", describe_late)
    stone = StoneJournal()
    stone.gate.set()
    journal = open_journal(stone)

    async def run() -> None:
        async with open_bench(journal=journal, limits=ServerLimits(timeout_s=0.5)) as bench:
            assert (await bench.post({"inputs": [GOOD]})).status == 504
            await wait_for(has_ended.is_set)
            await asyncio.sleep(0.1)

    asyncio.run(run())
    journal.close()
    assert stone.written == []

"""The journal of a server: each answer is in it, and none waits for it."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from sem_search.deployment.monitoring.journal import AnswerJournal, JournalRow
from sem_search.deployment.server import journal_thread
from sem_search.deployment.server.journal_thread import JournalThread
from tests.deployment.server.serving import GOOD, Bench, encode_picture, open_bench


class StoneJournal:
    """A database that waits at its gate."""

    def __init__(self) -> None:
        self.n_lost = 0
        self.gate = threading.Event()
        self.written: list[JournalRow] = []

    def write(self, rows: Sequence[JournalRow]) -> None:
        assert self.gate.wait(20)
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

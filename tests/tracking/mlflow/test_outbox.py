"""What waits to be logged: in order, whole, once, whatever happens to the process or the store."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sem_search.tracking.mlflow.outbox import Item, Outbox, RunNames, list_items, read_item

from sem_search.errors import StoreError


class Store:
    """Stands for the tracking store: away, back, or refusing; and a clock."""

    def __init__(self) -> None:
        self.is_away = False
        self.refused: set[str] = set()
        self.got: list[str] = []
        self.told: list[str] = []
        self.now_s = 0.0
        self.n_looks = 0

    def deliver(self, _outbox: Outbox, item: Item) -> None:
        if self.is_away:
            raise ConnectionError("away")
        if item.facts["text"] in self.refused:
            raise ValueError("no: postgresql://me:secret@host/x")
        self.got.append(item.facts["text"])

    def look(self) -> None:
        self.n_looks += 1
        if self.is_away:
            raise ConnectionError("away")

    def open(self, root: Path) -> Outbox:
        return Outbox(
            root,
            deliver=self.deliver,
            is_outage=lambda error: isinstance(error, ConnectionError),
            look=self.look,
            tell=self.told.append,
            clock=lambda: self.now_s,
        )


def write(text: str) -> Callable[[Path], Mapping[str, Any]]:
    def write_files(folder: Path) -> Mapping[str, Any]:
        (folder / "deep").mkdir()
        (folder / "deep" / "file.txt").write_text(text)
        return {"text": text}

    return write_files


def add(outbox: Outbox, *texts: str) -> None:
    for text in texts:
        outbox.add("kind", run="run", write=write(text))


@pytest.fixture
def store() -> Store:
    return Store()


def test_items_are_delivered_in_order_and_then_gone(store: Store, tmp_path: Path) -> None:
    outbox = store.open(tmp_path)
    add(outbox, *map(str, range(12)))
    assert outbox.deliver()
    assert store.got == list(map(str, range(12)))
    assert outbox.count() == 0
    assert store.told == []
    outbox.close()
    assert list(tmp_path.iterdir()) == [], "an outbox that is empty leaves nothing behind"


def test_what_cannot_be_delivered_is_kept_and_delivered_once_later(store: Store, tmp_path: Path) -> None:
    outbox = store.open(tmp_path)
    store.is_away = True
    for text in "abc":
        add(outbox, text)
        assert not outbox.deliver()
    assert outbox.count() == 3
    store.is_away = False
    assert not outbox.deliver(), "the pause is not over: the store is not asked at each item"
    store.now_s = 1.0
    assert outbox.deliver()
    assert store.got == ["a", "b", "c"]
    assert len(store.told) == 2
    assert "does not answer. Work goes on" in store.told[0]
    assert "answers again; 3 entries" in store.told[1]


def test_pauses_grow_up_to_a_limit_and_begin_anew_after_the_return(store: Store, tmp_path: Path) -> None:
    outbox = store.open(tmp_path)
    store.is_away = True
    add(outbox, "a")
    asked = []
    for second in range(200):
        store.now_s = float(second)
        before = store.n_looks
        outbox.deliver()
        if store.n_looks > before:
            asked.append(second)
    assert asked == [1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
    store.is_away = False
    assert outbox.deliver(at_once=True)
    assert store.got == ["a"]


def test_what_a_dead_process_left_comes_first_and_in_order(store: Store, tmp_path: Path) -> None:
    for text in ("first", "second"):  # two processes, one after the other, each killed with the store away
        dead = store.open(tmp_path)
        store.is_away = True
        add(dead, f"{text} a", f"{text} b")
        for lock in dead._locks.values():
            lock.release()
    outbox = store.open(tmp_path)
    store.is_away = False
    add(outbox, "mine")
    assert outbox.flush(patience_s=0)
    assert store.got == ["first a", "first b", "second a", "second b", "mine"]
    outbox.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_has_is_left_to_it(store: Store, tmp_path: Path) -> None:
    living, other = store.open(tmp_path), Store()
    add(living, "a")
    outbox = other.open(tmp_path)
    assert outbox.adopt() == 0
    assert outbox.deliver()
    assert other.got == []
    assert len(list_items(tmp_path)) == 1


def test_half_written_and_half_removed_items_are_none(store: Store, tmp_path: Path) -> None:
    outbox = store.open(tmp_path)

    def fail(folder: Path) -> Mapping[str, Any]:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.add("kind", run="run", write=fail)
    (outbox._own / ".gone_00000009").mkdir()
    assert outbox.count() == 0
    add(outbox, "whole")
    outbox.deliver()
    assert store.got == ["whole"]
    outbox.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["item.json", "files/deep/file.txt"])
def test_a_damaged_item_is_never_believed(store: Store, tmp_path: Path, name: str) -> None:
    outbox = store.open(tmp_path)
    add(outbox, "a")
    (folder,) = list_items(tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged.*remove that folder"):
        outbox.deliver()
    assert store.got == []


def test_an_item_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    item = store.open(tmp_path).add("kind", run="run", write=write("a"))
    again = read_item(item.folder)
    assert (again.kind, again.run, again.facts) == ("kind", "run", {"text": "a"})
    assert (again.files / "deep" / "file.txt").read_text() == "a"
    assert again.key == item.key


def test_a_refused_item_is_put_aside_with_its_reason_and_the_next_goes_on(store: Store, tmp_path: Path) -> None:
    outbox = store.open(tmp_path)
    store.refused = {"b"}
    add(outbox, "a", "b", "c")
    with pytest.raises(ValueError, match="no"):
        outbox.deliver()
    assert outbox.deliver()
    assert store.got == ["a", "c"]
    (refused,) = tmp_path.glob("*/refused_*")
    assert (refused / "error.txt").read_text() == "ValueError: no: postgresql://me:***@host/x"


def test_a_flush_waits_as_long_as_it_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = store.open(tmp_path)

    def sleep(seconds: float) -> None:
        store.now_s += seconds
        store.is_away = store.now_s < 40

    monkeypatch.setattr("sem_search.tracking.mlflow.outbox.time.sleep", sleep)
    store.is_away = True
    add(outbox, "a")
    assert not outbox.flush(patience_s=10)
    assert 10 <= store.now_s < 11
    assert outbox.flush(patience_s=100)
    assert store.got == ["a"]


def test_a_full_disk_is_one_sentence(store: Store, tmp_path: Path) -> None:
    outbox = store.open(tmp_path)

    def fail(_folder: Path) -> Mapping[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"No space left on device. Free the disk"):
        outbox.add("kind", run="run", write=fail)
    assert outbox.count() == 0


def test_a_name_stands_for_a_run_once_it_is_opened(tmp_path: Path) -> None:
    names = RunNames(tmp_path / "runs")
    assert names.find("0123abc") == "0123abc"
    assert names.find("pending-1") is None
    names.set("pending-1", "0123abc")
    assert RunNames(tmp_path / "runs").find("pending-1") == "0123abc"


N_KILLS = 10
N_ITEMS = 400

PROGRAM = """
import os, sys
from pathlib import Path
from sem_search.tracking.mlflow.outbox import Outbox

root, log, counter = map(Path, sys.argv[1:4])

def deliver(box, item):
    with log.open("a") as file:
        file.write(f"{item.facts['number']} {(item.files / 'file').read_text()}\\n")
        file.flush()
        os.fsync(file.fileno())

def write(folder):
    (folder / "file").write_text(str(number))
    return {"number": number}

box = Outbox(root, deliver=deliver, is_outage=lambda error: False, look=lambda: None, tell=print)
for number in range(int(counter.read_text()), int(sys.argv[4])):
    box.add("kind", run="run", write=write)
    counter.write_text(str(number + 1))  # from here on it counts as kept
    if number % 7 == 0:
        box.deliver()
box.flush(patience_s=0)
box.close()
"""


def test_what_counts_as_kept_survives_kills_at_random_moments(tmp_path: Path) -> None:
    """A process that fills its outbox and empties it is killed again and again; the last one is let finish."""
    root, log, counter = tmp_path / "outbox", tmp_path / "log", tmp_path / "counter"
    log.touch()
    counter.write_text("0")
    rng = random.Random(0)

    def start() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", PROGRAM, str(root), str(log), str(counter), str(N_ITEMS)]
        return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})

    for _ in range(N_KILLS):
        before = counter.read_text()
        process = start()
        while counter.read_text() == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.wait()
        if not counter.read_text():
            counter.write_text(before)  # killed while this test's own counter was written
    assert start().wait(timeout=300) == 0

    lines = log.read_text().splitlines()
    assert all(line.split() == [line.split()[0]] * 2 for line in lines), "whole, and with its own file"
    first_times = list(dict.fromkeys(int(line.split()[0]) for line in lines))
    assert first_times == list(range(N_ITEMS)), "none lost, and in order"
    assert not list_items(root)

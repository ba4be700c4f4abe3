"""What is to be logged, on disk until it is logged: in order, whole, and once.

Every item is written before it is delivered, and removed afterwards. So a tracking server may be away for as long as it
likes, and the process may be killed at any moment: what was to be logged is still there, and the next process delivers
it before its own. Delivering an item twice must do no more than delivering it once; `delivering` sees to that.

    studies/<study>/outbox/
        runs/<name>                 the id that MLflow gave to a run that was named before it could be opened
        <writer>.lock               held while the process that writes below <writer> lives
        <writer>/00000007/          one item: item.json (sha256 of the rest, newline, JSON) and its files
        <writer>/refused_00000003/  what MLflow refused, and error.txt, which says why

This module knows no MLflow: how an item is delivered, and which errors mean "later", it is told.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sem_search.errors import StoreError
from sem_search.secrets import mask_secrets

FACTS = "item.json"
FILES = "files"
RUNS = "runs"
REFUSED = "refused_"

UNNAMED = "pending-"
"""Begins the name of a run that could not be opened yet; no run id of MLflow's does."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Between two attempts to deliver; each pause is twice the one before."""

WAIT_S = 0.2
"""Between two looks while a process waits for its outbox to empty."""

Writer = Callable[[Path], Mapping[str, Any]]
"""Writes the files of an item into a folder, and returns its facts, as JSON values."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to be logged."""

    folder: Path
    kind: str
    run: str
    """The run's id, or its name where it has none yet."""
    facts: Mapping[str, Any]
    """JSON values."""

    @property
    def files(self) -> Path:
        """The folder of its files."""
        return self.folder / FILES

    @property
    def key(self) -> str:
        """What no other item is called, ever."""
        return f"{self.folder.parent.name}-{self.folder.name}"


class RunNames:
    """Which run a name stands for that was given while none could be opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, name: str, run_id: str) -> None:
        """Remember, for every process and for ever."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / name, run_id.encode())

    def find(self, name: str) -> str | None:
        """Return the run's id; None as long as it is not opened. An id stands for itself."""
        if not name.startswith(UNNAMED):
            return name
        try:
            return (self._folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None


class Outbox:
    """The outbox of one process below the folder that all processes of a study share.

    Args:
        root: The shared folder.
        deliver: Logs one item; doing so again must change nothing.
        is_outage: Whether what `deliver` raised means that the store is away.
        look: Asks the store for next to nothing, to see whether it is back; raises if it is not.
        tell: Is told, once each, that the store is away and that it is back.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        root: Path,
        *,
        deliver: Callable[["Outbox", Item], None],
        is_outage: Callable[[BaseException], bool],
        look: Callable[[], None],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.runs = RunNames(root / RUNS)
        self._deliver, self._is_outage, self._look, self._tell, self._clock = deliver, is_outage, look, tell, clock
        self._thread_lock = threading.RLock()
        self._locks: dict[Path, FileLock] = {}
        self._number = 0
        self._n_kept = 0
        self._pause_s = FIRST_PAUSE_S
        self._next_attempt: float | None = None
        """When to try again; None while the store answers."""
        root.mkdir(parents=True, exist_ok=True)
        self._own = root / _name_writer(root)
        self._hold(self._own)
        self._own.mkdir()
        self.adopt()

    def add(self, kind: str, *, run: str, write: Writer) -> Item:
        """Put an item at the end.

        Args:
            kind: What `deliver` tells items apart by.
            run: Id or name of its run.
            write: Writes the item's files into the folder that it is given, and returns its facts.

        Raises:
            StoreError: The disk is full, or the folder cannot be written; nothing half-written is left.
        """
        with self._thread_lock:
            self._number += 1
            folder = self._own / f"{self._number:08d}"
            facts = _write_item(folder, kind=kind, run=run, write=write)
            self._n_kept += self._next_attempt is not None
            return Item(folder=folder, kind=kind, run=run, facts=facts)

    def name_run(self) -> str:
        """Return a name for a run that is to be opened."""
        return f"{UNNAMED}{uuid.uuid4().hex}"

    def deliver(self, *, at_once: bool = False) -> bool:
        """Deliver, in order, until nothing is left or the store is away; return whether nothing is left.

        While the store is away this does nothing until the pause is over, so that work goes on.

        Args:
            at_once: Do not wait for the pause to be over.

        Raises:
            StoreError: An item is damaged.
            Exception: What `deliver` raised where it means a refusal. The item is put aside, with the reason.
        """
        with self._thread_lock:
            if self._next_attempt is not None and not at_once and self._clock() < self._next_attempt:
                return False
            try:
                if self._next_attempt is not None:
                    self._look()
                for folder in self._list_items():
                    self._deliver_one(folder)
            except Exception as error:
                if not self._is_outage(error):
                    raise
                self._note_outage()
                return False
            self._note_return()
            return True

    def flush(self, *, patience_s: float) -> bool:
        """Deliver everything, waiting while the store is away; return whether nothing is left."""
        ends_at = self._clock() + patience_s
        while not self.deliver(at_once=self._clock() >= ends_at):
            if self._clock() >= ends_at:
                return False
            time.sleep(WAIT_S)
        return True

    def wait_for_others(self, *, patience_s: float) -> bool:
        """Wait until no process of this study has anything left; return whether that is so.

        What dead processes left is taken over meanwhile.
        """
        ends_at = self._clock() + patience_s
        while True:
            self.adopt()
            if self.flush(patience_s=max(0.0, ends_at - self._clock())) and not list_items(self.root):
                return True
            if self._clock() >= ends_at:
                return False
            time.sleep(WAIT_S)

    def adopt(self) -> int:
        """Take over what dead processes left; it is delivered before our own. Return the number of items."""
        with self._thread_lock:
            others = [folder for folder in list_writers(self.root) if folder not in self._locks]
            return sum(len(_list_folder(folder)) for folder in others if self._hold(folder))

    def is_own(self, item: Item) -> bool:
        """Tell whether an item is this process's own, and was not left by a dead one."""
        return item.folder.parent == self._own

    def count(self) -> int:
        """Return how many items are left to this process."""
        return len(self._list_items())

    def close(self) -> None:
        """Let go of what is empty; what is left is for the next process."""
        for folder, lock in self._locks.items():
            if folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()):
                shutil.rmtree(folder)  # what a killed process had half written, or half removed, is no item
            lock.release()
            if not folder.exists():
                Path(lock.lock_file).unlink(missing_ok=True)
        self._locks.clear()

    def _hold(self, folder: Path) -> bool:
        """Lock the folder of a writer; tell whether that was possible, and it is still there."""
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        if folder != self._own and not folder.is_dir():
            lock.release()
            return False
        self._locks[folder] = lock
        return True

    def _list_items(self) -> list[Path]:
        """Return the folders of all items of this process, those of dead processes first."""
        adopted = sorted(folder for folder in self._locks if folder != self._own)
        return [item for folder in [*adopted, self._own] for item in _list_folder(folder)]

    def _deliver_one(self, folder: Path) -> None:
        item = read_item(folder)
        try:
            self._deliver(self, item)
        except Exception as error:
            if not self._is_outage(error):
                refused = folder.with_name(f"{REFUSED}{folder.name}")
                folder.rename(refused)
                (refused / "error.txt").write_text(mask_secrets(f"{type(error).__name__}: {error}"), encoding="utf-8")
            raise
        _remove(folder)

    def _note_outage(self) -> None:
        if self._next_attempt is None:
            self._n_kept = self.count()
            self._tell(
                f"The tracking store does not answer. Work goes on; what is to be logged is kept in {self.root}."
            )
        self._next_attempt = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _note_return(self) -> None:
        if self._next_attempt is not None:
            self._tell(f"The tracking store answers again; {self._n_kept} entries that were kept are logged.")
        self._next_attempt, self._pause_s = None, FIRST_PAUSE_S


def _name_writer(root: Path) -> str:
    """Return a name that sorts after those of all before: what a dead process left is delivered in order."""
    numbers = [int(number) for path in list_writers(root) if (number := path.name.partition("-")[0]).isdigit()]
    return f"{max(numbers, default=0) + 1:06d}-{uuid.uuid4().hex[:8]}"


def list_writers(root: Path) -> list[Path]:
    """Return the folder of each process that has, or had, something to log."""
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name != RUNS) if root.is_dir() else []


def list_items(root: Path) -> list[Path]:
    """Return the folders of all items of all processes."""
    return [item for folder in list_writers(root) for item in _list_folder(folder)]


def read_item(folder: Path) -> Item:
    """Return an item.

    Raises:
        StoreError: It, or one of its files, is not what was written.
    """
    try:
        stated, _, rest = (folder / FACTS).read_bytes().partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() == stated:
            content = json.loads(rest)
            if _hash_files(folder / FILES) == content["files"]:
                return Item(folder=folder, kind=content["kind"], run=content["run"], facts=content["facts"])
    except (OSError, ValueError, KeyError):
        pass  # said below, with what to do
    raise StoreError(
        f"{folder} is damaged: it is not what was to be logged. Finished folds are not touched by this; remove that "
        "folder to go on without this entry, or remove the study's folder to search anew."
    )


def _list_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def _write_item(folder: Path, *, kind: str, run: str, write: Writer) -> Mapping[str, Any]:
    """Write an item beside its place and move it there: it is there in full or not at all. Return its facts."""
    try:
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new_"))
        try:
            (staging / FILES).mkdir()
            facts = write(staging / FILES)
            content = {"kind": kind, "run": run, "facts": dict(facts), "files": _hash_files(staging / FILES)}
            rest = json.dumps(content).encode()
            _write(staging / FACTS, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
            for path in (staging / FILES).rglob("*"):
                _sync(path)
            staging.rename(folder)
            _sync(folder.parent)
            return facts
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        raise StoreError(
            f"{folder} could not be written: {error.strerror or error}. Free the disk, or set study_folder to a place "
            "that can be written, and start the same command again: finished folds are kept."
        ) from error


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _sync(path: Path) -> None:
    """Let what was written reach the disk before anybody relies on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): _hash(path) for path in _iter_files(folder)}


def _iter_files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    """Remove a delivered item; one that is half removed is no item any more."""
    gone = folder.with_name(f".gone_{folder.name}")
    folder.rename(gone)
    shutil.rmtree(gone)

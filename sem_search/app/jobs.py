"""Commands that the page starts: each is `sem-search ...` in a process of its own, which outlives the page.

So a search that is started here is the search of the terminal, a closed browser stops nothing, and a fault in one ends
no other. Of each kind one runs at a time. The last one of each kind is written down, so that a page that is started
again knows it.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil

from sem_search.app.folders import NOT_FOUND
from sem_search.errors import DataError, RefusedRequestError, StoreError
from sem_search.files import write_atomically
from sem_search.programs import find_command
from sem_search.terminal import show_controls

Kind = Literal["search", "inspection", "estimate", "learning-curve", "kit", "demo"]
State = Literal["running", "done", "failed", "stopped", "ended"]
"""`ended`: it ran when the page was started anew, and how it ended is not known."""

NAMES: Mapping[Kind, str] = {
    "search": "A search",
    "inspection": "An inspection",
    "estimate": "An estimate",
    "learning-curve": "A learning curve",
    "kit": "A publication kit",
    "demo": "The demonstration set",
}

CONFLICT = 409
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
LOG_BYTES = 20_000
"""Of the end of a log, which are shown."""

STUDY_LINE = re.compile(r"^Study (\S+): its finished folds lie in ", re.MULTILINE)
"""By which a search says what its study is called."""

ERROR = "Error: "
"""With this a command says why it has ended."""

CLOCK_S = 5.0
"""By how much the time of a process's beginning may seem to change when the clock is set."""

LINE_ENDS = re.compile(r"[\r\n]+")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that was started."""

    kind: Kind
    arguments: tuple[str, ...]
    about: Mapping[str, str]
    """What the page needs to know of it."""
    pid: int
    created_s: float
    """When the process began, by which it is told from a later one of the same number."""
    started_at: str
    """ISO 8601."""


@dataclass(frozen=True, kw_only=True)
class JobView:
    """What the page shows of a command."""

    kind: Kind
    state: State
    command: str
    about: Mapping[str, str]
    started_at: str
    line: str
    """The last line that it printed: how far it is, or why it ended."""
    log: str
    """The end of what it printed."""
    study: str | None
    """Of a search, once it has named its study."""


class Jobs:
    """Starts, watches and stops commands; safe to share between threads.

    Args:
        folder: Where their logs lie; the commands themselves work in the current folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._processes: dict[Kind, subprocess.Popen[bytes]] = {}
        self._studies: dict[Kind, str] = {}
        self._jobs: dict[Kind, Job] = {kind: job for kind in NAMES if (job := self._read(kind)) is not None}

    def start(self, kind: Kind, arguments: Sequence[str], *, about: Mapping[str, str] | None = None) -> Job:
        """Start a command, and return what was written down of it.

        Args:
            kind: What it is.
            arguments: What stands after `sem-search`.
            about: What the page needs to know of it.

        Raises:
            RefusedRequestError: One of its kind is running (409).
            StoreError: It cannot be started.
        """
        with self._lock:
            if self._is_running(kind):
                raise RefusedRequestError(f"{NAMES[kind]} is running: wait for its end, or stop it.", status=CONFLICT)
            new_log = self._get_log(kind).with_suffix(".new")
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with new_log.open("wb") as log:
                    process = subprocess.Popen(  # noqa: S603 - this very program, its options checked
                        [sys.executable, "-m", "sem_search", *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                        start_new_session=True,  # Ctrl-C that ends the page does not end it
                    )
                job = Job(
                    kind=kind,
                    arguments=tuple(arguments),
                    about=dict(about or {}),
                    pid=process.pid,
                    created_s=_read_creation(process.pid),
                    started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                )
                new_log.replace(self._get_log(kind))
                self._keep(job, process=process)
            except ValueError as error:  # a null character, or a byte that is no text
                raise DataError("A name or a setting holds a character that no command can be given.") from error
            except OSError as error:
                raise StoreError(
                    f"{NAMES[kind]} cannot be started ({error.strerror}): make room on the disk."
                ) from error
            self._processes[kind], self._jobs[kind] = process, job
            self._studies.pop(kind, None)
            return job

    def start_again(self, kind: Kind) -> None:
        """Start the last command of a kind once more: a search goes on where it was stopped.

        Raises:
            RefusedRequestError: There was none (404), or it is running (409).
            StoreError: It cannot be started.
        """
        job = self._jobs.get(kind)
        if job is None:
            raise RefusedRequestError("Nothing was begun here that could go on.", status=NOT_FOUND)
        self.start(kind, job.arguments, about=job.about)

    def stop(self, kind: Kind) -> None:
        """Ask a command to stop, as Ctrl-C does; what is finished stays. One that is not running is left alone."""
        with self._lock:
            if self._is_running(kind):
                number = signal.SIGINT if os.name == "posix" else signal.SIGTERM
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(self._jobs[kind].pid).send_signal(number)

    def view(self, kind: Kind) -> JobView | None:
        """Return what is known of the last command of a kind; None where there was none."""
        with self._lock:
            job = self._jobs.get(kind)
            if job is None:
                return None
            state = self._get_state(kind)
        log = self._read_log(kind)
        lines = [line for line in LINE_ENDS.split(log) if line.strip()]
        return JobView(
            kind=kind,
            state=state,
            command=f"{find_command()} {shlex.join(job.arguments)}",
            about=job.about,
            started_at=job.started_at,
            line=_find_line(lines, state=state),
            log="\n".join(lines),
            study=self._find_study(kind) if kind == "search" else None,
        )

    def _is_running(self, kind: Kind) -> bool:
        return self._get_state(kind) == "running" if kind in self._jobs else False

    def _get_state(self, kind: Kind) -> State:
        job, process = self._jobs[kind], self._processes.get(kind)
        if process is None:
            created_s = _read_creation(job.pid)
            return "running" if created_s and abs(created_s - job.created_s) < CLOCK_S else "ended"
        code = process.poll()
        if code is None:
            return "running"
        return "done" if code == 0 else "stopped" if code in STOPPED else "failed"

    def _read(self, kind: Kind) -> Job | None:
        """Return the last command of a kind that an earlier page started."""
        try:
            stored = json.loads(self._get_record(kind).read_bytes())
            return Job(**{**stored, "arguments": tuple(stored["arguments"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _keep(self, job: Job, *, process: "subprocess.Popen[bytes]") -> None:
        """Write down what was started; a process that nobody would find again is ended."""
        try:
            write_atomically(self._get_record(job.kind), json.dumps(asdict(job)).encode())
        except BaseException:
            process.terminate()
            raise

    def _find_study(self, kind: Kind) -> str | None:
        """Return the name of the study that a search has stated; looked for until it is there."""
        if kind not in self._studies:
            try:
                found = STUDY_LINE.search(self._get_log(kind).read_text("utf-8", "replace"))
            except OSError:
                return None
            if found is None:
                return None
            self._studies[kind] = found[1]
        return self._studies[kind]

    def _read_log(self, kind: Kind) -> str:
        try:
            with self._get_log(kind).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
                return show_controls(log.read().decode("utf-8", "replace").replace("\r", "\n"))
        except OSError:
            return ""

    def _get_log(self, kind: Kind) -> Path:
        return self._folder / f"{kind}.log"

    def _get_record(self, kind: Kind) -> Path:
        return self._folder / f"{kind}.json"


def _find_line(lines: Sequence[str], *, state: State) -> str:
    """Return the last line, and of a command that has failed all that it says from its error on."""
    at = [number for number, line in enumerate(lines) if line.startswith(ERROR)]
    if state == "failed" and at:
        return " ".join(line.strip() for line in lines[at[-1] :]).removeprefix(ERROR)
    return lines[-1].strip() if lines else ""


def _read_creation(pid: int) -> float:
    """Return when a process began, 0 where there is none."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return 0.0

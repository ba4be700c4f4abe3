"""Who is working, and who is known to be gone."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sem_search.search.trials import process_id as processes
from sem_search.search.trials.process_id import describe_process, is_known_gone

PROGRAM = """
from sem_search.search.trials.process_id import describe_process
print(describe_process(), flush=True)
input()
"""


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process, and how it describes itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_a_process_lives_until_it_is_killed(other: tuple[subprocess.Popen[str], str]) -> None:
    process, description = other
    assert not is_known_gone(description)
    process.send_signal(signal.SIGKILL)
    ends_at = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert is_known_gone(description), "it is gone, though its parent has not asked for it yet"
    process.wait()
    assert is_known_gone(description)


def test_a_process_knows_itself() -> None:
    host, pid, start = describe_process().rsplit(":", 2)
    assert (host, pid) == (socket.gethostname(), str(os.getpid()))
    assert start
    assert describe_process() == describe_process()
    assert not is_known_gone(describe_process())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda host, pid, _: f"{host}:{pid}:1.00", True),  # the number was given to another process
        (lambda _, pid, start: f"another-machine:{pid}:{start}", False),
        (lambda _, __, ___: "another-machine:999999:1.00", False),  # nothing can be known from here
        (lambda host, _, start: f"{host}:999999:{start}", True),
        (lambda host, _, start: f"{host}:no-number:{start}", False),
        (lambda _, __, ___: "", False),
        (lambda _, __, ___: "nonsense", False),
    ],
)
def test_only_what_is_known_is_said(change, expected: bool) -> None:
    assert is_known_gone(change(*describe_process().rsplit(":", 2))) is expected


def test_the_number_of_another_living_process_is_not_enough(other: tuple[subprocess.Popen[str], str]) -> None:
    host, pid, _ = other[1].rsplit(":", 2)
    assert is_known_gone(f"{host}:{pid}:1.00")


def test_a_clock_that_jumps_makes_no_living_process_pass_for_dead(
    other: tuple[subprocess.Popen[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux gives a process's start as boot time, which follows the clock, and the time since."""
    before = describe_process()
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not is_known_gone(other[1])
    assert describe_process() == before


@pytest.fixture
def forget() -> Iterator[None]:
    """What is remembered of this machine, read anew."""
    processes._read_place.cache_clear()
    yield
    processes._read_place.cache_clear()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux' unshare is not here")
def test_a_living_process_in_another_pid_namespace_does_not_pass_for_dead() -> None:
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        assert process.stdout is not None
        description = process.stdout.readline().strip()
        if not description:
            pytest.skip(f"this machine allows no PID namespace: {process.communicate()[1].strip()}")
        host, pid, start = description.rsplit(":", 2)
        assert (host, pid) == (socket.gethostname(), "1"), "number 1 is another process here, which lives"
        assert start.rpartition("/")[0] != describe_process().rsplit(":", 1)[1].rpartition("/")[0]
        assert not is_known_gone(description)
        process.communicate("")


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("gone", [(), ("PROC",), ("PROC", "MACHINE_ID")], ids=["here", "no /proc", "neither"])
def test_machines_of_one_host_name_are_told_apart_with_or_without_proc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gone: tuple[str, ...]
) -> None:
    for name in gone:
        monkeypatch.setattr(processes, name, tmp_path / "no" / "such")
    mine = describe_process()
    assert not is_known_gone(mine)
    host, _, rest = mine.rsplit(":", 2)
    assert is_known_gone(f"{host}:999999:{rest}")
    processes._read_place.cache_clear()
    (tmp_path / "machine-id").write_text("another")
    monkeypatch.setattr(processes, "MACHINE_ID", tmp_path / "machine-id")
    assert not is_known_gone(f"{host}:999999:{rest}"), "it may live on that other machine"
    assert describe_process() != mine


def test_a_living_process_of_an_earlier_version_does_not_pass_for_dead(
    other: tuple[subprocess.Popen[str], str],
) -> None:
    host, pid, rest = other[1].rsplit(":", 2)
    assert not is_known_gone(f"{host}:{pid}:{rest.rpartition('/')[2]}")


def test_a_process_of_another_boot_is_gone() -> None:
    host, pid, start = describe_process().rsplit(":", 2)
    assert is_known_gone(f"{host}:{pid}:{start}x")

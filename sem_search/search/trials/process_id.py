"""The name of a worker's process, and whether that process still runs.

The process of a running trial may have been killed. On this machine that is known at once. For another machine, only
Optuna's missing heartbeat shows it, minutes later.

The start of a process is stored as kernel ticks since boot, with the boot's ID. Clock time is not used: if the clock is
changed, a running process would look as if it had ended.

A host name does not identify a machine: two machines can have the same name. Containers can share the host name of
their machine and use the same process numbers, each in its own PID namespace. Nothing is known of a process in another
namespace.
"""

import hashlib
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

PROC = Path("/proc")
START_FIELD = 19
"""Of /proc/PID/stat, counted after the name, which is in brackets and may hold anything: field 22 of proc(5)."""

MACHINE_ID = Path("/etc/machine-id")

BOOT_DIGITS = 8
PLACE_DIGITS = 8


def describe_process() -> str:
    """Return `host:pid:place/start` of this process; no other process ever has the same."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{_read_place()}/{_read_start(process)}"


def is_known_gone(description: str) -> bool:
    """Return whether the described process belonged to this machine and is gone.

    False for a process of another machine or PID namespace: nothing can be known of it from here.
    """
    host, _, rest = description.rpartition(":")
    host, _, pid = host.rpartition(":")
    place, _, start = rest.rpartition("/")  # a process of an earlier version gives no place
    if host != socket.gethostname() or not pid.isdigit() or place not in ("", _read_place()):
        return False
    try:
        process = psutil.Process(int(pid))
        # A killed process whose parent never asks for it stays in the table: the usual case in a container.
        return process.status() == psutil.STATUS_ZOMBIE or _read_start(process) != start
    except psutil.NoSuchProcess:
        return True


@cache
def _read_place() -> str:
    """Return an ID of this machine and of the PID namespace of this process: two of them may share a host name."""
    namespace = machine = ""
    with suppress(OSError):  # other systems have neither: there the host name must do
        namespace = str((PROC / "self" / "ns" / "pid").readlink())
    with suppress(OSError):
        machine = MACHINE_ID.read_text(errors="replace").strip()
    return hashlib.sha256(f"{namespace} {machine}".encode()).hexdigest()[:PLACE_DIGITS]


def _read_start(process: psutil.Process) -> str:
    """Return when a process began, as something that a change of the clock leaves as it is.

    Raises:
        psutil.NoSuchProcess: It is gone.
    """
    if not (PROC / "self" / "stat").exists():  # other systems keep the time of day at which it began
        return f"{process.create_time():.2f}"
    try:
        fields = (PROC / str(process.pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return f"{fields[START_FIELD]}-{_read_boot()}"


@cache
def _read_boot() -> str:
    """Return the ID of this boot of the machine."""
    path = PROC / "sys" / "kernel" / "random" / "boot_id"
    return path.read_text()[:BOOT_DIGITS] if path.exists() else "unknown"

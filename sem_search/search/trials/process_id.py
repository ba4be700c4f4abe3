"""Who is working: the name a process leaves behind, and whether it still lives.

A trial that says it is running may have been killed. On this machine that can be known at once; of another machine only
the missing heartbeat tells, minutes later.

When a process began is told by the kernel's count of ticks since it was booted, and by which boot that was. The time of
day will not do: Linux derives a process's from the present time of day, so that after a jump of the clock a living
process has begun at another time than it said itself, and would pass for dead.

A host name does not tell a machine: two may share one, and containers that share their machine's have processes of the
same numbers, each in a PID namespace of its own. Nothing is known of a process in another namespace.
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


def is_known_dead(description: str) -> bool:
    """Tell whether the described process belonged to this machine and is gone.

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
    """Return what tells this machine, and the PID namespace of this process, from others of the same host name."""
    namespace = machine = ""
    with suppress(OSError):  # other systems have neither: there the host name must do
        namespace = str((PROC / "self" / "ns" / "pid").readlink())
    with suppress(OSError):
        machine = MACHINE_ID.read_text(errors="replace").strip()
    return hashlib.sha256(f"{namespace} {machine}".encode()).hexdigest()[:PLACE_DIGITS]


def _read_start(process: psutil.Process) -> str:
    """Return when a process began, as something that no jump of the clock changes.

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
    """Return what tells this boot of the machine from every other."""
    path = PROC / "sys" / "kernel" / "random" / "boot_id"
    return path.read_text()[:BOOT_DIGITS] if path.exists() else "unknown"

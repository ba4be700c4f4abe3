"""Who is working: the name a process leaves behind, and whether it still lives.

A trial that says it is running may have been killed. On this machine that can be known at once; of another machine only
the missing heartbeat tells, minutes later.
"""

import os
import socket

import psutil


def describe_process() -> str:
    """Return `host:pid:start` of this process; no other process ever has the same."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def is_known_dead(description: str) -> bool:
    """Tell whether the described process belonged to this machine and is gone.

    False for a process of another machine: nothing can be known of it from here.
    """
    host, _, rest = description.rpartition(":")
    host, _, pid = host.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return description != describe_process()
    try:
        process = psutil.Process(int(pid))
        # A killed process whose parent never asks for it stays in the table: the usual case in a container.
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != rest
    except psutil.NoSuchProcess:
        return True

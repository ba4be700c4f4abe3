"""A real PostgreSQL in a temporary folder and on a free port, started and stopped as often as a test likes.

It runs as an ordinary user, for it refuses to run as root: where the tests do, as `postgres` or `nobody`.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.ports import find_free_port

PASSWORD = "s3cret-words"
"""Of the test's own server; looked for in everything that is printed and logged."""

USERS = ("postgres", "nobody")
LIMIT_S = 60


def find_obstacle() -> str | None:
    """Return why there can be no server here; None if there can be one."""
    if find_program("initdb") is None:
        return "PostgreSQL is not installed (Debian, Ubuntu: apt install postgresql)"
    if find_spec("psycopg") is None:
        return "the driver is not installed (pip install '.[postgresql]' in the project's folder)"
    if os.getuid() == 0 and (shutil.which("setpriv") is None or find_user() is None):
        return "PostgreSQL refuses to run as root, and there is no other user to run it as"
    return None


def find_program(name: str) -> str | None:
    """Return a program of PostgreSQL's: Debian keeps them off the path, one folder per version; the newest is taken."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = [str(folder / name) for folder in reversed(folders) if (folder / name).exists()]
    return found[0] if found else shutil.which(name)


def find_user() -> str | None:
    """Return an ordinary user of this machine."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((user for user in USERS if user in known), None)


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A server that may be stopped and started."""

    folder: Path
    port: int
    max_connections: int = 200

    def get_url(self, database: str = "postgres") -> str:
        return f"postgresql://tester:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def make_database(self, name: str) -> str:
        """Make an empty database; return its URL."""
        import psycopg

        with psycopg.connect(self.get_url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.get_url(name)

    def start(self) -> None:
        # Nothing here must survive a power cut, so nothing is synced: stopping in the midst of it is what is tested.
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off -c max_connections={self.max_connections}"
        self.control("start", "-w", "-o", options, "-l", str(self.folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends every connection, `immediate` is a crash."""
        self.control("stop", "-w", "-m", mode)

    def is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def restart_in_background(self, seconds: float, *, mode: str = "fast") -> threading.Thread:
        """Stop it now, and start it after a while; the thread may be waited for."""
        self.stop(mode)
        thread = threading.Thread(target=lambda: (time.sleep(seconds), self.start()))
        thread.start()
        return thread

    def restart_after(self, seconds: float, *, mode: str = "fast") -> None:
        self.stop(mode)
        time.sleep(seconds)
        self.start()

    def control(self, *words: str) -> None:
        run("pg_ctl", "-D", str(self.folder / "data"), *words)


@contextmanager
def run_postgres(*, max_connections: int = 200) -> Iterator[Postgres]:
    """Give a server that runs; it and its folder are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sem_search_pg_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            user = find_user()
            assert user is not None
            for path in (folder, secret):
                shutil.chown(path, user)
        words = ("-U", "tester", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--no-sync")
        run("initdb", "-D", str(folder / "data"), *words)
        server = Postgres(folder=folder, port=find_free_port(), max_connections=max_connections)
        server.start()
        try:
            yield server
        finally:
            subprocess.run(
                as_ordinary_user([str(find_program("pg_ctl")), "-D", str(folder / "data"), "stop", "-m", "immediate"]),
                capture_output=True,
                timeout=LIMIT_S,
            )


def run(program: str, *words: str) -> None:
    done = subprocess.run(
        as_ordinary_user([str(find_program(program)), *words]),
        cwd="/",
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never end
        stderr=subprocess.DEVNULL,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{program} {' '.join(words)} ended with {done.returncode}"


def as_ordinary_user(command: list[str]) -> list[str]:
    """Return the command as it is run by somebody who is not root."""
    if os.getuid() != 0:
        return command
    return ["setpriv", f"--reuid={find_user()}", f"--regid={find_user_group()}", "--clear-groups", *command]


def find_user_group() -> int:
    user = find_user()
    assert user is not None
    return pwd.getpwnam(user).pw_gid

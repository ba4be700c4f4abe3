"""A real PostgreSQL server of one's own, on a free port and in a folder that is thrown away."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ports import find_free_port

PLACES = ("/usr/local/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))
"""Where Debian and others put what is not on everyone's path."""

USER = "sem_search"
LIMIT_S = 60


def find_postgres() -> Path | None:
    """Return the folder with initdb and pg_ctl, or None."""
    found = shutil.which("initdb", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
    return None if found is None else Path(found).parent


@contextmanager
def run_postgres(*, max_connections: int = 300) -> Iterator[str]:
    """Run a server and give its URL, in SQLAlchemy's words, without a driver: `postgresql://...`.

    It refuses to run as root; then it runs as the user `postgres`, which Debian's package makes.

    Raises:
        FileNotFoundError: There is no PostgreSQL here.
    """
    programs = find_postgres()
    if programs is None:
        raise FileNotFoundError("initdb is not on the path, nor in /usr/lib/postgresql: install postgresql")
    port = find_free_port()
    with tempfile.TemporaryDirectory(prefix="sem_pg_") as name:
        home = Path(name)
        if os.geteuid() == 0:
            shutil.chown(home, user="postgres")
        data, options = home / "data", f"-p {port} -k {home} -c max_connections={max_connections} -c fsync=off"
        _run([str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-N", "-E", "UTF8"], home=home)
        control = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", str(LIMIT_S)]
        _run([*control, "-l", str(home / "log"), "-o", options, "start"], home=home)
        try:
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], home=home)


def _run(words: Sequence[str], *, home: Path) -> None:
    as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    # Output goes to a file: the server would keep a pipe open, and its reader waiting, for as long as it runs.
    with (home / "printed").open("ab") as printed:
        done = subprocess.run([*as_other, *words], cwd=home, stdout=printed, stderr=printed, timeout=2 * LIMIT_S)
    if done.returncode:
        raise RuntimeError((home / "printed").read_text(encoding="utf-8", errors="replace")[-2000:])

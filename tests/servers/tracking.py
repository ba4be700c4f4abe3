"""MLflow's own server, artifacts and all, in a process that may be killed and started as often as a test likes."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ports import find_free_port

LIMIT_S = 180


@dataclass(kw_only=True)
class TrackingServer:
    """A server over a database."""

    store: str
    folder: Path
    port: int = field(default_factory=find_free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--backend-store-uri", self.store, "--workers", "1"),
                    *("--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")),
                ],
                cwd=self.folder,
                env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ends_at = time.monotonic() + LIMIT_S
        while not self.is_up():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < ends_at, "the tracking server does not start"
            time.sleep(0.2)

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """Kill it with all its workers, in the midst of whatever it does."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def run_tracking_server(store: str, *, folder: Path) -> Iterator[TrackingServer]:
    """Give a server that answers; it is killed afterwards."""
    server = TrackingServer(store=store, folder=folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()

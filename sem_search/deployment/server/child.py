"""One `mlflow models serve` as a child process: started, waited for, asked, and ended with all that it started.

It listens on a socket in a folder that its user alone can enter, beside the copy of the model that it serves: no other
user of the machine can pass by the front, and no other process can take its place.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from sem_search.deployment.pyfunc.registered_name import SERVED_MODEL_VARIABLE
from sem_search.deployment.registry import fetch_model
from sem_search.errors import StoreError

SOCKET = "socket"

SOCKET_VARIABLE = "UVICORN_UDS"
"""uvicorn takes each option of its command line from the environment, too; MLflow's command line has none for this."""

MAX_SOCKET_PATH_BYTES = 103
"""What all systems take: macOS, the strictest, has room for 104 with the end mark."""

READY_POLL_S = 0.25

STOP_GRACE_S = 10.0
"""After SIGTERM; then the whole process group is killed."""

PR_SET_PDEATHSIG = 1
"""prctl(2): have the kernel send a signal to the child when its parent dies, however that died."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a child is started."""

    n_workers: int = 1
    env_manager: str = "local"
    """`local`, `virtualenv`, `uv` or `conda`: MLflow's words."""
    timeout_s: int = 60
    """Longest that a request may take."""
    start_limit_s: float = 300.0
    """Longest that a start may take; where MLflow makes an environment first, that counts."""


class ModelServer:
    """A running child that serves one model; made by `start_model_server`.

    Args:
        model_uri: What it serves.
        folder: Of its own, with its socket; removed when it has ended.
        process: The child.
    """

    address = "http://localhost"
    """Of the child's socket, within `session`."""

    def __init__(self, *, model_uri: str, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.model_uri = model_uri
        # A connection for each request: one that was kept open may be closed by the other side in the very same moment.
        connector = aiohttp.UnixConnector(path=str(folder / SOCKET), limit=0, force_close=True)
        self.session = aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False)
        self._folder = folder
        self._process = process
        self._n_leases = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def is_running(self) -> bool:
        """Whether the child is still there."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """The child's process number, which is that of its process group as well."""
        return self._process.pid

    def __enter__(self) -> "ModelServer":
        """Count a request that is under way: the child is not ended before it is answered."""
        self._n_leases += 1
        self._is_idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._n_leases -= 1
        if self._n_leases == 0:
            self._is_idle.set()

    async def wait_until_ready(self, *, limit_s: float) -> None:
        """Return when the child answers `/ping`, which it does once its model is loaded and warm.

        Raises:
            StoreError: It ended, or did not answer in time.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not await self._answers():
                    if not self.is_running:
                        raise StoreError(
                            f"The server of {self.model_uri} ended with code {self._process.returncode} before it "
                            "answered; the lines above say why."
                        )
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError as error:
            raise StoreError(f"The server of {self.model_uri} did not answer within {limit_s:g} s.") from error

    async def wait_until_ended(self) -> int:
        """Return the child's exit code when it has ended."""
        return await self._process.wait()

    async def drain_and_stop(self, *, limit_s: float) -> None:
        """End the child when its last request is answered, or after the limit."""
        try:
            async with asyncio.timeout(limit_s):
                await self._is_idle.wait()
        except TimeoutError:
            _logger.warning("%d request(s) to %s were cut off after %g s.", self._n_leases, self.model_uri, limit_s)
        await self.stop()

    async def stop(self) -> None:
        """End the child and all that it started."""
        if self.is_running:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
            except TimeoutError:
                _logger.warning("The server of %s did not end by itself; it is killed.", self.model_uri)
        self._signal(signal.SIGKILL)  # workers that outlived their parent
        await self._process.wait()
        await self.session.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of them may have ended
            os.killpg(self.pid, number)

    async def _answers(self) -> bool:
        try:
            async with self.session.get(f"{self.address}/ping", timeout=aiohttp.ClientTimeout(total=5)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


async def start_model_server(model_uri: str, *, settings: ServerSettings) -> ModelServer:
    """Start MLflow's server of one model; it is not ready yet.

    Args:
        model_uri: `models:/<name>/<version>`, or any other URI of a model.
        settings: How to start it.

    Raises:
        ModelNotFoundError: There is no such model.
        StoreError: The model is not what was registered, or there is no place for its socket.
    """
    folder = Path(tempfile.mkdtemp(prefix="sem-search-"))  # mode 0700
    try:
        model = await _run_to_end(partial(fetch_model, model_uri, folder=folder))
        process = await _start_process(model, folder=folder, model_uri=model_uri, settings=settings)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return ModelServer(model_uri=model_uri, folder=folder, process=process)


async def _run_to_end(work: Callable[[], Path]) -> Path:
    """Return what work in a thread gives; a cancellation waits for the end of the thread, which nothing can stop.

    Else it would go on writing into a folder that was removed.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)  # no task: the end of the loop cancels all tasks
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        future.exception()  # looked at, or asyncio logs that it was not
        raise


async def _start_process(
    model: Path, *, folder: Path, model_uri: str, settings: ServerSettings
) -> asyncio.subprocess.Process:
    if len(os.fsencode(folder / SOCKET)) > MAX_SOCKET_PATH_BYTES:
        raise StoreError(f"{folder} is too long a path for a socket: set TMPDIR to a shorter one, such as /tmp.")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)]
    return await asyncio.create_subprocess_exec(
        *command,
        *("--env-manager", settings.env_manager, "--workers", str(settings.n_workers)),
        *("--timeout", str(settings.timeout_s)),
        env=_build_environment(model_uri) | {SOCKET_VARIABLE: str(folder / SOCKET)},
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_build_preexec(),
    )


def _build_environment(model_uri: str) -> dict[str, str]:
    """Return the child's environment: this one, and which registered version it serves."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    path = model_uri.removeprefix("models:/")
    if path != model_uri and "/" in path:
        environment[SERVED_MODEL_VARIABLE] = path
    # Where this very program runs from a checkout, its folder is on the path; the model brings its own copy.
    environment.pop("PYTHONPATH", None)
    folder = os.path.dirname(sys.executable)  # noqa: PTH120 - not resolved: a virtual environment's python is a link
    environment["PATH"] = os.pathsep.join([folder, environment.get("PATH", os.defpath)])
    return environment


def _build_preexec() -> Callable[[], None] | None:
    """Return what ties the child's life to this process: on Linux, even if this one is killed."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # loaded before the fork: afterwards, as little as possible may happen

    def die_with_parent() -> None:
        """Let the kernel end the child when its parent ends; runs in the child."""
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return die_with_parent

"""A child process, here a small web server of Python's own."""

import asyncio
import os
import signal
import stat
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from sem_search.deployment.pyfunc.registered_name import SERVED_MODEL_VARIABLE
from sem_search.deployment.server import child as model_server
from sem_search.deployment.server.child import (
    ModelServer,
    ServerSettings,
    _build_environment,
    _build_preexec,
    start_model_server,
)
from sem_search.errors import StoreError

SERVER = """
import http.server, signal, socketserver, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "fails" in sys.argv: sys.exit(7)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[2], "w").write(str(worker.pid))
socketserver.UnixStreamServer(sys.argv[1] + "x" * ("elsewhere" in sys.argv), Handler).serve_forever()
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")


async def start(tmp_path: Path, *words: str) -> ModelServer:
    folder = tmp_path / "own"
    folder.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(folder / "socket"), str(tmp_path / "worker"), *words, start_new_session=True
    )
    return ModelServer(model_uri="models:/lactose/1", folder=folder, process=process)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_is_waited_for_and_ended_with_all_that_it_started(tmp_path: Path) -> None:
    async def run() -> None:
        server = await start(tmp_path)
        await server.wait_until_ready(limit_s=30)
        worker = int((tmp_path / "worker").read_text())
        assert server.is_running
        await server.stop()
        assert not server.is_running
        assert await server.wait_until_ended() == -signal.SIGTERM
        await asyncio.sleep(0.1)
        assert not is_alive(worker)

    asyncio.run(run())


def test_a_child_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(model_server, "STOP_GRACE_S", 0.2)

    async def run() -> None:
        server = await start(tmp_path, "deaf")
        await server.wait_until_ready(limit_s=30)
        await server.stop()
        assert await server.wait_until_ended() == -signal.SIGKILL

    asyncio.run(run())
    assert "did not end by itself; it is killed" in caplog.text


def test_requests_under_way_are_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        server = await start(tmp_path)
        with server:
            stopping = asyncio.create_task(server.drain_and_stop(limit_s=30))
            await asyncio.sleep(0.1)
            assert server.is_running
        await stopping
        assert not server.is_running
        server = await start(tmp_path)
        with server:
            await server.drain_and_stop(limit_s=0.1)
        assert not server.is_running

    asyncio.run(run())
    assert "1 request(s) to models:/lactose/1 were cut off after 0.1 s" in caplog.text


def test_a_child_that_ends_or_never_answers_is_an_error(tmp_path: Path) -> None:
    async def run() -> None:
        server = await start(tmp_path, "fails")
        with pytest.raises(StoreError, match=r"server of models:/lactose/1 ended with code 7 before it answered"):
            await server.wait_until_ready(limit_s=30)
        await server.stop()
        server = await start(tmp_path, "elsewhere")
        with pytest.raises(StoreError, match=r"did not answer within 0\.1 s"):
            await server.wait_until_ready(limit_s=0.1)
        await server.stop()

    asyncio.run(run())


async def start_for_real(monkeypatch: pytest.MonkeyPatch, folder: Path) -> ModelServer:
    """Start a server whose model is a folder, and whose Python answers as MLflow's command would: not at all."""

    def fetch(_: str, *, folder: Path) -> Path:
        return folder / "model"

    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(model_server, "fetch_model", fetch)
    monkeypatch.setattr(model_server.sys, "executable", "/bin/echo")
    return await start_model_server("models:/lactose/1", settings=ServerSettings())


def test_a_child_listens_where_no_other_user_can_ask_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, str] = {}
    start_process = asyncio.create_subprocess_exec

    async def note(*command: str, env: dict[str, str], **settings: Any) -> asyncio.subprocess.Process:
        told.update(env)
        return await start_process(*command, env=env, **settings)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)

    async def run() -> None:
        server = await start_for_real(monkeypatch, tmp_path / "t")
        (folder,) = (tmp_path / "t").iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert told["UVICORN_UDS"] == str(folder / "socket")
        await server.wait_until_ended()
        assert f"--model-uri {folder / 'model'}" in (words := capfd.readouterr().out)
        assert "--port" not in words
        await server.stop()
        assert not folder.exists()

    asyncio.run(run())


def test_a_model_that_is_not_what_was_registered_starts_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str, *, folder: Path) -> Path:
        (folder / "model").mkdir()
        raise StoreError("it is altered.")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(model_server, "fetch_model", refuse)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)
    with pytest.raises(StoreError, match="it is altered"):
        asyncio.run(start_model_server("models:/lactose/1", settings=ServerSettings()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("n_cancels", [1, 2])
def test_no_copy_stays_behind_when_a_start_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_cancels: int, fails: bool
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def copy(_: str, *, folder: Path) -> Path:
        begun.set()
        may_end.wait(30)
        (folder / "model").mkdir(parents=True)
        if fails:
            raise StoreError("damaged")
        return folder / "model"

    monkeypatch.setattr(model_server, "fetch_model", copy)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def run() -> None:
        starting = asyncio.create_task(start_model_server("models:/lactose/1", settings=ServerSettings()))
        await asyncio.to_thread(begun.wait, 30)
        for _ in range(n_cancels):
            starting.cancel()
            await asyncio.sleep(0.05)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_path_is_too_long_for_a_socket_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="too long a path for a socket: set TMPDIR"):
        asyncio.run(start_for_real(monkeypatch, tmp_path / ("x" * 90)))
    assert list((tmp_path / ("x" * 90)).iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ties a child's life to its parent's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = f"""
import subprocess, sys, time
sys.path[:] = {sys.path!r}
from sem_search.deployment.server.child import _build_preexec
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], preexec_fn=_build_preexec())
print(child.pid, flush=True)
time.sleep(600)
"""

    async def run() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        child = int(await process.stdout.readline())
        assert is_alive(child)
        process.kill()
        await process.wait()
        for _ in range(50):
            if not is_alive(child):
                return
            await asyncio.sleep(0.1)
        pytest.fail("the child lives on")

    assert _build_preexec() is not None
    asyncio.run(run())


@pytest.mark.parametrize(
    ("model_uri", "told"),
    [("models:/lactose/3", "lactose/3"), ("models:/m-0123", None), ("runs:/0123/x", None)],
)
def test_a_child_is_reported_which_version_it_is_and_no_run(
    monkeypatch: pytest.MonkeyPatch, model_uri: str, told: str | None
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.delenv(SERVED_MODEL_VARIABLE, raising=False)
    environment = _build_environment(model_uri)
    assert environment.get(SERVED_MODEL_VARIABLE) == told
    assert "MLFLOW_RUN_ID" not in environment
    assert "PYTHONPATH" not in environment
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)

"""The registry behind MLflow's server, as a laboratory has it: versions are text there, files are downloaded."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from sem_search.deployment.registry import (
    compare_versions,
    list_versions,
    promote_version,
    roll_back,
    show_version,
    verify_version,
)

START_S = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, make_mlflow_store: Callable[[Path], str]) -> Iterator[str]:
    """MLflow's own server over an empty store, artifacts through the server; gives its address."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", make_mlflow_store(folder)),
            *("--serve-artifacts", "--artifacts-destination", (folder / "artifacts").as_uri()),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process=process)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def wait_for(address: str, *, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        assert process.poll() is None, "the server ended"
        try:
            with urlopen(f"{address}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except URLError:
            time.sleep(0.5)
    pytest.fail(f"the server did not answer within {START_S} s")


@pytest.mark.slow
def test_the_whole_story_behind_a_server(
    server: str, tmp_path: Path, make_laboratory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path / "cache"))
    with make_laboratory(tmp_path, uri=server) as laboratory:
        laboratory.register(0.5)
        assert laboratory.register(9.0, seed=1).alias == "champion"
        assert laboratory.register(0.5, seed=2).alias == "challenger"
        assert promote_version(laboratory.name, "challenger", reason="größer: 5 µm").reason == "größer: 5 µm"
        assert roll_back(laboratory.name).to_version == "2"
        overview = list_versions(laboratory.name)
        assert (overview.champion, overview.n_moves, overview.remarks) == ("2", 5, ())
        assert compare_versions(laboratory.name, "2", "1").is_better
        assert show_version(laboratory.name, "champion").card is not None
        verification = verify_version(laboratory.name, "champion", expect_head=overview.head_sha256)
        assert [check.outcome for check in verification.checks] == ["ok"] * 9, verification
        entry = laboratory.read_history().entries[1]
        laboratory.client.set_registered_model_tag(laboratory.name, entry.key, entry.to_json().replace("iwata", "i"))
        failure = verify_version(laboratory.name, "1").first_failure
        assert failure.detail.startswith("entry 2 was altered")

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sem_search.deployment.registry import locking, promote_version
from sem_search.deployment.registry.locking import locate_lock, lock_registry
from sem_search.errors import StoreError


def test_the_lock_of_a_file_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_lock(f"sqlite:///{tmp_path}/mlflow.db") == tmp_path / "mlflow.db.registry.lock"
    monkeypatch.chdir(tmp_path)
    assert locate_lock("sqlite:///mlflow.db") == tmp_path / "mlflow.db.registry.lock"


@pytest.mark.parametrize("uri", ["http://host:5000", "postgresql://user:secret@host/name", "sqlite:///:memory:"])
def test_the_lock_of_a_server_lies_in_the_cache_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path))
    path = locate_lock(uri)
    assert path.parent == tmp_path / "locks"
    assert "secret" not in path.name
    assert locate_lock(uri) == path
    assert locate_lock(f"{uri}/other") != path


def test_a_process_that_hangs_is_told_after_the_wait(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "WAIT_S", 0.1)
    with (
        FileLock(laboratory.folder / "mlflow.db.registry.lock"),
        pytest.raises(StoreError, match=r"holds mlflow\.db\.registry\.lock: end it, and give the command again"),
    ):
        promote_version(laboratory.name, "1")


def test_the_lock_is_free_after_an_error(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), lock_registry():
        raise ZeroDivisionError
    monkeypatch.setattr(locking, "WAIT_S", 0.1)
    with lock_registry():
        pass


HOLD = """
import sys, time
from filelock import FileLock
FileLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_ends_with_a_process_that_is_killed(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = laboratory.folder / "mlflow.db.registry.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    monkeypatch.setattr(locking, "WAIT_S", 5)
    with lock_registry():
        pass

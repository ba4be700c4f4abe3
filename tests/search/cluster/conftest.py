"""A search and its worker, both in this process: the worker's cache is empty, and its results go to a folder."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sem_search.places import CACHE_VARIABLE
from sem_search.search.cluster import worker_context
from sem_search.search.cluster.client import ClusterClient
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.cluster.remote_folds import compute_shards
from sem_search.search.prepare.prepared_search import PreparedSearch

N_EPOCHS = 12
"""Enough for a curve to be extrapolated before the last one."""


@pytest.fixture
def shared(tmp_path: Path) -> SharedStore:
    return SharedStore(url=str(tmp_path / "shared"))


@pytest.fixture
def remote(prepared: PreparedSearch, shared: SharedStore) -> PreparedSearch:
    """A search of longer folds and of all views, with shared storage."""
    changes = {"epochs": N_EPOCHS, "patience": 0, "augment": "dihedral", "shared": shared.url}
    longer = prepared.settings.model_copy(update=changes)
    return dataclasses.replace(prepared, settings=longer)


@pytest.fixture
def context(
    remote: PreparedSearch, shared: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of a context in shared storage."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "worker"))
    monkeypatch.setattr(worker_context, "configure_tensorflow", lambda **_: None)  # TensorFlow is at work already
    worker_context.open_context.cache_clear()
    yield worker_context.publish_context(remote, shared=shared)
    worker_context.open_context.cache_clear()


@pytest.fixture
def client() -> Iterator[ClusterClient]:
    """A cluster of one worker: a thread of this process."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield ClusterClient(executor=pool, count_threads=lambda: 1)


@pytest.fixture
def shards(context: str, client: ClusterClient, remote: PreparedSearch) -> None:
    """Every feature shard, computed by the worker."""
    compute_shards(client, prepared=remote)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fold that is compared with a better cell is stopped after its tenth epoch."""
    monkeypatch.setattr("sem_search.search.pruning.curve_extrapolation.compute_allowance", lambda *_, **__: -1.0)

"""What a worker is given, and what it refuses to compute with."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sem_search.errors import SettingsError
from sem_search.search.cluster import worker_context
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.cluster.worker_context import open_context, publish_context


def test_a_worker_has_the_search_s_tiles_folds_and_weights(context: str, shared: SharedStore, data, network) -> None:
    opened = open_context(context, shared=shared)
    assert (opened.study, opened.folds) == ("a study", data.folds)
    for name, value in vars(data.tiles).items():
        np.testing.assert_array_equal(getattr(opened.tiles, name), value)
    for model, other in ((opened.cut.trunk, network.cut.trunk), (opened.cut.tail, network.cut.tail)):
        for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)


def test_a_worker_keeps_the_engine_of_the_search(
    context: str, shared: SharedStore, remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_context(context, shared=shared).cut.engine == "tensorflow"
    cut = dataclasses.replace(remote.network.cut, engine="onnxruntime")
    network = dataclasses.replace(remote.network, cut=cut)
    name = publish_context(dataclasses.replace(remote, network=network), shared=shared)
    opened = open_context(name, shared=shared)
    assert opened.cut.engine == "onnxruntime"
    tiles = np.zeros((2, 48, 48), dtype=np.float32)
    assert opened.compute_features(tiles)[0].shape[0] == 2
    real = worker_context.describe_versions()
    monkeypatch.setattr(worker_context, "describe_versions", lambda: {**real, "onnxruntime": "not installed"})
    open_context.cache_clear()
    with pytest.raises(SettingsError, match=r"numbers: onnxruntime \S+ there and not installed here"):
        open_context(name, shared=shared)
    open_context(context, shared=shared)  # on TensorFlow it does without


def test_a_context_is_opened_once_and_published_once(context: str, shared: SharedStore, remote) -> None:
    assert open_context(context, shared=shared) is open_context(context, shared=SharedStore(url=shared.url))
    stamps = {path: path.stat().st_mtime_ns for path in Path(shared.url).rglob("*.bin")}
    assert publish_context(remote, shared=shared) == context
    assert {path: path.stat().st_mtime_ns for path in Path(shared.url).rglob("*.bin")} == stamps


def test_a_damaged_context_is_published_again(context: str, shared: SharedStore, remote) -> None:
    (Path(shared.url) / context).write_bytes(b"")
    assert publish_context(remote, shared=shared) == context
    assert shared.read(context) is not None


def test_a_worker_that_does_not_reach_the_place_says_so(tmp_path: Path) -> None:
    elsewhere = SharedStore(url=str(tmp_path / "elsewhere"))
    with pytest.raises(SettingsError, match=r"The worker on .* does not find studies/a/context\.bin in shared="):
        open_context("studies/a/context.bin", shared=elsewhere)


def test_a_worker_with_another_library_is_refused(
    context: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker_context.describe_versions()
    monkeypatch.setattr(worker_context, "describe_versions", lambda: {**real, "tensorflow": "1.0"})
    with pytest.raises(SettingsError, match=r"would not give the search's numbers: tensorflow \S+ there and 1\.0 here"):
        open_context(context, shared=shared)


def test_a_worker_that_has_computed_with_other_threads_is_refused(
    context: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Intra op parallelism cannot be modified after initialization.")

    monkeypatch.setattr(worker_context, "configure_tensorflow", refuse)
    with pytest.raises(SettingsError, match="another number of threads than threads=1"):
        open_context(context, shared=shared)


def test_a_worker_that_builds_another_network_is_refused(
    context: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_context, "compute_feature_key", lambda *_, **__: "another")
    with pytest.raises(SettingsError, match="builds another network from the same weights"):
        open_context(context, shared=shared)


def test_a_worker_that_lacks_a_shard_says_which(context: str, shared: SharedStore) -> None:
    with pytest.raises(SettingsError, match="does not find feature shard 0 of study 'a study'"):
        _ = open_context(context, shared=shared).trainer

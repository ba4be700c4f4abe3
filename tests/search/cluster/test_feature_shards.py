"""Features in pieces: the numbers of one process, bit for bit, whoever computes which piece."""

from pathlib import Path

import numpy as np
import pytest

from sem_search.places import CACHE_VARIABLE
from sem_search.search.cluster.feature_shards import (
    N_SHARD_TILES,
    Features,
    FeatureShards,
    compile_shard_computation,
    get_shard_range,
)
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.prepare import features as features_module
from sem_search.search.prepare.features import compute_features, get_feature_key, read_shard_tiles

N_TILES = 2 * N_SHARD_TILES + 5


@pytest.fixture
def shards(shared: SharedStore) -> FeatureShards:
    return FeatureShards(shared=shared, key="key", n_tiles=N_TILES)


class Computer:
    """Remembers which shards it was asked for."""

    def __init__(self, shards: FeatureShards) -> None:
        self.shards = shards
        self.asked: list[int] = []

    def __call__(self, index: int) -> Features:
        self.asked.append(index)
        tiles = np.arange(*get_shard_range(index, n_tiles=self.shards.n_tiles), dtype=np.float32)
        return [np.repeat(tiles[:, None], 3, axis=1), tiles[:, None, None]]


@pytest.mark.parametrize(("n_tiles", "n_shards"), [(N_SHARD_TILES, 1), (N_SHARD_TILES + 1, 2), (N_TILES, 3)])
def test_shards_hold_every_tile_once(shared: SharedStore, n_tiles: int, n_shards: int) -> None:
    shards = FeatureShards(shared=shared, key="key", n_tiles=n_tiles)
    assert len(shards) == n_shards
    ranges = [range(*get_shard_range(index, n_tiles=shards.n_tiles)) for index in range(n_shards)]
    assert [tile for one in ranges for tile in one] == list(range(n_tiles))


def test_each_missing_shard_is_computed_once_wherever_one_begins(shards: FeatureShards) -> None:
    first, second = Computer(shards), Computer(shards)
    shards.fill(first, first=1)
    assert first.asked == [1, 2, 0]
    shards.fill(second)
    parts = list(shards.read_all(second))
    assert second.asked == []
    assert np.concatenate([part[0][:, 0] for part in parts]).tolist() == list(range(N_TILES))
    assert parts[0][1].shape == (N_SHARD_TILES, 1, 1)


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another size", "removed"])
def test_a_damaged_shard_is_computed_again(shards: FeatureShards, damage: str) -> None:
    computer = Computer(shards)
    shards.fill(computer)
    path = Path(shards.shared.url) / shards.name(1)
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "of another size":
        path.write_bytes((Path(shards.shared.url) / shards.name(2)).read_bytes())
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:-1] if damage == "cut" else content)
    assert shards.list_missing() == ([1] if damage == "removed" else [])
    assert shards.read(1) is None
    assert len(list(shards.read_all(computer))) == 3
    assert computer.asked == [0, 1, 2, 1]
    assert shards.read(1) is not None


def test_shards_give_the_numbers_of_one_process(settings, data, network, features, shared: SharedStore) -> None:
    shards = FeatureShards(shared=shared, key="key", n_tiles=data.tiles.n_tiles)
    assert len(shards) == 2
    compute = compile_shard_computation(network.cut, backbone=network.backbone, n_tiles=data.tiles.n_tiles)
    for index in reversed(range(len(shards))):
        shards.write(index, compute(read_shard_tiles(data, index=index)))
    parts = list(shards.read_all(pytest.fail))
    for place, array in enumerate(features.arrays):
        np.testing.assert_array_equal(np.concatenate([part[place] for part in parts]), array)


@pytest.fixture
def study_shards(data, network, shared: SharedStore) -> FeatureShards:
    return FeatureShards(shared=shared, key=get_feature_key(data, network=network), n_tiles=data.tiles.n_tiles)


def test_a_machine_with_an_empty_cache_takes_features_from_the_shared_place(
    settings, data, network, features, tmp_path: Path, study_shards: FeatureShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings.model_copy(update={"shared": study_shards.shared.url})
    compute_features(asked, data=data, network=network)  # this machine's cache has them: they are published
    assert study_shards.list_missing() == []
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    monkeypatch.setattr(features_module, "read_shard_tiles", lambda *_, **__: pytest.fail("computed again"))
    taken = compute_features(asked, data=data, network=network)
    assert taken.folder.is_relative_to(tmp_path / "empty")
    for array, other in zip(taken.arrays, features.arrays, strict=True):
        np.testing.assert_array_equal(array, other)


def test_a_machine_with_an_empty_cache_and_an_empty_place_computes_them_for_all(
    settings, data, network, features, tmp_path: Path, study_shards: FeatureShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    asked = settings.model_copy(update={"shared": study_shards.shared.url})
    taken = compute_features(asked, data=data, network=network)
    for array, other in zip(taken.arrays, features.arrays, strict=True):
        np.testing.assert_array_equal(array, other)
    assert study_shards.list_missing() == []

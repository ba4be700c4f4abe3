"""Features in pieces: the numbers of one process, bit for bit, whoever computes which piece."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sem_search.places import CACHE_VARIABLE
from sem_search.search.cluster.feature_shards import (
    N_SHARD_TILES,
    Features,
    ShardComputer,
    compute_missing_shards,
    count_shards,
    get_shard_range,
    iter_shards,
    list_missing_shards,
    name_shard,
    publish_shards,
    read_shard,
)
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.prepare.features import compute_features, get_feature_key, read_shard_tiles

KEY, N_TILES = "key", 2 * N_SHARD_TILES + 5


@pytest.fixture
def shared(tmp_path: Path) -> SharedStore:
    return SharedStore(url=str(tmp_path / "shared"))


class Computer:
    """Remembers which shards it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, index: int) -> Features:
        self.asked.append(index)
        begin, end = get_shard_range(index, n_tiles=N_TILES)
        tiles = np.arange(begin, end, dtype=np.float32)
        return [np.repeat(tiles[:, None], 3, axis=1), tiles[:, None, None]]


def test_shards_hold_every_tile_once() -> None:
    ranges = [get_shard_range(index, n_tiles=N_TILES) for index in range(count_shards(N_TILES))]
    assert [tile for begin, end in ranges for tile in range(begin, end)] == list(range(N_TILES))
    assert count_shards(N_SHARD_TILES) == 1
    assert count_shards(N_SHARD_TILES + 1) == 2


def test_each_missing_shard_is_computed_once_wherever_one_begins(shared: SharedStore) -> None:
    first, second = Computer(), Computer()
    compute_missing_shards(shared, key=KEY, n_tiles=N_TILES, first=1, compute=first)
    assert first.asked == [1, 2, 0]
    compute_missing_shards(shared, key=KEY, n_tiles=N_TILES, first=0, compute=second)
    assert second.asked == []
    parts = list(iter_shards(shared, key=KEY, n_tiles=N_TILES, compute=second))
    assert second.asked == []
    assert np.concatenate([part[0][:, 0] for part in parts]).tolist() == list(range(N_TILES))
    assert parts[0][1].shape == (N_SHARD_TILES, 1, 1)


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another size", "removed"])
def test_a_damaged_shard_is_computed_again(shared: SharedStore, damage: str) -> None:
    computer = Computer()
    compute_missing_shards(shared, key=KEY, n_tiles=N_TILES, first=0, compute=computer)
    path = Path(shared.url) / name_shard(KEY, 1)
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    elif damage == "of another size":
        path.write_bytes((Path(shared.url) / name_shard(KEY, 2)).read_bytes())
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:-1] if damage == "cut" else content)
    assert list_missing_shards(shared, key=KEY, n_tiles=N_TILES) == [1]
    assert len(list(iter_shards(shared, key=KEY, n_tiles=N_TILES, compute=computer))) == 3
    assert computer.asked == [0, 1, 2, 1]
    assert read_shard(shared, key=KEY, index=1, n_tiles=N_TILES) is not None


def test_a_store_that_is_whole_is_published_once(shared: SharedStore) -> None:
    array = np.arange(N_TILES, dtype=np.float32)[:, None]
    assert publish_shards(shared, [array], key=KEY) == 3
    assert publish_shards(shared, [array], key=KEY) == 0
    (last,) = read_shard(shared, key=KEY, index=2, n_tiles=N_TILES) or ()
    np.testing.assert_array_equal(last, array[2 * N_SHARD_TILES :])


def test_shards_give_the_numbers_of_one_process(settings, data, network, features) -> None:
    computer = ShardComputer(network.cut, backbone=network.backbone, n_tiles=data.tiles.n_tiles)
    shards = [
        computer.compute(read_shard_tiles(data, index=index))
        for index in reversed(range(count_shards(data.tiles.n_tiles)))
    ][::-1]
    assert len(shards) == 2
    for place, array in enumerate(features.arrays):
        np.testing.assert_array_equal(np.concatenate([shard[place] for shard in shards]), array)


def test_a_machine_with_an_empty_cache_takes_features_from_the_shared_place(
    settings, data, network, features, tmp_path: Path, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings.model_copy(update={"shared": shared.url})
    compute_features(asked, data=data, network=network)  # this machine's cache has them: they are published
    key = get_feature_key(data, network=network)
    assert list_missing_shards(shared, key=key, n_tiles=data.tiles.n_tiles) == []
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    refuse: Callable[..., Features] = lambda *_: pytest.fail("features that are there were computed")  # noqa: E731
    monkeypatch.setattr(ShardComputer, "compute", refuse)
    taken = compute_features(asked, data=data, network=network)
    assert taken.folder.is_relative_to(tmp_path / "empty")
    for array, other in zip(taken.arrays, features.arrays, strict=True):
        np.testing.assert_array_equal(array, other)


def test_a_machine_with_an_empty_cache_and_an_empty_place_computes_them_for_all(
    settings, data, network, features, tmp_path: Path, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    taken = compute_features(settings.model_copy(update={"shared": shared.url}), data=data, network=network)
    for array, other in zip(taken.arrays, features.arrays, strict=True):
        np.testing.assert_array_equal(array, other)
    key = get_feature_key(data, network=network)
    assert list_missing_shards(shared, key=key, n_tiles=data.tiles.n_tiles) == []

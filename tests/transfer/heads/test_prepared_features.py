"""Features in memory or read again in chunks: the same tensors in the same batches, and never more than allowed."""

from collections.abc import Callable
from types import SimpleNamespace

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf

from sem_search.transfer.heads import prepared_features as room
from sem_search.transfer.heads.passes import GeneralPass
from sem_search.transfer.heads.prepared_features import PreparedFeatures

N_TILES = 30
SHAPES = ((2, 3, 4), (5,))
TILE_BYTES = 4 * (2 * 3 * 4 + 5)

MakeHead = Callable[..., keras.Model]


class RecordingArray:
    """An array that remembers which rows were read in one go, as a memory map would have to."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape
        self.reads: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.reads.append(rows.tolist())
        return self.array[rows]


@pytest.fixture(scope="module")
def features() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(N_TILES, *shape)).astype(np.float32) for shape in SHAPES]


@pytest.fixture
def head_pass(pass_type: type[GeneralPass]) -> GeneralPass:
    return pass_type(None)  # only `prepare` is asked for


def gather(
    prepared: PreparedFeatures, tiles: np.ndarray, *, batch_size: int, head_pass: GeneralPass
) -> list[np.ndarray]:
    """Return what all chunks together hold of these tiles, in their order."""
    parts = [
        [tf.gather(tensor, places, axis=head_pass.tile_axis).numpy() for tensor in tensors]
        for tensors, places, _ in prepared.iter_chunks(tiles, batch_size=batch_size)
    ]
    return [np.concatenate(column, axis=head_pass.tile_axis) for column in zip(*parts, strict=True)]


@pytest.mark.parametrize("max_bytes", [1, 5 * TILE_BYTES, 20 * TILE_BYTES, 10**9])
@pytest.mark.parametrize("at_once", [4, 64])
def test_tiles_come_in_the_order_asked_for_wherever_they_lie(
    features: list[np.ndarray],
    head_pass: GeneralPass,
    monkeypatch: pytest.MonkeyPatch,
    max_bytes: int,
    at_once: int,
) -> None:
    monkeypatch.setattr(room, "PREPARED_AT_ONCE", at_once)
    prepared = PreparedFeatures(features, head_pass=head_pass, max_bytes=max_bytes)
    tiles = np.random.default_rng(1).permutation(N_TILES)[:23]
    expected = head_pass.prepare([tf.constant(array[tiles]) for array in features])
    for got, tensor in zip(gather(prepared, tiles, batch_size=4, head_pass=head_pass), expected, strict=True):
        np.testing.assert_array_equal(got, tensor)


def test_chunks_name_their_tiles(features: list[np.ndarray]) -> None:
    prepared = PreparedFeatures(features, head_pass=GeneralPass(None), max_bytes=12 * TILE_BYTES)
    tiles = np.random.default_rng(1).permutation(N_TILES)
    chunks = list(prepared.iter_chunks(tiles, batch_size=3))
    np.testing.assert_array_equal(np.concatenate([named for _, _, named in chunks]), tiles)
    for tensors, places, named in chunks:
        np.testing.assert_array_equal(tensors[1].numpy()[places], features[1][named])


@pytest.mark.parametrize(
    ("max_tiles", "batch_size", "sizes"),
    [
        (12, 3, [6, 6, 6, 6, 6]),  # half of what is allowed: features are there twice, as read and as prepared
        (20, 4, [8, 8, 8, 6]),  # two batches of four, not ten tiles: no chunk ends within a batch
        (29, 14, [14, 14, 2]),
        (1, 16, [16, 14]),  # one batch must fit, whatever is allowed
    ],
)
def test_chunks_are_whole_batches_and_no_larger_than_allowed(
    features: list[np.ndarray], max_tiles: int, batch_size: int, sizes: list[int]
) -> None:
    prepared = PreparedFeatures(features, head_pass=GeneralPass(None), max_bytes=max_tiles * TILE_BYTES)
    assert not prepared.is_in_memory
    chunks = list(prepared.iter_chunks(np.arange(N_TILES), batch_size=batch_size))
    assert [len(tiles) for _, _, tiles in chunks] == sizes
    assert [len(tensors[0]) for tensors, _, _ in chunks] == sizes, "a chunk holds its own tiles and no others"


def test_files_are_read_from_front_to_back_and_not_beyond_need(features: list[np.ndarray]) -> None:
    recorders = [RecordingArray(array) for array in features]
    prepared = PreparedFeatures(recorders, head_pass=GeneralPass(None), max_bytes=16 * TILE_BYTES)
    assert [recorder.reads for recorder in recorders] == [[[0]], [[0]]], "one tile tells the size of all"
    tiles = np.array([9, 2, 25, 3, 0, 29, 7, 1, 4])
    list(prepared.iter_chunks(tiles, batch_size=4))
    for recorder in recorders:
        assert recorder.reads[1:] == [[0, 1, 2, 3, 7, 9, 25, 29], [4]]


def test_what_is_in_memory_is_read_once_and_then_no_more(features: list[np.ndarray]) -> None:
    recorder = RecordingArray(features[0])
    prepared = PreparedFeatures([recorder], head_pass=GeneralPass(None), max_bytes=10**9)
    n_reads = len(recorder.reads)
    for _ in range(3):
        list(prepared.iter_chunks(np.arange(N_TILES), batch_size=4))
    assert len(recorder.reads) == n_reads
    assert sorted(row for rows in recorder.reads[1:] for row in rows) == list(range(N_TILES))


@pytest.mark.parametrize(("spare_bytes", "expected"), [(0, True), (-1, False)])
def test_all_that_fits_stays_in_memory(features: list[np.ndarray], spare_bytes: int, expected: bool) -> None:
    max_bytes = N_TILES * TILE_BYTES + spare_bytes
    assert PreparedFeatures(features, head_pass=GeneralPass(None), max_bytes=max_bytes).is_in_memory is expected


@pytest.mark.parametrize(("free_tiles", "expected"), [(2 * N_TILES, True), (2 * N_TILES - 1, False)])
def test_by_default_half_of_the_free_memory_may_be_taken(
    features: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, free_tiles: int, expected: bool
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free_tiles * TILE_BYTES))
    assert PreparedFeatures(features, head_pass=GeneralPass(None)).is_in_memory is expected


def test_specs_leave_the_number_of_tiles_open(features: list[np.ndarray], head_pass: GeneralPass) -> None:
    prepared = PreparedFeatures(features, head_pass=head_pass, max_bytes=1)
    axis = head_pass.tile_axis
    assert [spec.shape.as_list() for spec in prepared.specs] == [[1] * axis + [None, *shape] for shape in SHAPES]
    assert prepared.n_tiles == N_TILES

"""Trunk features are computed once, are what the trunk puts out, and are shared safely."""

import dataclasses
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from sem_search.errors import StoreError
from sem_search.micrographs.tiles import FloatTiles
from sem_search.progress import ProgressMeter
from sem_search.transfer import features as features_module
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, average_channels, cut_network
from sem_search.transfer.feature_store import clear_stores, list_stores
from sem_search.transfer.features import (
    FeatureStore,
    embed_stored_features,
    get_features,
    prefetch,
)
from sem_search.transfer.trunk import Computation, compile_trunk, set_computation
from sem_search.transfer.weights.random import fill_random_weights

TILE_PX = 32
TILES_OF_IMAGES = (3, 1, 6, 4)  # in batches of 4 the last one is padded
N_TILES = sum(TILES_OF_IMAGES)


def _draw_images() -> list[FloatTiles]:
    draw = np.random.default_rng(0)
    return [draw.uniform(0, 1, (n, TILE_PX, TILE_PX)).astype(np.float32) for n in TILES_OF_IMAGES]


@pytest.fixture(scope="module")
def cut() -> CutNetwork:
    backbone = get_backbone("tiny")
    model = backbone.build(tile_px=TILE_PX)
    fill_random_weights(model, pictures=backbone.preprocess(_draw_images()[2]), seed=0)
    return cut_network(model)


class _Tiles:
    """Counts how often tiles are asked for."""

    def __init__(self) -> None:
        self.n_started = 0

    def __call__(self) -> Iterator[FloatTiles]:
        self.n_started += 1
        yield from _draw_images()


def _get(cut: CutNetwork, cache: Path, *, tiles: _Tiles | None = None, **changes: object) -> FeatureStore:
    settings = {
        "tiles": tiles or _Tiles(),
        "n_tiles": N_TILES,
        "backbone": get_backbone("tiny"),
        "content_key": "these tiles",
        "cache_folder": cache,
        "batch_size": 4,
    }
    return get_features(cut, **(settings | changes))


def test_features_are_the_trunks_outputs_in_order(cut, tmp_path):
    store = _get(cut, tmp_path)
    prepared = get_backbone("tiny").preprocess(np.concatenate(_draw_images()))
    (wanted,) = (np.asarray(part) for part in [cut.trunk(prepared)])
    assert [array.shape for array in store.arrays] == [(N_TILES, 8, 8, 8)]
    np.testing.assert_allclose(store.arrays[0], wanted, rtol=1e-5, atol=1e-6)
    assert store.warnings == ()


def test_networks_with_several_crossing_tensors_get_an_array_for_each(tmp_path):
    model = get_backbone("resnet50").build(tile_px=TILE_PX)
    store = _get(cut_network(model), tmp_path, backbone=get_backbone("resnet50"))
    assert [array.shape for array in store.arrays] == [(N_TILES, 1, 1, 512), (N_TILES, 1, 1, 2048)]


def test_the_second_time_nothing_is_computed(cut, tmp_path):
    tiles = _Tiles()
    first, second = (_get(cut, tmp_path, tiles=tiles) for _ in range(2))
    assert tiles.n_started == 1
    np.testing.assert_array_equal(first.arrays[0], second.arrays[0])


@pytest.mark.parametrize("batch_size", [1, 3, 16, 1000])
def test_batch_size_changes_neither_key_nor_features(cut, tmp_path, batch_size):
    store = _get(cut, tmp_path / "one", batch_size=batch_size)
    other = _get(cut, tmp_path / "other")
    assert store.key == other.key
    np.testing.assert_allclose(store.arrays[0], other.arrays[0], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_the_engine_changes_features_by_rounding_alone(cut, tmp_path, batch_size):
    wanted = _get(cut, tmp_path)
    store = _get(dataclasses.replace(cut, engine="onnxruntime"), tmp_path, batch_size=batch_size)
    assert json.loads((store.folder / "manifest.json").read_text())["about"]["engine"] == "onnxruntime"
    np.testing.assert_allclose(store.arrays[0], wanted.arrays[0], rtol=0, atol=1e-5 * wanted.arrays[0].max())


@pytest.mark.usefixtures("cache")
def test_all_that_the_values_depend_on_is_in_the_key(cut, tmp_path):
    keys = [_get(cut, tmp_path).key, _get(cut, tmp_path, content_key="other tiles").key]
    backbone = get_backbone("tiny")
    other = backbone.build(tile_px=TILE_PX)
    fill_random_weights(other, pictures=backbone.preprocess(_draw_images()[2]), seed=1)
    keys.append(_get(cut_network(other), tmp_path).key)
    rounded = Computation(engine="tensorflow", precision="bfloat16")
    keys.append(_get(set_computation(cut, computation=rounded), tmp_path).key)
    keys.append(_get(dataclasses.replace(cut, engine="onnxruntime"), tmp_path).key)
    assert len(set(keys)) == len(keys)


def test_weights_of_the_tail_alone_share_a_store(cut, tmp_path):
    """The last convolution is not in the trunk: what it weighs changes no feature."""
    key = _get(cut, tmp_path).key
    layer = cut.tail.get_layer("conv_2")
    before = layer.get_weights()
    layer.set_weights([array + 1 for array in before])
    assert _get(cut, tmp_path).key == key
    layer.set_weights(before)


def test_a_damaged_store_is_computed_again_with_a_warning(cut, tmp_path):
    tiles = _Tiles()
    first = _get(cut, tmp_path, tiles=tiles)
    wanted = np.array(first.arrays[0])
    file = first.folder / "features_0.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    second = _get(cut, tmp_path, tiles=tiles)
    assert tiles.n_started == 2
    (warning,) = second.warnings
    assert "A feature store was damaged and has been computed again" in warning
    assert "features_0.npy: it has changed since it was written" in warning
    np.testing.assert_array_equal(second.arrays[0], wanted)
    assert _get(cut, tmp_path, tiles=tiles).warnings == ()


@pytest.mark.parametrize("announced", [N_TILES - 1, N_TILES + 1])
def test_another_number_of_tiles_than_announced_is_an_error(cut, tmp_path, announced):
    with pytest.raises(StoreError, match=f"{N_TILES} tiles came where {announced} were announced"):
        _get(cut, tmp_path, n_tiles=announced)
    assert list_stores(tmp_path) == ()


def test_an_error_while_reading_tiles_is_raised_and_leaves_nothing(cut, tmp_path):
    def fail() -> Iterator[FloatTiles]:
        yield _draw_images()[0]
        raise ValueError("image 2 is torn")

    with pytest.raises(ValueError, match="image 2 is torn"):
        _get(cut, tmp_path, tiles=fail)
    assert [path.suffix for path in (tmp_path / "features").iterdir()] in ([], [".lock"])


def test_a_cache_that_cannot_be_made_is_an_error_in_words(cut, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="could not be written: Not a directory"):
        _get(cut, tmp_path / "file")


def test_progress_is_shown_on_standard_error_with_tiles_per_second(cut, tmp_path, capsys):
    for shown in (f"Features: {2 * N_TILES} of {2 * N_TILES} tiles in ", ""):
        with ProgressMeter("Features", total=2 * N_TILES, unit="tiles", is_shown=True) as meter:
            for content_key in ("some tiles", "other tiles"):
                _get(cut, tmp_path, content_key=content_key, meter=meter)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(shown)
        assert ("tiles/s)" in captured.err) is bool(shown)
        assert (captured.err == "") is not bool(shown)


def test_one_that_waits_for_another_says_so_and_reads_what_that_one_wrote(cut, tmp_path, capsys):
    store = _get(cut, tmp_path)
    tiles = _Tiles()
    is_held = threading.Event()

    def hold() -> None:
        with FileLock(store.folder.with_name(store.folder.name + ".lock")):
            is_held.set()
            time.sleep(0.3)

    threading.Thread(target=hold).start()
    is_held.wait()
    started_s = time.monotonic()
    meter = ProgressMeter("Features", total=N_TILES, unit="tiles", is_shown=True)
    waited = _get(cut, tmp_path, tiles=tiles, meter=meter)
    assert time.monotonic() - started_s > 0.2
    assert tiles.n_started == 0
    assert "Another process is computing these features; waiting for it." in capsys.readouterr().err
    np.testing.assert_array_equal(waited.arrays[0], store.arrays[0])


def _compute_in_a_process(cache: Path, started: "multiprocessing.Queue[str]") -> None:
    """Build the same network in a process of its own and ask for its features."""
    backbone = get_backbone("tiny")
    model = backbone.build(tile_px=TILE_PX)
    fill_random_weights(model, pictures=backbone.preprocess(_draw_images()[2]), seed=0)

    def iter_slowly() -> Iterator[FloatTiles]:
        started.put("computes")
        for image in _draw_images():
            time.sleep(0.2)
            yield image

    store = _get(cut_network(model), cache, tiles=iter_slowly)
    started.put(f"has {store.arrays[0].shape[0]} tiles")


@pytest.mark.slow
def test_of_two_processes_one_computes_and_both_have_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    processes = [context.Process(target=_compute_in_a_process, args=(tmp_path, said)) for _ in range(2)]
    for process in processes:
        process.start()
    words = sorted(said.get(timeout=120) for _ in range(3))
    for process in processes:
        process.join(timeout=60)
    assert words == ["computes", f"has {N_TILES} tiles", f"has {N_TILES} tiles"]
    assert said.empty()


def test_list_and_clear_know_stores_and_leave_the_rest(cut, tmp_path):
    assert list_stores(tmp_path) == ()
    assert clear_stores(tmp_path) == 0
    stores = [_get(cut, tmp_path, content_key=key) for key in ("one", "two")]
    notes = tmp_path / "features" / "notes.txt"
    notes.write_text("mine")
    (tmp_path / "demo").mkdir()
    assert {summary.folder for summary in list_stores(tmp_path)} == {store.folder for store in stores}
    assert clear_stores(tmp_path) == 2
    assert list_stores(tmp_path) == ()
    assert notes.read_text() == "mine"
    assert (tmp_path / "demo").is_dir()


def test_clear_leaves_a_store_that_is_in_the_making(cut, tmp_path):
    store = _get(cut, tmp_path)
    with FileLock(store.folder.with_name(store.folder.name + ".lock")):
        assert clear_stores(tmp_path) == 0
    assert store.folder.is_dir()
    assert clear_stores(tmp_path) == 1


def test_compile_trunk_is_compiled_once_for_its_batch_size(cut):
    run = compile_trunk(cut, backbone=get_backbone("tiny"), batch_size=4)
    tiles = _draw_images()[3]
    for _ in range(3):
        (output,) = run(tiles)
    assert output.shape == (4, 8, 8, 8)
    assert run.experimental_get_tracing_count() == 1
    with pytest.raises(TypeError):
        run(tiles[:3])


def test_prefetch_yields_all_items_in_order():
    assert list(prefetch(iter(range(20)), n_ahead=3)) == list(range(20))


def test_prefetch_runs_ahead_but_no_further_than_allowed():
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    items = prefetch(make(), n_ahead=3)
    next(items)
    deadline_s = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # the one in use and three that wait
    items.close()


def test_prefetch_raises_what_the_items_raise():
    def fail():
        yield 1
        raise ValueError("tile 2 is torn")

    items = prefetch(fail(), n_ahead=4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="tile 2 is torn"):
        next(items)


def test_prefetch_leaves_no_thread_behind_when_it_is_given_up():
    before = threading.active_count()
    items = prefetch(iter(range(1000)), n_ahead=2)
    next(items)
    items.close()
    assert threading.active_count() == before


def draw_crossing_tensors(n_tiles: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n_tiles)
    return [rng.normal(size=(n_tiles, 7, 5, 3)).astype(np.float32), rng.normal(size=(n_tiles, 2, 2, 4)).astype("f4")]


def test_each_channel_is_averaged_over_the_tile() -> None:
    arrays = draw_crossing_tensors(6)
    wanted = np.concatenate([array.mean(axis=(1, 2)) for array in arrays], axis=1)
    assert average_channels(arrays).numpy() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("n_tiles", [1, 4, 5, 9])
def test_stored_features_are_read_in_parts(n_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "CHUNK_TILES", 4)
    arrays = draw_crossing_tensors(n_tiles)
    found = embed_stored_features(arrays)
    assert found.dtype == np.float64
    assert found == pytest.approx(average_channels(arrays).numpy(), abs=1e-6)


def test_features_without_place_are_taken_as_they_are() -> None:
    flat = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(average_channels([flat]).numpy(), flat)

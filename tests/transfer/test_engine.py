"""The trunk on ONNX Runtime: TensorFlow's numbers but for rounding, its preprocessing bit for bit, its graph stored."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.errors import SettingsError, StoreError
from sem_search.files import seal
from sem_search.transfer import engine
from sem_search.transfer.backbones import BACKBONES, get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.engine import (
    EngineError,
    OnnxFunction,
    check_engine,
    clear_graphs,
    convert_function,
    get_graph,
    get_graph_file,
)
from sem_search.transfer.trunk import Computation, compile_trunk, set_computation

TOLERANCE = 1e-5
"""Of the largest value of an output: both engines round, each in sums of its own order."""

ON_ONNXRUNTIME = Computation(engine="onnxruntime", precision="float32")


def draw_tiles(n: int, *, size_px: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, size_px, size_px), dtype=np.float32)


def build(name: str, *, tile_px: int) -> CutNetwork:
    keras.utils.set_random_seed(3)
    return cut_network(get_backbone(name).build(tile_px=tile_px))


def compile_both(cut: CutNetwork, *, name: str, batch_size: int) -> list[Callable[[np.ndarray], list[Any]]]:
    """Return the trunk on TensorFlow, and on ONNX Runtime."""
    other = set_computation(cut, computation=ON_ONNXRUNTIME)
    assert other.trunk is cut.trunk
    return [compile_trunk(one, backbone=get_backbone(name), batch_size=batch_size) for one in (cut, other)]


def check_close(found: list[np.ndarray], wanted: list[Any]) -> None:
    for value, other in zip(found, map(np.asarray, wanted), strict=True):
        assert (value.shape, value.dtype) == (other.shape, np.float32)
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(value, other, rtol=0, atol=TOLERANCE * np.abs(other).max())


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2"])
def test_a_trunk_gives_tensorflow_s_numbers(name: str) -> None:
    """Here of two; `test_served_graphs` converts the trunk of every backbone, and compares it in the same way."""
    tensorflow, onnxruntime = compile_both(build(name, tile_px=32), name=name, batch_size=2)
    tiles = draw_tiles(2, size_px=32)
    check_close(onnxruntime(tiles), tensorflow(tiles))


@pytest.mark.parametrize(
    "outputs",
    [np.full((2, 2, 2), 2.001), np.full((2, 2, 2), np.nan), np.full((2, 2, 2, 1), 2.0), np.full((1, 2, 2), 2.0)],
)
def test_a_graph_that_gives_other_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: np.ndarray
) -> None:
    monkeypatch.setattr(np.random, "default_rng", lambda _: SimpleNamespace(random=lambda size, dtype: np.ones(size)))
    file = get_graph_file(tmp_path, key="a")
    monkeypatch.setattr(engine, "OnnxFunction", lambda *_, **__: lambda *_, **__: [outputs])
    with pytest.raises(EngineError, match=r"gives other numbers on ONNX Runtime .* Give engine=tensorflow"):
        get_graph(file, convert=convert_double)
    assert not file.exists()
    monkeypatch.setattr(engine, "OnnxFunction", lambda *_, **__: lambda *_, **__: [np.full((2, 2, 2), 2 + 1e-6)])
    get_graph(file, convert=convert_double)
    assert file.exists()


@pytest.mark.parametrize("name", BACKBONES)
def test_preprocessing_is_the_same_bit_for_bit(name: str) -> None:
    backbone = get_backbone(name)

    def preprocess(tiles: Any) -> dict[str, Any]:
        return {"picture": backbone.preprocess(tiles)}

    run = OnnxFunction(convert_function(preprocess, inputs={"tiles": (5, 5)}), n_threads=1)
    tiles = np.concatenate([draw_tiles(3, size_px=5), np.zeros((1, 5, 5)), np.ones((1, 5, 5))]).astype(np.float32)
    np.testing.assert_array_equal(run(tiles)[0], np.asarray(tf.function(preprocess)(tiles)["picture"]))


def test_what_onnx_does_not_have_is_written_in_what_it_has() -> None:
    """ConvNeXt's activation and grouped convolution, and the constants of its normalisation."""
    picture = keras.Input((8, 8, 4))
    normal = keras.layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])(picture)
    grouped = keras.layers.Conv2D(4, 3, groups=4)(normal)
    network = keras.Model(picture, [keras.layers.Activation("gelu")(grouped * 3), normal])

    def run(tiles: Any) -> dict[str, Any]:
        return dict(zip("ab", network(tf.repeat(tiles[..., None], 4, axis=-1)), strict=True))

    converted = OnnxFunction(convert_function(run, inputs={"tiles": (8, 8)}), n_threads=1)
    tiles = draw_tiles(3, size_px=8)
    wanted = tf.function(run)(tiles)
    check_close(converted(tiles, outputs=["b", "a"]), [wanted["b"], wanted["a"]])
    assert not tf.config.functions_run_eagerly()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("n_tiles", [1, 3, 16])
def test_one_graph_takes_any_number_of_tiles(n_tiles: int) -> None:
    tensorflow, onnxruntime = compile_both(build("tiny", tile_px=32), name="tiny", batch_size=n_tiles)
    tiles = draw_tiles(n_tiles, size_px=32)
    check_close(onnxruntime(tiles), tensorflow(tiles))


def test_same_tiles_same_bits_and_the_graph_is_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, tiles = build("tiny", tile_px=48), draw_tiles(4, size_px=48)
    _, first = compile_both(cut, name="tiny", batch_size=4)
    monkeypatch.setattr("sem_search.transfer.trunk.convert_function", lambda *_, **__: pytest.fail("it was stored"))
    _, again = compile_both(cut, name="tiny", batch_size=4)
    np.testing.assert_array_equal(first(tiles)[0], again(tiles)[0])
    np.testing.assert_array_equal(first(tiles)[0], first(tiles)[0])
    assert list(cache.glob("graphs/*"))


@pytest.mark.usefixtures("cache")
def test_other_weights_are_another_graph() -> None:
    cut, tiles = build("tiny", tile_px=32), draw_tiles(1, size_px=32)
    _, before = compile_both(cut, name="tiny", batch_size=1)
    cut.trunk.set_weights([2 * weight for weight in cut.trunk.get_weights()])
    tensorflow, after = compile_both(cut, name="tiny", batch_size=1)
    check_close(after(tiles), tensorflow(tiles))
    assert not np.allclose(before(tiles)[0], after(tiles)[0])


@pytest.mark.parametrize("damage", [b"", b"x", seal(b"graph")[:-1] + b"x"])
def test_a_damaged_graph_is_converted_again(tmp_path: Path, damage: bytes) -> None:
    file = get_graph_file(tmp_path, key="a")
    get_graph(file, convert=convert_double)
    whole = file.read_bytes()
    file.write_bytes(damage)
    run = OnnxFunction(get_graph(file, convert=convert_double), n_threads=1)
    np.testing.assert_array_equal(run(np.ones((1, 2, 2), dtype=np.float32))[0], np.full((1, 2, 2), 2))
    assert len(file.read_bytes()) == len(whole)


def convert_double() -> bytes:
    return convert_function(lambda tiles: {"doubled": 2 * tiles}, inputs={"tiles": (2, 2)})


def test_a_graph_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "graphs").write_text("in the way")
    with pytest.raises(StoreError, match=r"could not be written: .* set SEM_SEARCH_CACHE"):
        get_graph(get_graph_file(tmp_path, key="a"), convert=lambda: b"")


def test_graphs_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    assert clear_graphs(tmp_path) == 0
    for key in "ab":
        get_graph(get_graph_file(tmp_path, key=key), convert=convert_double)
    (tmp_path / "graphs" / "notes.txt").touch()
    assert clear_graphs(tmp_path) == 2
    assert [file.name for file in (tmp_path / "graphs").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_are_those_of_the_search(monkeypatch: pytest.MonkeyPatch, n_threads: int) -> None:
    import onnxruntime

    seen = []
    real = onnxruntime.InferenceSession

    def open_session(graph: bytes, *, sess_options: Any, **options: Any) -> Any:
        seen.append((sess_options.intra_op_num_threads, sess_options.inter_op_num_threads))
        return real(graph, sess_options=sess_options, **options)

    graph = convert_double()
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    OnnxFunction(graph, n_threads=n_threads)
    assert seen == [(n_threads, 1)]


@pytest.mark.parametrize(
    ("missing", "words"), [(["onnxruntime"], "onnxruntime"), (["onnx", "tf2onnx"], "onnx and tf2onnx")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], words: str
) -> None:
    hide_packages(monkeypatch, missing)
    message = f"ONNX Runtime needs {words}, not installed here: .* or give engine=tensorflow"
    with pytest.raises(SettingsError, match=message):
        check_engine("onnxruntime")
    with pytest.raises(SettingsError, match=message):
        get_graph(tmp_path / "graph", convert=convert_double)
    check_engine("tensorflow")


def hide_packages(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    def find(name: str) -> str:
        if name in missing:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(engine, "version", find)

"""bfloat16 trunks: the same weights, nearly the same features; engine and precision chosen once, where they pay."""

from pathlib import Path

import keras
import numpy as np
import pytest

from sem_search.errors import StoreError
from sem_search.transfer import engine, trunk
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.engine import EngineError
from sem_search.transfer.trunk import (
    Computation,
    choose_computation,
    compile_trunk,
    get_precision,
    has_graphics_card,
    list_computations,
    may_have_bfloat16,
    set_computation,
)
from sem_search.transfer.weights.files import compute_weights_digest

TINY = get_backbone("tiny")
EXACT = Computation(engine="tensorflow", precision="float32")
ONNX = Computation(engine="onnxruntime", precision="float32")
ROUNDED = Computation(engine="tensorflow", precision="bfloat16")


@pytest.fixture(scope="module")
def cut() -> CutNetwork:
    keras.utils.set_random_seed(3)
    return cut_network(TINY.build(tile_px=32))


def compute(network: CutNetwork, backbone: object = TINY) -> list[np.ndarray]:
    size_px = network.trunk.inputs[0].shape[1]
    tiles = np.random.default_rng(0).random((4, size_px, size_px), dtype=np.float32)
    return [np.asarray(output) for output in compile_trunk(network, backbone=backbone, batch_size=4)(tiles)]


def test_float32_is_the_very_network(cut: CutNetwork) -> None:
    assert set_computation(cut, computation=EXACT).trunk is cut.trunk
    assert get_precision(cut.trunk) == "float32"


@pytest.mark.parametrize("name", ["tiny", "vgg16", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"])
def test_bfloat16_rounds_and_nothing_else(name: str) -> None:
    keras.utils.set_random_seed(3)
    backbone = get_backbone(name)
    plain = cut_network(backbone.build(tile_px=64))
    rounded = set_computation(plain, computation=ROUNDED)
    assert get_precision(rounded.trunk) == "bfloat16"
    assert compute_weights_digest(rounded.trunk) == compute_weights_digest(plain.trunk)
    for exact, near in zip(compute(plain, backbone), compute(rounded, backbone), strict=True):
        assert near.dtype == np.float32
        error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
        assert 0 < error < 0.05


def test_a_saved_trunk_keeps_its_precision(cut: CutNetwork, tmp_path: Path) -> None:
    rounded = set_computation(cut, computation=ROUNDED)
    rounded.trunk.save(tmp_path / "trunk.keras")
    loaded = keras.saving.load_model(tmp_path / "trunk.keras", compile=False, safe_mode=True)
    assert get_precision(loaded) == "bfloat16"
    reloaded = CutNetwork(trunk=loaded, tail=cut.tail, convolution=cut.convolution)
    for before, after in zip(compute(rounded), compute(reloaded), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.fixture
def has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16 products, and ONNX Runtime installed."""
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: True)
    monkeypatch.setattr(trunk, "has_graphics_card", lambda: False)


@pytest.mark.usefixtures("has_everything")
@pytest.mark.parametrize(
    ("asked", "seconds", "chosen"),
    [
        ({}, {EXACT: 2.0, ONNX: 1.0, ROUNDED: 1.0}, ONNX),
        ({}, {EXACT: 2.0, ONNX: 1.25, ROUNDED: 1.0}, ROUNDED),
        ({}, {EXACT: 2.0, ONNX: 1.24, ROUNDED: 1.0}, ONNX),
        ({}, {EXACT: 1.0, ONNX: 1.1, ROUNDED: 0.9}, EXACT),
        ({}, {EXACT: 1.0, ONNX: 1.0, ROUNDED: 1.0}, EXACT),
        ({}, {EXACT: 1.0, ONNX: 2.0, ROUNDED: 0.5}, ROUNDED),
        ({"engine": "tensorflow"}, {EXACT: 2.0, ROUNDED: 1.0}, ROUNDED),
        ({"engine": "tensorflow"}, {EXACT: 1.1, ROUNDED: 1.0}, EXACT),
        ({"engine": "tensorflow"}, {EXACT: 0.4, ROUNDED: 1.0}, EXACT),
        ({"precision": "float32"}, {EXACT: 2.0, ONNX: 1.9}, ONNX),
    ],
)
def test_the_faster_one_is_chosen_once_and_stored(
    cut: CutNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, str],
    seconds: dict[Computation, float],
    chosen: Computation,
) -> None:
    now = [0.0]
    n_runs = [0]

    def compile_slowly(network: CutNetwork, **_options: object) -> object:
        spent = seconds[Computation(engine=network.engine, precision=get_precision(network.trunk))]

        def run(_tiles: np.ndarray) -> list[object]:
            n_runs[0] += 1
            now[0] += spent
            return []

        return run

    monkeypatch.setattr(trunk, "compile_trunk", compile_slowly)
    monkeypatch.setattr(trunk.time, "perf_counter", lambda: now[0])
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, **asked) == chosen
    assert n_runs == [len(seconds) * (trunk.N_TIMES + 1)]
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, **asked) == chosen
    assert n_runs == [len(seconds) * (trunk.N_TIMES + 1)], "the second call measures nothing"


@pytest.mark.usefixtures("cache")
def test_slow_moments_of_the_machine_decide_nothing(cut: CutNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"tensorflow": iter([0.1, 1.0, 1.0, 1.0]), "onnxruntime": iter([9.0, 9.0, 9.0, 0.9])}
    now = [0.0]

    def compile_slowly(network: CutNetwork, **_options: object) -> object:
        def run(_tiles: np.ndarray) -> list[object]:
            now[0] += next(spent[network.engine])
            return []

        return run

    monkeypatch.setattr(trunk, "compile_trunk", compile_slowly)
    monkeypatch.setattr(trunk.time, "perf_counter", lambda: now[0])
    times_s = trunk._measure(cut, backbone=TINY, candidates=[EXACT, ONNX])
    assert times_s == {EXACT: pytest.approx(1.0), ONNX: pytest.approx(0.9)}, "nor does the first call, which compiles"


@pytest.mark.usefixtures("has_everything")
@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"engine": "onnxruntime"}, ONNX),
        ({"engine": "onnxruntime", "precision": "float32"}, ONNX),
        ({"precision": "bfloat16"}, ROUNDED),
        ({"engine": "tensorflow", "precision": "float32"}, EXACT),
    ],
)
def test_what_settings_decide_is_not_measured(
    cut: CutNetwork, tmp_path: Path, asked: dict[str, str], left: Computation
) -> None:
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, **asked) == left
    assert list(tmp_path.iterdir()) == []


def test_no_computation_is_left_where_settings_contradict_each_other() -> None:
    assert list_computations(engine="onnxruntime", precision="bfloat16") == []
    assert list_computations(engine="auto", precision="auto") == [EXACT, ONNX, ROUNDED]


@pytest.mark.usefixtures("cache")
def test_each_computation_is_measured_as_it_will_run(cut: CutNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = trunk._measure(cut, backbone=TINY, candidates=[EXACT, ONNX, ROUNDED])
    assert list(times_s) == [EXACT, ONNX, ROUNDED]
    assert min(times_s.values()) > 0
    for one in times_s:
        chosen = set_computation(cut, computation=one)
        assert (chosen.engine, get_precision(chosen.trunk)) == (one.engine, one.precision)


def have_graphics_card(kind: str | None = None) -> list[object]:
    return [type("Device", (), {"name": "GPU:0"})] if kind in (None, "GPU") else []


def test_beside_a_graphics_card_auto_stays_with_tensorflow(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_graphics_card()
    monkeypatch.setattr(trunk.tf.config, "list_physical_devices", have_graphics_card)
    assert has_graphics_card()
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, precision="float32") == EXACT
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine="onnxruntime") == ONNX
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", ["auto", "onnxruntime"])
def test_where_onnxruntime_is_not_installed_it_is_no_candidate_in_silence(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: False)
    monkeypatch.setattr(engine, "read_versions", lambda: {"onnxruntime": None, "tf2onnx": "1"})
    with pytest.raises(EngineError, match="ONNX Runtime needs onnxruntime, not installed here"):
        choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine=asked)
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine="tensorflow") == EXACT


@pytest.mark.parametrize(
    ("flags", "expected"), [("fma avx512f avx512_bf16", True), ("fma avx512f", False), ("asimd bf16", True)]
)
def test_linux_tells_whether_there_is_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"model name : x\nflags : {flags}\n")
    monkeypatch.setattr(trunk, "CPU_FACTS", facts)
    monkeypatch.setattr(trunk.tf.config, "list_physical_devices", lambda _kind=None: [])
    assert may_have_bfloat16() is expected


def test_without_bfloat16_nothing_is_measured(cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: False)
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine="tensorflow") == EXACT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\x80\x04cos\nsystem\n", b'{"a": 1}'])
def test_a_damaged_choice_is_measured_again(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: True)
    monkeypatch.setattr(trunk, "_measure", lambda *_, **__: {EXACT: 1.0, ROUNDED: 1.0})
    (tmp_path / "computation.json").write_bytes(damage)
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine="tensorflow") == EXACT
    monkeypatch.setattr(trunk, "_measure", lambda *_, **__: pytest.fail("the choice was stored"))
    assert choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine="tensorflow") == EXACT


def test_a_choice_that_cannot_be_written_leaves_the_old_ones(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: True)
    monkeypatch.setattr(trunk, "_measure", lambda *_, **__: {EXACT: 1.0, ROUNDED: 1.0})
    (tmp_path / "computation.json").write_text('{"another machine": "engine=tensorflow precision=bfloat16"}')

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(
        StoreError, match=r"could not be written: No space left on device\. Free the disk, or set SEM_SEARCH_CACHE"
    ):
        choose_computation(cut, backbone=TINY, cache_folder=tmp_path, engine="tensorflow")
    assert (tmp_path / "computation.json").read_text() == '{"another machine": "engine=tensorflow precision=bfloat16"}'
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".lock"}

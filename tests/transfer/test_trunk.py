"""bfloat16 trunks: the same weights, nearly the same features, float32 outside; chosen once, and only where it pays."""

from pathlib import Path

import keras
import numpy as np
import pytest

from sem_search.errors import StoreError
from sem_search.transfer import trunk
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.trunk import choose_precision, compile_trunk, get_precision, may_have_bfloat16, set_precision
from sem_search.transfer.weights.files import compute_weights_digest

TINY = get_backbone("tiny")


@pytest.fixture(scope="module")
def cut() -> CutNetwork:
    keras.utils.set_random_seed(3)
    return cut_network(TINY.build(tile_px=32))


def compute(network: CutNetwork, backbone: object = TINY) -> list[np.ndarray]:
    size_px = network.trunk.inputs[0].shape[1]
    tiles = np.random.default_rng(0).random((4, size_px, size_px), dtype=np.float32)
    return [np.asarray(output) for output in compile_trunk(network.trunk, backbone=backbone, batch_size=4)(tiles)]


def test_float32_is_the_very_network(cut: CutNetwork) -> None:
    assert set_precision(cut, precision="float32") is cut
    assert get_precision(cut.trunk) == "float32"


@pytest.mark.parametrize("name", ["tiny", "vgg16", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"])
def test_bfloat16_rounds_and_nothing_else(name: str) -> None:
    keras.utils.set_random_seed(3)
    backbone = get_backbone(name)
    plain = cut_network(backbone.build(tile_px=64))
    rounded = set_precision(plain, precision="bfloat16")
    assert get_precision(rounded.trunk) == "bfloat16"
    assert compute_weights_digest(rounded.trunk) == compute_weights_digest(plain.trunk)
    for exact, near in zip(compute(plain, backbone), compute(rounded, backbone), strict=True):
        assert near.dtype == np.float32
        error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
        assert 0 < error < 0.05


def test_a_saved_trunk_keeps_its_precision(cut: CutNetwork, tmp_path: Path) -> None:
    rounded = set_precision(cut, precision="bfloat16")
    rounded.trunk.save(tmp_path / "trunk.keras")
    loaded = keras.saving.load_model(tmp_path / "trunk.keras", compile=False, safe_mode=True)
    assert get_precision(loaded) == "bfloat16"
    reloaded = CutNetwork(trunk=loaded, tail=cut.tail, convolution=cut.convolution)
    for before, after in zip(compute(rounded), compute(reloaded), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("gain", "chosen"), [(2.0, "bfloat16"), (1.1, "float32"), (0.4, "float32")])
def test_the_faster_one_is_chosen_once_and_stored(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, chosen: str
) -> None:
    clock = iter(range(10_000))
    spent = {"float32": gain, "bfloat16": 1.0}
    now = [0.0]

    def compile_slowly(trunk: keras.Model, **_options: object) -> object:
        seconds = spent[get_precision(trunk)]

        def run(_tiles: np.ndarray) -> list[object]:
            next(clock)
            now[0] += seconds
            return []

        return run

    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: True)
    monkeypatch.setattr(trunk, "compile_trunk", compile_slowly)
    monkeypatch.setattr(trunk.time, "perf_counter", lambda: now[0])
    assert choose_precision(cut, backbone=TINY, cache_folder=tmp_path) == chosen
    n_runs = next(clock)
    assert choose_precision(cut, backbone=TINY, cache_folder=tmp_path) == chosen
    assert next(clock) == n_runs + 1, "the second call measures nothing"


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
    assert choose_precision(cut, backbone=TINY, cache_folder=tmp_path) == "float32"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\x80\x04cos\nsystem\n", b'{"a": 1}'])
def test_a_damaged_choice_is_measured_again(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: True)
    monkeypatch.setattr(trunk, "_measure", lambda *_, **__: "float32")
    (tmp_path / "precision.json").write_bytes(damage)
    assert choose_precision(cut, backbone=TINY, cache_folder=tmp_path) == "float32"
    monkeypatch.setattr(trunk, "_measure", lambda *_, **__: pytest.fail("the choice was stored"))
    assert choose_precision(cut, backbone=TINY, cache_folder=tmp_path) == "float32"


def test_a_choice_that_cannot_be_written_leaves_the_old_ones(
    cut: CutNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: True)
    monkeypatch.setattr(trunk, "_measure", lambda *_, **__: "float32")
    (tmp_path / "precision.json").write_text('{"another machine": "bfloat16"}')

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(
        StoreError, match=r"could not be written: No space left on device\. Free the disk, or set SEM_SEARCH_CACHE"
    ):
        choose_precision(cut, backbone=TINY, cache_folder=tmp_path)
    assert (tmp_path / "precision.json").read_text() == '{"another machine": "bfloat16"}'
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".lock"}

"""The trunk at work: preprocessing and network as one compiled function, its engine, and its precision.

The trunk takes most of the time before training on a large set, and most of the time of a served image. On a processor,
ONNX Runtime mostly computes it faster than TensorFlow. With bfloat16 (8 bits of mantissa, sums in float32), TensorFlow
may be faster still where the processor has AMX or AVX-512 BF16; any other emulates it, and is slower. So the ways that
a machine has are timed once, and the choice is stored in the cache. Weights stay in float32, and so does everything
after the trunk. What is served computes in float32 on ONNX Runtime (`transfer/served_graphs.py`).
Source: Kalamkar et al., "A study of bfloat16 for deep learning training", arXiv:1905.12322 (2019).
"""

import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock

from sem_search.files import write_atomically
from sem_search.micrographs.tiles import FloatTiles
from sem_search.places import get_cache_folder, make_cache_folder
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork
from sem_search.transfer.engine import (
    Engine,
    OnnxFunction,
    check_engine,
    convert_function,
    get_graph,
    get_graph_file,
    read_versions,
)
from sem_search.transfer.weights.files import compute_weights_digest

Precision = Literal["float32", "bfloat16"]

POLICIES: Mapping[Precision, str] = MappingProxyType({"float32": "float32", "bfloat16": "mixed_bfloat16"})
"""Keras' names; the mixed policy keeps weights in float32."""

MIN_GAIN = 1.25
"""By how much bfloat16 must be faster to be chosen: rounding is not taken on for less, nor by a slow moment. Between
engines that compute in float32, the faster one is chosen."""

N_TIMED_TILES = 4
N_TIMES = 3

CHOICES_FILE = "computation.json"
CPU_FACTS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls a processor's bfloat16 products, on x86 and on ARM."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Computation:
    """How a trunk is computed."""

    engine: Engine
    precision: Precision

    def __str__(self) -> str:
        return f"engine={self.engine} precision={self.precision}"


COMPUTATIONS = (
    Computation(engine="tensorflow", precision="float32"),
    Computation(engine="onnxruntime", precision="float32"),
    Computation(engine="tensorflow", precision="bfloat16"),
)


def list_computations(*, engine: Engine | Literal["auto"], precision: Precision | Literal["auto"]) -> list[Computation]:
    """Return the computations that settings leave open, wherever they run; with `auto`, any."""
    return [one for one in COMPUTATIONS if engine in ("auto", one.engine) and precision in ("auto", one.precision)]


def compile_trunk(cut: CutNetwork, *, backbone: Backbone, batch_size: int) -> Callable[[FloatTiles], list[Any]]:
    """Return preprocessing and trunk as one compiled function of the network's engine.

    Args:
        cut: From `cut_network`.
        backbone: The network it is the trunk of.
        batch_size: The only number of tiles the function takes, so that it is never compiled again.

    Returns:
        From grey tiles in [0, 1], shape (batch_size, size_px, size_px), float32, to the list of crossing tensors.

    Raises:
        EngineError: The engine is not installed, or cannot compute the network.
        StoreError: ONNX Runtime's graph cannot be written to the cache.
    """
    if cut.engine == "onnxruntime":
        n_threads = tf.config.threading.get_intra_op_parallelism_threads()
        return OnnxFunction(get_trunk_graph(cut.trunk, backbone=backbone), n_threads=n_threads)
    size_px = cut.trunk.inputs[0].shape[1]

    def run(tiles: Any) -> list[Any]:
        return list(keras.tree.flatten(cut.trunk(backbone.preprocess(tiles), training=False)))

    compiled: Callable[[FloatTiles], list[Any]] = tf.function(
        run, input_signature=[tf.TensorSpec((batch_size, size_px, size_px), tf.float32)]
    )
    return compiled


def name_crossing(index: int) -> str:
    """Return what graphs call a crossing tensor."""
    return f"crossing_{index}"


def get_trunk_graph(trunk: keras.Model, *, backbone: Backbone) -> bytes:
    """Return preprocessing and trunk as an ONNX graph that computes in float32; converted once, then from the cache.

    Its input `tiles` are grey tiles in [0, 1], shape (n, size_px, size_px); its outputs `crossing_0` ... are the
    crossing tensors.

    Raises:
        EngineError: ONNX Runtime is not installed, or cannot compute the network.
        StoreError: The graph cannot be written to the cache.
    """
    file = get_graph_file(make_cache_folder(get_cache_folder()), key=_name_graph(trunk, backbone=backbone))
    return get_graph(file, convert=lambda: _convert_trunk(_copy_trunk(trunk, precision="float32"), backbone=backbone))


def _convert_trunk(trunk: keras.Model, *, backbone: Backbone) -> bytes:
    size_px = trunk.inputs[0].shape[1]

    def run(tiles: Any) -> dict[str, Any]:
        tensors = keras.tree.flatten(trunk(backbone.preprocess(tiles), training=False))
        return {name_crossing(index): tensor for index, tensor in enumerate(tensors)}

    return convert_function(run, inputs={"tiles": (size_px, size_px)})


def _name_graph(trunk: keras.Model, *, backbone: Backbone) -> str:
    """Return what a converted graph depends on, hashed."""
    shapes = [list(tensor.shape[1:]) for tensor in (*trunk.inputs, *trunk.outputs)]
    facts = [name_crossing(0), backbone.name, shapes, compute_weights_digest(trunk), keras.__version__, read_versions()]
    return _hash(facts)


def get_precision(trunk: keras.Model) -> Precision:
    """Return in which precision a trunk computes."""
    policies = {layer.dtype_policy.name for layer in trunk.layers if layer.weights}
    return "bfloat16" if POLICIES["bfloat16"] in policies else "float32"


def _copy_trunk(trunk: keras.Model, *, precision: Precision) -> keras.Model:
    """Return a trunk that computes in this precision: the very same where it does already."""
    if get_precision(trunk) == precision:
        return trunk
    policy = POLICIES[precision]

    def copy_layer(layer: Any) -> Any:
        """Give a layer the policy; a plain operation, as the sum of two tensors, has none."""
        dtype = {"dtype": policy} if isinstance(layer, keras.Layer) else {}
        return type(layer).from_config({**layer.get_config(), **dtype})

    copy = keras.models.clone_model(trunk, clone_function=copy_layer)
    outputs = [keras.layers.Identity(dtype="float32")(tensor) for tensor in copy.outputs]
    copied = keras.Model(copy.inputs, outputs, name=trunk.name)
    copied.set_weights(trunk.get_weights())
    copied.trainable = False
    return copied


def set_computation(cut: CutNetwork, *, computation: Computation) -> CutNetwork:
    """Return the network with a trunk of this precision, for this engine; its outputs are float32 either way.

    Args:
        cut: Where its trunk computes in the precision already, the very same trunk is in what is returned.
        computation: One of `COMPUTATIONS`.
    """
    trunk = _copy_trunk(cut.trunk, precision=computation.precision)
    return dataclasses.replace(cut, trunk=trunk, engine=computation.engine)


def choose_computation(
    cut: CutNetwork,
    *,
    backbone: Backbone,
    cache_folder: Path,
    engine: Engine | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
) -> Computation:
    """Return how this machine computes the trunk, measured at the first call where settings leave it open, and stored.

    ONNX Runtime is no candidate of `auto` beside a graphics card; bfloat16 is none where Linux says that the processor
    has no such products. Cost of the first call: some ten seconds, for converting the
    network and running it; nothing where there is one candidate.

    Args:
        cut: The network in float32.
        backbone: Prepares tiles.
        cache_folder: Where the choice is stored, in `computation.json`.
        engine: As the setting.
        precision: As the setting.

    Raises:
        EngineError: ONNX Runtime is a candidate, and is not installed or cannot compute the network.
        StoreError: The choice cannot be stored.
    """
    candidates = list_computations(engine=engine, precision=precision)
    if engine == "auto" and has_graphics_card():
        candidates = [one for one in candidates if one.engine == "tensorflow"]
    if precision == "auto" and not may_have_bfloat16():
        candidates = [one for one in candidates if one.precision == "float32"]
    if any(one.engine == "onnxruntime" for one in candidates):
        check_engine("onnxruntime")
    if len(candidates) == 1:
        return candidates[0]
    make_cache_folder(cache_folder)
    file = cache_folder / CHOICES_FILE
    key = _name_machine(cut, backbone=backbone, candidates=candidates)
    with FileLock(file.with_suffix(".lock")):
        choices, names = _read_choices(file), list(map(str, candidates))
        if choices.get(key) not in names:
            choices[key] = str(_choose(_measure(cut, backbone=backbone, candidates=candidates)))
            write_atomically(file, json.dumps(choices, indent=1).encode(), setting="SEM_SEARCH_CACHE")
        return candidates[names.index(choices[key])]


def _choose(times_s: Mapping[Computation, float]) -> Computation:
    """Return the fastest in float32; in its place bfloat16, where it gains enough."""
    best = min((one for one in times_s if one.precision == "float32"), key=lambda one: times_s[one])
    for one, time_s in times_s.items():
        if one.precision == "bfloat16" and times_s[best] / time_s >= MIN_GAIN:
            return one
    return best


def _read_choices(file: Path) -> dict[str, str]:
    """Return the stored choices; where the file is damaged there are none, and they are measured again."""
    try:
        choices = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return choices if isinstance(choices, dict) else {}


def may_have_bfloat16() -> bool:
    """Return whether the processor may have bfloat16 products: only Linux can say that it has none."""
    if not CPU_FACTS.exists():
        return True
    words = set(CPU_FACTS.read_text(encoding="utf-8", errors="replace").split())
    return bool(words & BFLOAT16_FLAGS) or has_graphics_card()


def has_graphics_card() -> bool:
    """Return whether TensorFlow finds a graphics card."""
    return bool(tf.config.list_physical_devices("GPU"))


def name_processor() -> str:
    """Return what the processor is called; its kind alone where the system does not tell."""
    names = [line.partition(":")[2].strip() for line in _read_model_lines()]
    return ", ".join(names) or platform.processor() or platform.machine()


def _read_model_lines() -> list[str]:
    """Return the lines in which Linux names this machine's processors, each once."""
    facts = CPU_FACTS.read_text(encoding="utf-8", errors="replace") if CPU_FACTS.exists() else ""
    return sorted({line for line in facts.splitlines() if line.startswith("model name")})


def _name_machine(cut: CutNetwork, *, backbone: Backbone, candidates: Sequence[Computation]) -> str:
    """Return what the choice depends on, hashed: candidates, processor, libraries, network and size of tiles."""
    devices = [device.name for device in tf.config.list_physical_devices()]
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    machine: list[Any] = [platform.processor(), _read_model_lines(), devices, threads, tf.__version__, read_versions()]
    return _hash([*machine, list(map(str, candidates)), backbone.name, list(cut.trunk.inputs[0].shape[1:])])


def _hash(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _measure(cut: CutNetwork, *, backbone: Backbone, candidates: Sequence[Computation]) -> dict[Computation, float]:
    """Return the least seconds of a batch by each candidate, timed in turns: other work beside it only adds to them."""
    size_px = cut.trunk.inputs[0].shape[1]
    tiles = np.random.default_rng(0).random((N_TIMED_TILES, size_px, size_px), dtype=np.float32)
    runs = {
        one: compile_trunk(set_computation(cut, computation=one), backbone=backbone, batch_size=N_TIMED_TILES)
        for one in candidates
    }
    times_s: dict[Computation, list[float]] = {one: [] for one in runs}
    for repeat in range(N_TIMES + 1):
        for one, run in runs.items():
            begun = time.perf_counter()
            [np.asarray(output) for output in run(tiles)]
            if repeat:  # the first call compiles
                times_s[one].append(time.perf_counter() - begun)
    return {one: min(times) for one, times in times_s.items()}

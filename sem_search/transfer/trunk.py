"""The trunk at work: preprocessing and network as one compiled function, and the precision that it computes in.

The trunk takes most of the time before training on a large set, and most of the time of a served image. With bfloat16
(8 bits of mantissa, sums in float32) a processor with AMX or AVX-512 BF16 computes it about twice as fast; any other
processor emulates it, and is slower. So both are timed once on each machine, and the choice is stored in the cache.
Weights stay in float32, and so does everything after the trunk. The trunk carries its precision into the registry:
what was measured is what is served.
Source: Kalamkar et al., "A study of bfloat16 for deep learning training", arXiv:1905.12322 (2019).
"""

import dataclasses
import hashlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock

from sem_search.files import write_atomically
from sem_search.micrographs.tiles import FloatTiles
from sem_search.places import make_cache_folder
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork

Precision = Literal["float32", "bfloat16"]

POLICIES: Mapping[Precision, str] = MappingProxyType({"float32": "float32", "bfloat16": "mixed_bfloat16"})
"""Keras' names; the mixed policy keeps weights in float32."""

MIN_GAIN = 1.25
"""By how much bfloat16 must be faster to be chosen: rounding is not taken on for less, nor by a slow moment."""

N_TIMED_TILES = 4
N_TIMES = 3

CHOICES_FILE = "precision.json"
CPU_FACTS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls a processor's bfloat16 products, on x86 and on ARM."""


def compile_trunk(trunk: keras.Model, *, backbone: Backbone, batch_size: int) -> Callable[[FloatTiles], list[Any]]:
    """Return preprocessing and trunk as one compiled function, the same for these features and for what is served.

    Args:
        trunk: From `cut_network`, or loaded from a file.
        backbone: The network it is the trunk of.
        batch_size: The only number of tiles the function takes, so that it is never compiled again.

    Returns:
        From grey tiles in [0, 1], shape (batch_size, size_px, size_px), float32, to the list of crossing tensors.
    """
    size_px = trunk.inputs[0].shape[1]

    def run(tiles: Any) -> list[Any]:
        """Return the crossing tensors of a batch of grey tiles."""
        return list(keras.tree.flatten(trunk(backbone.preprocess(tiles), training=False)))

    compiled: Callable[[FloatTiles], list[Any]] = tf.function(
        run, input_signature=[tf.TensorSpec((batch_size, size_px, size_px), tf.float32)]
    )
    return compiled


def get_precision(trunk: keras.Model) -> Precision:
    """Return in which precision a trunk computes."""
    policies = {layer.dtype_policy.name for layer in trunk.layers if layer.weights}
    return "bfloat16" if POLICIES["bfloat16"] in policies else "float32"


def set_precision(cut: CutNetwork, *, precision: Precision) -> CutNetwork:
    """Return the network with a trunk that computes in this precision; its outputs are float32 either way.

    Args:
        cut: As `cut_network` returns it: float32.
        precision: With `float32` the very same network is returned.
    """
    if precision == "float32":
        return cut
    policy = POLICIES[precision]

    def copy_layer(layer: Any) -> Any:
        """Give a layer the policy; a plain operation, as the sum of two tensors, has none."""
        dtype = {"dtype": policy} if isinstance(layer, keras.Layer) else {}
        return type(layer).from_config({**layer.get_config(), **dtype})

    copy = keras.models.clone_model(cut.trunk, clone_function=copy_layer)
    outputs = [keras.layers.Identity(dtype="float32")(tensor) for tensor in copy.outputs]
    trunk = keras.Model(copy.inputs, outputs, name=cut.trunk.name)
    trunk.set_weights(cut.trunk.get_weights())
    trunk.trainable = False
    return dataclasses.replace(cut, trunk=trunk)


def choose_precision(cut: CutNetwork, *, backbone: Backbone, cache_folder: Path) -> Precision:
    """Return the precision that this machine computes the trunk in, measured at the first call and stored.

    Cost of the first call: a few seconds, and nothing where Linux says that the processor has no bfloat16 products.

    Args:
        cut: The network in float32.
        backbone: Prepares tiles.
        cache_folder: Where the choice is stored, in `precision.json`.
    """
    if not may_have_bfloat16():
        return "float32"
    make_cache_folder(cache_folder)
    file, key = cache_folder / CHOICES_FILE, _name_machine(cut, backbone=backbone)
    with FileLock(file.with_suffix(".lock")):
        choices = _read_choices(file)
        if choices.get(key) not in POLICIES:
            choices[key] = _measure(cut, backbone=backbone)
            write_atomically(file, json.dumps(choices, indent=1).encode(), setting="SEM_SEARCH_CACHE")
        return choices[key]


def _read_choices(file: Path) -> dict[str, Precision]:
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
    return bool(words & BFLOAT16_FLAGS) or bool(tf.config.list_physical_devices("GPU"))


def name_processor() -> str:
    """Return what the processor is called; its kind alone where the system does not tell."""
    names = [line.partition(":")[2].strip() for line in _read_model_lines()]
    return ", ".join(names) or platform.processor() or platform.machine()


def _read_model_lines() -> list[str]:
    """Return the lines in which Linux names this machine's processors, each once."""
    facts = CPU_FACTS.read_text(encoding="utf-8", errors="replace") if CPU_FACTS.exists() else ""
    return sorted({line for line in facts.splitlines() if line.startswith("model name")})


def _name_machine(cut: CutNetwork, *, backbone: Backbone) -> str:
    """Return what the choice depends on, hashed: processor, TensorFlow, network and size of tiles."""
    devices = [device.name for device in tf.config.list_physical_devices()]
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    facts: list[Any] = [platform.processor(), _read_model_lines(), devices, threads, tf.__version__, backbone.name]
    return hashlib.sha256(json.dumps([*facts, list(cut.trunk.inputs[0].shape[1:])]).encode()).hexdigest()[:16]


def _measure(cut: CutNetwork, *, backbone: Backbone) -> Precision:
    """Time both precisions in turns, and return the one to take."""
    size_px = cut.trunk.inputs[0].shape[1]
    tiles = np.random.default_rng(0).random((N_TIMED_TILES, size_px, size_px), dtype=np.float32)
    runs = {
        name: compile_trunk(set_precision(cut, precision=name).trunk, backbone=backbone, batch_size=N_TIMED_TILES)
        for name in POLICIES
    }
    times_s: dict[Precision, list[float]] = {name: [] for name in runs}
    for repeat in range(N_TIMES + 1):
        for name, run in runs.items():
            begun = time.perf_counter()
            [output.numpy() for output in run(tiles)]
            if repeat:  # the first call compiles
                times_s[name].append(time.perf_counter() - begun)
    gain = statistics.median(times_s["float32"]) / statistics.median(times_s["bfloat16"])
    return "bfloat16" if gain >= MIN_GAIN else "float32"

"""ONNX Runtime as an engine: a function of TensorFlow in, the same function out, faster on a processor.

The trunk is only ever evaluated, and TensorFlow is not the fastest at that on a processor. So the function that
TensorFlow would compile, preprocessing included, is converted once into an ONNX graph, which is stored in the cache and
takes any number of tiles at once. Values differ from TensorFlow's by rounding alone. What is served is such graphs.
This module loads no library before it is asked to: what serves a model has no TensorFlow.
Source: onnx.ai; onnxruntime.ai.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import SettingsError
from sem_search.files import seal, unseal, write_atomically
from sem_search.transfer.runtime import drop_notes

Engine = Literal["tensorflow", "onnxruntime"]

PACKAGES = ("onnxruntime", "onnx", "tf2onnx")
"""What the engine needs: to compute, and to convert."""

GRAPHS_FOLDER = "graphs"
SUFFIX = ".onnx.sealed"
"""A graph below its hash, so that a damaged one is converted again instead of believed."""

FloatArray = NDArray[np.float32]
Shape = tuple[int, ...]

OPSET = 18
"""Version of ONNX' operations: the newest that tf2onnx 1.17 writes."""


N_CHECKED = 2
"""Tiles on which a new graph is compared with TensorFlow; with one, a wrong shape could hide."""

TOLERANCE = 1e-4
"""Of an output's largest value: far above rounding (4e-6 at most was seen), far below a fault of the conversion."""


class EngineError(SettingsError):
    """ONNX Runtime is not installed, or does not give TensorFlow's numbers; the message says what to do."""


def check_engine(engine: Engine) -> None:
    """Refuse an engine that is not installed.

    Raises:
        EngineError: Names the packages.
    """
    missing = [name for name, found in read_versions().items() if found is None]
    if engine == "onnxruntime" and missing:
        raise EngineError(
            f"ONNX Runtime needs {' and '.join(missing)}, not installed here: install sem-search's requirements again, "
            "or give engine=tensorflow, with which a study is another one."
        )


def read_versions() -> dict[str, str | None]:
    """Return the versions of the engine's packages, on which graphs and numbers depend; None for one not installed."""
    found: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def get_graph_file(cache_folder: Path, *, key: str) -> Path:
    """Return where the graph of this key is or will be."""
    return cache_folder / GRAPHS_FOLDER / f"{key}{SUFFIX}"


class OnnxFunction:
    """A graph that computes, for any number of tiles; safe to share between threads.

    The same bits for the same values, threads and number of tiles at once, on processors of one kind.

    Args:
        graph: As `convert_function` returns it.
        n_threads: Processor threads that one operation may use; 0: all.

    Attributes:
        inputs: Names of the inputs, in order.
    """

    def __init__(self, graph: bytes, *, n_threads: int = 0) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # its builds for Windows send some
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(entry.name for entry in self._session.get_inputs())

    def __call__(self, *arrays: FloatArray, outputs: Sequence[str] | None = None) -> list[FloatArray]:
        """Return the outputs of these names, by default all; only what they need is computed.

        Args:
            arrays: One for each input, in order, its first axis the tiles.
            outputs: Names of outputs.
        """
        values = [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]
        found: list[FloatArray] = self._session.run(outputs, dict(zip(self.inputs, values, strict=True)))
        return found


def get_graph(file: Path, *, convert: Callable[[], bytes]) -> bytes:
    """Return a stored graph, which is converted where its file is not there or is damaged.

    Args:
        file: Where the graph is or will be; named by all that the graph depends on.
        convert: Returns the graph; see `convert_function`.

    Raises:
        EngineError: ONNX Runtime is not installed.
        StoreError: The file cannot be written.
    """
    check_engine("onnxruntime")
    graph = unseal(file.read_bytes()) if file.exists() else None
    if graph is None:
        graph = convert()
        write_atomically(file, seal(graph), setting="SEM_SEARCH_CACHE")
    return graph


def convert_function(function: Callable[..., Mapping[str, Any]], *, inputs: Mapping[str, Shape]) -> bytes:
    """Return a function of TensorFlow as an ONNX graph that takes any number of tiles.

    Args:
        function: From tensors, one for each input, to tensors by the names that the graph's outputs get.
        inputs: Name -> shape of an input without its first axis, which is the tiles. Values are expected to be 0 or
            more.

    Raises:
        EngineError: The graph gives other numbers: ConvNeXt's does where its last maps are 1 x 1 px.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    signature = [tf.TensorSpec((None, *shape), tf.float32, name=name) for name, shape in inputs.items()]
    compiled = tf.function(function, input_signature=signature)
    tf.config.run_functions_eagerly(True)  # what Keras compiles by itself, as grouped convolutions, is traced through
    try:
        with drop_notes():
            model, _ = tf2onnx.convert.from_function(
                compiled, input_signature=signature, opset=OPSET, custom_op_handlers={"Erfc": (_convert_erfc, [])}
            )
    finally:
        tf.config.run_functions_eagerly(False)
    concrete = compiled.get_concrete_function()
    _fix_constants(model.graph, concrete=concrete, n_inputs=len(inputs), to_tensor=onnx.numpy_helper.from_array)
    graph = bytes(model.SerializeToString())
    _check_graph(graph, function=function, inputs=inputs)
    return graph


def _check_graph(graph: bytes, *, function: Callable[..., Mapping[str, Any]], inputs: Mapping[str, Shape]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random((N_CHECKED, *shape), dtype=np.float32) for shape in inputs.values()]
    wanted = {name: np.asarray(output) for name, output in function(*arrays).items()}
    for value, other in zip(
        OnnxFunction(graph, n_threads=1)(*arrays, outputs=list(wanted)), wanted.values(), strict=True
    ):
        if value.shape != other.shape or not _are_close(value, other):
            raise EngineError(
                "The network gives other numbers on ONNX Runtime than on TensorFlow. Give engine=tensorflow, or larger "
                "tiles: ConvNeXt with less than 64 px is the known case."
            )


def _are_close(value: FloatArray, other: FloatArray) -> bool:
    """Whether two arrays differ by rounding alone; a diverged head gives no number, with either engine at one place."""
    is_number = np.isfinite(other)
    if not np.array_equal(is_number, np.isfinite(value)):
        return False
    value, other = value[is_number], other[is_number]
    return not other.size or bool(np.abs(value - other).max() <= TOLERANCE * np.abs(other).max())


def _convert_erfc(graph: Any, node: Any, name: str, _: Any) -> Any:
    """Write 1 - erf(x) for erfc(x), which ONNX does not have; it is in ConvNeXt's activation."""
    erf = graph.make_node("Erf", node.input)
    one = graph.make_const(f"{name}_one", np.float32(1))
    graph.remove_node(name)
    return graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, name=name)


def _fix_constants(graph: Any, *, concrete: Any, n_inputs: int, to_tensor: Callable[..., Any]) -> None:
    """Give the graph the constants that the function has captured, which tf2onnx takes for inputs.

    EfficientNet and ConvNeXt have some, in their normalisation.
    """
    names = [tensor.name for tensor in concrete.inputs[n_inputs:]]
    captured = dict(zip(names, concrete.captured_inputs, strict=True))
    used = {name for node in graph.node for name in node.input}
    for entry in [entry for entry in graph.input if entry.name in captured]:
        graph.input.remove(entry)
        if entry.name in used:
            graph.initializer.append(to_tensor(captured[entry.name].numpy(), entry.name))


def clear_graphs(cache_folder: Path) -> int:
    """Remove the graphs of a cache folder, and return how many there were."""
    files = list((cache_folder / GRAPHS_FOLDER).glob(f"*{SUFFIX}"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)

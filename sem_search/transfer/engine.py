"""ONNX Runtime as the engine of the trunk: a compiled function in, the same function out, faster on a processor.

The trunk is only ever evaluated, and TensorFlow is not the fastest at that on a processor. So the function that
TensorFlow would compile, preprocessing included, is converted once into an ONNX graph, which is stored in the cache and
takes any number of tiles at once. Values differ from TensorFlow's by rounding alone.
This module loads no library before it is asked to: what serves a model imports it and has no ONNX Runtime.
Source: onnx.ai; onnxruntime.ai.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import SettingsError
from sem_search.files import seal, unseal, write_atomically
from sem_search.micrographs.tiles import FloatTiles
from sem_search.transfer.runtime import drop_notes

Engine = Literal["tensorflow", "onnxruntime"]

PACKAGES = ("onnxruntime", "onnx", "tf2onnx")
"""What the engine needs: to compute, and to convert."""

GRAPHS_FOLDER = "graphs"
SUFFIX = ".onnx.sealed"
"""A graph below its hash, so that a damaged one is converted again instead of believed."""

TILES = "tiles"
"""The one input of a graph."""

OPSET = 18
"""Version of ONNX' operations: the newest that tf2onnx 1.17 writes."""


def find_missing_packages() -> list[str]:
    """Return the packages of the engine that are not installed here."""
    return [name for name, found in read_versions().items() if found is None]


def check_engine(engine: Engine) -> None:
    """Refuse an engine that is not installed.

    Raises:
        SettingsError: Names the packages.
    """
    if engine == "onnxruntime" and (missing := find_missing_packages()):
        raise SettingsError(
            f"engine=onnxruntime needs {' and '.join(missing)}, not installed here: install sem-search's requirements "
            "again, or give engine=tensorflow, with which a study is another one."
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


def open_graph(
    file: Path, *, convert: Callable[[], bytes], n_threads: int
) -> Callable[[FloatTiles], list[NDArray[np.float32]]]:
    """Return the function of a graph, which is converted where its file is not there or is damaged.

    The same bits for the same tiles, threads and number of tiles at once, on processors of one kind.

    Args:
        file: Where the graph is or will be; named by all that the graph depends on.
        convert: Returns the graph; see `convert_function`.
        n_threads: Processor threads that one operation may use; 0: all.

    Returns:
        From grey tiles in [0, 1], shape (n, size_px, size_px), float32, to the list of outputs.

    Raises:
        SettingsError: ONNX Runtime is not installed.
        StoreError: The file cannot be written.
    """
    check_engine("onnxruntime")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # its builds for Windows send some
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _get_graph(file, convert=convert), sess_options=options, providers=["CPUExecutionProvider"]
    )

    def run(tiles: FloatTiles) -> list[NDArray[np.float32]]:
        """Return the graph's outputs for a batch of grey tiles."""
        outputs: list[NDArray[np.float32]] = session.run(None, {TILES: np.ascontiguousarray(tiles, dtype=np.float32)})
        return outputs

    return run


def _get_graph(file: Path, *, convert: Callable[[], bytes]) -> bytes:
    graph = unseal(file.read_bytes()) if file.exists() else None
    if graph is None:
        graph = convert()
        write_atomically(file, seal(graph), setting="SEM_SEARCH_CACHE")
    return graph


def convert_function(function: Callable[[Any], Sequence[Any]], *, size_px: int) -> bytes:
    """Return a function of TensorFlow as an ONNX graph that takes any number of tiles.

    Args:
        function: From a tensor of grey tiles, shape (n, size_px, size_px), to a list of tensors.
        size_px: Side of a tile in px.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    signature = [tf.TensorSpec((None, size_px, size_px), tf.float32, name=TILES)]
    compiled = tf.function(function, input_signature=signature)
    tf.config.run_functions_eagerly(True)  # what Keras compiles by itself, as grouped convolutions, is traced through
    try:
        with drop_notes():
            model, _ = tf2onnx.convert.from_function(
                compiled, input_signature=signature, opset=OPSET, custom_op_handlers={"Erfc": (_convert_erfc, [])}
            )
    finally:
        tf.config.run_functions_eagerly(False)
    _fix_constants(model.graph, concrete=compiled.get_concrete_function(), to_tensor=onnx.numpy_helper.from_array)
    return bytes(model.SerializeToString())


def _convert_erfc(graph: Any, node: Any, name: str, _: Any) -> Any:
    """Write 1 - erf(x) for erfc(x), which ONNX does not have; it is in ConvNeXt's activation."""
    erf = graph.make_node("Erf", node.input)
    one = graph.make_const(f"{name}_one", np.float32(1))
    graph.remove_node(name)
    return graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, name=name)


def _fix_constants(graph: Any, *, concrete: Any, to_tensor: Callable[..., Any]) -> None:
    """Give the graph the constants that the function has captured, which tf2onnx takes for inputs.

    EfficientNet and ConvNeXt have some, in their normalisation.
    """
    names = [tensor.name for tensor in concrete.inputs[1:]]  # behind the tiles
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

"""What is served of a network: two ONNX graphs, one of the trunk and one of all fold heads, which need no TensorFlow.

    trunk: `tiles`, grey levels in [0, 1], shape (n, size_px, size_px)  ->  `crossing_0` ..., the crossing tensors
    heads: the crossing tensors  ->  `logits`, shape (n_heads, n, n_classes)
                                     `heat`, shape (n_heads, n, n_classes, height, width)

`heat` is Grad-CAM in closed form. Behind the map that is explained come pooling, a hidden ReLU layer and the logits:
the gradient of a logit by the pooled map is W1 . (is_active * w2), for the class's column w2 of the last matrix.
Pooling hands all of it to the cells of the channel, so that its mean over the height x width cells is the gradient
divided by height x width. Both graphs compute in float32, also where a search computed its trunk in bfloat16.
Source: Selvaraju et al., ICCV 2017, equations 1 and 2, as in `gradcam`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import HIDDEN_LAYER, LOGITS_LAYER
from sem_search.transfer.engine import convert_function
from sem_search.transfer.gradcam import find_explained_map
from sem_search.transfer.graph import record_graph
from sem_search.transfer.trunk import get_trunk_graph, name_crossing

HeadWeights = Sequence[NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ServedGraphs:
    """A network as it is served, in ONNX."""

    trunk: bytes
    heads: bytes


def convert_network(
    trunk: keras.Model,
    *,
    head: keras.Model,
    head_weights: Sequence[HeadWeights],
    backbone: Backbone,
    convolution: str,
) -> ServedGraphs:
    """Return trunk and heads as graphs, held to TensorFlow's numbers.

    Cost: some seconds for the heads; as many for the trunk, once for a network.

    Args:
        trunk: As `cut_network` returns it, of any precision.
        head: The architecture that all heads share; its own weights are not used.
        head_weights: `head.get_weights()` of each fold.
        backbone: Turns grey tiles into the trunk's input.
        convolution: Name of the last convolution layer.

    Raises:
        EngineError: ONNX Runtime is not installed, or gives other numbers.
        StoreError: The trunk's graph cannot be written to the cache.
    """
    return ServedGraphs(
        trunk=get_trunk_graph(trunk, backbone=backbone),
        heads=_convert_heads(head, head_weights=head_weights, convolution=convolution),
    )


def convert_files(
    *, trunk_file: Path, head_json: str, head_weights: Sequence[HeadWeights], backbone: Backbone, convolution: str
) -> ServedGraphs:
    """Return the graphs of a model that was registered as files of Keras.

    Args:
        trunk_file: In Keras' format. It may describe layers, but bring no code.
        head_json: The architecture of the heads.
        head_weights: Of each head.
        backbone: As for `convert_network`.
        convolution: Name of the last convolution layer.

    Raises:
        ValueError: The weights do not fit the architecture.
        EngineError: ONNX Runtime is not installed, or gives other numbers.
    """
    return convert_network(
        keras.saving.load_model(trunk_file, compile=False, safe_mode=True),
        head=keras.models.model_from_json(head_json),
        head_weights=head_weights,
        backbone=backbone,
        convolution=convolution,
    )


def _convert_heads(head: keras.Model, *, head_weights: Sequence[HeadWeights], convolution: str) -> bytes:
    models = [_open_head(head, weights=weights, convolution=convolution) for weights in head_weights]

    def answer(*crossing: Any) -> dict[str, Any]:
        logits, heat = zip(*(_explain(model, crossing=crossing) for model in models), strict=True)
        return {"logits": tf.stack(logits), "heat": tf.stack(heat)}

    shapes = {name_crossing(index): tuple(tensor.shape[1:]) for index, tensor in enumerate(head.inputs)}
    return convert_function(answer, inputs=shapes)


def _open_head(head: keras.Model, *, weights: HeadWeights, convolution: str) -> keras.Model:
    """Return a head of these weights that gives the explained map, its hidden layer and its logits."""
    copy = keras.models.clone_model(head)
    copy.set_weights(list(weights))
    graph = record_graph(copy)
    hidden = graph.find_call(HIDDEN_LAYER).output
    return keras.Model(graph.inputs, [find_explained_map(graph, convolution), hidden, graph.outputs[0]])


def _explain(model: keras.Model, *, crossing: Sequence[Any]) -> tuple[Any, Any]:
    """Return the logits, shape (n, n_classes), and the heat of each class, (n, n_classes, height, width), of a head."""
    maps, hidden, logits = model(list(crossing), training=False)
    to_hidden, to_logits = model.get_layer(HIDDEN_LAYER).kernel, model.get_layer(LOGITS_LAYER).kernel
    is_active = tf.cast(hidden > 0, tf.float32)
    gradients = tf.einsum("nj,jc,kj->nck", is_active, to_logits, to_hidden)
    weights = gradients / float(maps.shape[1] * maps.shape[2])
    return logits, tf.nn.relu(tf.einsum("nck,nhwk->nchw", weights, maps))

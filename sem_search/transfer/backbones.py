"""The networks that can be transferred from, one row each.

A row says how Keras builds the network, what Keras does to a picture before it, and where its ImageNet weights are
published. Nothing about the cut stands here: `cut_network` finds it in the graph.
Source: keras.applications.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sem_search.errors import SettingsError
from sem_search.transfer.names import BACKBONE_NAMES, TINY

DEFAULT_TILE_PX = 224
WHITE = 255.0
"""Grey level of white as keras.applications counts."""

IMAGENET_STDDEV_RGB = (0.229, 0.224, 0.225)
BARE: dict[str, Any] = {"include_top": False, "weights": None}
"""How keras.applications builds a network without its classifier, and without any download."""

WEIGHTS_URL = "https://storage.googleapis.com/"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Where the ImageNet weights of a backbone, without its classifier, are published."""

    url: str
    digest: str | None
    """MD5 (32 digits) or SHA-256 (64 digits) in hexadecimal, as keras.applications states it; MobileNetV2 has none."""

    @property
    def file_name(self) -> str:
        """Name of the file in Keras' cache."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One network to transfer from."""

    name: str
    build_network: Callable[..., keras.Model]
    """Takes `input_shape`; returns the network without its classifier, weights not yet loaded."""
    preprocess_input: Callable[[Any], Any]
    """What keras.applications does to RGB pictures in [0, 255] before this network."""
    imagenet: PublishedWeights | None
    min_tile_px: int = 32

    def build(self, *, tile_px: int = DEFAULT_TILE_PX) -> keras.Model:
        """Return the network without its classifier, with the arbitrary weights of a fresh Keras model.

        Args:
            tile_px: Side of the square input, shape (n, tile_px, tile_px, 3).

        Raises:
            SettingsError: The network would shrink such tiles to nothing.
        """
        if tile_px < self.min_tile_px:
            raise SettingsError(
                f"tile_px={tile_px} is too small for backbone {self.name!r}: give at least {self.min_tile_px}."
            )
        return self.build_network(input_shape=(tile_px, tile_px, 3))

    def build_open(self) -> keras.Model:
        """Return the same network for pictures of any size."""
        return self.build_network(input_shape=(None, None, 3))

    def preprocess(self, tiles: NDArray[np.float32] | Any) -> Any:
        """Turn grey tiles into what the network takes, the same way before training and when serving.

        Args:
            tiles: Grey levels in [0, 1], shape (n, size_px, size_px); an array, or a tensor of a compiled function.

        Returns:
            Tensor of shape (n, size_px, size_px, 3): the grey level three times, scaled and centred as
            keras.applications does it for this network.
        """
        grey = keras.ops.expand_dims(keras.ops.convert_to_tensor(tiles, dtype="float32"), axis=-1)
        return self.preprocess_input(keras.ops.repeat(grey * WHITE, 3, axis=-1))


def get_backbone(name: str) -> Backbone:
    """Return the backbone of this name.

    Raises:
        SettingsError: There is none; the message lists the names.
    """
    if name not in BACKBONES:
        raise SettingsError(f"backbone={name!r} is not known; choose one of: {', '.join(BACKBONE_NAMES)}")
    return BACKBONES[name]


def _build_efficientnet_b0(*, input_shape: tuple[int | None, int | None, int]) -> keras.Model:
    """Build EfficientNetB0 as Keras does for ImageNet weights.

    Keras inserts a second scaling of the input only where `weights="imagenet"`; built without weights, the network is
    another one, and ImageNet weights loaded into it later would meet inputs four times too small in variance.
    """
    plain = keras.applications.EfficientNetB0(**BARE, input_shape=input_shape)
    scale = [1 / math.sqrt(stddev) for stddev in IMAGENET_STDDEV_RGB]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling(scale, name="imagenet_rescaling")(output)
        return output

    return keras.models.clone_model(plain, call_function=call)


def _build_tiny(*, input_shape: tuple[int | None, int | None, int]) -> keras.Model:
    """Build two convolutions, the first with steps of 4 px."""
    picture = keras.Input(input_shape)
    first = keras.layers.Conv2D(8, 5, strides=4, padding="same", activation="relu", name="conv_1")(picture)
    second = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="conv_2")(first)
    return keras.Model(picture, second, name=TINY)


_ROWS = (
    Backbone(
        name="vgg16",
        build_network=partial(keras.applications.VGG16, **BARE),
        preprocess_input=keras.applications.vgg16.preprocess_input,
        imagenet=PublishedWeights(
            url=f"{WEIGHTS_URL}tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            digest="6d6bbae143d832006294945121d1f1fc",
        ),
    ),
    Backbone(
        name="resnet50",
        build_network=partial(keras.applications.ResNet50, **BARE),
        preprocess_input=keras.applications.resnet50.preprocess_input,
        imagenet=PublishedWeights(
            url=f"{WEIGHTS_URL}tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            digest="4d473c1dd8becc155b73f8504c6f6626",
        ),
    ),
    Backbone(
        name="mobilenet_v2",
        build_network=partial(keras.applications.MobileNetV2, **BARE),
        preprocess_input=keras.applications.mobilenet_v2.preprocess_input,
        imagenet=PublishedWeights(
            url=(
                f"{WEIGHTS_URL}tensorflow/keras-applications/mobilenet_v2/"
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
            ),
            digest=None,
        ),
    ),
    Backbone(
        name="efficientnet_b0",
        build_network=_build_efficientnet_b0,
        preprocess_input=keras.applications.efficientnet.preprocess_input,
        imagenet=PublishedWeights(
            url=f"{WEIGHTS_URL}keras-applications/efficientnetb0_notop.h5",
            digest="50bc09e76180e00e4465e1a485ddc09d",
        ),
    ),
    Backbone(
        name="densenet121",
        build_network=partial(keras.applications.DenseNet121, **BARE),
        preprocess_input=keras.applications.densenet.preprocess_input,
        imagenet=PublishedWeights(
            url=(
                f"{WEIGHTS_URL}tensorflow/keras-applications/densenet/"
                "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"
            ),
            digest="30ee3e1110167f948a6b9946edeeb738",
        ),
    ),
    Backbone(
        name="convnext_tiny",
        build_network=partial(keras.applications.ConvNeXtTiny, **BARE),
        preprocess_input=keras.applications.convnext.preprocess_input,
        imagenet=PublishedWeights(
            url=f"{WEIGHTS_URL}tensorflow/keras-applications/convnext/convnext_tiny_notop.h5",
            digest="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
        min_tile_px=64,  # with less, its last maps are 1 x 1 px, and ONNX Runtime would give other numbers
    ),
    Backbone(
        name=TINY,
        build_network=_build_tiny,
        preprocess_input=lambda pictures: pictures / (WHITE / 2) - 1,
        imagenet=None,
        min_tile_px=16,
    ),
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType({row.name: row for row in _ROWS})
"""All backbones by name."""

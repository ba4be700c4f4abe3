"""The names of backbones and weights, in a file of their own so that checking them loads no TensorFlow."""

TINY = "tiny"
"""Two convolutions: no network for real work, but one that lets every test of the whole way end in seconds."""

BACKBONE_NAMES = (
    "vgg16",
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
    TINY,
)
"""All backbones that `get_backbone` knows."""

OFFERED_BACKBONES = tuple(name for name in BACKBONE_NAMES if name != TINY)
"""Those that users are told of."""

AUTO_WEIGHTS = "auto"
"""ImageNet weights where they can be had at once, else particle weights, else random ones; a warning names which."""

IMAGENET_WEIGHTS = "imagenet"
"""The ImageNet weights that keras.applications publishes."""

PARTICLES_WEIGHTS = "particles"
"""The weights that ship with this package, trained on rendered particles."""

RANDOM_WEIGHTS = "random"
"""He's random weights, scaled layer by layer."""

WEIGHTS_NAMES = (AUTO_WEIGHTS, IMAGENET_WEIGHTS, PARTICLES_WEIGHTS, RANDOM_WEIGHTS)
"""What `weights` may be besides the path of a file."""

PACKED_SUFFIX = ".npz"
"""End of what `scripts/pretrain --pack` writes."""

WEIGHTS_SUFFIXES = (".h5", ".keras", PACKED_SUFFIX)
"""Ends of the weights files that can be read; `.weights.h5` is one of the first kind."""

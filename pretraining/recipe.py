"""How each backbone's shipped weights were made: the recipes that `scripts/pretrain` follows.

What each costs on two cores of an Intel Xeon with AVX-512, and the F of a linear probe on unseen demonstration sets:

    vgg16         256,000 crops,  70 minutes on one of them   0.88
    resnet50      128,000 crops,  48 minutes after vgg16      0.88
    mobilenet_v2  128,000 crops,  28 minutes after vgg16      0.89

A third of VGG16's crops give 0.80 on the development seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pretraining.scans import ScanRecipe
from pretraining.training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe:
    """A twin, and what it sees."""

    scans: ScanRecipe
    twin: TrainingRecipe


_SCANS = ScanRecipe(n_scans=6000, n_renewed=200)
_TWIN = TrainingRecipe(divisor=2, crop_px=96, batch_size=32, n_rounds=20, n_steps=400)

_TAUGHT = replace(_TWIN, divisor=1, n_rounds=10, teacher="vgg16")

RECIPES: Mapping[str, PretrainingRecipe] = {
    "vgg16": PretrainingRecipe(scans=_SCANS, twin=replace(_TWIN, skipped=r"block[12]_conv2|block[345]_conv[23]")),
    # The last block stays: its convolution is the one that a search trains.
    "resnet50": PretrainingRecipe(
        scans=_SCANS, twin=replace(_TAUGHT, skipped=r"conv[234]_block[2-6]_add|conv5_block2_add")
    ),
    "mobilenet_v2": PretrainingRecipe(
        scans=_SCANS, twin=replace(_TAUGHT, skipped=r"block_(2|4|5|7|8|9|11|12|14|15)_add")
    ),
}


def shorten(recipe: PretrainingRecipe, *, share: float) -> PretrainingRecipe:
    """Return a recipe with this share of its rounds, at least one."""
    return replace(recipe, twin=replace(recipe.twin, n_rounds=max(1, round(share * recipe.twin.n_rounds))))

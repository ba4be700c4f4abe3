"""How each backbone's shipped weights were made: the recipes that `scripts/pretrain` follows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pretraining.scans import ScanRecipe
from pretraining.training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe:
    """Twins side by side, and what they see."""

    scans: ScanRecipe
    twin: TrainingRecipe
    """Of the first twin; the others differ in the seed alone."""
    n_twins: int = 1
    """At most as many as one is narrower; channels that none of them fills stay empty."""

    @property
    def twins(self) -> tuple[TrainingRecipe, ...]:
        """One recipe for each twin."""
        return tuple(replace(self.twin, seed=self.twin.seed + number) for number in range(self.n_twins))


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

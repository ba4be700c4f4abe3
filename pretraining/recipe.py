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
    """Of the first twin; the others differ in the seed alone. As many are trained as one is narrower."""

    @property
    def twins(self) -> tuple[TrainingRecipe, ...]:
        """One recipe for each twin."""
        return tuple(replace(self.twin, seed=self.twin.seed + number) for number in range(self.twin.divisor))


_SCANS = ScanRecipe()

RECIPES: Mapping[str, PretrainingRecipe] = {
    "vgg16": PretrainingRecipe(
        scans=_SCANS,
        twin=TrainingRecipe(
            divisor=4, skipped=r"block[12]_conv2|block[345]_conv3", crop_px=160, batch_size=32, n_rounds=10, n_steps=500
        ),
    ),
    "resnet50": PretrainingRecipe(
        scans=_SCANS,
        twin=TrainingRecipe(
            divisor=4, skipped=r"conv\d_block[2-6]_add", crop_px=160, batch_size=32, n_rounds=10, n_steps=500
        ),
    ),
    "mobilenet_v2": PretrainingRecipe(
        scans=_SCANS,
        twin=TrainingRecipe(divisor=1, crop_px=160, batch_size=32, n_rounds=10, n_steps=500),
    ),
}


def shorten(recipe: PretrainingRecipe, *, share: float) -> PretrainingRecipe:
    """Return a recipe with this share of its rounds, at least one."""
    return replace(recipe, twin=replace(recipe.twin, n_rounds=max(1, round(share * recipe.twin.n_rounds))))

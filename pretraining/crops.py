"""Batches of crops: cut anywhere from any scan, turned, mirrored, and exposed anew."""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from pretraining.scans import ScanPool
from sem_search.seeds import derive_seed

WHITE = 255.0
P_CHARGED = 0.15
"""Share of the crops with the streaks of a charged specimen."""


@dataclass(frozen=True, kw_only=True)
class CropRecipe:
    """How batches are drawn."""

    side_px: int
    batch_size: int
    seed: int


class CropBatches(keras.utils.PyDataset):
    """The batches of one round, each following from the seed and its number in the whole training."""

    def __init__(self, pool: ScanPool, *, recipe: CropRecipe, first: int, n_batches: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
        self.pool, self.recipe, self.first, self.n_batches = pool, recipe, first, n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return grey levels in [0, 1], shape (n, side_px, side_px), and bins, shape (n, n_properties)."""
        rng = np.random.default_rng(derive_seed(self.recipe.seed, "batch", self.first + index))
        chosen = rng.integers(len(self.pool.pixels), size=self.recipe.batch_size)
        crops = np.stack([self._cut(scan, rng=rng) for scan in chosen])
        return expose(crops, rng=rng), np.asarray(self.pool.bins[chosen])

    def _cut(self, scan: int, *, rng: np.random.Generator) -> NDArray[np.uint8]:
        side = self.recipe.side_px
        row, column = rng.integers(self.pool.pixels.shape[1] - side + 1, size=2)
        crop = self.pool.pixels[scan, row : row + side, column : column + side]
        crop = np.rot90(crop, k=int(rng.integers(4)))
        return crop[:, ::-1] if rng.random() < 0.5 else crop


def expose(crops: NDArray[np.uint8], *, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return crops as other settings of brightness and contrast would show them, some of them charged."""
    n = len(crops)
    grey = crops.astype(np.float32) / np.float32(WHITE)
    gamma = np.exp(rng.uniform(-0.25, 0.25, (n, 1, 1))).astype(np.float32)
    gain = np.exp(rng.uniform(-0.35, 0.35, (n, 1, 1))).astype(np.float32)
    offset = rng.uniform(-0.08, 0.08, (n, 1, 1)).astype(np.float32)
    grey = grey**gamma * gain + offset
    is_charged = (rng.random((n, 1, 1)) < P_CHARGED).astype(np.float32)
    streaks = rng.normal(0.0, 0.06, (n, grey.shape[1], 1)).astype(np.float32)
    return np.clip(grey + is_charged * streaks, 0.0, 1.0)

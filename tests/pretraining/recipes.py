"""A training that takes a second."""

from pretraining.scans import ScanRecipe
from pretraining.training import TrainingRecipe

SCANS = ScanRecipe(n_scans=6, n_renewed=2, side_px=64)
TWIN = TrainingRecipe(divisor=2, crop_px=32, batch_size=4, n_rounds=3, n_steps=2)

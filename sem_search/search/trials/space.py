"""The cells of a study, and the order in which they are tried.

The order matters for the time a search takes, not for its result: a pruner can end a poor cell only once it knows
a good one. So the grid is visited from its likely middle outwards; of two equally likely learning rates the larger one
comes first, since it is done in fewer epochs.

Learning rates and batch sizes are lists that the user gives, so Optuna draws from categories, not from a range: `tpe`
learns nothing from their order.
"""

import math

import optuna

from sem_search.records import Cell
from sem_search.settings import SearchSettings

LIKELY_LEARNING_RATE = 10**-2.5
"""Between the two learning rates that won in Iwata, Hayashi et al. 2022 (1e-3 for VGG16, 1e-2 for ResNet50)."""

LIKELY_BATCH_SIZE = 32
"""Between the two batch sizes that won there (48 for VGG16, 16 for ResNet50)."""


def order_cells(settings: SearchSettings) -> tuple[Cell, ...]:
    """Return every cell of the grid once, likely ones first; the same order on every machine."""
    cells = [
        Cell(learning_rate=rate, batch_size=size) for rate in settings.learning_rates for size in settings.batch_sizes
    ]
    return tuple(sorted(cells, key=_distance_from_likely))


def suggest_cell(trial: optuna.Trial, *, settings: SearchSettings) -> Cell:
    """Return the cell that Optuna suggests, or that was enqueued, for this trial."""
    return Cell(
        learning_rate=float(trial.suggest_categorical("learning_rate", list(settings.learning_rates))),
        batch_size=int(trial.suggest_categorical("batch_size", list(settings.batch_sizes))),
    )


def _distance_from_likely(cell: Cell) -> tuple[float, float, float, int]:
    rate_distance = abs(math.log10(cell.learning_rate / LIKELY_LEARNING_RATE))
    size_distance = abs(math.log2(cell.batch_size / LIKELY_BATCH_SIZE))
    return round(rate_distance, 6), round(size_distance, 6), -cell.learning_rate, cell.batch_size

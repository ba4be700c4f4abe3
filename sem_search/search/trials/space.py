"""The cells of a study, and the order in which they are tried.

The order matters for the time a search takes, not for its result: a pruner can end a poor cell only once it knows
a good one. So the linear head comes first: it takes seconds, and of equal cells the first wins, here the simplest. Then
the grid of each trained head is visited from its likely middle outwards; of two equally likely learning rates the
larger one comes first, since it is done in fewer epochs.

Optuna's `head` decides which other parameters a trial has. Where fine-tuning alone is asked for there is no such
parameter, as in the paper and in older studies.

Learning rates and batch sizes are lists that the user gives, so Optuna draws from categories, not from a range: `tpe`
learns nothing from their order.
"""

import math
from collections.abc import Mapping
from itertools import product

import optuna
from optuna.trial import FrozenTrial

from sem_search.records import Cell
from sem_search.settings import SearchSettings

LIKELY_LEARNING_RATE = 10**-2.5
"""Between the two learning rates that won in Iwata, Hayashi et al. 2022 (1e-3 for VGG16, 1e-2 for ResNet50)."""

LIKELY_BATCH_SIZE = 32
"""Between the two batch sizes that won there (48 for VGG16, 16 for ResNet50)."""


def order_cells(settings: SearchSettings) -> tuple[Cell, ...]:
    """Return every cell once, head by head, likely ones first; the same order on every machine."""
    steps = sorted(product(settings.learning_rates, settings.batch_sizes), key=_distance_from_likely)
    return tuple(
        cell
        for head in settings.heads
        for cell in (
            [Cell(head=head)]
            if head == "linear"
            else [Cell(head=head, learning_rate=rate, batch_size=size) for rate, size in steps]
        )
    )


def choose_params(rank: int, *, settings: SearchSettings) -> dict[str, str | float | int]:
    """Return the parameters of a trial that are not drawn, by its rank.

    On a grid these are all. Else it is the head: the linear one, of which there is one cell, is tried once, and the
    others take turns.
    """
    if settings.sampler == "grid":
        params: Mapping[str, str | float | int] = order_cells(settings)[rank].params
    else:
        trained = [head for head in settings.heads if head != "linear"]
        n_linear = len(settings.heads) - len(trained)
        params = {"head": trained[(rank - n_linear) % len(trained)] if trained and rank >= n_linear else "linear"}
    return {name: value for name, value in params.items() if name != "head" or _has_choice(settings)}


def suggest_cell(trial: optuna.Trial, *, settings: SearchSettings) -> Cell:
    """Return the cell that Optuna suggests, or that was enqueued, for this trial."""
    if _has_choice(settings) and trial.suggest_categorical("head", list(settings.heads)) == "linear":
        return Cell(head="linear")
    return Cell(
        head=trial.params.get("head", "finetune"),
        learning_rate=float(trial.suggest_categorical("learning_rate", list(settings.learning_rates))),
        batch_size=int(trial.suggest_categorical("batch_size", list(settings.batch_sizes))),
    )


def find_cell(trial: FrozenTrial) -> Cell | None:
    """Return the cell of a trial; None where it has not been suggested yet, in whole."""
    try:
        return Cell(**trial.params)
    except ValueError:
        return None


def _has_choice(settings: SearchSettings) -> bool:
    """Tell whether the head is a parameter of the study."""
    return settings.heads != ("finetune",)


def _distance_from_likely(steps: tuple[float, int]) -> tuple[float, float, float, int]:
    learning_rate, batch_size = steps
    rate_distance = abs(math.log10(learning_rate / LIKELY_LEARNING_RATE))
    size_distance = abs(math.log2(batch_size / LIKELY_BATCH_SIZE))
    return round(rate_distance, 6), round(size_distance, 6), -learning_rate, batch_size

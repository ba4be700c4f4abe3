"""How long a search will take on this machine, told before it begins: a few tiles are timed, the rest is arithmetic."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sem_search.micrographs.tiles import iter_image_tiles
from sem_search.records import Cell, TileSplits
from sem_search.search.prepare.features import list_missing_views
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.trials.ranks import count_ranks
from sem_search.settings import SearchSettings
from sem_search.transfer.features import DEFAULT_BATCH_SIZE, iter_features
from sem_search.transfer.heads.linear import MOST_ROWS
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings
from sem_search.transfer.trunk import compile_trunk
from sem_search.transfer.views import VIEWS
from sem_search.words import write_duration

WORTH_TIMING = 1000
"""Views of tiles below which a search is a matter of minutes, and is not timed: that takes some seconds."""

TIMED_S = 3.0
"""For so long, or until there are no more tiles, the trunk is timed."""

N_HEAD_TILES = 128
N_EPOCHS = 3
"""Of a head for each batch size."""

CHOICE_STEPS, SOLUTION_STEPS = 1300, 140
"""Of a linear head: to choose its penalty, and to solve it for one view. A step is timed; how many it takes is known in
the end only, and these are of 960 tiles of ten classes."""

N_STEP_TILES, N_STEPS = 1000, 20
"""Of the steps that are timed."""

TRIAL_S, END_S = 3.0, 25.0
"""To log a trial with its model, and to end a study with its report: about, on a processor of 2026."""

TIMED_RATE = 1e-3
"""Learning rate of the head that is timed; it costs nothing."""

PRUNED_SHARE: Mapping[str, float] = {"none": 1.0, "median": 0.5, "wilcoxon": 0.65, "extrapolation": 0.3}
"""What each pruner lets be trained of a cell that is not the first (docs/decisions/036-no-first-look.md)."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What one tile takes on this machine, in seconds."""

    trunk_s: float
    """Each view: reading, cutting, trunk."""
    linear_s: float
    """Each training tile in one solution of the linear head."""
    baseline_s: float
    """Each training tile in one of the logistic regression that the report compares with."""
    head_s: Mapping[int, float]
    """Batch size to an epoch's seconds for each training tile, the validation of that epoch included."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """How long the parts of a search take, in seconds."""

    features_s: float
    heads_s: float
    """With as many cells pruned as usual."""
    most_heads_s: float
    """With no cell pruned."""
    rest_s: float
    """Logging and the report."""

    def to_text(self) -> str:
        """Return a sentence."""
        most = (
            f" (up to {write_duration(self.most_heads_s)} if no cell is pruned)"
            if self.most_heads_s > self.heads_s
            else ""
        )
        whole = write_duration(self.features_s + self.heads_s + self.rest_s)
        return (
            f"This search will take about {whole} on this machine: "
            f"features {write_duration(self.features_s)}, heads {write_duration(self.heads_s)}{most}, "
            f"logging and report {write_duration(self.rest_s)}."
        )


def estimate_duration(prepared: PreparedSearch) -> Duration | None:
    """Return how long a search that has trained nothing yet will take; None where that is not worth timing.

    Cost: about ten seconds: the trunk and a head are compiled and run on a few tiles.
    """
    n_tiles = prepared.data.tiles.n_tiles
    if VIEWS[prepared.settings.augment] * n_tiles < WORTH_TIMING:
        return None
    return time_search(prepared)


def time_search(prepared: PreparedSearch) -> Duration:
    """Return the same whether or not it is worth timing, at the same cost."""
    n_tiles = prepared.data.tiles.n_tiles
    missing = list_missing_views(prepared.settings, data=prepared.data, network=prepared.network)
    return compute_duration(measure_pace(prepared), settings=prepared.settings, n_tiles=n_tiles, n_views=len(missing))


def compute_duration(pace: Pace, *, settings: SearchSettings, n_tiles: int, n_views: int) -> Duration:
    """Return how long a search takes.

    Args:
        pace: Of this machine.
        settings: Of the search.
        n_tiles: Of all images.
        n_views: Views of them whose features are not known yet.
    """
    n_training = n_tiles * (settings.folds - 2) / settings.folds
    head_s = np.mean([pace.head_s[size] for size in settings.batch_sizes]) if pace.head_s else 0.0
    cell_s = float(head_s) * settings.epochs * settings.folds * n_training
    n_both = n_tiles * (settings.folds - 1) / settings.folds
    learnt = min(1.0, MOST_ROWS / (n_tiles * VIEWS[settings.augment]))
    solution_s = pace.linear_s * settings.folds * learnt  # for each tile
    linear_s = solution_s * n_training * (set(settings.heads) != {"finetune"})
    baseline_s = pace.baseline_s * settings.folds * (n_training + n_both) * min(1.0, MOST_ROWS / n_tiles)
    n_cells = count_ranks(settings) - ("linear" in settings.heads)
    # A fine-tuned winner is trained again with as many steps; a linear one is solved for more tiles.
    refit_s = (cell_s if n_cells > 0 else solution_s * n_both) * settings.refit
    return Duration(
        features_s=pace.trunk_s * n_tiles * n_views,
        heads_s=linear_s + refit_s + cell_s * (min(n_cells, 1) + PRUNED_SHARE[settings.pruner] * max(n_cells - 1, 0)),
        most_heads_s=linear_s + refit_s + cell_s * n_cells,
        rest_s=baseline_s + TRIAL_S * count_ranks(settings) + END_S,
    )


def measure_pace(prepared: PreparedSearch) -> Pace:
    """Return what a tile takes, timed on the first tiles of the search."""
    settings = prepared.settings
    trunk_s, features = _time_trunk(prepared)
    n_features = prepared.network.cut.tail.outputs[0].shape[-1]
    step_s = _time_step(n_features, n_classes=len(prepared.data.tiles.class_names))
    pace = Pace(
        trunk_s=trunk_s,
        linear_s=(CHOICE_STEPS + SOLUTION_STEPS * VIEWS[settings.augment]) * step_s,
        baseline_s=(CHOICE_STEPS + SOLUTION_STEPS) * step_s,
        head_s={},
    )
    if settings.heads == ("linear",):
        return pace
    trainer = HeadTrainer(
        prepared.network.cut,
        features=[[np.resize(array, (N_HEAD_TILES, *array.shape[1:])) for array in features]],
        labels=np.arange(N_HEAD_TILES) % len(prepared.data.tiles.class_names),
        groups=[str(tile) for tile in range(N_HEAD_TILES)],
        n_classes=len(prepared.data.tiles.class_names),
        settings=TrainingSettings(epochs=N_EPOCHS, patience=0),
        seed=settings.seed,
        hidden_units=settings.hidden_units,
        dropout=settings.dropout,
    )
    n_training = N_HEAD_TILES * (settings.folds - 2) // (settings.folds - 1)
    splits = TileSplits(
        number=0,
        training=np.arange(n_training),
        validation=np.arange(n_training, N_HEAD_TILES - 1),
        test=np.array([N_HEAD_TILES - 1]),
    )
    head_s = {size: _time_epoch(trainer, splits=splits, batch_size=size) / n_training for size in settings.batch_sizes}
    return replace(pace, head_s=head_s)


def _time_trunk(prepared: PreparedSearch) -> tuple[float, list[NDArray[np.float32]]]:
    """Return the seconds for a tile, and the trunk's outputs for those that were timed."""
    network, data = prepared.network, prepared.data
    run = compile_trunk(network.cut, backbone=network.backbone, batch_size=DEFAULT_BATCH_SIZE)
    tiles = (some for _, some in iter_image_tiles(data.catalogue, grid=data.grid))
    ends_s: list[float] = []
    batches = []
    for features in iter_features(run, tiles, batch_size=DEFAULT_BATCH_SIZE):
        ends_s.append(time.perf_counter())
        batches.append(features)
        if ends_s[-1] - ends_s[0] >= TIMED_S:  # the first batch has compiled the trunk
            break
    n_timed = sum(len(features[0]) for features in batches[1:])
    return (ends_s[-1] - ends_s[0]) / n_timed, [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def _time_step(n_features: int, *, n_classes: int) -> float:
    """Return the seconds for a tile in a step of the linear head's solver: from features to logits, and back."""
    rng = np.random.default_rng(0)
    features, kernel = rng.random((N_STEP_TILES, n_features)), rng.random((n_features, n_classes))
    with threadpool_limits(1, user_api="blas"):  # as the solver has it
        begun = time.perf_counter()
        for _ in range(N_STEPS):
            features.T @ (features @ kernel)
        return (time.perf_counter() - begun) / (N_STEPS * N_STEP_TILES)


def _time_epoch(trainer: HeadTrainer, *, splits: TileSplits, batch_size: int) -> float:
    """Return the seconds of an epoch; the first one, which compiles, left out."""
    ends_s: list[float] = []
    cell = Cell(learning_rate=TIMED_RATE, batch_size=batch_size)
    trainer.train_fold(splits, cell=cell, on_epoch=lambda _figures: ends_s.append(time.perf_counter()))
    return (ends_s[-1] - ends_s[0]) / (N_EPOCHS - 1)

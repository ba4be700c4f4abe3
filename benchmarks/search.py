"""What early stopping and pruning save on the paper's grid, and what they cost in score."""

import re
import tempfile
from pathlib import Path

from benchmarks.searching import count_ended_epochs, read_grid, run_search

PLAIN = {"pruner": "none", "patience": "0"}
"""The paper's way: every epoch of every fold of every cell."""

WINNER = re.compile(r"Winner of study (\S+): learning rate (\S+), batch size (\d+)")
SCORES = re.compile(r"validation (\d\.\d+), test (\d\.\d+)")


def measure_search(*, backbone: str, weights: str, data: str, threads: int) -> dict[str, float]:
    """Return training spent by both ways, the share, and by how much the chosen cell falls short on validation tiles.

    Cost: the plain grid is 20 cells x 5 folds x 100 epochs; with MobileNetV2 and 300 tiles about half an hour on two
    cores.
    """
    common = {"data": data, "backbone": backbone, "weights": weights, "preset": "standard", "threads": str(threads)}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for way, options in {"plain": PLAIN, "standard": {}}.items():
            folder = Path(name) / way
            printed = run_search(folder, {**common, **options})
            winner, scores = WINNER.search(printed), SCORES.search(printed)
            if winner is None or scores is None:
                raise RuntimeError(printed[-3000:])
            grid = read_grid(folder / "studies" / winner[1])
            figures |= {
                f"search.{way}.cells": float(len(grid.folds_of)),
                f"search.{way}.folds": float(grid.n_folds),
                f"search.{way}.epochs": float(grid.n_epochs + count_ended_epochs(folder, study=winner[1])),
                f"search.{way}.training_s": grid.training_s,
                f"search.{way}.learning_rate": float(winner[2]),
                f"search.{way}.batch_size": float(winner[3]),
                f"search.{way}.validation_f": float(scores[1]),
                f"search.{way}.test_f": float(scores[2]),
            }
    figures["search.share_of_training"] = figures["search.standard.epochs"] / figures["search.plain.epochs"]
    figures["search.loss_of_validation_f"] = (
        figures["search.plain.validation_f"] - figures["search.standard.validation_f"]
    )
    return figures

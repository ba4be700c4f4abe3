"""Whether a search looked far enough: the winner's place in the grid, and whether its folds were cut short."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sem_search.records import FoldOutcome, StudyOutcome
from sem_search.tracking.entries.context import StudyContext

CUT_SHARE = 1 / 3
"""Of the winner's folds; fewer may have their lowest validation loss in the last epoch by chance."""

FACTORS = {"learning_rate": 10, "batch_size": 2}
"""From a value at the edge to the next one: as far as the paper's learning rates lie apart, and as memory doubles."""

LIMITS = {"learning_rate": (1e-6, 10.0), "batch_size": (4, 256)}
"""Nothing is learnt below the one learning rate and the settings allow none above the other; smaller batches are noise,
and larger ones are more than a small data set has tiles."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The winner has the largest or smallest value of a parameter that was tried: a better one may lie beyond it."""

    parameter: str
    """As the fields of `Cell` are called."""
    side: Literal["largest", "smallest"]
    value: float
    beyond: tuple[float, ...]
    """The values asked for or tried, and the next one."""


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """How the winner's training ended, and where the winner lies."""

    edges: tuple[Edge, ...]
    n_folds: int
    n_cut: int
    """Folds whose validation loss was lowest in the last epoch that was allowed."""
    n_diverged: int
    max_epochs: int
    """Most epochs of any fold of the winner."""
    ends_itself: bool = False
    """Whether the learning rate falls to 0, or the head is solved: then no fold can be cut short."""

    @property
    def is_cut(self) -> bool:
        """Whether so many folds were cut short that more epochs are worth a trial."""
        return self.n_cut >= max(CUT_SHARE * self.n_folds, 1)


def compute_convergence(study: StudyOutcome, *, context: StudyContext) -> Convergence:
    """Return whether the winner lies inside the grid and was trained to its end.

    The linear head lies in no grid, and is solved to its end. A learning rate that falls to 0 ends training by itself.

    Args:
        study: All trials.
        context: The combinations asked for, and the settings.
    """
    folds = study.winner.folds
    max_epochs = max(len(fold.curves.validation_loss) for fold in folds)
    limit = int(str(context.settings.get("epochs", max_epochs)))
    ends_itself = study.winner.cell.head == "linear" or context.settings.get("schedule") == "linear"
    cells = {*context.cells, *(trial.cell for trial in study.trials)}
    edges = (
        _find_edge(
            name,
            tried={float(cell.params[name]) for cell in cells if name in cell.params},
            value=float(study.winner.cell.params[name]),
            asked=[float(value) for value in str(context.settings.get(f"{name}s", "")).split(",") if value],
        )
        for name in FACTORS
        if name in study.winner.cell.params
    )
    return Convergence(
        edges=tuple(edge for edge in edges if edge is not None),
        n_folds=len(folds),
        n_cut=0 if ends_itself else sum(_is_cut(fold, limit=limit) for fold in folds),
        n_diverged=sum(fold.is_diverged for fold in folds),
        max_epochs=max_epochs,
        ends_itself=ends_itself,
    )


def _is_cut(fold: FoldOutcome, *, limit: int) -> bool:
    """Return whether the loss was still falling when the epochs were over."""
    losses = fold.curves.validation_loss
    return len(losses) >= limit and bool(np.isfinite(losses).all()) and int(losses.argmin()) == len(losses) - 1


def _find_edge(parameter: str, *, tried: Collection[float], value: float, asked: Sequence[float]) -> Edge | None:
    """Return the edge on which the winner's value lies; None inside the grid, and where only one value was tried."""
    if len(tried) < 2 or value not in (min(tried), max(tried)):
        return None
    is_largest = value == max(tried)
    following = value * FACTORS[parameter] if is_largest else value / FACTORS[parameter]
    if parameter == "batch_size":
        following = following // 1
    if not LIMITS[parameter][0] <= following <= LIMITS[parameter][1]:
        return None
    return Edge(
        parameter=parameter,
        side="largest" if is_largest else "smallest",
        value=value,
        beyond=tuple(sorted({*tried, *asked, following})),
    )

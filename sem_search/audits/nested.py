"""The choice made anew inside every fold: what the search's procedure is worth, choice included, by training.

Nested cross-validation (Stone, J. R. Stat. Soc. B 36 (1974) 111; Varma and Simon, BMC Bioinformatics 7 (2006) 91): the
test images of a fold are put away; each of the other parts in turn judges the cell and says when to stop, the rest
trains; the cell that is best on average is judged on the images put away, by the head that the search trained in that
fold. So no image has a part in choosing what it judges. It checks the bias-corrected score (BBC-CV),
which trains nothing.

Cost: cells x folds x (folds - 1) heads, four times the search with five folds; so it is asked by name only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sem_search.audits.retraining import retrain_cells
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.metrics import compute_fold_scores
from sem_search.evaluation.selection import SelectionBias, compute_selection_bias, get_candidates
from sem_search.progress import Show
from sem_search.records import Cell, FloatMatrix, FloatVector, FoldOutcome, TileSplits, TileTable
from sem_search.tracking.report.answer_page import Light, Row, Table


@dataclass(frozen=True, kw_only=True)
class NestedChoice:
    """The score of choices made inside the folds, beside the other estimates of it."""

    score_of_fold: FloatVector
    """Macro F-measure over tiles of the cell chosen without the fold, shape (n_folds,)."""
    chosen: tuple[Cell, ...]
    """The cell chosen for each fold."""
    n_trained: int
    """Heads trained for it."""
    bias: SelectionBias
    """The study's own choice."""

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return float(self.score_of_fold.mean())

    @property
    def agrees(self) -> bool:
        """Whether the score lies in the interval of the bias-corrected one."""
        return bool(self.bias.corrected.low <= self.score <= self.bias.corrected.high)

    @property
    def row(self) -> Row:
        """The score among the checks of an audit."""
        name, bias = "choice made anew inside each fold", self.bias
        if bias.n_candidates == 1:
            return Row(cells=(name, "", "", "not possible: one cell"))
        corrected = f"corrected score (BBC-CV): {bias.corrected.to_text()}"
        result = "they agree" if self.agrees else "take care: they do not agree"
        light: Light = "good" if self.agrees else "unclear"
        return Row(cells=(name, f"F-measure of tiles {self.score:.3f}", corrected, result), light=light)

    @property
    def table(self) -> Table:
        """What each way of estimating gives."""
        bias = self.bias
        estimates = {
            "choice made anew inside each fold": f"{self.score:.3f}",
            "corrected score (BBC-CV)": bias.corrected.to_text(),
            f"the winner on the {bias.select_on} tiles that chose it": f"{bias.naive:.3f}",
            "the winner on test tiles": f"{bias.test:.3f}",
        }
        return Table(
            columns=("Estimate", "F-measure, tiles"), rows=tuple(Row(cells=pair) for pair in estimates.items())
        )

    def to_text(self) -> str:
        """Return the score and what it means, in plain words."""
        bias = self.bias
        if bias.n_candidates == 1:
            return (
                "Only one cell was tried in full, so that there is nothing to choose anew; those that were "
                "ended early do not take part. Search with pruner=none to ask this."
            )
        verdict = (
            "The check by training and the corrected score agree."
            if self.agrees
            else "They do not agree: trust the lower of the two, and search with more images."
        )
        common = max(set(self.chosen), key=self.chosen.count)
        return (
            f"With the choice among {bias.n_candidates} cells made anew inside each fold ({self.n_trained} "
            f"heads trained for it) the F-measure is {self.score:.3f} on images that chose nothing. {verdict} Chosen "
            f"most often: {common.name}, in {self.chosen.count(common)} of {len(self.chosen)} folds."
        )


def choose_inside_folds(subject: AuditSubject, *, show: Show) -> NestedChoice:
    """Make the study's choice anew inside each of its folds.

    Args:
        subject: The study; only its complete trials take part.
        show: Called before each cell is trained.
    """
    candidates = get_candidates(subject.outcome)
    outer = compute_fold_scores([trial.folds for trial in candidates], tiles=subject.tiles, split="test").T
    splits = list_inner_splits(subject) if len(candidates) > 1 else ()
    inner = np.zeros(outer.shape)
    if splits:
        cells = [trial.cell for trial in candidates]
        trained = retrain_cells(subject, cells=cells, splits=splits, name="choice inside the folds", show=show)
        inner = score_inner_folds(trained, tiles=subject.tiles, n_folds=len(outer))
    best = inner.argmax(axis=1)
    return NestedChoice(
        score_of_fold=outer[np.arange(len(outer)), best],
        chosen=tuple(candidates[place].cell for place in best),
        n_trained=len(candidates) * len(splits),
        bias=compute_selection_bias(subject.outcome, select_on=subject.outcome.select_on),
    )


def list_inner_splits(subject: AuditSubject) -> tuple[TileSplits, ...]:
    """Return the folds inside each fold, one fold's after the other's: each other part judges once, the rest trains.

    The images put away stand in the test split: they are answered, and nothing looks at the answers.
    """
    tiles = subject.tiles
    parts = [tiles.get_tiles_of(fold.test) for fold in subject.folds.folds]
    n_folds = len(parts)
    return tuple(
        TileSplits(
            number=outer * n_folds + inner,
            training=np.sort(np.concatenate([parts[other] for other in range(n_folds) if other not in (outer, inner)])),
            validation=parts[inner],
            test=parts[outer],
        )
        for outer in range(n_folds)
        for inner in range(n_folds)
        if inner != outer
    )


def score_inner_folds(trained: Sequence[Sequence[FoldOutcome]], *, tiles: TileTable, n_folds: int) -> FloatMatrix:
    """Return what each candidate scored inside each fold, shape (n_folds, n_candidates).

    Args:
        trained: What came of `list_inner_splits` for each candidate.
        tiles: The study's tiles.
        n_folds: Of the study.
    """
    scores = compute_fold_scores(trained, tiles=tiles, split="validation")
    means: FloatMatrix = scores.T.reshape(n_folds, -1, len(trained)).mean(axis=1)
    return means

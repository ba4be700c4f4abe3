"""Is the bias-corrected score of the winner closer to the truth than the score it was chosen by?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.trust.tables import Table
from sem_search.evaluation.metrics import compute_class_indices
from sem_search.evaluation.selection import SelectionBias, compute_selection_bias
from sem_search.records import (
    Cell,
    FoldOutcome,
    Split,
    StudyOutcome,
    TileTable,
    TrainingCurves,
    TrialOutcome,
)

N_CLASSES, N_TILES, N_FOLDS, SPREAD = 4, 6, 3, 0.9
N_TRUE_FOLDS = 3000
"""Folds of new images that the true scores are averaged over: to 0.002, a fifth of the smallest bias looked for."""

SPLITS: tuple[Split, ...] = ("test", "validation")
NO_CURVES = TrainingCurves(
    training_loss=np.zeros(1),
    training_accuracy=np.zeros(1),
    validation_loss=np.zeros(1),
    validation_accuracy=np.zeros(1),
)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A search: how many cells, how much they differ, and how alike their answers are."""

    images_per_class: int
    n_cells: int
    kind: str
    """equal; near: cells differ a little; apart: they differ much; half bad: as with a grid of learning rates."""
    likeness: float
    strength: float

    @property
    def name(self) -> str:
        """In words."""
        return (
            f"{self.n_cells} cells, {self.kind}; {self.images_per_class} images per class; "
            f"likeness {self.likeness:g}; strength {self.strength:g}"
        )

    def draw_strengths(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the worth of each cell, shape (n_cells,)."""
        spread = {"equal": 0.0, "near": 0.1, "apart": 0.4, "half bad": 0.05}[self.kind]
        bad = 1.2 * (np.arange(self.n_cells) % 2) * (self.kind == "half bad")
        strengths: NDArray[np.float64] = self.strength - bad + spread * rng.normal(size=self.n_cells)
        return strengths


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """Estimate less truth, mean over studies, and its root mean square."""

    naive: float
    test: float
    corrected: float
    fold_out: float
    naive_rms: float
    corrected_rms: float

    @property
    def is_closer(self) -> bool:
        """Whether the corrected score is nearer the truth on average."""
        return abs(self.corrected) < abs(self.naive)


def iter_grids() -> Iterator[Grid]:
    """Yield all searches that are simulated."""
    for kind in ("equal", "near", "apart", "half bad"):
        for n_cells in (5, 20):
            for images_per_class in (6, 12):
                for likeness in (0.3, 0.8):
                    for strength in (1.5, 2.5):
                        yield Grid(
                            images_per_class=images_per_class,
                            n_cells=n_cells,
                            kind=kind,
                            likeness=likeness,
                            strength=strength,
                        )


def simulate_selection(grid: Grid, *, n_studies: int, n_draws: int = 200, seed: int = 0) -> dict[Split, Deviations]:
    """Return how far the estimates are from what the chosen cell scores on new images in folds of the same size."""
    rng = np.random.default_rng(seed)
    worth = _get_worth(grid.images_per_class)
    found: dict[Split, list[tuple[float, ...]]] = {split: [] for split in SPLITS}
    for number in range(n_studies):
        study, strengths = draw_study(grid, rng)
        for split in SPLITS:
            bias = compute_selection_bias(study, select_on=split, n_draws=n_draws, seed=number)
            true = worth.compute(float(strengths[bias.winner]))
            found[split].append(tuple(estimate - true for estimate in _list_estimates(bias)))
    return {split: _average(np.array(found[split])) for split in SPLITS}


def draw_study(grid: Grid, rng: np.random.Generator) -> tuple[StudyOutcome, NDArray[np.float64]]:
    """Return a study of made-up answers, and the worth of its cells."""
    n_images = N_CLASSES * grid.images_per_class
    ids = tuple(f"{number:03}" for number in range(n_images))
    tiles = TileTable(
        class_names=tuple("abcd"),
        image_ids=ids,
        label_of_image=np.repeat(np.arange(N_CLASSES), grid.images_per_class),
        group_of_image=ids,
        image_of_tile=np.repeat(np.arange(n_images), N_TILES),
    )
    part = (np.arange(n_images) % N_FOLDS)[tiles.image_of_tile]
    common = _draw_noise(n_images, rng)
    strengths = grid.draw_strengths(rng)
    trials = []
    for number, strength in enumerate(strengths):
        splits = []
        for _ in SPLITS:
            own = _draw_noise(n_images, rng)
            noise = np.sqrt(grid.likeness) * common + np.sqrt(1 - grid.likeness) * own
            splits.append(softmax(strength * np.eye(N_CLASSES)[tiles.label_of_tile] + noise, axis=1))
        trials.append(_build_trial(number, part=part, validation=splits[0], test=splits[1]))
    study = StudyOutcome(
        name="simulated", backbone="none", select_on="validation", tiles=tiles, trials=tuple(trials), winner_number=0
    )
    return study, strengths


def print_tables(*, n_studies: int) -> None:
    """Print the mean deviations by kind of search, and the share of searches in which the correction helps."""
    found = {grid: simulate_selection(grid, n_studies=n_studies) for grid in iter_grids()}
    rows = []
    for split in SPLITS:
        for kind in ("equal", "near", "half bad", "apart"):
            entries = [found[grid][split] for grid in found if grid.kind == kind]
            columns = ("naive", "test", "corrected", "fold_out", "naive_rms", "corrected_rms")
            means = [float(np.mean([getattr(entry, name) for entry in entries])) for name in columns]
            closer = f"{sum(entry.is_closer for entry in entries)} of {len(entries)}"
            rows.append([split, kind, *means, closer])
    names = ["naive", "test score", "corrected", "fold left out", "naive, r.m.s.", "corrected, r.m.s."]
    Table(
        title="Estimate less truth (macro F), mean over searches",
        columns=["chosen on", "cells", *names, "searches with the corrected one closer"],
        rows=rows,
    ).show()
    for split in SPLITS:
        entries = [found[grid][split] for grid in found]
        closer = np.mean([entry.is_closer for entry in entries])
        smaller = np.mean([entry.corrected_rms < entry.naive_rms for entry in entries])
        print(
            f"\nchosen on {split}: closer in {closer:.0%}, smaller r.m.s. in {smaller:.0%} of {len(entries)} searches"
        )


class _Worth:
    """What a cell scores on average on new images in folds of the same size, by its strength."""

    def __init__(self, images_per_class: int, *, rng: np.random.Generator) -> None:
        self.strengths = np.linspace(-0.7, 4.3, 11)
        labels = np.repeat(np.arange(N_CLASSES), images_per_class // N_FOLDS)
        scores = np.zeros((N_TRUE_FOLDS, len(self.strengths)))
        for number in range(N_TRUE_FOLDS):
            noise = _draw_noise(len(labels), rng)
            scores[number] = [_score(labels, strength=strength, noise=noise) for strength in self.strengths]
        self.scores = scores.mean(axis=0)

    def compute(self, strength: float) -> float:
        """Return the expected macro F."""
        return float(np.interp(strength, self.strengths, self.scores))


def compute_worth(strength: float, *, images_per_class: int) -> float:
    """Return what a cell of this strength scores on average on new images (macro F)."""
    return _get_worth(images_per_class).compute(strength)


@cache
def _get_worth(images_per_class: int) -> _Worth:
    """Return the worth of cells for studies of this size."""
    return _Worth(images_per_class, rng=np.random.default_rng(images_per_class))


def _score(labels: NDArray[np.int64], *, strength: float, noise: NDArray[np.float64]) -> float:
    """Return the macro F of one fold."""
    true = np.repeat(labels, N_TILES)
    predicted = (strength * np.eye(N_CLASSES)[true] + noise).argmax(axis=1)
    confusion = np.bincount(true * N_CLASSES + predicted, minlength=N_CLASSES**2).reshape(N_CLASSES, N_CLASSES)
    return compute_class_indices(confusion).macro_f


def _draw_noise(n_images: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return deviates of tiles, those of one image alike in part, shape (n_tiles, n_classes)."""
    images = np.repeat(rng.normal(size=(n_images, N_CLASSES)), N_TILES, axis=0)
    noise: NDArray[np.float64] = SPREAD * (images + rng.normal(size=images.shape))
    return noise


def _build_trial(
    number: int, *, part: NDArray[np.int64], validation: NDArray[np.float64], test: NDArray[np.float64]
) -> TrialOutcome:
    """Return a complete trial of three folds."""
    folds = []
    for fold in range(N_FOLDS):
        validated, tested = np.flatnonzero(part == (fold + 1) % N_FOLDS), np.flatnonzero(part == fold)
        folds.append(
            FoldOutcome(
                fold=fold,
                validation_tiles=validated,
                validation_probabilities=validation[validated],
                test_tiles=tested,
                test_probabilities=test[tested],
                curves=NO_CURVES,
                best_epoch=0,
                is_diverged=False,
                training_s=0.0,
            )
        )
    cell = Cell(learning_rate=1e-3, batch_size=number + 1)
    return TrialOutcome(number=number, cell=cell, state="complete", folds=tuple(folds))


def _list_estimates(bias: SelectionBias) -> tuple[float, ...]:
    """Return naive, test, corrected and fold-out score."""
    return bias.naive, bias.test, bias.corrected.value, bias.fold_out


def _average(table: NDArray[np.float64]) -> Deviations:
    """Return the means over studies."""
    naive, test, corrected, fold_out = (float(value) for value in table.mean(axis=0))
    rms = np.sqrt((table**2).mean(axis=0))
    return Deviations(
        naive=naive,
        test=test,
        corrected=corrected,
        fold_out=fold_out,
        naive_rms=float(rms[0]),
        corrected_rms=float(rms[2]),
    )

"""Does the interval of a learning curve, drawn on to more images, hold the true score?

The true score with n images is a power law. A test image is correctly classified if a normal deviate, in part its own
and in part that of this network, lies below the score's quantile: so the share of correctly classified images is the
true score with binomial noise, and the same images are hard for all networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from benchmarks.trust.tables import Table
from sem_search.evaluation.answers import AnswerTable, tabulate_image_answers
from sem_search.evaluation.learning_curve import LearningCurve, PowerLaw, fit_learning_curve, measure_size

SHARES = np.array([1 / 8, 1 / 4, 0.35, 1 / 2, 0.7, 1.0])
"""Of the images that are measured with: as an audit takes them."""

MEASURED = 0.6
"""Share of all images that is measured; the score with all of them is foretold."""

N_DRAWS = 3


@dataclass(frozen=True, kw_only=True)
class CurveWorld:
    """A law, and what it is measured with."""

    name: str
    ceiling: float
    at_first: float
    """True score with an eighth of the images measured with."""
    exponent: float
    images_per_class: int = 20
    n_classes: int = 5
    likeness: float = 0.5
    """Share of the variance that the test images have, and not the network."""

    @property
    def law(self) -> PowerLaw:
        """The truth, by share of the images measured with."""
        gap = (self.ceiling - self.at_first) * SHARES[0] ** self.exponent
        return PowerLaw(
            ceiling=np.array(self.ceiling), gap=np.array(gap), exponent=np.array(self.exponent), reference=1.0
        )


def iter_worlds() -> Iterator[CurveWorld]:
    """Yield what is simulated."""
    for images_per_class in (10, 20, 50):
        yield CurveWorld(name="slow", ceiling=1.0, at_first=0.6, exponent=0.4, images_per_class=images_per_class)
        yield CurveWorld(name="usual", ceiling=0.95, at_first=0.5, exponent=0.8, images_per_class=images_per_class)
        yield CurveWorld(
            name="soon at its ceiling", ceiling=0.9, at_first=0.6, exponent=1.5, images_per_class=images_per_class
        )
        yield CurveWorld(name="flat", ceiling=0.8, at_first=0.8, exponent=1.0, images_per_class=images_per_class)


def simulate_curve(world: CurveWorld, *, n_studies: int, n_resamples: int = 200, seed: int = 0) -> dict[str, float]:
    """Return how often the interval of the foretold score holds the truth, its mean width, and its mean error.

    Also how often images are said not to help.
    """
    rng = np.random.default_rng(seed)
    curves = [measure_curve(world, rng=rng, n_resamples=n_resamples, seed=number) for number in range(n_studies)]
    foretold = [curve.predict(1 / MEASURED) for curve in curves]
    truth = float(world.law.compute(1 / MEASURED))
    return {
        "truth": truth,
        "held": float(np.mean([entry.low <= truth <= entry.high for entry in foretold])),
        "width": float(np.mean([entry.high - entry.low for entry in foretold])),
        "error": float(np.mean([entry.value - truth for entry in foretold])),
        "flat": float(np.mean([curve.is_flat for curve in curves])),
    }


def measure_curve(world: CurveWorld, *, rng: np.random.Generator, n_resamples: int, seed: int) -> LearningCurve:
    """Return the law that is fitted to one made-up study."""
    labels = np.repeat(np.arange(world.n_classes), world.images_per_class)
    own = rng.normal(size=len(labels))
    sizes = []
    for share in SHARES:
        chance = float(world.law.compute(float(share)))
        draws = [
            draw_answers(labels, chance=chance, own=own, world=world, rng=rng)
            for _ in range(N_DRAWS if share < 1 else 1)
        ]
        sizes.append(measure_size(draws, n_images=float(share), n_resamples=n_resamples, seed=seed))
    return fit_learning_curve(sizes, figure="image_accuracy")


def draw_answers(
    labels: np.ndarray, *, chance: float, own: np.ndarray, world: CurveWorld, rng: np.random.Generator
) -> AnswerTable:
    """Return answers of which each is right with this chance; images are hard for all networks alike."""
    deviates = np.sqrt(world.likeness) * own + np.sqrt(1 - world.likeness) * rng.normal(size=len(labels))
    wrong = (labels + 1) % world.n_classes
    predicted = np.where(deviates < norm.ppf(chance), labels, wrong)
    return tabulate_image_answers(predicted, labels=labels, n_classes=world.n_classes)


def print_tables(*, n_studies: int) -> None:
    """Print how often the score foretold for 1.67 times the images is held."""
    rows: list[list[str | float]] = []
    for world in iter_worlds():
        found = simulate_curve(world, n_studies=n_studies)
        rows.append([world.name, str(world.n_classes * world.images_per_class), *found.values()])
    Table(
        title="Score with all images, foretold from 60 % of them; 95 % intervals",
        columns=["curve", "test images", "truth", "interval holds it", "mean width", "mean error", "called flat"],
        rows=rows,
    ).show()

"""How many images are needed: the answer in words, tables and a figure, and what is logged of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sem_search.audits.answer import ShownAsAnswer, format_share, iter_answer, list_difference
from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.learning_curve import MAX_GROWTH, MIN_SIZES, Finding, LearningCurve, Need, Size
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.entries.types import Entry, FigureArtifact, Tags, iter_finite_metrics
from sem_search.tracking.figures.learning_curve import draw_learning_curve
from sem_search.tracking.mlflow.names import TAG_LEARNING_CURVE
from sem_search.tracking.report.answer_page import Answer, CaptionedFigure, Light, Row, Section, Table

GROWTHS = (1.5, 2.0, MAX_GROWTH)
"""Times the images that there are, for which the score is foretold."""

FIGURE_NAMES = ("f_measure", "image_accuracy")

PATH = "learning_curve/learning_curve"

FIGURE_CAPTION = (
    "F-measure over test tiles by the number of images of a class that a head learns from. Points: measured. Line: an "
    "inverse power law fitted to them; dotted, and less sure, beyond the images that there are."
)
LIGHTS: dict[Finding, Light] = {"reached": "good", "found": "plain", "near": "plain"}

WORDS: dict[Finding, tuple[str, str]] = {
    "reached": ("Enough", ", and {asked} was asked for."),
    "found": (
        "About {middle} images of a class",
        ". It would reach {asked} with {low} to {high}; a head learns from {share} % of them.",
    ),
    "near": (
        "A few more images of a class",
        ". The fitted curve has {asked} with as many already, so few more should do: {high} at most.",
    ),
    "open": (
        "Cannot say",
        ". By the fitted curve {asked} may take {low}, or {high}: add images, and ask again.",
    ),
    "few sizes": (
        "Cannot say",
        f". Only {{tried}} of them could be tried, and a curve needs {MIN_SIZES} sizes: add images.",
    ),
    "flat": ("Cannot say", ". It was not seen to grow with the number of images, so nothing can be foretold."),
    "ceiling": (
        "More images alone will not do",
        ". The fitted curve ends at {ceiling}; {asked} lies above all of that: look for what images cannot give.",
    ),
    "far": (
        "More than {most} images of a class",
        f". {{asked}} takes more than {MAX_GROWTH:g} times as many, and so far the curve is not trusted.",
    ),
}
"""Of each finding the verdict, and how the sentence on the score goes on."""


@dataclass(frozen=True, kw_only=True)
class LearningCurveAudit(ShownAsAnswer):
    """What was measured."""

    study: str
    class_names: tuple[str, ...]
    n_folds: int
    images_per_class: float
    """In the whole study, mean over the classes."""
    curve: LearningCurve
    need: Need
    half: Size
    """About half of the images."""
    gain_of_class: tuple[Difference, ...]
    """F-measure over tiles with all images less that with half of them; the intervals hold for all classes together."""
    tiles_difference: Difference | None
    """F-measure with half of the images and all tiles, less that with all images and every second tile of each; None
    where images have one tile."""

    @property
    def share_learnt(self) -> float:
        """Share of the study's images that a head learns from."""
        return self.curve.n_images / self.images_per_class

    @property
    def table(self) -> pd.DataFrame:
        """One row for each size: scores with their intervals over test images and draws, and each class's F-measure."""
        return pd.DataFrame([self._list_size(size) for size in self.curve.sizes])

    def _list_size(self, size: Size) -> dict[str, float]:
        row = {"n_images": size.n_images}
        for name in FIGURE_NAMES:
            interval = getattr(size.intervals, name)
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        of_class = zip(self.class_names, size.figures.of_class.f_measure, strict=True)
        return row | {f"f_measure of {name}": float(value) for name, value in of_class}

    def to_answer(self) -> Answer:
        """Return how many images the target needs, and what else the sizes tell."""
        curve, (verdict, sentence) = self.curve, _conclude(self)
        draw = partial(draw_learning_curve, curve, target=self.need.target)
        figure = FigureArtifact(path=f"{PATH}.png", draw=draw)
        return Answer(
            question=f"How many images does study {self.study} need?",
            subject=f"Learning curve of study {self.study}: winner trained on {_write(curve.sizes[0].n_images)} to"
            f" {_write(curve.n_images)} of {_write(self.images_per_class)} images of a class, in {self.n_folds} folds.",
            light=LIGHTS.get(self.need.finding, "unclear"),
            verdict=verdict,
            sentence=sentence,
            overview=(_tabulate_sizes(self), CaptionedFigure(artifact=figure, caption=FIGURE_CAPTION)),
            sections=tuple(_iter_sections(self)),
        )


def iter_learning_curve_entries(audit: LearningCurveAudit, *, command: str) -> Iterator[Entry]:
    """Yield what is logged: words, numbers, the figure, a page, and the scores with the number of images as step.

    Args:
        audit: What was measured.
        command: What asks for it.
    """
    yield from iter_answer(PATH, answer=audit.to_answer(), numbers=list_learning_curve(audit), command=command)
    yield Tags(values={TAG_LEARNING_CURVE: ". ".join(_conclude(audit))})
    metrics = [("target", audit.need.target, 0)]
    for size in audit.curve.sizes:
        metrics += [(name, float(getattr(size.figures, name)), round(size.n_images)) for name in FIGURE_NAMES]
    if audit.need.finding == "found" and audit.need.n_images is not None:
        metrics.append(("images_needed", audit.need.n_images.value / audit.share_learnt, 0))
    named = [(f"learning_curve/{name}", value, step) for name, value, step in metrics]
    yield from iter_finite_metrics(named, source="learning_curve")


def list_learning_curve(audit: LearningCurveAudit) -> dict[str, Any]:
    """Return all numbers, fit for JSON; numbers of images are of those that a head learns from."""
    gains, tiles = zip(audit.class_names, audit.gain_of_class, strict=True), audit.tiles_difference
    return {
        "study": audit.study,
        "images_per_class": audit.images_per_class,
        "sizes": audit.table.to_dict(orient="records"),
        "law": to_json(audit.curve.law),
        "ceiling": to_json(audit.curve.ceiling),
        "is_flat": audit.curve.is_flat,
        "need": to_json(audit.need),
        "gain_of_class": {"from": audit.half.n_images, **{name: list_difference(gain) for name, gain in gains}},
        "half_images_less_half_tiles": None if tiles is None else list_difference(tiles),
    }


def _conclude(audit: LearningCurveAudit) -> tuple[str, str]:
    curve, need, most = audit.curve, audit.need, MAX_GROWTH * audit.images_per_class
    verdict, words = WORDS[need.finding]
    needed = need.n_images or Interval(value=np.inf, low=np.inf, high=np.inf)
    numbers = (
        f"more than {_write(most)}"
        if n > MAX_GROWTH * curve.n_images
        else str(math.ceil(round(n / audit.share_learnt, 6)))
        for n in (needed.low, needed.value, needed.high)
    )
    known = {
        **dict(zip(("low", "middle", "high"), numbers, strict=True)),
        "asked": f"{need.target:.3f}",
        "tried": ", ".join(_write(size.n_images) for size in curve.sizes),
        "ceiling": curve.ceiling.to_text(),
        "most": _write(most),
        "share": f"{100 * audit.share_learnt:.0f}",
    }
    now = f"The F-measure over test tiles is {curve.score:.3f} with {_write(audit.images_per_class)} images of a class"
    return verdict.format(**known), f"{now}{words.format(**known)}"


def _iter_sections(audit: LearningCurveAudit) -> Iterator[Section]:
    if audit.curve.can_foretell:
        yield Section(heading="What would more images bring?", parts=tuple(_foretell(audit)))
    yield Section(
        heading="Which class gains most from more images?", parts=(_tabulate_classes(audit), _name_class(audit))
    )
    if audit.tiles_difference is not None:
        yield Section(
            heading="More images, or more tiles of each?", parts=(_compare_tiles(audit, audit.tiles_difference),)
        )


def _tabulate_sizes(audit: LearningCurveAudit) -> Table:
    rows = [(size.n_images, size.intervals.f_measure, size.intervals.image_accuracy) for size in audit.curve.sizes]
    return Table(
        columns=("Images of a class, learnt from", "F-measure, tiles", "Images correctly classified"),
        rows=tuple(Row(cells=(_write(n), score.to_text(), format_share(share))) for n, score, share in rows),
        note="In brackets: 95 % intervals, over test images and draws. The last row is the study's own score.",
    )


def _foretell(audit: LearningCurveAudit) -> Iterator[str | Table]:
    law, curve = audit.curve.law, audit.curve
    ceiling, gap, exponent = (float(number) for number in (law.ceiling, law.gap, law.exponent))
    yield (
        f"Fitted: {ceiling:.3f} - {gap:.3f} (n / {_write(law.reference)})^-{exponent:.2f} for n images learnt from. "
        f"Its ceiling is {curve.ceiling.to_text()}."
    )
    rows = [(growth, curve.predict(growth * curve.n_images)) for growth in GROWTHS]
    yield Table(
        columns=("Images of a class, in all", "Times as many", "F-measure, tiles"),
        rows=tuple(Row(cells=(_write(n * audit.images_per_class), f"{n:g}", score.to_text())) for n, score in rows),
    )


def _tabulate_classes(audit: LearningCurveAudit) -> Table:
    sizes = audit.curve.sizes
    scores = np.stack([size.figures.of_class.f_measure for size in sizes], axis=1)
    rows = zip(audit.class_names, scores, audit.gain_of_class, strict=True)
    return Table(
        columns=("Class", *(_write(size.n_images) for size in sizes), f"From {_write(audit.half.n_images)} to all"),
        rows=tuple(Row(cells=(name, *(f"{one:.3f}" for one in own), gain.to_text())) for name, own, gain in rows),
        note="F-measure over test tiles. The intervals of the gains hold for all classes together (Bonferroni).",
    )


def _name_class(audit: LearningCurveAudit) -> str:
    pairs = zip(audit.gain_of_class, audit.class_names, strict=True)
    clear = [(gain.value, name) for gain, name in pairs if gain.low > 0]
    if not clear:
        return "Cannot say: of no class does the interval of the gain lie above 0."
    gain, name = max(clear)
    return f"Of those that clearly gain, {name} gains most: {gain:+.3f}."


def _compare_tiles(audit: LearningCurveAudit, difference: Difference) -> str:
    """Say whether half of the images with all tiles do as well as all images with half of the tiles."""
    found = (
        f"{_write(audit.half.n_images)} images of a class with all tiles give {difference.first:.3f}, all "
        f"{_write(audit.curve.n_images)} with every second tile {difference.second:.3f}: "
        f"{difference.to_text()}."
    )
    if not difference.is_clear:
        return f"{found} No clear difference."
    return f"{found} {'Tiles' if difference.value > 0 else 'Images'} are worth more: take more of them first."


def _write(number: float) -> str:
    """Return a mean number of images: `8`, `7.5`."""
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"

"""How far a study's score can be trusted, computed from its out-of-fold predictions alone.

The statistics are those of `evaluation`, computed once for metrics, figures and report. Calibration, prediction sets
and refusals are about whole images, since these are what is served. Cost: about a second for twenty cells of a hundred
images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sem_search.evaluation.answers import HEADLINE_NAMES, tabulate_answers
from sem_search.evaluation.calibration import CalibrationScores, compute_calibration_scores, cross_fit_temperature
from sem_search.evaluation.conformal import (
    RiskCoverage,
    SetScores,
    compute_groups_needed,
    compute_risk_coverage,
    compute_set_scores,
    cross_predict_sets,
)
from sem_search.evaluation.intervals import SplitIntervals, compute_intervals
from sem_search.evaluation.metrics import combine_tiles
from sem_search.evaluation.selection import SelectionBias, compute_selection_bias
from sem_search.evaluation.statistics import Interval
from sem_search.records import FloatMatrix, FloatVector, IntVector, Split, StudyOutcome
from sem_search.tracking.entries.doubtful_labels import DoubtfulLabels, list_doubtful_labels
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.entries.metrics import NumberRow
from sem_search.tracking.entries.tables import SPLITS
from sem_search.tracking.entries.types import TableArtifact

COVERAGES = (0.8, 0.9, 0.95)
"""Of the prediction sets; 0.9 is the default of `predict`."""

ALLOWED_RISK = 0.05
"""Share of wrong answers for which the report states how many images can be answered."""


@dataclass(frozen=True, kw_only=True)
class SetCoverage:
    """Prediction sets of one coverage, each judged on folds that it was not calibrated on."""

    coverage: float
    """Asked for."""
    is_attainable: bool
    """Whether the images of all folds but one are enough to promise it by less than all classes."""
    scores: SetScores


@dataclass(frozen=True, kw_only=True)
class StudyTrust:
    """How far the winner's score can be trusted."""

    class_names: tuple[str, ...]
    select_on: Split
    validation: SplitIntervals
    test: SplitIntervals
    chosen_on_validation: SelectionBias
    chosen_on_test: SelectionBias
    calibration: CalibrationScores
    """Of the test images, as the networks answered."""
    scaled_calibration: CalibrationScores
    """After temperature scaling, each fold by the temperature that the other folds ask for."""
    temperatures: FloatVector
    """One per fold."""
    sets: tuple[SetCoverage, ...]
    risk: RiskCoverage
    doubtful_labels: DoubtfulLabels
    allowed_risk: float = ALLOWED_RISK

    @property
    def n_improved_by_scaling(self) -> int:
        """How many of calibration error and log loss fall by temperature scaling, in the three decimals printed."""
        names = ("expected_calibration_error", "log_loss")
        states = (self.calibration, self.scaled_calibration)
        printed = ([round(getattr(scores, name), 3) for scores in states] for name in names)
        return sum(before > after for before, after in printed)

    @property
    def choice(self) -> SelectionBias:
        """The choice that this study made."""
        return self.chosen_on_validation if self.select_on == "validation" else self.chosen_on_test

    def get_split(self, split: Split) -> SplitIntervals:
        """Return the intervals of one split."""
        return self.validation if split == "validation" else self.test


@dataclass(frozen=True, kw_only=True)
class ImageAnswers:
    """The winner's answers to whole test images."""

    probabilities: FloatMatrix
    """Shape (n_images, n_classes)."""
    labels: IntVector
    """True classes, shape (n_images,)."""
    fold_of_row: IntVector
    """The fold that answered, shape (n_images,)."""
    image_of_row: IntVector
    """Index into the tile table's images, shape (n_images,)."""
    group_of_row: tuple[str, ...]


def compute_trust(study: StudyOutcome) -> StudyTrust:
    """Return how far the winner's score can be trusted.

    Raises:
        ValueError: A class has fewer than two groups of images, or complete trials have different folds.
    """
    answers = gather_image_answers(study)
    scaled = cross_fit_temperature(answers.probabilities, labels=answers.labels, part_of_row=answers.fold_of_row)
    validation, test = (
        compute_intervals(tabulate_answers(study.winner, tiles=study.tiles, split=split)) for split in SPLITS
    )
    calibration, scaled_calibration = (
        compute_calibration_scores(probabilities, labels=answers.labels, group_of_row=answers.group_of_row)
        for probabilities in (answers.probabilities, scaled.probabilities)
    )
    return StudyTrust(
        class_names=study.tiles.class_names,
        select_on=study.select_on,
        validation=validation,
        test=test,
        chosen_on_validation=compute_selection_bias(study, select_on="validation"),
        chosen_on_test=compute_selection_bias(study, select_on="test"),
        calibration=calibration,
        scaled_calibration=scaled_calibration,
        temperatures=scaled.temperatures,
        sets=tuple(_judge_sets(answers, coverage=coverage) for coverage in COVERAGES),
        risk=compute_risk_coverage(answers.probabilities, labels=answers.labels),
        doubtful_labels=list_doubtful_labels(
            answers.probabilities,
            image_of_row=answers.image_of_row,
            group_of_row=answers.group_of_row,
            tiles=study.tiles,
        ),
    )


def gather_image_answers(study: StudyOutcome) -> ImageAnswers:
    """Return the predictions of the winner's networks for the test images of their folds."""
    tiles, folds = study.tiles, study.winner.folds
    combined = [
        combine_tiles(one.test_probabilities, image_of_tile=tiles.image_of_tile[one.test_tiles]) for one in folds
    ]
    order = np.concatenate([images for images, _ in combined])
    return ImageAnswers(
        probabilities=np.concatenate([probabilities for _, probabilities in combined]),
        labels=tiles.label_of_image[order],
        fold_of_row=np.repeat([one.fold for one in folds], [len(images) for images, _ in combined]),
        image_of_row=order,
        group_of_row=tuple(tiles.group_of_image[image] for image in order),
    )


def iter_trust_numbers(trust: StudyTrust) -> Iterator[NumberRow]:
    """Yield the numbers as `trust/...`, for MLflow's charts."""
    for split in SPLITS:
        intervals = trust.get_split(split)
        for name in HEADLINE_NAMES:
            yield from _iter_ends(f"trust/{split}/{name.removeprefix('tile_')}", getattr(intervals, name))
    for bias in (trust.chosen_on_validation, trust.chosen_on_test):
        stem = f"trust/chosen_on_{bias.select_on}"
        yield f"{stem}/naive", bias.naive, 0
        yield f"{stem}/test", bias.test, 0
        if bias.is_known:
            yield f"{stem}/corrected", bias.corrected.value, 0
            yield from _iter_ends(f"{stem}/corrected", bias.corrected)
            yield f"{stem}/optimism", bias.optimism, 0
    for stem, scores in (("calibration", trust.calibration), ("calibration_scaled", trust.scaled_calibration)):
        yield f"trust/{stem}/expected_calibration_error", scores.expected_calibration_error, 0
        yield f"trust/{stem}/brier_score", scores.brier_score, 0
        yield f"trust/{stem}/negative_log_likelihood", scores.log_loss, 0
    yield "trust/temperature", float(trust.temperatures.mean()), 0
    for entry in trust.sets:
        yield f"trust/sets_{100 * entry.coverage:g}/coverage", entry.scores.coverage, 0
        yield f"trust/sets_{100 * entry.coverage:g}/mean_size", entry.scores.mean_size, 0
    yield "trust/risk/area", trust.risk.area, 0
    answered = trust.risk.get_coverage_at(trust.allowed_risk)
    yield f"trust/risk/coverage_at_{100 * trust.allowed_risk:g}_percent", answered, 0


def list_intervals(trust: StudyTrust) -> dict[str, Any]:
    """Return every headline figure and every class with its interval, both splits."""
    listed: dict[str, Any] = {}
    for split in SPLITS:
        values = to_json(trust.get_split(split))
        of_class = zip(trust.class_names, values.pop("of_class"), strict=True)
        listed[split] = {**values, "classes": [{"class": name, **intervals} for name, intervals in of_class]}
    return listed


def list_selection(trust: StudyTrust) -> list[dict[str, Any]]:
    """Return what the choice did to the score, in either split."""
    listed = []
    for bias in (trust.chosen_on_validation, trust.chosen_on_test):
        values = to_json(bias)
        chosen_on, fold_out = values.pop("select_on"), values.pop("fold_out")
        own = {"chosen_on": chosen_on, "is_this_study_s_choice": chosen_on == trust.select_on}
        listed.append({**own, **values, "by_folds_left_out": fold_out, "optimism": bias.optimism})
    return listed


def list_calibration(trust: StudyTrust) -> dict[str, Any]:
    """Return the calibration before and after temperature scaling, with the reliability curves."""
    return {
        "as_answered": _list_scores(trust.calibration),
        "scaled": _list_scores(trust.scaled_calibration),
        "temperature_of_fold": to_json(trust.temperatures),
    }


def list_sets(trust: StudyTrust) -> list[dict[str, Any]]:
    """Return how the prediction sets did, by coverage."""
    listed = []
    for entry in trust.sets:
        values = to_json(entry.scores)
        of_class = dict(zip(trust.class_names, values.pop("coverage_of_class"), strict=True))
        listed.append(
            {"asked": entry.coverage, "is_attainable": entry.is_attainable, **values, "coverage_of_class": of_class}
        )
    return listed


def build_interval_table(trust: StudyTrust) -> TableArtifact:
    """Return every figure with its interval as a table: of all classes, and of each."""
    rows = []
    for split in SPLITS:
        intervals = trust.get_split(split)
        named = [("all classes", name.removeprefix("tile_"), getattr(intervals, name)) for name in HEADLINE_NAMES]
        for class_name, of_class in zip(trust.class_names, intervals.of_class, strict=True):
            named += [(class_name, name, interval) for name, interval in vars(of_class).items()]
        rows += [(split, label, name, interval.value, interval.low, interval.high) for label, name, interval in named]
    columns = ("split", "class", "figure", "value", "low", "high")
    return TableArtifact(path="trust/intervals.csv", columns=columns, rows=tuple(rows))


def _judge_sets(answers: ImageAnswers, *, coverage: float) -> SetCoverage:
    """Return how sets of this coverage did, calibrated without the fold that they are judged on."""
    sets = cross_predict_sets(
        answers.probabilities,
        labels=answers.labels,
        coverage=coverage,
        part_of_row=answers.fold_of_row,
        group_of_row=answers.group_of_row,
    )
    groups = np.asarray(answers.group_of_row)
    fewest = min(len(np.unique(groups[answers.fold_of_row != fold])) for fold in np.unique(answers.fold_of_row))
    return SetCoverage(
        coverage=coverage,
        is_attainable=fewest >= compute_groups_needed(coverage),
        scores=compute_set_scores(sets, labels=answers.labels),
    )


def _list_scores(scores: CalibrationScores) -> dict[str, Any]:
    """Return one state of calibration; the log loss under the name that files have always had."""
    values: dict[str, Any] = to_json(scores)
    log_loss = values.pop("log_loss")
    return {**values, "negative_log_likelihood": log_loss}


def _iter_ends(stem: str, interval: Interval) -> Iterator[NumberRow]:
    yield f"{stem}_low", interval.low, 0
    yield f"{stem}_high", interval.high, 0

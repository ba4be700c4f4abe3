"""How far the score can be trusted, as the report tells it: figures with their numbers, and plain sentences."""

from dataclasses import dataclass
from functools import partial

from sem_search.evaluation.calibration import CalibrationScores
from sem_search.evaluation.intervals import Interval
from sem_search.evaluation.selection import SelectionBias
from sem_search.tracking.entries.tables import SPLITS
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, TableArtifact
from sem_search.tracking.figures.catalogue import StudyFigure
from sem_search.tracking.figures.trust import draw_intervals, draw_reliability, draw_risk, draw_selection
from sem_search.tracking.report import trust as numbers
from sem_search.tracking.report.trust import ALLOWED_RISK, FIGURE_NAMES, SetCoverage, StudyTrust

FIGURE_WORDS = {
    "f_measure": "tiles, mean F-measure",
    "tile_accuracy": "tiles, accuracy",
    "image_f_measure": "images, mean F-measure",
    "image_accuracy": "images, accuracy",
}

NEGLIGIBLE = 0.0005
"""Differences below this are none in the three decimals that are printed."""


@dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """One line of the table of intervals."""

    name: str
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class TrustWords:
    """The section of the report."""

    rows: tuple[IntervalRow, ...]
    intervals: str
    choice: tuple[str, ...]
    calibration: tuple[str, ...]
    sets: tuple[SetCoverage, ...]
    refusals: str


def list_trust_figures(trust: StudyTrust) -> tuple[StudyFigure, ...]:
    """Return the figures T1 to T4, each with the numbers behind it."""
    biases = (trust.chosen_on_validation, trust.chosen_on_test)
    return (
        StudyFigure(
            number="T1",
            caption=(
                "The winner’s F-measure on each class, test data, with 95 % intervals from a bootstrap over images. "
                "Where intervals are long, few images stand behind the figure."
            ),
            artifact=FigureArtifact(path="trust/t1_intervals.png", draw=partial(draw_intervals, trust)),
            numbers=JsonArtifact(path="trust/t1_intervals.json", content=numbers.list_intervals(trust)),
        ),
        StudyFigure(
            number="T2",
            caption=(
                "What choosing the best combination did to the score: on the tiles that it was chosen on, on the test "
                "tiles, and what can be expected of images that chose nothing (BBC-CV, with its 95 % interval)."
            ),
            artifact=FigureArtifact(path="trust/t2_selection.png", draw=partial(draw_selection, biases)),
            numbers=JsonArtifact(path="trust/t2_selection.json", content=numbers.list_selection(trust)),
        ),
        StudyFigure(
            number="T3",
            caption=(
                "Whether probabilities mean what they say: answers to whole test images, in bins of equally many. On "
                "the dashed line an answer of 0.9 is right nine times out of ten; below it the network claims too much."
            ),
            artifact=FigureArtifact(
                path="trust/t3_reliability.png",
                draw=partial(draw_reliability, trust.calibration, trust.scaled_calibration),
            ),
            numbers=JsonArtifact(path="trust/t3_reliability.json", content=numbers.list_calibration(trust)),
        ),
        StudyFigure(
            number="T4",
            caption=(
                "What is gained by leaving the least confident images to a person: the share of wrong answers among "
                "the images that are answered."
            ),
            artifact=FigureArtifact(path="trust/t4_risk_coverage.png", draw=partial(draw_risk, trust.risk)),
            numbers=JsonArtifact(path="trust/t4_risk_coverage.json", content=numbers.list_risk(trust)),
        ),
    )


def build_interval_table(trust: StudyTrust) -> TableArtifact:
    """Return every figure with its interval as a table: of all classes, and of each."""
    rows = []
    for split in SPLITS:
        intervals = trust.get_split(split)
        named = [("all classes", name, getattr(intervals, name)) for name in FIGURE_NAMES]
        for class_name, of_class in zip(trust.class_names, intervals.of_class, strict=True):
            named += [(class_name, name, interval) for name, interval in vars(of_class).items()]
        rows += [(split, label, name, interval.value, interval.low, interval.high) for label, name, interval in named]
    return TableArtifact(
        path="trust/intervals.csv", columns=("split", "class", "figure", "value", "low", "high"), rows=tuple(rows)
    )


def build_set_artifact(trust: StudyTrust) -> JsonArtifact:
    """Return the coverage of the prediction sets, which has no picture."""
    return JsonArtifact(path="trust/prediction_sets.json", content=numbers.list_sets(trust))


def write_trust_words(trust: StudyTrust) -> TrustWords:
    """Return the section of the report."""
    return TrustWords(
        rows=tuple(
            IntervalRow(name=f"{split} {FIGURE_WORDS[name]}", interval=getattr(trust.get_split(split), name))
            for split in reversed(SPLITS)
            for name in FIGURE_NAMES
        ),
        intervals=_describe_intervals(trust),
        choice=(_describe_choice(trust.choice), _describe_test_choice(trust)),
        calibration=(
            _describe_calibration(trust.calibration),
            _describe_scaling(trust),
        ),
        sets=trust.sets,
        refusals=_describe_refusals(trust),
    )


def _describe_intervals(trust: StudyTrust) -> str:
    """Say what stands behind the intervals."""
    test = trust.test
    count = (
        f"{test.n_images} images"
        if test.n_images == test.n_groups
        else f"{test.n_images} images in {test.n_groups} groups"
    )
    return (
        f"The test scores rest on {count}. Other images of the same kind would have given other figures: in 95 of 100 "
        "such cases the true figure lies inside the interval (in somewhat fewer with less than ten images a class). "
        "The interval is about the images, not about training the network anew, and not about images of another kind."
    )


def _describe_choice(bias: SelectionBias) -> str:
    """Say what this study's choice did."""
    if bias.n_candidates == 1:
        return _describe_single(bias)
    return (
        f"The winner was the best of {bias.n_candidates} complete trials on the {bias.select_on} tiles. The best of "
        f"many is in part the luckiest: its score there is {bias.naive:.3f}; a winner chosen so can be expected to "
        f"score {bias.corrected.to_text()} on images that had no part in the choice (BBC-CV; by choices with each "
        f"fold’s images left out: {bias.fold_out:.3f}). {_describe_optimism(bias)}"
    )


def _describe_single(bias: SelectionBias) -> str:
    """Say what is known of a choice where one trial alone answered all images."""
    if not bias.n_left_out:
        return "Only one combination was tried, so nothing was chosen and the score owes nothing to a choice."
    others = "1 other was" if bias.n_left_out == 1 else f"{bias.n_left_out} others were"
    return (
        f"Only one combination was tried in full; {others} ended early or failed. They did not answer all images, so "
        "that what the choice put into the score cannot be computed: search with pruner=none to know it."
    )


def _describe_test_choice(trust: StudyTrust) -> str:
    """Say what choosing on the test tiles, as the paper did, flatters."""
    bias = trust.chosen_on_test
    if bias.n_candidates == 1 and bias.n_left_out:
        return "What choosing on the test tiles, as the paper did, would have claimed is not known either."
    if bias.n_candidates == 1:
        return "With a single trial, choosing on the test tiles, as the paper did, would have claimed no more."
    return (
        f"Choosing on the test tiles, as the paper did, would claim {bias.naive:.3f} (trial {bias.winner}) where "
        f"{bias.corrected.to_text()} can be expected. {_describe_optimism(bias)}"
    )


def _describe_optimism(bias: SelectionBias) -> str:
    """Say by how much a score flatters."""
    amount = "nothing that could be measured" if bias.optimism < NEGLIGIBLE else f"{bias.optimism:.3f}"
    sentence = f"The choice flatters by {amount}."
    if not bias.n_left_out:
        return sentence
    return f"{sentence} Trials that ended early or failed, {bias.n_left_out} of them, are not counted: it may be more."


def _describe_calibration(scores: CalibrationScores) -> str:
    """Say whether the probabilities mean what they say."""
    error, chance = scores.expected_calibration_error, scores.highest_error_if_calibrated
    verdict = (
        f"more than the {chance:.3f} that chance alone would show at most: do not read the probabilities as they stand"
        if error > chance
        else f"no more than the {chance:.3f} that chance alone could show with so few images"
    )
    return (
        f"On whole test images the network is on average {100 * scores.confidence:.1f} % sure and right in "
        f"{100 * scores.accuracy:.1f} %. Confidence and truth lie {error:.3f} apart (expected calibration error); that "
        f"is {verdict}."
    )


def _describe_scaling(trust: StudyTrust) -> str:
    """Say what temperature scaling mends."""
    before, after = trust.calibration, trust.scaled_calibration
    low, high = float(trust.temperatures.min()), float(trust.temperatures.max())
    temperatures = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    return (
        f"Temperature scaling, each fold by what the others ask for (temperature {temperatures}), brings the error to "
        f"{after.expected_calibration_error:.3f} and the log loss (in nats; 0 if the "
        f"true class always has probability 1) from {before.log_loss:.3f} to {after.log_loss:.3f}: "
        f"{_judge_scaling(before, after)} on images that it was not fitted on."
    )


def _judge_scaling(before: CalibrationScores, after: CalibrationScores) -> str:
    """Say whether both figures fell, one of them, or none; as they are printed, so that no digit contradicts it."""
    gains = [
        round(before.log_loss, 3) > round(after.log_loss, 3),
        round(before.expected_calibration_error, 3) > round(after.expected_calibration_error, 3),
    ]
    if all(gains):
        return "it helps"
    return "it helps in one respect and not in the other" if any(gains) else "it does not help"


def _describe_refusals(trust: StudyTrust) -> str:
    """Say what leaving images to a person gains."""
    share = trust.risk.get_coverage_at(ALLOWED_RISK)
    all_wrong = float(trust.risk.risk[-1])
    if all_wrong <= ALLOWED_RISK:
        return f"If all images are answered, {100 * all_wrong:.1f} % of the answers are wrong."
    if share == 0:
        return (
            f"If all images are answered, {100 * all_wrong:.1f} % of the answers are wrong, and even the most "
            f"confident ones are wrong in more than {100 * ALLOWED_RISK:g} %: confidence does not tell which to "
            "believe."
        )
    return (
        f"If all images are answered, {100 * all_wrong:.1f} % of the answers are wrong. If the least confident are "
        f"left to a person, {100 * share:.0f} % of the images can be answered with at most {100 * ALLOWED_RISK:g} % "
        "wrong. "
        "The limit was found on these very images: expect a little less on others."
    )

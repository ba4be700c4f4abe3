"""What came in a period, figure by figure, beside the training images or an earlier period of the journal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sem_search.deployment.package.calibration_record import CALIBRATION_FILE, read_calibration
from sem_search.deployment.package.description import DESCRIPTION_FILE, read_description
from sem_search.deployment.package.record import RECORD_FOLDER, read_catalogue_record, read_out_of_fold
from sem_search.deployment.pyfunc.model import MODEL_FOLDER
from sem_search.deployment.registry.contents import borrow_model
from sem_search.errors import DataError, ModelNotFoundError, StoreError
from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.drift import (
    FALSE_ALARM_RATE,
    Cause,
    Evidence,
    Scores,
    compare_counts,
    compare_ranks,
    compute_median_interval,
    find_cause,
    follow_evidence,
)
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.evaluation.novelty import UNKNOWN_ABOVE
from sem_search.evaluation.statistics import MAX_P_VALUE, Interval, adjust_p_values
from sem_search.records import FloatVector

HASH_DIGITS = 13
"""Of an image's hash that decide between equal scores: as many as a double holds."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is compared: a score of each image."""

    key: str
    name: str
    score: Callable[[pd.DataFrame], pd.Series]
    """Higher is less usual."""
    is_share: bool = False
    """Of the images, where the score is 0 or 1; else the median is shown."""
    is_two_sided: bool = False
    """Whether lower is less usual, too."""
    is_followed: bool = True
    """Whether it can give an alarm."""
    is_of_training: bool = True
    """Whether the training images have it: their probabilities are of single heads, those served are of all."""


FIGURES = (
    # Novelty says more than whether it is above 1, so what is called unknown gives no alarm of its own.
    Figure(
        key="unknown",
        name="called unknown",
        score=lambda rows: rows.is_known.map({True: 0.0, False: 1.0}),
        is_share=True,
        is_followed=False,
    ),
    Figure(key="novelty", name="novelty", score=lambda rows: rows.novelty),
    Figure(
        key="pixel_size",
        name="pixel size far from training",
        score=lambda rows: rows.pixel_size.map({"far": 1.0, "as trained": 0.0}),
        is_share=True,
    ),
    Figure(key="mean_grey", name="brightness", score=lambda rows: rows.mean_grey, is_two_sided=True),
    Figure(key="contrast", name="contrast", score=lambda rows: rows.contrast, is_two_sided=True),
    Figure(key="noise", name="noise", score=lambda rows: rows.noise, is_two_sided=True),
    Figure(key="doubt", name="1 - probability", score=lambda rows: 1 - rows.probability, is_of_training=False),
)

MIX = "mix"
"""The proportions of the labels, among the p-values of the figures."""

GREY_LEVELS = ("mean_grey", "contrast", "noise")
"""What the catalogue of a model's training images holds of each, too."""


@dataclass(frozen=True, kw_only=True)
class FigureComparison:
    """One figure of both; None where no image has it."""

    figure: Figure
    reference: Interval | None
    period: Interval | None
    p_value: float | None
    """Of this look alone, for all figures together (Holm); None where no label has images of both."""
    evidence: Evidence | None
    alarm: int | None
    """How many images had come at the alarm."""
    onset: pd.Timestamp | None
    """When that which gave the alarm most probably began."""
    end: pd.Timestamp | None
    """When its last image most probably came; that of the alarm, or a later one."""


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """A period compared with its reference."""

    reference: pd.DataFrame
    period: pd.DataFrame
    figures: tuple[FigureComparison, ...]
    mix_p_value: float | None
    """Whether the labels come in other proportions, with the p-values of the figures; None against training."""
    cause: Cause | None
    """None without an alarm."""
    moved_labels: tuple[str, ...]
    """That lay farther out while the drift lasted, by a look at each, for all labels together (Holm)."""

    @property
    def needed(self) -> float:
        """The evidence at which there is an alarm."""
        return sum(one.figure.is_followed for one in self.figures) / FALSE_ALARM_RATE


def read_training(model_uri: str) -> pd.DataFrame:
    """Return the training images of a model as rows of a journal: what they were when they were left out of the fit.

    Their labels are those that were predicted, as those of a journal are: where classes are confused, the images called
    by one label are a mixture, and are compared with the same mixture. Without a record they are the true ones.

    Raises:
        ModelNotFoundError: The model cannot be fetched.
        StoreError: It is damaged.
        DataError: It was made before this was stored.
    """
    with borrow_model(model_uri) as model:
        folder, record = (model / "artifacts" / name for name in (MODEL_FOLDER, RECORD_FOLDER))
        if not (folder / DESCRIPTION_FILE).is_file():
            raise ModelNotFoundError(f"{model_uri} is no classifier of sem_search: it has no {DESCRIPTION_FILE}.")
        calibration, class_names = folder / CALIBRATION_FILE, read_description(folder).class_names
        novelty = read_calibration(calibration).novelty if calibration.is_file() else None
        records = read_catalogue_record(record, root=record).records if record.is_dir() else ()
        answers = read_out_of_fold(record) if record.is_dir() else None
    if novelty is None or not len(novelty.left_out):
        raise DataError(
            f"{model_uri} was made before models held the novelty of each training image: search again, or compare "
            "with an earlier period (--against 2026-01-01..2026-02-01)."
        )
    labels = [class_names[number] for number in novelty.left_out_classes]
    if answers is not None:
        if [one.label for one in records] != labels:
            raise StoreError(f"{model_uri} is inconsistent: its record and its calibration hold other training images.")
        table = tabulate_answers(answers.trial, tiles=answers.tiles, split="test")
        labels = [class_names[number] for number in table.answer_of_row[np.argsort(table.image_of_row)]]
        if len(labels) != len(records):
            raise StoreError(f"{model_uri} is inconsistent: its record has {len(labels)} answers to other images.")
    names = (*GREY_LEVELS, "pixel_size_nm")
    kept = pd.DataFrame([{name: getattr(one, name) for name in names} for one in records], columns=names, dtype=float)
    rows = pd.DataFrame(
        {
            "label": labels,
            "novelty": novelty.left_out,
            "is_known": novelty.left_out <= UNKNOWN_ABOVE,
            "ties": np.random.default_rng(0).random(len(novelty.left_out)),
        }
    )
    return rows.join(kept).assign(pixel_size=kept.pixel_size_nm.notna().map({True: "as trained", False: "unknown"}))


def select_images(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each image of a journal once, where it came first, without training images."""
    rows = rows[rows.is_training_image.ne(True)].drop_duplicates("image_sha256")
    ties = [int(sha256[:HASH_DIGITS], 16) / 16**HASH_DIGITS for sha256 in rows.image_sha256]
    return rows.assign(ties=ties).reset_index(drop=True)


def compare_period(reference: pd.DataFrame, period: pd.DataFrame) -> DriftReport:
    """Compare a period with a reference.

    Args:
        reference: Rows of `read_training`, or of `select_images` of an earlier period.
        period: Rows of `select_images`, at least one, in the order of time.
    """
    is_training = "image_sha256" not in reference
    figures = [figure for figure in FIGURES if figure.is_of_training or not is_training]
    n_figures = sum(figure.is_followed for figure in figures)
    usual = [build_scores(reference, figure=figure)[0] for figure in figures]
    new = [build_scores(period, figure=figure) for figure in figures]
    p_values = {
        figure.key: compare_ranks(first, second)
        for figure, first, (second, _) in zip(figures, usual, new, strict=True)
        if np.isin(first.labels, second.labels).any()
    }
    if not is_training:
        counts = pd.DataFrame({"reference": reference.label.value_counts(), "period": period.label.value_counts()})
        p_values[MIX] = compare_counts(*counts.fillna(0).astype(int).to_numpy().T)
    adjusted = dict(zip(p_values, adjust_p_values(np.array([*p_values.values()])).tolist(), strict=True))
    compared = tuple(
        _compare_figure(
            figure,
            reference=first,
            period=second,
            times=rows.answered_at,
            p_value=adjusted.get(figure.key),
            n_figures=n_figures,
        )
        for figure, first, (second, rows) in zip(figures, usual, new, strict=True)
    )
    cause, moved_labels = _explain_alarm(compared, reference=reference, period=period)
    return DriftReport(
        reference=reference,
        period=period,
        figures=compared,
        mix_p_value=adjusted.get(MIX),
        cause=cause,
        moved_labels=moved_labels,
    )


def measure(values: FloatVector, *, is_share: bool) -> Interval | None:
    """Return the share or the median of the scores of independent images, with its interval; None without images."""
    if not len(values):
        return None
    return compute_share_interval(float(values.mean()), n=len(values)) if is_share else compute_median_interval(values)


def build_scores(rows: pd.DataFrame, *, figure: Figure) -> tuple[Scores, pd.DataFrame]:
    """Return the scores of the images that have one, and the rows of these images."""
    values = np.asarray(figure.score(rows), dtype=np.float64)
    labels, ties = rows.label.to_numpy(dtype=np.str_), rows.ties.to_numpy()
    scores = Scores(values=values, labels=labels, ties=ties, is_two_sided=figure.is_two_sided)
    is_there = ~np.isnan(values)
    return scores.select(is_there), rows[is_there]


def _compare_figure(
    figure: Figure, *, reference: Scores, period: Scores, times: pd.Series, p_value: float | None, n_figures: int
) -> FigureComparison:
    is_told = figure.is_followed and len(period.values) > 0 and len(reference.values) > 0
    evidence = follow_evidence(reference, period, n_figures=n_figures) if is_told else None
    alarm, onset, end = (None,) * 3 if evidence is None else (evidence.alarm, evidence.onset, evidence.end)
    return FigureComparison(
        figure=figure,
        reference=measure(reference.values, is_share=figure.is_share),
        period=measure(period.values, is_share=figure.is_share),
        p_value=p_value,
        evidence=evidence,
        alarm=None if alarm is None else alarm + 1,
        onset=None if onset is None else times.iloc[onset],
        end=None if end is None else times.iloc[end],
    )


def _explain_alarm(
    figures: Sequence[FigureComparison], *, reference: pd.DataFrame, period: pd.DataFrame
) -> tuple[Cause | None, tuple[str, ...]]:
    """Return whether the instrument or the material is the cause of an alarm, and the labels that have moved."""
    alarms = [one for one in figures if one.alarm is not None]
    causes = {one.figure.key for one in alarms}
    if not causes or causes <= {"pixel_size", "doubt"}:
        return ("instrument" if "pixel_size" in causes else "unclear") if causes else None, ()
    first = min(
        (one for one in alarms if one.figure.key not in ("pixel_size", "doubt")), key=lambda one: one.alarm or 0
    )
    usual, _ = build_scores(reference, figure=first.figure)
    lasted = (period.answered_at >= first.onset) & (period.answered_at <= first.end)
    moved, _ = build_scores(period[lasted], figure=first.figure)
    labels = np.intersect1d(usual.labels, moved.labels)
    p_values = adjust_p_values(np.array([compare_ranks(usual, moved.select(moved.labels == one)) for one in labels]))
    names = tuple(str(label) for label in labels[p_values <= MAX_P_VALUE])
    cause = "instrument" if "pixel_size" in causes else find_cause(usual, moved)
    # Together the labels differ from one another, but none stands out: there is no name to give.
    return "unclear" if cause == "material" and not names else cause, names

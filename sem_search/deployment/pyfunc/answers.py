"""An answer as the caller gets it: plain values under names that are promised.

The names are those of the model's signature in `package.writing`; `docs/serving.md` explains them.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sem_search.deployment.classifier.classifier import ImageAnswer, MicrographClassifier
from sem_search.deployment.classifier.overlay import draw_image
from sem_search.deployment.classifier.pixel_size import check_pixel_size
from sem_search.deployment.package.calibration_record import Calibration
from sem_search.deployment.pyfunc.requests import BadRow, RequestOptions
from sem_search.evaluation.conformal import CrossAnswers, compute_groups_needed, predict_cross_set
from sem_search.evaluation.novelty import UNKNOWN_ABOVE, NoveltyModel
from sem_search.micrographs.reading.micrograph import Micrograph, encode_png
from sem_search.records import FloatVector
from sem_search.words import MAX_JOINED, name_some

NAMES = (
    *("label", "probability", "probabilities", "prediction_set", "coverage", "n_calibration_images"),
    *("n_calibration_groups", "is_known", "novelty", "novelty_threshold", "is_training_image", "agreement", "spread"),
    *("pixel_size_nm", "pixel_size", "n_tiles", "warnings"),
)
"""Of each answer, in this order."""

NOVELTY_NOT_KNOWN = (
    "the model cannot tell whether it knows this material: it has no record of what known ones look like"
)
NOT_CALIBRATED = (
    "the model was packed without out-of-fold answers: its probabilities are not calibrated, its sets hold all classes"
)
LABELS_NOT_KNOWN = (
    "the model was packed by a version that did not record the classes of its calibration images, so it cannot keep a "
    "coverage for each class: its set holds all classes; a model of a new search can"
)


@dataclass(frozen=True, kw_only=True)
class ServedName:
    """What the registry calls a model; None where it was not loaded from the registry."""

    name: str | None = None
    version: str | None = None


def describe_answers(
    answers: Iterable[ImageAnswer],
    *,
    rows: Sequence[Micrograph | BadRow],
    classifier: MicrographClassifier,
    options: RequestOptions,
    served_name: ServedName,
) -> list[dict[str, Any]]:
    """Return one record for each row of the request, in its order; all records have the same names.

    There is one answer for each row that is a micrograph.
    """
    given = iter(answers)
    records = []
    for row in rows:
        if isinstance(row, BadRow):
            record, error = _describe_nothing(options), row.reason
        else:
            record = _describe_answer(next(given), micrograph=row, classifier=classifier, options=options)
            error = None
        record |= {"model_name": served_name.name, "model_version": served_name.version}
        records.append(record | ({"error": error} if options.on_error == "report" else {}))
    return records


def _describe_nothing(options: RequestOptions) -> dict[str, Any]:
    """Return the record of a row without an answer."""
    record: dict[str, Any] = dict.fromkeys(NAMES) | {"coverage": options.coverage}
    record |= dict.fromkeys(("n_calibration_images", "n_calibration_groups", "n_tiles"), 0)
    record |= {"prediction_set": [], "warnings": []}
    pictures = {"image_png": None, "overlay_png": None} if options.explain else {}
    return record | pictures | ({"tiles": []} if options.tiles else {})


def _describe_answer(
    answer: ImageAnswer, *, micrograph: Micrograph, classifier: MicrographClassifier, options: RequestOptions
) -> dict[str, Any]:
    description, pixel_size_nm = classifier.description, micrograph.metadata.pixel_size_nm
    class_names = description.class_names
    pixel_size, far = check_pixel_size(
        pixel_size_nm, trained_nm=description.pixel_sizes_nm, is_brought_to_one=description.pixel_size_nm is not None
    )
    calibration = classifier.calibration
    members, doubts = _choose_set(answer, calibration=calibration, class_names=class_names, options=options)
    novelty, unlike = _describe_novelty(answer, classifier=classifier)
    warnings = [*micrograph.warnings, *unlike, *doubts, *([far] if far else [])]
    record = _describe_probabilities(answer.probabilities, class_names=class_names) | {
        "prediction_set": [class_names[index] for index in members],
        "coverage": options.coverage,
        "n_calibration_images": calibration.answers.n_images if calibration else 0,
        "n_calibration_groups": calibration.answers.n_groups if calibration else 0,
        **novelty,
        "is_training_image": classifier.is_training_image(micrograph.original),
        "agreement": answer.agreement,
        "spread": answer.spread,
        "pixel_size_nm": pixel_size_nm,
        "pixel_size": pixel_size,
        "n_tiles": len(answer.corners),
        "warnings": warnings,
    }
    if options.explain and answer.overlay_png is not None:
        pictures = {"image_png": encode_png(draw_image(micrograph.pixels)), "overlay_png": answer.overlay_png}
        record |= {name: base64.b64encode(picture).decode("ascii") for name, picture in pictures.items()}
    if options.tiles:
        record["tiles"] = [
            {"top_px": top, "left_px": left, **_describe_probabilities(tile, class_names=class_names)}
            for tile, (top, left) in zip(answer.tile_probabilities, answer.corners, strict=True)
        ]
    return record


def _describe_novelty(
    answer: ImageAnswer, *, classifier: MicrographClassifier
) -> tuple[dict[str, bool | float | None], tuple[str, ...]]:
    """Return whether an image is like the training images, by which numbers, and the warnings."""
    model = classifier.calibration.novelty if classifier.calibration is not None else None
    if model is None or answer.novelty is None:
        return dict.fromkeys(("is_known", "novelty", "novelty_threshold")), (NOVELTY_NOT_KNOWN,)
    is_known = answer.novelty <= UNKNOWN_ABOVE
    facts: dict[str, bool | float | None] = {
        "is_known": is_known,
        "novelty": answer.novelty,
        "novelty_threshold": UNKNOWN_ABOVE,
    }
    if is_known:
        return facts, ()
    nearest = classifier.description.class_names[answer.label]
    return facts, (
        f"the image is unlike the training images (novelty {answer.novelty:.3g}, unknown above {UNKNOWN_ABOVE:g}): "
        f"{nearest!r} is only the closest material that the model knows{_describe_alarms(model, label=answer.label)}",
    )


def _describe_alarms(model: NoveltyModel, *, label: int) -> str:
    """Return how many images of a class are called unknown, too, where these are more than is promised of all."""
    n_images, n_alarms = int(model.class_sizes[label]), int(model.class_alarms[label])
    if n_alarms <= model.attained_false_alarm_rate * n_images:
        return ""
    return f"; but its images vary: {n_alarms} of the {n_images} in training, when left out, counted as unknown, too"


def _choose_set(
    answer: ImageAnswer, *, calibration: Calibration | None, class_names: Sequence[str], options: RequestOptions
) -> tuple[list[int], tuple[str, ...]]:
    """Return the classes of the prediction set, the most probable first, and the warnings."""
    by_probability = [int(index) for index in np.argsort(-answer.probabilities, kind="stable")]
    coverage, of_class = options.coverage, options.coverage_of == "class"
    if calibration is None:
        return by_probability, (NOT_CALIBRATED,)
    if of_class and calibration.answers.label_of_image is None:
        return by_probability, (LABELS_NOT_KNOWN,)
    if not of_class and not calibration.answers.is_attainable(coverage):
        return by_probability, (
            f"a set that holds the true class of {100 * coverage:g} % of images needs "
            f"{compute_groups_needed(coverage)} independent images to calibrate on, and there are "
            f"{calibration.answers.n_groups}: it holds all classes",
        )
    is_member = predict_cross_set(
        answer.head_probabilities,
        answers=calibration.answers,
        coverage=coverage,
        most_probable=answer.label,
        coverage_of=options.coverage_of,
    )
    few = _describe_small_classes(calibration.answers, class_names=class_names, coverage=coverage) if of_class else ()
    return [index for index in by_probability if is_member[index]], few


def _describe_small_classes(answers: CrossAnswers, *, class_names: Sequence[str], coverage: float) -> tuple[str, ...]:
    """Return a warning that names the classes with too few images for a set to leave them out."""
    needed, n_groups = compute_groups_needed(coverage), answers.count_groups_of_class(len(class_names))
    small = [f"{name} ({n})" for name, n in zip(class_names, n_groups, strict=True) if n < needed]
    if not small:
        return ()
    return (
        f"sets that hold the true class of {100 * coverage:g} % of the images of each class need {needed} independent "
        "images of each to calibrate on; of these there are fewer, and every set holds them: "
        f"{name_some(small, most=MAX_JOINED)}",
    )


def _describe_probabilities(probabilities: FloatVector, *, class_names: Sequence[str]) -> dict[str, Any]:
    """Return label, probability and probabilities of one image or tile, as plain Python values."""
    values = [float(value) for value in probabilities]
    best = int(probabilities.argmax())
    return {
        "label": class_names[best],
        "probability": values[best],
        "probabilities": dict(zip(class_names, values, strict=True)),
    }

"""What the out-of-fold answers teach about new ones; it is fitted when a model is packed, and travels with it.

Every image was answered by the one head that was not trained on it. From these answers come the temperature that makes
probabilities mean what they say and what prediction sets are compared with. Both were found with single heads, and all
heads answer together: what that changes was measured on images of their own, see `docs/serving.md`. Whether an image is
known is judged by the trunk, which is frozen, so there it makes no difference.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import StoreError
from sem_search.evaluation.calibration import apply_temperature, fit_temperature
from sem_search.evaluation.conformal import CrossAnswers
from sem_search.evaluation.metrics import combine_tiles
from sem_search.evaluation.novelty import NoveltyModel
from sem_search.files import ARCHIVE_DAMAGE, pack_arrays, unpack_arrays
from sem_search.records import TileTable, TrialOutcome

CALIBRATION_FILE = "calibration.npz"

NOVELTY_PREFIX = "novelty_"
"""Of the arrays in that file that describe what known images look like."""

ANSWERS = ("of_true_class", "network_of_image", "group_of_image")
"""Fields of the answers, and arrays in that file."""

LABELS = "label_of_image"
"""One more, which older models lack."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a classifier's answers are to be taken."""

    temperature: float
    """Divides the log probabilities of whole images."""
    answers: CrossAnswers
    """What each image's own head answered, at this temperature."""
    novelty: NoveltyModel | None = None
    """What images of known materials look like to the trunk; None where that is not known."""


def fit_calibration(
    trial: TrialOutcome, *, tiles: TileTable, novelty: NoveltyModel | None = None
) -> Calibration | None:
    """Return what a trial's test answers teach; None if all of its heads diverged.

    Args:
        trial: Its folds in the order of the heads that will be served.
        tiles: Of the study.
        novelty: What the study's images look like to the trunk.
    """
    tests = [fold.get_split("test") for fold in trial.folds]
    parts = [combine_tiles(answers, image_of_tile=tiles.image_of_tile[of_fold]) for of_fold, answers in tests]
    images = np.concatenate([part[0] for part in parts])
    probabilities = np.concatenate([part[1] for part in parts])
    heads = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    is_usable = np.isfinite(probabilities).all(axis=1)
    if not is_usable.any():
        return None
    images, probabilities, heads = images[is_usable], probabilities[is_usable], heads[is_usable]
    labels = tiles.label_of_image[images]
    temperature = fit_temperature(probabilities, labels=labels)
    calibrated = apply_temperature(probabilities, temperature=temperature)
    _, group_of_image = np.unique(np.asarray(tiles.group_of_image), return_inverse=True)
    return Calibration(
        temperature=temperature,
        answers=CrossAnswers(
            of_true_class=calibrated[np.arange(len(labels)), labels],
            network_of_image=heads.astype(np.int64),
            group_of_image=group_of_image[images].astype(np.int64),
            label_of_image=labels,
        ),
        novelty=novelty,
    )


def write_calibration(calibration: Calibration, *, path: Path) -> None:
    """Write a calibration as a NumPy archive without pickle."""
    arrays: dict[str, NDArray[Any]] = {"temperature": np.array(calibration.temperature)}
    arrays |= {name: getattr(calibration.answers, name) for name in ANSWERS}
    if calibration.answers.label_of_image is not None:
        arrays[LABELS] = calibration.answers.label_of_image
    if calibration.novelty is not None:
        arrays |= {NOVELTY_PREFIX + name: array for name, array in calibration.novelty.to_arrays().items()}
    path.write_bytes(pack_arrays(arrays))


def read_calibration(path: Path) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        StoreError: The file holds something else.
    """
    try:
        arrays = unpack_arrays(path.read_bytes())
        answers = CrossAnswers(**{name: arrays[name] for name in ANSWERS}, label_of_image=arrays.get(LABELS))
        own = {name.removeprefix(NOVELTY_PREFIX): each for name, each in arrays.items() if NOVELTY_PREFIX in name}
        novelty = NoveltyModel.from_arrays(own) if own else None
        return Calibration(temperature=float(arrays["temperature"]), answers=answers, novelty=novelty)
    except ARCHIVE_DAMAGE as error:
        raise StoreError(f"The model is damaged: {path.name} does not hold a calibration.") from error

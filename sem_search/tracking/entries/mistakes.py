"""Which test images and tiles a trial classified wrongly, and how sure it was: as records, and as tables."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sem_search.evaluation.metrics import PROBABILITY_FLOOR, combine_tiles, predict_classes
from sem_search.records import FloatVector, TileTable, TrialOutcome
from sem_search.tracking.entries.types import TableArtifact

PROBABILITY_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the head that was not trained on an image answered to it, from all its tiles together."""

    image: int
    """Index into the tile table's images."""
    image_id: str
    fold: int
    """Whose test set holds the image; counted from 0."""
    true_label: str
    predicted_label: str
    other_label: str
    """The most probable of the other classes: where the answer is wrong, the predicted one."""
    true_probability: float
    other_probability: float

    @property
    def is_wrong(self) -> bool:
        """Whether another class than the true one was predicted."""
        return self.predicted_label != self.true_label

    @property
    def lead(self) -> float:
        """By how much the other class is more probable than the true one: the surest mistakes have the most."""
        return self.other_probability - self.true_probability


@dataclass(frozen=True, kw_only=True)
class AnsweredTile(Answer):
    """The answer to one tile."""

    tile: int
    """Index into the tile table's tiles."""
    place: int
    """Counted from 0 among the tiles of its image, as Figure S1 numbers them."""
    log_loss: float
    """Minus the log probability of the true class, in nats."""


def list_answers(trial: TrialOutcome, *, tiles: TileTable) -> tuple[Answer, ...]:
    """Return the answers to all test images: the surest mistakes first, the surest correct answers last."""
    answers = []
    for fold in trial.folds:
        images, combined = combine_tiles(fold.test_probabilities, image_of_tile=tiles.image_of_tile[fold.test_tiles])
        answers += [
            Answer(**_describe(row, image=int(image), fold=fold.fold, tiles=tiles))
            for image, row in zip(images, combined, strict=True)
        ]
    return tuple(sorted(answers, key=lambda answer: (not answer.is_wrong, -answer.lead, answer.image)))


def list_worst_tiles(trial: TrialOutcome, *, tiles: TileTable, n_most: int) -> tuple[AnsweredTile, ...]:
    """Return the test tiles of the highest log loss, the highest first."""
    at = np.concatenate([fold.test_tiles for fold in trial.folds])
    rows = np.nan_to_num(np.concatenate([fold.test_probabilities for fold in trial.folds]))
    folds = np.repeat([fold.fold for fold in trial.folds], [len(fold.test_tiles) for fold in trial.folds])
    losses = -np.log(np.maximum(rows[np.arange(len(at)), tiles.label_of_tile[at]], PROBABILITY_FLOOR))
    first_tile = np.searchsorted(tiles.image_of_tile, np.arange(len(tiles.image_ids)))
    worst = np.lexsort((at, -losses))[:n_most]
    return tuple(
        AnsweredTile(
            **_describe(rows[row], image=int(image), fold=int(folds[row]), tiles=tiles),
            tile=int(at[row]),
            place=int(at[row] - first_tile[image]),
            log_loss=float(losses[row]),
        )
        for row, image in zip(worst, tiles.image_of_tile[at[worst]], strict=True)
    )


def build_mistake_table(trial: TrialOutcome, *, tiles: TileTable, path: str) -> TableArtifact:
    """Return every wrongly classified test image, numbered as the pictures are, the surest mistakes first."""
    columns = ("number", "image_id", "fold", "true", "predicted", "probability_of_true", "probability_of_predicted")
    wrong = (answer for answer in list_answers(trial, tiles=tiles) if answer.is_wrong)
    rows = tuple(
        (
            number,
            answer.image_id,
            answer.fold + 1,
            answer.true_label,
            answer.predicted_label,
            round(answer.true_probability, PROBABILITY_DIGITS),
            round(answer.other_probability, PROBABILITY_DIGITS),
        )
        for number, answer in enumerate(wrong, start=1)
    )
    return TableArtifact(path=path, columns=columns, rows=rows)


def _describe(row: FloatVector, *, image: int, fold: int, tiles: TileTable) -> dict[str, Any]:
    """Return the fields that an image and a tile have in common."""
    true = int(tiles.label_of_image[image])
    predicted = int(predict_classes(row[None])[0])
    others = np.nan_to_num(row)
    others[true] = -1
    other = int(others.argmax())
    return {
        "image": image,
        "image_id": tiles.image_ids[image],
        "fold": fold,
        "true_label": tiles.class_names[true],
        "predicted_label": tiles.class_names[predicted],
        "other_label": tiles.class_names[other],
        "true_probability": float(np.nan_to_num(row[true])),
        "other_probability": float(others[other]),
    }

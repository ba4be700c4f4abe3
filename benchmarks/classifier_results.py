"""What the rows of `scripts/benchmark classifiers` answered: one line of JSON for each."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from sem_search.evaluation.answers import AnswerTable, compute_figures


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row on one set with one seed: of its folds, and of its pictures where it is the demonstration set."""

    image_set: str
    backbone: str
    weights: str
    seed: int
    row: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row answered for the test images, and what that took."""

    task: Task
    minutes: float
    """Without the features."""
    features_minutes: float | None = None
    """For the features of all rows; None for a search, which finds them computed."""
    n_epochs: int = 0
    """Trained, also in folds within which a trial was pruned; those of refits are not counted."""
    n_complete: int = 0
    """Complete trials."""
    winner: str = ""
    answers: AnswerTable

    @property
    def tile_f(self) -> float:
        """The headline figure: mean over the folds of the macro F-measure over tiles."""
        return float(compute_figures(self.answers).f_measure)

    @property
    def image_f(self) -> float:
        """Macro F-measure of the images of all folds."""
        return float(compute_figures(self.answers).image_f_measure)

    def to_text(self) -> str:
        """Return what people read of it, in one line."""
        task = self.task
        scores = f"F of tiles {self.tile_f:.3f}, of images {self.image_f:.3f}"
        text = f"{task.image_set}, seed {task.seed}, {task.row}: {scores}; {self.minutes:.1f} minutes"
        if self.features_minutes is not None:
            return f"{text}, features {self.features_minutes:.1f} minutes"
        return f"{text}, {self.n_epochs} epochs, {self.n_complete} complete trials; winner: {self.winner}"

    def to_json(self) -> str:
        """Return one line, the figures first."""
        return json.dumps({"tile_f": self.tile_f, "image_f": self.image_f, **asdict(self)}, default=np.ndarray.tolist)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the result of one line; its figures are computed anew from its answers."""
        fields = json.loads(line)
        del fields["tile_f"], fields["image_f"]
        answers: dict[str, Any] = {
            name: np.array(value) if isinstance(value, list) else value for name, value in fields["answers"].items()
        }
        return cls(**{**fields, "task": Task(**fields["task"]), "answers": AnswerTable(**answers)})


def read_results(file: Path) -> tuple[Result, ...]:
    """Return the results of a file, none where there is no file yet."""
    return tuple(map(Result.from_json, file.read_text("utf-8").splitlines())) if file.is_file() else ()


def append_result(file: Path, *, result: Result) -> None:
    """Add a line; a run that is stopped afterwards has it."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(result.to_json() + "\n")

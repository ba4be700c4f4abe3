"""What `scripts/benchmark classifiers` compares, and on what; it loads no network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sem_search.evaluation.baselines import BaselineName
from sem_search.settings import AS_THE_PAPER, DEMO

BEFORE: Mapping[str, Any] = {"preset": "standard", **AS_THE_PAPER, "epochs": 100, "patience": 10}
LINEAR: Mapping[str, Any] = {**BEFORE, "heads": "linear,finetune"}
REFIT: Mapping[str, Any] = {**LINEAR, "refit": True}

ROWS: Mapping[str, Mapping[str, Any]] = {
    "paper": {"preset": "paper"},
    "before": BEFORE,
    "linear": LINEAR,
    "refit": REFIT,
    "schedule": {"preset": "standard", "augment": "none"},
    "standard": {"preset": "standard"},
    "balanced": {"preset": "standard", "class_weight": "balanced"},
    "init": {"preset": "standard", "heads": "linear,finetune,linear_init"},
}
"""Settings of the searches. `before` is `standard` as it was with one kind of head, early stopping and no views; from
there to `standard` each row is one step more than the row above."""

LOGISTIC: Mapping[str, BaselineName] = {"logistic_60": "logistic_training", "logistic_80": "logistic_all"}
"""Logistic regression among a study's baselines: it learns from training images, or from validation images, too."""

SET = re.compile(r"(?P<name>[^=]+)=(?P<data>.+?)(:(?P<tile_px>\d+))?(:exclude=(?P<exclude>.+))?")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Micrographs, and how they are read."""

    name: str
    data: str
    tile_px: str | None = None
    exclude: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the set that `demo` or `NAME=FOLDER[:TILE_PX][:exclude=A,B]` names.

        Raises:
            ValueError: The text is neither.
        """
        if text == DEMO:
            return cls(name=DEMO, data=DEMO)
        found = SET.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is neither {DEMO} nor NAME=FOLDER[:TILE_PX][:exclude=A,B].")
        return cls(**{**found.groupdict(), "data": str(Path(found["data"]).absolute())})

"""What a long prediction has done so far: one line for each image, so that the same command goes on where it stopped.

The journal lies beside the table, as `.<table>.journal`, and is removed when the table is written. A line counts if it
is whole, if the same model was asked in the same way, and if the file is the one that was answered.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sem_search.deployment.batch.table import Prediction

SUFFIX = ".journal"


class PredictionJournal:
    """Stores predictions as they come, and knows those of a run that was stopped.

    Args:
        output: The table that is being made; None for one on standard output, of which nothing is stored.
        question: What was asked, as JSON values: predictions under another question are not taken over.
    """

    def __init__(self, output: Path | None, *, question: Mapping[str, Any]) -> None:
        self._path = None if output is None else output.with_name(f".{output.name}{SUFFIX}")
        self._question = dict(question)
        self._known = dict(self._iter_known())

    @property
    def n_known(self) -> int:
        """Images that an earlier run has answered."""
        return len(self._known)

    def get(self, path: Path, *, shown_name: str) -> Prediction | None:
        """Return what an earlier run answered to this very file, or None."""
        return self._known.get(_stamp(path, shown_name=shown_name) or "")

    def add(self, prediction: Prediction, *, path: Path) -> None:
        """Store an answer. An image without one is not stored: it is tried again."""
        stamp = _stamp(path, shown_name=prediction.image)
        if self._path is None or prediction.error is not None or stamp is None:
            return
        line = json.dumps(
            {"question": self._question, "stamp": stamp, "prediction": asdict(prediction)}, ensure_ascii=False
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}")  # the line before may have been cut short

    def remove(self) -> None:
        """Forget everything: the table is written."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _iter_known(self) -> Iterator[tuple[str, Prediction]]:
        """Yield stamp and prediction of the whole lines of earlier runs that asked the same."""
        if self._path is None or not self._path.is_file():
            return
        for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry = json.loads(line)
            except ValueError:  # cut short when its writer was killed
                continue
            if isinstance(entry, dict) and entry.get("question") == self._question and "prediction" in entry:
                yield entry["stamp"], Prediction.build(entry["prediction"])


def _stamp(path: Path, *, shown_name: str) -> str | None:
    """Return what identifies a file and its content, without reading it; None if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{shown_name}|{status.st_size}|{status.st_mtime_ns}"

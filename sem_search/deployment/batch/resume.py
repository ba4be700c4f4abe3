"""What a long prediction has done so far: one line for each image, so that the same command goes on where it stopped.

The journal lies beside the table, as `.<table>.journal`, and is removed when the table is written. A line counts if it
is whole, if the same model was asked in the same way, and if the file is the one that was answered.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from sem_search.deployment.batch.table import Prediction

SUFFIX = ".journal"


class PredictionJournal:
    """Keeps predictions as they come, and knows those of a run that was stopped; use it in a `with` statement.

    Args:
        output: The table that is being made.
        question: What was asked: predictions under another question are not taken over.
    """

    def __init__(self, output: Path, *, question: Mapping[str, Any]) -> None:
        self._path = output.with_name(f".{output.name}{SUFFIX}")
        self._question = dict(question)
        self._known = self._read()
        self._file: TextIO | None = None

    @property
    def n_known(self) -> int:
        """Images that an earlier run has answered."""
        return len(self._known)

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")
        self._write({"question": self._question})
        for stamp, prediction in self._known.items():
            self._write({"stamp": stamp, "prediction": asdict(prediction)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, path: Path, *, shown_name: str) -> Prediction | None:
        """Return what an earlier run answered to this very file, or None."""
        stamp = _stamp(path, shown_name=shown_name)
        return None if stamp is None else self._known.get(stamp)

    def keep(self, prediction: Prediction, *, path: Path) -> None:
        """Note an answer. An image without one is not noted: it is tried again."""
        stamp = _stamp(path, shown_name=prediction.image)
        if prediction.error is None and stamp is not None:
            self._write({"stamp": stamp, "prediction": asdict(prediction)})

    def remove(self) -> None:
        """Forget everything: the table is written."""
        self._path.unlink(missing_ok=True)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            raise ValueError("The journal is written inside a `with` statement only.")
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self) -> dict[str, Prediction]:
        """Return the whole lines of an earlier run that asked the same."""
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return {}
        entries = [entry for entry in map(_parse, lines) if entry is not None]
        if not entries or entries[0].get("question") != self._question:
            return {}
        return {entry["stamp"]: Prediction.build(entry["prediction"]) for entry in entries[1:] if "stamp" in entry}


def _stamp(path: Path, *, shown_name: str) -> str | None:
    """Return what tells whether a file is still the same, without reading it; None if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{shown_name}|{status.st_size}|{status.st_mtime_ns}"


def _parse(line: str) -> dict[str, Any] | None:
    """Return a line's entry, or None for one that was cut short when its writer was killed."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None

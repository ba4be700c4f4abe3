"""One bar for the whole search: cell, fold, best so far, time left; plain lines where there is no terminal."""

import sys
import time
from datetime import timedelta
from typing import TextIO

from tqdm import tqdm

from sem_search.records import Cell

LINE_EVERY_S = 15.0
"""Where there is no terminal: often enough to see life, seldom enough for a log file."""


class SearchProgress:
    """Counts folds: units of work that take about equally long, but for those of the linear head: seconds."""

    def __init__(
        self, *, n_folds_total: int, n_folds_done: int, best: float | None = None, stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._bar = tqdm(
            total=n_folds_total,
            initial=n_folds_done,
            unit="fold",
            file=self._stream,
            disable=not self._is_terminal,
            dynamic_ncols=True,
            smoothing=0.1,
        )
        self._n_done = n_folds_done
        self._n_timed = 0
        self._n_total = n_folds_total
        self._timed_since = time.monotonic()
        self._last_line = -LINE_EVERY_S
        self._best = best
        self._now = ""

    def show_epoch(self, *, cell: Cell, fold: int, epoch: int, n_epochs: int) -> None:
        """Show which epoch of which fold is being trained, both from 0, of at most `n_epochs`."""
        self._now = f"{cell.name} fold {fold + 1} epoch {epoch + 1}/{n_epochs}"
        self._refresh(is_line_due=time.monotonic() - self._last_line >= LINE_EVERY_S)

    def count_fold(self, *, cell: Cell, fold: int, is_new: bool) -> None:
        """Count a finished fold; one that was found finished, or that is linear, says nothing about the time left."""
        self._n_done += 1
        if cell.head != "linear":
            self._n_timed += is_new
        elif not self._n_timed:  # the linear head is tried first
            self._timed_since = time.monotonic()
        self._bar.update(1)
        self._now = f"{cell.name} fold {fold + 1} done"
        self._refresh(is_line_due=False)

    def skip_folds(self, n_folds: int) -> None:
        """Take the folds of a pruned or failed cell out of the total."""
        self._n_total -= n_folds
        self._bar.total = self._n_total

    def show_trial(self, text: str, *, value: float | None) -> None:
        """Write one line about a finished trial, and keep the best value."""
        if value is not None:
            self._best = value if self._best is None else max(self._best, value)
        self.show(text)

    def show(self, text: str) -> None:
        """Write one line."""
        self._bar.clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()
        self._refresh(is_line_due=False)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def _refresh(self, *, is_line_due: bool) -> None:
        best = "" if self._best is None else f", best F {self._best:.3f}"
        if self._is_terminal:
            self._bar.set_postfix_str(self._now + best)
        elif is_line_due:
            self._last_line = time.monotonic()
            self._stream.write(
                f"{self._n_done}/{self._n_total} folds, {self._now}{best}, {self._estimate_time_left()}\n"
            )
            self._stream.flush()

    def _estimate_time_left(self) -> str:
        if not self._n_timed:
            return "time left not known yet"
        left_s = (time.monotonic() - self._timed_since) / self._n_timed * max(0, self._n_total - self._n_done)
        return f"at most about {timedelta(seconds=round(left_s))} left"

"""How far a long computation is: a bar on a terminal; in a log or a pipe, a plain line every few seconds."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")

Show = Callable[[str], None]
"""Shows a line about what is being done: the command line prints it, a notebook does not."""

SECONDS_BETWEEN_LINES = 5.0


def show_nothing(_text: str) -> None:
    """Show no line."""


def iter_measured(items: Iterable[Item], *, label: str, total: int, unit: str, is_shown: bool) -> Iterator[Item]:
    """Yield the items, and count each as done when the next one is asked for; see `ProgressMeter`.

    Args:
        items: What is worked on, one unit each.
        label: What is being done.
        total: Number of items.
        unit: What is counted, in the plural: `tiles`.
        is_shown: False counts in silence.
    """
    with ProgressMeter(label, total=total, unit=unit, is_shown=is_shown) as meter:
        for item in items:
            yield item
            meter.update(1)


class ProgressMeter:
    """Counts what is done, on standard error; use it in a `with` statement.

    Args:
        label: What is being done.
        total: Number of units to do, or None where it is not known.
        unit: What is counted, in the plural: `tiles`.
        is_shown: False counts in silence.
    """

    def __init__(self, label: str, *, total: int | None, unit: str, is_shown: bool) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done = self._told = 0
        self._started_s = self._told_s = time.monotonic()
        has_bar = sys.stderr.isatty() or "ipykernel" in sys.modules  # on a terminal and in a notebook
        self._has_lines = is_shown and not has_bar
        self._bar: tqdm[NoReturn] = tqdm(
            desc=label, total=total, unit=f" {unit}", file=sys.stderr, disable=not (is_shown and has_bar)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._has_lines and kind is None and self._told < self._done:
            self._tell()

    def update(self, n: int) -> None:
        """Count `n` more as done."""
        self._done += n
        self._bar.update(n)
        if self._has_lines and time.monotonic() - self._told_s >= SECONDS_BETWEEN_LINES:
            self._tell()

    def _tell(self) -> None:
        self._told, self._told_s = self._done, time.monotonic()
        elapsed_s = max(self._told_s - self._started_s, 1e-9)
        of_total = "" if self._total is None else f" of {self._total}"
        rate = self._done / elapsed_s
        left_s = ((self._total or 0) - self._done) / max(rate, 1e-9)
        left = "" if left_s <= 0 else f", {left_s:.0f} s left" if left_s < 90 else f", {left_s / 60:.0f} min left"
        print(
            f"{self._label}: {self._done}{of_total} {self._unit} in {elapsed_s:.1f} s{left}"
            f" ({rate:.1f} {self._unit}/s)",
            file=sys.stderr,
            flush=True,
        )

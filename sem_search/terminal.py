"""Text from outside, made harmless where it is shown: on a terminal, and in the cells of a table.

Names of files, tags of a registry and messages of a server may hold anything. A terminal obeys control characters: they
clear the screen, set the window's title, hide a line. A spreadsheet takes a cell that begins with `=` for a formula.
"""

import _thread
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from sem_search.errors import SemSearchWarning

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""All control characters but tab and line end, those that turn the direction of writing, and surrogates."""

SURROGATES = re.compile(r"[\ud800-\udfff]")
"""Bytes of a file name that is not UTF-8, as Python holds them; no encoding can write them."""

RAISED_AGAIN_S = 0.05
"""After which an interruption that Python dropped is raised again, as often as it is dropped."""

LINE_BREAKS = re.compile(r"[\t\n\u2028\u2029]")

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Of cells that spreadsheet programs compute."""


def show_controls(text: str) -> str:
    """Return a text whose control characters are spelt out, as JSON spells them: `\\u001b`."""
    return CONTROLS.sub(_spell, text)


def show_surrogates(text: str) -> str:
    """Return a text that can be written in UTF-8: bytes of a file name that are not are spelt out as `\\udcff`."""
    return SURROGATES.sub(_spell, text)


def show_line(text: str) -> str:
    """Return a text as one line: what it holds cannot pass for further lines."""
    return LINE_BREAKS.sub(_spell, show_controls(text))


def protect_cell(value: Any) -> Any:
    """Return the value of a CSV cell; a text that a spreadsheet would compute has an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def align_columns(rows: Sequence[Sequence[str]], *, is_right: Sequence[bool] = ()) -> list[str]:
    """Return rows of cells as lines whose columns stand below one another.

    Args:
        rows: The head first; all of one length.
        is_right: For each column, whether it ends at its right edge, as numbers do; by default none does.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ends = is_right or [False] * len(widths)
    return [
        "  ".join(
            cell.rjust(width) if end else cell.ljust(width) for cell, width, end in zip(row, widths, ends, strict=True)
        ).rstrip()
        for row in rows
    ]


def open_page(url: str) -> None:
    """Open a page where there is a screen; without one, the user has the address that was just printed."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        click.launch(url)


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print as `click.echo` does, control characters spelt out.

    Args:
        text: Anything; its `str` is printed.
        err: To standard error.
        nl: With a line end.
    """
    click.echo(show_controls(str(text)), err=err, nl=nl)


def warn(*texts: str) -> None:
    """Warn the user: by Python's warnings, which a notebook shows and the command line prints as a line each."""
    for text in texts:
        warnings.warn(text, SemSearchWarning, stacklevel=2)


def print_warnings() -> None:
    """Let each warning of ours be printed as one line on standard error, every time it is given."""
    show_other = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, SemSearchWarning):
            echo(f"Warning: {message}", err=True)
        else:
            show_other(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    warnings.simplefilter("always", SemSearchWarning)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end what runs, whenever they come.

    SIGTERM is how a batch system stops a command; so no run is left that seems to go on. And Python drops an
    interruption that comes while it collects garbage, in a `__del__` or the callback of a weak reference: it is raised
    again.
    """
    timers: list[threading.Timer] = []

    def raise_again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            timers.append(threading.Timer(RAISED_AGAIN_S, _interrupt))
            timers[-1].start()
        else:
            show_other(dropped)

    show_other = sys.unraisablehook
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        sys.unraisablehook = show_other
        signal.signal(signal.SIGTERM, before)


def _interrupt() -> None:
    """Interrupt the main thread, also one that waits for something."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:  # Windows
        _thread.interrupt_main(signal.SIGTERM)


class PlainFormatter(logging.Formatter):
    """Log lines with control characters spelt out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback below it."""
        return show_controls(super().format(record))


def _spell(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"

"""Text from outside, made harmless where it is shown: on a terminal, and in the cells of a table.

Names of files, tags of a registry and messages of a server may hold anything. A terminal obeys control characters: they
clear the screen, set the window's title, hide a line. A spreadsheet takes a cell that begins with `=` for a formula.
"""

import logging
import re
from typing import Any

import click

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""All control characters but tab and line end, and those that turn the direction of writing."""

LINE_BREAKS = re.compile(r"[\t\n\u2028\u2029]")

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Of cells that spreadsheet programs compute."""


def show_controls(text: str) -> str:
    """Return a text whose control characters are spelt out, as JSON spells them: `\\u001b`."""
    return CONTROLS.sub(_spell, text)


def show_line(text: str) -> str:
    """Return a text as one line: what it holds cannot pass for further lines."""
    return LINE_BREAKS.sub(_spell, show_controls(text))


def protect_cell(value: Any) -> Any:
    """Return the value of a CSV cell; a text that a spreadsheet would compute has an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print as `click.echo` does, control characters spelt out."""
    click.echo(show_controls(str(text)), err=err, nl=nl)


def warn(*texts: str) -> None:
    """Warn the user."""
    for text in texts:
        echo(f"Warning: {text}", err=True)


class PlainFormatter(logging.Formatter):
    """Log lines with control characters spelt out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and a traceback below it."""
        return show_controls(super().format(record))


def _spell(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"

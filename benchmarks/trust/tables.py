"""Tables as Markdown, so that they can be put into `docs/trust.md` as they are printed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import click


@dataclass(frozen=True, kw_only=True)
class Table:
    """A title, the names of the columns, and rows of words and numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]

    def show(self, *, percent: bool = False) -> None:
        """Print the table; `percent` prints shares as percentages."""
        click.echo(f"\n{self.title}\n")
        click.echo(f"| {' | '.join(self.columns)} |")
        click.echo("|" + "---|" * len(self.columns))
        for row in self.rows:
            click.echo(f"| {' | '.join(_format(value, percent=percent) for value in row)} |")


def _format(value: str | float, *, percent: bool) -> str:
    """Return a word as it is, a whole number as such, a share as 95.3, any other number to three decimals; `-` for
    what is not known."""
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"

"""`python -m benchmarks.trust NAME`: simulate, and print the tables of `docs/trust.md`."""

from collections.abc import Callable

import click

from benchmarks.trust import comparing, conformal, intervals, lots, scores, selection

SIMULATIONS: dict[str, Callable[..., None]] = {
    "intervals": intervals.print_tables,
    "comparing": comparing.print_tables,
    "selection": selection.print_tables,
    "conformal": conformal.print_tables,
    "lots": lots.print_tables,
    "scores": scores.print_tables,
}


@click.command(help="\n\n".join(f"{name}: {run.__doc__}" for name, run in SIMULATIONS.items()))
@click.argument("name", type=click.Choice(list(SIMULATIONS)))
@click.option("--studies", "n_studies", default=300, show_default=True, help="Made-up studies for each row.")
def main(name: str, *, n_studies: int) -> None:
    """Run one set of simulations."""
    SIMULATIONS[name](n_studies=n_studies)


if __name__ == "__main__":
    main()

"""`python -m benchmarks.trust NAME`: simulate, and print the tables of `docs/trust.md`."""

from collections.abc import Callable

import click

from benchmarks.trust import (
    comparison,
    conformal,
    controls,
    gate,
    heat,
    intervals,
    learning_curve,
    lot_reference,
    lots,
    scores,
    selection,
)

RENDERED_LOTS, RENDERED_REFERENCE = "rendered-lots", "rendered-reference"
MAGNIFICATION, LABELS = "magnification", "labels"
WITH_NETWORK = (RENDERED_LOTS, RENDERED_REFERENCE, MAGNIFICATION, LABELS)


def print_rendered_lots(*, n_studies: int, weights: str = "auto") -> None:
    """Print false alarms and power on rendered lots, seen by MobileNetV2."""
    from benchmarks.trust.rendered_lots import print_tables  # here, because it loads TensorFlow

    print_tables(n_studies=n_studies, weights=weights)


def print_magnifications(*, n_studies: int, weights: str = "auto") -> None:
    """Print how well two magnifications are told apart, as they are and brought to one pixel size."""
    from benchmarks.trust.magnification import print_tables  # here, because it loads TensorFlow

    print_tables(n_studies=n_studies, weights=weights)


def print_rendered_reference(*, n_studies: int, weights: str = "auto") -> None:
    """Print how lots of rendered powder are judged by a reference, seen by MobileNetV2."""
    from benchmarks.trust.rendered_reference import print_tables  # here, because it loads TensorFlow

    print_tables(n_studies=n_studies, weights=weights)


def print_labels(*, n_studies: int, weights: str = "auto") -> None:
    """Print how well exchanged labels of rendered pictures are found by MobileNetV2."""
    from benchmarks.trust.label_errors import print_tables  # here, because it loads TensorFlow

    print_tables(n_studies=n_studies, weights=weights)


SIMULATIONS: dict[str, Callable[..., None]] = {
    "intervals": intervals.print_tables,
    "comparison": comparison.print_tables,
    "selection": selection.print_tables,
    "conformal": conformal.print_tables,
    "lots": lots.print_tables,
    RENDERED_LOTS: print_rendered_lots,
    MAGNIFICATION: print_magnifications,
    "reference": lot_reference.print_tables,
    RENDERED_REFERENCE: print_rendered_reference,
    LABELS: print_labels,
    "scores": scores.print_tables,
    "heat": heat.print_tables,
    "gate": gate.print_tables,
    "controls": controls.print_tables,
    "learning-curve": learning_curve.print_tables,
}


@click.command(help="\n\n".join(f"{name}: {run.__doc__}" for name, run in SIMULATIONS.items()))
@click.argument("name", type=click.Choice(list(SIMULATIONS)))
@click.option("--studies", "n_studies", default=300, show_default=True, help="Made-up studies for each row.")
@click.option("--weights", default=None, help=f"Of the network of {', '.join(WITH_NETWORK)}.  [default: auto]")
def main(name: str, *, n_studies: int, weights: str | None) -> None:
    """Run one set of simulations."""
    if weights is not None and name not in WITH_NETWORK:
        network = ", ".join(WITH_NETWORK)
        raise click.UsageError(f"--weights has no effect on {name}: only {network} look through a network.")
    SIMULATIONS[name](n_studies=n_studies, **({} if weights is None else {"weights": weights}))


if __name__ == "__main__":
    main()

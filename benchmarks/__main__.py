"""`scripts/benchmark NAME [--json FILE]`: a table of figures, and the same as a flat JSON object."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

Figures = Mapping[str, float]


def run_features(backbone: str, n_tiles: int, _batch_size: int) -> Figures:
    """Tiles per second from files to stored features, against the bare forward pass."""
    from benchmarks.features import measure_features

    return measure_features(backbone, n_tiles=n_tiles)


def run_epoch(backbone: str, n_tiles: int, batch_size: int) -> Figures:
    """Seconds per epoch, against Keras' fit of the head and of the whole frozen network."""
    from benchmarks.epoch import measure_epoch

    return measure_epoch(backbone, n_tiles=n_tiles, batch_size=batch_size)


def run_pruners(_backbone: str, _n_tiles: int, _batch_size: int) -> Figures:
    """Folds saved and best cells lost by each pruner, over simulated studies."""
    from benchmarks.pruners import measure_pruners

    return measure_pruners()


def run_start(_backbone: str, _n_tiles: int, _batch_size: int) -> Figures:
    """Seconds until `--help` is printed."""
    from benchmarks.start import measure_start

    return measure_start()


BENCHMARKS: dict[str, Callable[[str, int, int], Figures]] = {
    "features": run_features,
    "epoch": run_epoch,
    "pruners": run_pruners,
    "start": run_start,
}


@click.command(help="\n\n".join(f"{name}: {run.__doc__}" for name, run in BENCHMARKS.items()))
@click.argument("name", type=click.Choice(list(BENCHMARKS)))
@click.option("--backbone", default="vgg16", show_default=True)
@click.option(
    "--tiles", "n_tiles", default=96, show_default=True, help="Tiles measured on; figures are per tile count."
)
@click.option("--batch-size", default=48, show_default=True)
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option("--json", "json_file", default=None, type=click.Path(path_type=Path), help="File for the figures.")
def main(name: str, *, backbone: str, n_tiles: int, batch_size: int, threads: int, json_file: Path | None) -> None:
    """Run one benchmark."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if name in ("features", "epoch"):
        from sem_search.transfer.runtime import configure_tensorflow

        configure_tensorflow(threads=threads, seed=0)
    figures = {"threads": float(threads), **BENCHMARKS[name](backbone, n_tiles, batch_size)}
    width = max(len(key) for key in figures)
    for key, value in figures.items():
        click.echo(f"{key:{width}}  {value:10.4g}")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

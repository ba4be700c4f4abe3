"""`scripts/benchmark NAME [--json FILE]`: a table of figures, and the same as a flat JSON object."""

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.classifier_rows import ROWS, ImageSet

Figures = Mapping[str, float]

BATCH_SIZES = (16, 32, 48, 64)


@click.group()
def benchmarks() -> None:
    """Measure speed; every ratio side by side in one run, medians of interleaved repeats."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def add_benchmark(measure: Callable[..., Figures]) -> click.Command:
    """Make a command of a function that measures; it prints the figures, and writes them where that is asked for."""

    @click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Fixed, and printed.")
    @click.option("--json", "json_file", default=None, type=click.Path(path_type=Path), help="File for the figures.")
    @functools.wraps(measure)
    def run(threads: int, json_file: Path | None, **options: Any) -> None:
        figures = {"threads": float(threads), **measure(threads=threads, **options)}
        width = max(len(key) for key in figures)
        for key, value in figures.items():
            click.echo(f"{key:{width}}  {value:10.4g}")
        if json_file is not None:
            json_file.write_text(json.dumps(figures, indent=1), encoding="utf-8")

    return benchmarks.command()(run)


@add_benchmark
@click.option("--backbone", default="vgg16", show_default=True)
@click.option("--tiles", "n_tiles", default=600, show_default=True)
def features(*, threads: int, backbone: str, n_tiles: int) -> Figures:
    """Tiles per second from files to stored features, against the bare forward pass, by each engine and precision."""
    from benchmarks.features import measure_features

    _configure(threads)
    return measure_features(backbone, n_tiles=n_tiles)


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="random", show_default=True, help="As in a search: imagenet, random or a file.")
@click.option("--data", default="demo", show_default=True)
def exactness(*, threads: int, backbone: str, weights: str, data: str) -> Figures:
    """What ONNX Runtime, bfloat16, features in float16 and fast heads change in answers and scores, over five seeds."""
    from benchmarks.exactness import measure_exactness

    _configure(threads)
    return measure_exactness(backbone, weights=weights, data=data, threads=threads)


@add_benchmark
@click.option("--backbone", default="vgg16", show_default=True)
@click.option("--tiles", "n_tiles", default=1200, show_default=True, help="Training tiles; a third more to validate.")
@click.option("--batch-size", "batch_sizes", multiple=True, default=BATCH_SIZES, show_default=True)
def epoch(*, threads: int, backbone: str, n_tiles: int, batch_sizes: tuple[int, ...]) -> Figures:
    """Seconds per epoch, against Keras' fit of the head and of the whole frozen network."""
    from benchmarks.epoch import measure_epoch

    _configure(threads)
    return measure_epoch(backbone, n_tiles=n_tiles, batch_sizes=batch_sizes)


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="random", show_default=True, help="As in a search: imagenet, random or a file.")
@click.option("--data", default="demo", show_default=True, help="A set small enough to train the plain grid.")
def search(*, threads: int, backbone: str, weights: str, data: str) -> Figures:
    """The whole grid, plainly and with early stopping and pruning: training spent, and whether both chose the same."""
    from benchmarks.search import measure_search

    return measure_search(backbone=backbone, weights=weights, data=data, threads=threads)


@add_benchmark
@click.option("--images", "sizes", multiple=True, default=(100, 500), show_default=True, help="Multiples of ten.")
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="random", show_default=True, help="As in a search: imagenet, random or a file.")
@click.option("--folder", default="scale", show_default=True, type=click.Path(path_type=Path), help="Kept: it goes on.")
def scale(*, threads: int, sizes: tuple[int, ...], **options: Any) -> Figures:
    """Every step of the whole command at growing numbers of images: seconds, peak memory, disk, and the exponents."""
    from benchmarks.scale import measure_scale

    return measure_scale(sizes, threads=threads, **options)


@add_benchmark
@click.option("--images", "image_counts", multiple=True, default=(100, 500, 2000, 8000, 20000), show_default=True)
@click.option("--step", "steps", multiple=True, help="By default all.")
@click.option("--limit", "limit_s", default=900.0, show_default=True, help="Seconds after which a step is ended.")
def steps(*, threads: int, image_counts: tuple[int, ...], steps: tuple[str, ...], limit_s: float) -> Figures:
    """How all steps around the network grow with the number of images: seconds, peak memory, what they write."""
    from benchmarks.scale_steps import measure_scale_steps

    return measure_scale_steps(image_counts, steps=steps, threads=threads, limit_s=limit_s)


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
def memory(*, threads: int, backbone: str) -> Figures:
    """Resident memory of a search after trial 1, 3, 5, 10 and 20."""
    from benchmarks.memory import measure_memory

    return measure_memory(backbone=backbone, threads=threads)


@add_benchmark
@click.option("--workers", "counts", multiple=True, default=(1, 2), show_default=True, help="Of one thread each.")
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="random", show_default=True, help="As in a search: imagenet, random or a file.")
def cluster(*, threads: int, counts: tuple[int, ...], **options: Any) -> Figures:
    """The same search on a Dask cluster of one worker and of two: seconds of features and of folds, and speed-ups."""
    del threads  # a worker has one
    from benchmarks.cluster import measure_cluster

    return measure_cluster(counts, **options)


@add_benchmark
@click.option("--curves", "study_folder", default=None, type=click.Path(path_type=Path), help="A finished plain study.")
def pruners(*, threads: int, study_folder: Path | None) -> Figures:
    """Training saved and best cells lost by each pruner: over simulated studies, or over a study's own curves."""
    del threads  # nothing is trained
    from benchmarks.pruners import measure_pruners
    from benchmarks.replay import measure_replay

    return measure_pruners() if study_folder is None else measure_replay(study_folder)


@add_benchmark
def endings(*, threads: int) -> Figures:
    """How often a race ends a cell that is truly better than the best so far, and one that is truly worse."""
    del threads  # nothing is trained
    from benchmarks.endings import measure_endings

    return measure_endings()


@add_benchmark
def start(*, threads: int) -> Figures:
    """Seconds until the help is printed, and until a finished search has said so again."""
    from benchmarks.start import measure_start

    return measure_start(threads=threads)


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
def serve(*, threads: int, backbone: str) -> Figures:
    """One micrograph's answer against its forward pass, answers per second at 1, 4 and 16 callers, and an exchange."""
    from benchmarks.serve import measure_serve

    _configure(threads)
    return measure_serve(backbone)


@add_benchmark
@click.option("--requests", "n_requests", default=2000, show_default=True)
@click.option("--page", "is_page", is_flag=True, help="To the page of `sem-search app` in place of the classifier.")
def fuzz(*, threads: int, n_requests: int, is_page: bool) -> Figures:
    """Requests that no caller should send, to a real server: what it answers, and what it costs."""
    from benchmarks.fuzz import measure_fuzz
    from benchmarks.fuzz_page import measure_fuzz_page

    _configure(threads)
    return measure_fuzz_page(n=n_requests) if is_page else measure_fuzz(n=n_requests)


@add_benchmark
@click.option("--output", default=Path("docs/pictures"), type=click.Path(path_type=Path), show_default=True)
def film(*, threads: int, output: Path) -> Figures:
    """The whole job on the page of `sem-search app`, done in a browser and written as pictures for docs/app.md."""
    from benchmarks import film as film_of_page

    _configure(threads)
    return film_of_page.film(output, threads=threads)


@add_benchmark
@click.option("--images", "n_images", default=500, show_default=True)
def thumbnails(*, threads: int, n_images: int) -> Figures:
    """Seconds until the page of `sem-search app` shows all thumbnails, and how long it holds up anybody meanwhile."""
    from benchmarks.thumbnails import measure_thumbnails

    _configure(threads)
    return measure_thumbnails(n_images=n_images)


@add_benchmark
@click.option("--images", "n_images", default=2000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def bad_input(*, threads: int, n_images: int, seed: int) -> Figures:
    """Damaged and hostile picture files, wrong CSVs and wrong settings: how many were refused as they should be."""
    del threads  # nothing is trained
    from benchmarks.bad_input import measure_bad_input

    return measure_bad_input(n_images=n_images, seed=seed)


@add_benchmark
@click.option("--workers", "n_workers", default=64, show_default=True)
@click.option("--cells", "n_cells", default=2000, show_default=True)
@click.option("--processes", "n_processes", default=4, show_default=True, help="That the workers are threads of.")
def load(*, threads: int, n_workers: int, n_cells: int, n_processes: int) -> Figures:
    """Many workers on one PostgreSQL: cells lost and doubled, and seconds per claim; a server of its own is started."""
    del threads  # nothing is trained
    from benchmarks.load import measure_load

    return measure_load(n_workers=n_workers, n_cells=n_cells, n_processes=n_processes)


@add_benchmark
@click.option("--model", required=True, help="URI or folder of a model of the demonstration set, seed 0.")
@click.option("--files", default=None, type=click.Path(exists=True, path_type=Path), help="Other micrographs.")
def strangers(*, threads: int, model: str, files: Path | None) -> Figures:
    """Calibration and coverage on new images of the demonstration's materials; other images that are called unknown."""
    from benchmarks.strangers import measure_strangers

    _configure(threads)
    return measure_strangers(model, files=files)


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="imagenet", show_default=True, help="As in a search.")
@click.option("--sets", default=None, type=click.Path(exists=True, path_type=Path), help="A folder of each set.")
@click.option("--images", "images_per_class", default=8, show_default=True, help="That a model knows of each class.")
@click.option("--models", "n_models", default=25, show_default=True, help="Of each kind.")
def known_images(
    *, threads: int, backbone: str, weights: str, sets: Path | None, images_per_class: int, n_models: int
) -> Figures:
    """Known images called unknown, and strangers called known: varied classes, small images."""
    from benchmarks.known_images import measure_known_images

    _configure(threads)
    return measure_known_images(
        backbone=backbone, weights=weights, sets=sets, images_per_class=images_per_class, n_models=n_models
    )


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="imagenet", show_default=True, help="As in a search.")
@click.option("--streams", "n_streams", default=100, show_default=True, help="Of each kind.")
def monitor(*, threads: int, backbone: str, weights: str, n_streams: int) -> Figures:
    """False alarms over 100 quiet weeks; images until less contrast, another magnification or material is found."""
    from benchmarks.monitor import measure_monitor

    _configure(threads)
    return measure_monitor(backbone=backbone, weights=weights, n_streams=n_streams)


@add_benchmark
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="particles", show_default=True, help="As in a search.")
@click.option("--data", default="demo", show_default=True, help="demo, or a folder of real files.")
@click.option("--exclude", default="", help="Classes of the folder to leave out, by commas.")
@click.option(
    "--searches",
    "n_searches",
    default=0,
    show_default=True,
    type=click.IntRange(0, 3),
    help="For how many of the three seeds a whole search is run, too: minutes to an hour each.",
)
@click.option("--heads/--no-heads", "with_heads", default=True, help="Train heads: with VGG16 a quarter of an hour.")
@click.option("--in-card", is_flag=True, help="Have the card of the shipped weights tell the figures, too.")
def weights(*, threads: int, backbone: str, weights: str, in_card: bool, **options: Any) -> Figures:
    """What weights are worth: a linear probe, epochs until heads have learned, and on demand whole searches."""
    from benchmarks.weights import measure_weights
    from sem_search.errors import WeightsError
    from sem_search.transfer.weights.choice import check_weights

    if in_card and weights != "particles":
        raise click.UsageError(f"--in-card is for the weights that ship, --weights particles; {weights} have no card.")
    try:
        check_weights(weights, backbone=backbone)
    except WeightsError as error:
        raise click.ClickException(str(error)) from error
    _configure(threads)
    return measure_weights(backbone, weights=weights, in_card=in_card, threads=threads, **options)


@add_benchmark
@click.option("--per-form", "n_per_form", default=8, show_default=True, help="Single particles of each of ten forms.")
@click.option("--per-share", "n_per_share", default=12, show_default=True, help="Overlaps of each powder and share.")
@click.option("--noise", default=0.05, show_default=True, help="In a set, in ranges of grey.")
def overlaps(*, threads: int, n_per_form: int, n_per_share: int, noise: float) -> Figures:
    """Overlaps that are found where there are some, and seen where there are none: single round particles."""
    from benchmarks.overlaps import measure_candidates, measure_overlaps

    alone = measure_overlaps(n_per_form=n_per_form, n_per_share=n_per_share)
    return alone | measure_candidates(n_per_share=n_per_share, noise=noise)


@add_benchmark
@click.option("--images", "counts", multiple=True, default=(100, 500, 2000), show_default=True)
def many_images(*, threads: int, counts: tuple[int, ...]) -> Figures:
    """What looking for overlaps costs with the number of images: processor time, a second look, ten more, memory."""
    from benchmarks.many_images import measure_many_images

    return measure_many_images(counts)


@benchmarks.command()
@click.option("--set", "sets", multiple=True, default=("demo",), help="demo, or NAME=FOLDER[:TILE_PX][:exclude=A,B].")
@click.option("--seed", "seeds", multiple=True, default=(0,), show_default=True, help="Of the folds.")
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), default=list(ROWS), show_default=True)
@click.option("--backbone", default="mobilenet_v2", show_default=True)
@click.option("--weights", default="auto", show_default=True, help="As in a search.")
@click.option("--learning-rates", default="auto", show_default=True, help="Of every row; auto: of its preset.")
@click.option("--batch-sizes", default="auto", show_default=True, help="Of every row; auto: of its preset.")
@click.option("--threads", default=os.cpu_count() or 1, show_default=True, help="Of each search.")
@click.option("--results", "file", default="classifiers.jsonl", show_default=True, type=click.Path(path_type=Path))
@click.option("--table", default=None, type=click.Path(exists=True, path_type=Path), help="Results to print tables of.")
def classifiers(*, sets: tuple[str, ...], file: Path, table: Path | None, **options: Any) -> None:
    """Searches with one more step in each row, beside logistic regression; what a stopped run has measured is kept."""
    from benchmarks.classifier_results import read_results
    from benchmarks.classifier_table import print_tables

    if table is not None:
        print_tables(read_results(table))
        return
    try:
        image_sets = [ImageSet.parse(text) for text in sets]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--set") from error
    from benchmarks.classifiers import measure_classifiers  # here, because it loads TensorFlow

    for result in measure_classifiers(image_sets, file=file, **options):
        click.echo(result.to_text())


def _configure(threads: int) -> None:
    from sem_search.transfer.runtime import configure_tensorflow

    configure_tensorflow(threads=threads, seed=0)


@benchmarks.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def trust(arguments: tuple[str, ...]) -> None:
    """Hold a statistic against a known truth: false alarms, power, coverage; the tables of docs/trust.md."""
    from benchmarks.trust.__main__ import main

    main(args=list(arguments), prog_name="scripts/benchmark trust")


if __name__ == "__main__":
    benchmarks(prog_name="scripts/benchmark")

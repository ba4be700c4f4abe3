"""The command line of the audits: questions put to finished studies.

Nothing heavy is imported before a command knows that it was called correctly.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sem_search.terminal import echo, open_page
from sem_search.transfer.names import BACKBONE_NAMES
from sem_search.transfer.runtime import load_tensorflow

Command = Callable[..., Any]


def _add_study_options(command: Command) -> Command:
    """Give a command the options that say where finished studies lie."""
    for option in reversed(
        (
            click.option("--storage", default="sqlite:///optuna.db", show_default=True, help="Optuna storage URL."),
            click.option("--study-folder", default=None, help="Where finished folds lie.  [default: the search's]"),
            click.option("--threads", default=None, type=click.IntRange(1), help="[default: the search's]"),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("study")
@click.option(
    "--only",
    default="leak,metadata,left-out,controls",
    show_default=True,
    help="Questions to ask, by commas. `nested` makes the choice anew inside every fold: four times the search.",
)
@_add_study_options
def audit(study: str, only: str, **places: Any) -> None:
    """Ask whether a study's score means what it seems to.

    What would a careless split have claimed? Could the network have learnt the session instead of the material? What
    is left of the score when the material cannot be seen? Heads alone are trained: minutes, not hours. To be started
    in the folder of the search.
    """
    load_tensorflow()
    from sem_search.search.commands.audit import run_audit

    questions = tuple(part.strip() for part in only.split(",") if part.strip())
    run_audit(study, **places, questions=questions, show=echo, show_progress=_show_progress)


@click.command()
@click.argument("study_a")
@click.argument("study_b")
@click.option("--storage", default="sqlite:///optuna.db", show_default=True, help="Optuna storage URL of both.")
@click.option("--study-folder", default=None, help="Where finished folds lie.  [default: the searches']")
def compare(study_a: str, study_b: str, storage: str, study_folder: str | None) -> None:
    """Compare the winners of two studies over the same data and folds, image by image.

    Differences with intervals, of all classes and of each, and two tests. Refused where data or folds differ.
    """
    load_tensorflow()
    from sem_search.search.commands.compare import run_comparison

    run_comparison(study_a, study_b, storage=storage, study_folder=study_folder, show=echo)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--backbone", default="vgg16", type=click.Choice(BACKBONE_NAMES), show_default=True)
@click.option("--weights", default="auto", show_default=True, help="imagenet, random, a weights file, or auto.")
@click.option("--tile-px", default=224, type=click.IntRange(32, 1024), show_default=True, help="Side of a tile in px.")
@click.option("--tiles-per-image", default=None, type=click.IntRange(1), help="Most tiles of an image. [default: all]")
@click.option("--crop-bottom-px", default=0, type=click.IntRange(min=0), show_default=True, help="Data bar in px.")
@click.option("--max-megapixels", default=100.0, show_default=True, help="Larger pictures are not decoded.")
@click.option("--seed", default=0, type=click.IntRange(min=0), show_default=True)
@click.option("--threads", default=None, type=click.IntRange(1), help="[default: all cores]")
@click.option("--output", default="lots", type=click.Path(path_type=Path), show_default=True, help="Folder.")
def lots(folders: tuple[Path, ...], output: Path, **given: Any) -> None:
    """Ask whether lots of one material can be told apart: FOLDERS are two or more, one per lot.

    A classifier two-sample test on features of a network that knows neither, with the difference that so many images
    could have shown, the most typical tiles, and the regions that make them so. Nothing is trained.
    """
    load_tensorflow()
    from sem_search.search.commands.lots import run_lots

    run_lots(folders, output=output, show=echo, **given)


@click.command()
@click.argument("study")
@click.option("--other", default=None, help="A second study of the same images and folds: does its network look there?")
@_add_study_options
def morphology(study: str, other: str | None, **places: Any) -> None:
    """Ask what a study's network looks at: heat maps against the particles' size, shape and roughness.

    And first whether the maps mean anything: agreement of the folds, and with the network of another study, randomised
    weights, deletion and insertion. Nothing is trained. To be started in the folder of the search.
    """
    load_tensorflow()
    from sem_search.search.commands.audit import run_morphology

    run_morphology(study, **places, other=other, show=echo, show_progress=_show_progress)


@click.command()
@click.argument("study")
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")
@click.option("--output", default=None, type=click.Path(path_type=Path, dir_okay=False), help="Put a copy here.")
@click.option("--new", "is_new", is_flag=True, help="Make it again, for example after an audit.")
@click.option("--kit", default=None, type=click.Path(path_type=Path), help="New folder for what a paper needs.")
@click.option("--pdf", "is_printed", is_flag=True, help="Print it as PDF, too; needs Chromium or Chrome.")
@_add_study_options
def report(
    study: str, is_opened: bool, output: Path | None, is_new: bool, kit: Path | None, is_printed: bool, **places: Any
) -> None:
    """Find the report of a finished study, or make it again from its finished folds.

    One HTML file that needs nothing else. Nothing is trained. To be started in the folder of the search.

    A kit holds the figures in the widths of journals (SVG, PDF, TIFF) with their numbers and captions, a methods text
    written from the study's record, the references that it cites, and how to cite this program.
    """
    load_tensorflow()
    from sem_search.search.commands.report import run_kit, run_report
    from sem_search.tracking.report.pdf import find_browser, print_pdf

    browser = find_browser() if is_printed else ""
    if kit is not None:
        echo(str(run_kit(study, **places, folder=kit, show=_show_progress)))
    file = run_report(study, **places, output=output, is_new=is_new, show=_show_progress)
    echo(str(file))
    if is_printed:
        target = file.with_suffix(".pdf") if kit is None else kit.absolute() / "report.pdf"
        echo(str(print_pdf(file, target=target, browser=browser)))
    if is_opened:
        open_page(file.as_uri())


def _show_progress(text: str) -> None:
    echo(f"  {text}", err=True)

"""The command line of the audits: questions put to finished studies.

Nothing heavy is imported before a command knows that it was called correctly.
"""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sem_search.cli.settings_options import join_options
from sem_search.settings import AUTO
from sem_search.terminal import echo, open_page
from sem_search.transfer.names import BACKBONE_NAMES
from sem_search.transfer.runtime import load_tensorflow

GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
"""Where options come from that are no defaults."""


_add_study_options = join_options(
    click.option("--storage", default="sqlite:///optuna.db", show_default=True, help="Optuna storage URL."),
    click.option("--study-folder", default=None, help="Where finished folds lie.  [default: the search's]"),
    click.option("--threads", default=None, type=click.IntRange(1), help="[default: the search's]"),
)
"""Where finished studies lie."""

_add_network_options = join_options(
    click.option("--backbone", default="vgg16", type=click.Choice(BACKBONE_NAMES), show_default=True),
    click.option("--weights", default="auto", show_default=True, help="imagenet, random, a weights file, or auto."),
    click.option(
        "--tile-px", default=224, type=click.IntRange(32, 1024), show_default=True, help="Side of a tile in px."
    ),
    click.option(
        "--tiles-per-image", default=None, type=click.IntRange(1), help="Most tiles of an image. [default: all]"
    ),
    click.option(
        "--pixel-size-nm", default=None, metavar="NM|common", help="Bring all images to one. [default: do not]"
    ),
    click.option("--crop-bottom-px", default=0, type=click.IntRange(min=0), show_default=True, help="Data bar in px."),
    click.option("--max-megapixels", default=100.0, show_default=True, help="Larger pictures are not decoded."),
    click.option("--seed", default=0, type=click.IntRange(min=0), show_default=True),
    click.option("--threads", default=None, type=click.IntRange(1), help="[default: all cores]"),
)
"""How a network looks at lots."""


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


def _read_target(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Return a score, or None for the default."""
    try:
        return None if value is None or value == AUTO else float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no score: give a number such as 0.95, or {AUTO}.") from None


@click.command("learning-curve")
@click.argument("study")
@click.option(
    "--target",
    default=None,
    metavar="VALUE",
    callback=_read_target,
    help="F-measure over test tiles to reach, such as 0.95.  [default: half of today's errors gone]",
)
@_add_study_options
def learning_curve(study: str, target: float | None, **places: Any) -> None:
    """Ask how many images a study needs: its winner trained on growing numbers of them.

    How many would reach a target, or why that cannot be said; which class gains most; whether more tiles of each image
    would do as well. Heads alone are trained: minutes. To be started in the folder of the search.
    """
    load_tensorflow()
    from sem_search.search.commands.learning_curve import run_learning_curve

    run_learning_curve(study, **places, target=target, show=echo)


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
@_add_network_options
@click.option("--reference", default=None, type=click.Path(path_type=Path), help="Judge one lot by this reference.")
@click.option(
    "--margin",
    default=None,
    type=click.FloatRange(min=0, min_open=True),
    help="With --reference: how far a lot may lie off, in standard deviations between lots.  [default: 3]",
)
@click.option("--output", default="lots", type=click.Path(path_type=Path), show_default=True, help="Folder.")
@click.pass_context
def lots(
    context: click.Context,
    /,
    folders: tuple[Path, ...],
    reference: Path | None,
    margin: float | None,
    output: Path,
    **given: Any,
) -> None:
    """Ask whether lots of one material can be told apart: FOLDERS are two or more, one per lot.

    A classifier two-sample test on features of a network that knows neither, with the difference that so many images
    could have shown, the most typical tiles, and the regions that make them so. Nothing is trained.

    With --reference, ask whether one lot is equivalent to accepted ones (see lots-reference), how it lies among them
    over time, and what is different about its particles. The reference decides how it is looked at.
    """
    if reference is None and margin is not None:
        raise click.UsageError("--margin has no effect without --reference.")
    if reference is not None and len(folders) > 1:
        raise click.UsageError(f"{len(folders)} folders are given: --reference judges one lot.")
    load_tensorflow()
    if reference is None:
        from sem_search.search.commands.lots import run_lots

        run_lots(folders, output=output, show=echo, **given)
        return
    from sem_search.search.commands.lots_reference import run_lot_judgement

    asked = {name: value for name, value in given.items() if context.get_parameter_source(name) in GIVEN}
    run_lot_judgement(folders[0], reference=reference, margin=margin, output=output, show=echo, **asked)


@click.command("lots-reference")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@_add_network_options
@click.option("--output", default="reference", type=click.Path(path_type=Path), show_default=True, help="Folder.")
def lots_reference(folders: tuple[Path, ...], output: Path, **given: Any) -> None:
    """Make a reference of accepted lots: FOLDERS are five or more, one per lot, in the order of time.

    Later, `lots NEW --reference` judges a new lot by how much these differ. To add a lot, give all folders again: what
    was computed is in the cache.
    """
    load_tensorflow()
    from sem_search.search.commands.lots_reference import run_lots_reference

    run_lots_reference(folders, output=output, show=echo, **given)


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
@click.argument("study", required=False)
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")
@click.option("--output", default=None, type=click.Path(path_type=Path, dir_okay=False), help="Put a copy here.")
@click.option("--new", "is_new", is_flag=True, help="Make it again, for example after an audit.")
@click.option("--kit", default=None, type=click.Path(path_type=Path), help="New folder for what a paper needs.")
@click.option("--pdf", "is_printed", is_flag=True, help="Print it as PDF, too; needs Chromium or Chrome.")
@_add_study_options
def report(
    study: str | None,
    is_opened: bool,
    output: Path | None,
    is_new: bool,
    kit: Path | None,
    is_printed: bool,
    **places: Any,
) -> None:
    """Find the report of a finished study, or make it again from its finished folds.

    STUDY can be left out where there is only one. One HTML file that needs nothing else. Nothing is trained. To be
    started in the folder of the search.

    A kit holds the figures in the widths of journals (SVG, PDF, TIFF) with their numbers and captions, a methods text
    written from the study's record, the references that it cites, and how to cite this program.
    """
    from sem_search.tracking.report.pdf import find_browser, print_pdf

    browser = find_browser() if is_printed else ""
    load_tensorflow()
    from sem_search.search.commands.report import run_kit, run_report

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

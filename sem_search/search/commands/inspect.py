"""`sem-search inspect`: what is in the data and what is wrong with it, printed, and written as JSON and HTML."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sem_search.errors import SettingsError
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.inspection.inspect import Inspection, inspect_catalogue
from sem_search.micrographs.one_pixel_size import settle_pixel_size
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.command_line import write_search_command
from sem_search.search.prepare.data import build_grid, read_data
from sem_search.settings import SearchSettings
from sem_search.tracking.entries.types import TextArtifact
from sem_search.words import name_some

MIN_CLASSES = 2  # of a search


def inspect_data(settings: SearchSettings, *, catalogue: Catalogue | None = None) -> Inspection:
    """Return what is in the data of the settings, and what is wrong with them.

    Files that cannot be read are findings here, not errors: to find them is what inspecting is for.

    Args:
        settings: Where the data are, and what a search would do with them.
        catalogue: The data where they have been read; by default they are read.

    Raises:
        DataError: There are no data, or no two classes.
    """
    if catalogue is None:
        catalogue = read_data(settings.model_copy(update={"skip_unreadable": True}), progress=True)
    catalogue, pixel_size_nm = settle_pixel_size(catalogue, asked=settings.pixel_size_nm, tile_px=settings.tile_px)
    return inspect_catalogue(
        catalogue,
        n_folds=settings.folds,
        grid=build_grid(settings),
        overlaps=settings.overlaps,
        pixel_size_nm=pixel_size_nm,
        progress=True,
    )


def run_inspection(settings: SearchSettings, *, output: Path, show: Show = show_nothing) -> Inspection:
    """Inspect the data of the settings; write `inspection.json` and `inspection.html` into the folder.

    Below `mlflow run` they also stand in its run.

    Args:
        settings: As of `inspect_data`.
        output: The folder; made if it is not there.
        show: Shows the findings.

    Raises:
        DataError: There are no data, or no two classes.
        SettingsError: The output folder cannot be written.
    """
    check_place(output)
    inspection = inspect_data(settings)
    show(inspection.to_text())
    pages = [
        TextArtifact(path="inspection.json", text=inspection.to_json()),
        TextArtifact(path="inspection.html", text=inspection.to_html(next_command=write_search_command(settings))),
    ]
    try:
        output.mkdir(parents=True, exist_ok=True)
        for page in pages:
            (output / page.path).write_text(page.text, encoding="utf-8")
    except OSError as error:
        raise _refuse(output, error) from error
    show(f"Written: {output / 'inspection.html'} and {output / 'inspection.json'}")
    if "MLFLOW_RUN_ID" in os.environ:
        _log_pages(pages, data=settings.data, show=show)
    show(describe_next(inspection, settings=settings))
    return inspection


def describe_next(inspection: Inspection, *, settings: SearchSettings) -> str:
    """Return what to do next, with the search's command as it is typed into the shell.

    It leaves out what can be left out: files that cannot be used, and classes that are too small.
    """
    kinds = {finding.kind for finding in inspection.findings}
    errors = [finding for finding in inspection.findings if finding.severity == "error"]
    small = {name for finding in errors if finding.kind == "class_too_small" for name in finding.classes}
    n_left = len(set(inspection.catalogue.class_names) - small)
    step = "Next, repair the errors, then search:" if errors else "Next, search:"
    if small and n_left >= MIN_CLASSES and all(finding.kind == "class_too_small" for finding in errors):
        step = f"Next, add images of {name_some(small)}, or search without:"
        settings = settings.model_copy(update={"exclude": (*settings.exclude, *sorted(small))})
    if "unusable_file" in kinds:
        settings = settings.model_copy(update={"skip_unreadable": True})
    return f"{step}\n  {write_search_command(settings)}"


def _log_pages(pages: Sequence[TextArtifact], *, data: str, show: Show) -> None:
    """Put the pages into the run that `mlflow run` has opened, and show where they are."""
    from sem_search.tracking.mlflow.links import format_links, link_run  # loading MLflow takes seconds
    from sem_search.tracking.mlflow.own_runs import log_to_own_run

    run_id = log_to_own_run(pages, kind="inspection", name=f"inspection of {Path(data).name}")
    if run_id is not None:
        show(format_links({"inspection": link_run(run_id, artifact="inspection.html")}))


def check_place(output: Path) -> None:
    """Raise if nothing can be written there: before hours of looking at images, not after them; nothing is left."""
    place = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise _refuse(output, error) from error


def _refuse(place: Path, error: OSError) -> SettingsError:
    """Return the error about a place that cannot be written."""
    return SettingsError(
        f"{place.absolute()} cannot be written ({error.strerror}): "
        "name another folder with --output, or make this one writable."
    )

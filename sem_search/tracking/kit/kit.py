"""The files that a publication needs: figures in the widths of journals, their numbers, captions, and methods."""

from collections.abc import Generator, Iterator
from importlib.resources import files
from pathlib import Path, PurePosixPath

from sem_search.errors import SettingsError
from sem_search.terminal import warn
from sem_search.tracking.entries.tables import build_trial_table, compute_trial_rows
from sem_search.tracking.entries.types import Artifact, FigureArtifact, TextArtifact
from sem_search.tracking.figures.catalogue import StudyFigure, list_study_figures, list_trust_figures
from sem_search.tracking.figures.journal import fit_to_column
from sem_search.tracking.kit.methods import StudyRecord, write_methods
from sem_search.tracking.kit.numbers import build_number_table
from sem_search.tracking.kit.references import build_bibliography

JOURNAL_SUFFIXES = (".svg", ".pdf", ".tif")

PRINTED_SIDE_PX = 1280
"""Originals are printed reduced to about this width, which most of them have: 300 dpi at 108 mm."""


def check_kit_folder(folder: Path) -> None:
    """Refuse a folder that holds files: a text that somebody has worked on is not written over.

    Raises:
        SettingsError: It is a file, or is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--kit {folder}: this is a file. Give a folder that is new or empty.")
    if folder.is_dir() and any(folder.iterdir()):
        raise SettingsError(f"--kit {folder}: this folder holds files, which are not written over. Give a new one.")


def build_kit(record: StudyRecord) -> Iterator[Artifact]:
    """Yield every file of the kit; each figure is drawn when its turn comes.

    Args:
        record: Of a study with a winner.
    """
    figures = (*list_study_figures(record.study, context=record.context), *list_trust_figures(record.trust))
    captions = []
    for figure in figures:
        captions.append((yield from _build_figure(figure)))
    yield TextArtifact(path="captions.md", text="\n\n".join(captions) + "\n")
    yield build_trial_table(compute_trial_rows(record.study), path="trials.csv")
    methods = write_methods(record)
    yield TextArtifact(path="methods.md", text=methods + "\n")
    bibliography = build_bibliography(methods, version=record.versions["sem_search"])
    yield TextArtifact(path="references.bib", text=bibliography)
    citation = (files("sem_search.tracking.kit") / "CITATION.cff").read_text("utf-8")
    yield TextArtifact(path="CITATION.cff", text=citation)


def _build_figure(figure: StudyFigure) -> Generator[Artifact, None, str]:
    """Yield a figure in each format, and its numbers; return its caption. A reader is warned where letters touch."""
    drawn = figure.artifact.draw()
    fit = fit_to_column(drawn)
    stem = f"figures/{PurePosixPath(figure.artifact.path).stem}"
    for suffix in JOURNAL_SUFFIXES:
        yield FigureArtifact(path=f"{stem}{suffix}", draw=lambda: drawn)
    yield build_number_table(figure, path=f"{stem}.csv")
    if fit.is_crowded:
        warn(
            f"Figure {figure.number} has more text than fits into {fit.width_mm:g} mm at {fit.size_pt:g} pt: letters "
            "touch. Take its table, or leave classes out of the search (exclude)."
        )
    size = f"{stem}: {fit.width_mm:g} x {fit.height_mm:.0f} mm, letters of {fit.size_pt:g} pt"
    return f"**Figure {figure.number}.** {figure.caption} *({size})*"

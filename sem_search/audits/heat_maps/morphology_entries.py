"""What is logged of a look at heat maps and particles: words, numbers, one row per particle, figures."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sem_search.audits.answer import iter_answer
from sem_search.audits.heat_maps.morphology import MorphologyAudit
from sem_search.audits.heat_maps.other_network import OtherNetwork
from sem_search.audits.heat_maps.particles import MEASURES
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.heat_maps.agreement import CurveScores
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.entries.metrics import NumberRow
from sem_search.tracking.entries.types import (
    Entry,
    FigureArtifact,
    Scalar,
    TableArtifact,
    iter_finite_metrics,
)
from sem_search.tracking.figures.audit import BarRow, TilePicture, draw_rows, draw_tiles
from sem_search.tracking.mlflow.names import make_safe_name
from sem_search.tracking.report.answer_page import CaptionedFigure, Section
from sem_search.transfer.gradcam import resize_heat_maps

SHOWN = 12
"""Tiles with their heat, of all classes together."""

FIGURE_CAPTION = (
    "Whether the heat lies on particles with much (right of the dashed line) or little of a measure, within images: "
    "rank correlation less that with the heat of other images. Orange: beyond chance, all measures considered."
)
SHEET_CAPTION = "Test tiles of every class with their heat: bright is where the answer comes from."


def iter_morphology_entries(audit: MorphologyAudit, *, subject: AuditSubject, command: str) -> Iterator[Entry]:
    """Yield what is logged: words, numbers, one row per particle, figures, metrics.

    Args:
        audit: What was found.
        subject: The study, for its pictures.
        command: What asked for it.
    """
    rows = [
        BarRow(
            name=entry.measure,
            interval=Interval(
                value=entry.excess,
                low=entry.excess - entry.correlation.value + entry.correlation.low,
                high=entry.excess - entry.correlation.value + entry.correlation.high,
            ),
            is_marked=entry.is_found,
        )
        for entry in audit.correlations
    ]
    draw = partial(
        draw_rows,
        rows,
        axis_label="Rank correlation of heat and measure within images, less chance, with 95 % interval",
        reference=0.0,
        reference_name="as with the heat of other images; orange: beyond chance",
        limits=(-1.0, 1.0),
    )
    figure = FigureArtifact(path="morphology/correlations.png", draw=draw)
    pictures = _list_pictures(audit, subject=subject)
    sheet = FigureArtifact(path="morphology/particles.jpg", draw=partial(draw_tiles, pictures, per_line=4))
    answer = audit.to_answer()
    lies_on, *others = answer.sections
    looks = Section(heading="Where is it hot?", parts=(CaptionedFigure(artifact=sheet, caption=SHEET_CAPTION),))
    lies_on = replace(lies_on, parts=(*lies_on.parts, CaptionedFigure(artifact=figure, caption=FIGURE_CAPTION)))
    yield from iter_answer(
        "morphology/morphology",
        answer=replace(answer, sections=(looks, lies_on, *others)),
        numbers=list_morphology(audit),
        command=command,
    )
    yield build_particle_table(audit, subject=subject)
    yield from iter_finite_metrics(_list_numbers(audit), source="morphology")


def _list_numbers(audit: MorphologyAudit) -> list[NumberRow]:
    numbers = [
        (f"morphology/{make_safe_name(entry.measure)}", entry.correlation.value, 0) for entry in audit.correlations
    ]
    numbers += [
        ("morphology/agreement_of_folds", audit.folds.rank_correlation.value, 0),
        ("morphology/agreement_with_randomised", audit.all_trained.rank_correlation.value, 0),
        ("morphology/deletion", audit.deletion.difference.value, 0),
        ("morphology/insertion", audit.insertion.difference.value, 0),
    ]
    if audit.other is not None:
        numbers.append(("morphology/agreement_with_other", audit.other.agreement.rank_correlation.value, 0))
    return numbers


def build_particle_table(audit: MorphologyAudit, *, subject: AuditSubject) -> TableArtifact:
    """Return one row per particle: its image and class, its measures in px, and in nm where the pixel size is known."""
    table, catalogue = audit.particles, subject.catalogue
    rows: list[tuple[Scalar, ...]] = []
    for place, image in enumerate(table.image_of_particle):
        record = catalogue.records[image]
        pixel_size_nm = catalogue.get_pixel_size(record)
        values = [round(float(table.measures[name][place]), 5) for name in MEASURES]
        nm = None if pixel_size_nm is None else round(values[0] * pixel_size_nm, 3)
        rows.append((record.image_id, record.label, *values, nm))
    columns = ("image_id", "class", "equivalent diameter (px)", *MEASURES[1:], "equivalent diameter (nm)")
    return TableArtifact(path="morphology/particles.csv", columns=columns, rows=tuple(rows))


def list_morphology(audit: MorphologyAudit) -> dict[str, Any]:
    """Return all numbers, fit for JSON."""
    return {
        "study": audit.study,
        "n_particles": audit.n_particles,
        "share_covered": audit.share_covered,
        "agreement": {
            "folds": to_json(audit.folds),
            "new_layers_randomised": to_json(audit.new_layers),
            "all_trained_randomised": to_json(audit.all_trained),
            "depends_on_training": audit.depends_on_training,
            "other_network": None if audit.other is None else _list_other(audit.other),
        },
        "deletion": _list_curves(audit.deletion),
        "insertion": _list_curves(audit.insertion),
        "correlations": to_json(audit.correlations),
        "correlations_of_class": {name: to_json(entries) for name, entries in audit.of_class.items()},
    }


def _list_pictures(audit: MorphologyAudit, *, subject: AuditSubject) -> tuple[TilePicture, ...]:
    """Return first tiles of images of every class, each with its heat, the particles left bright."""
    tiles, table = subject.tiles, audit.particles
    per_class = max(1, SHOWN // len(audit.class_names))
    images = [
        image
        for label in range(len(audit.class_names))
        for image in np.flatnonzero(tiles.label_of_image == label)[:per_class]
    ]
    first_tile = np.searchsorted(tiles.image_of_tile, images)
    heat = resize_heat_maps(audit.maps[first_tile].astype(np.float32), size_px=subject.grid.size_px)
    return tuple(
        TilePicture(
            pixels=table.example_pixels[image],
            title=audit.class_names[tiles.label_of_image[image]],
            caption=f"{tiles.image_ids[image]}, tile 0",
            heat_map=heat[row],
        )
        for row, image in enumerate(images)
    )


def _list_other(other: OtherNetwork) -> dict[str, Any]:
    return {
        "study": other.study,
        "backbone": other.backbone,
        "looks_alike": other.looks_alike,
        **to_json(other.agreement),
    }


def _list_curves(scores: CurveScores) -> dict[str, Any]:
    return {
        "n_images": scores.n_images,
        "by_heat": to_json(scores.area),
        "by_chance": to_json(scores.other_area),
        "difference": to_json(scores.difference),
    }

"""What is logged of heat maps and particles: complete, and in nm where the file tells."""

import dataclasses
import json

import pytest

from sem_search.audits.heat_maps.morphology import MorphologyAudit
from sem_search.audits.heat_maps.morphology_entries import (
    build_particle_table,
    iter_morphology_entries,
    list_morphology,
)
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, Metrics, TableArtifact, TextArtifact


def test_numbers_particles_and_figures_are_logged(morphology: MorphologyAudit, subject: AuditSubject) -> None:
    entries = list(iter_morphology_entries(morphology, subject=subject, command="do"))
    assert [type(entry) for entry in entries] == [
        TextArtifact,
        JsonArtifact,
        FigureArtifact,
        FigureArtifact,
        TextArtifact,
        TableArtifact,
        Metrics,
    ]
    content = list_morphology(morphology)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    for entry in entries[2:4]:
        entry.draw().canvas.draw()  # type: ignore[union-attr]


def test_diameters_are_told_in_nm_where_the_file_tells(morphology: MorphologyAudit, subject: AuditSubject) -> None:
    assert {row[-1] for row in build_particle_table(morphology, subject=subject).rows} == {None}
    records = tuple(dataclasses.replace(record, pixel_size_nm=10.0) for record in subject.catalogue.records)
    known = dataclasses.replace(subject, catalogue=dataclasses.replace(subject.catalogue, records=records))
    table = build_particle_table(morphology, subject=known)
    assert table.rows[0][-1] == pytest.approx(10 * table.rows[0][2], abs=0.01)


def test_another_network_is_logged_where_one_was_asked(morphology: MorphologyAudit, subject: AuditSubject) -> None:
    alone = dataclasses.replace(morphology, other=None)
    for audit, is_there in ((morphology, True), (alone, False)):
        (metrics,) = [
            entry
            for entry in iter_morphology_entries(audit, subject=subject, command="do")
            if isinstance(entry, Metrics)
        ]
        assert ("morphology/agreement_with_other" in {point.key for point in metrics.points}) is is_there
        assert (list_morphology(audit)["agreement"]["other_network"] is not None) is is_there


def test_the_figure_and_the_words_agree_on_much_and_little(morphology: MorphologyAudit, subject: AuditSubject) -> None:
    """A correlation below that by chance is little, in the figure as in the words."""
    entry = dataclasses.replace(
        morphology.correlations[0],
        correlation=Interval(value=0.1, low=0.06, high=0.13),
        chance_correlation=0.14,
        adjusted_p_value=0.01,
    )
    audit = dataclasses.replace(morphology, correlations=(entry,))
    assert "The heat lies on particles with small equivalent diameter" in audit.to_text()
    entries = list(iter_morphology_entries(audit, subject=subject, command="do"))
    axes = entries[3].draw().axes[0]  # type: ignore[union-attr]
    (dot, *_) = axes.containers[0].lines
    assert dot.get_xdata()[0] == pytest.approx(-0.04)
    assert axes.get_lines()[-1].get_xdata() == [0.0, 0.0]

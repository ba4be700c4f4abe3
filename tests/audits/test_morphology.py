"""Heat maps held against themselves and against particles: what is said follows what was found."""

import dataclasses
import json

import numpy as np
import pytest

from sem_search.audits import morphology as room
from sem_search.audits.heat import HeadWeights
from sem_search.audits.morphology import (
    MorphologyAudit,
    audit_morphology,
    build_particle_table,
    iter_morphology_entries,
    list_morphology,
    measure_images,
)
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError
from sem_search.evaluation.intervals import Interval
from sem_search.tracking.loggable import FigureArtifact, JsonArtifact, Metrics, TableArtifact, TextArtifact


@pytest.fixture(scope="module")
def audit(subject: AuditSubject, head_weights: dict[int, HeadWeights], tell) -> MorphologyAudit:
    return audit_morphology(subject, head_weights=head_weights, tell=tell)


def test_every_tile_is_explained_by_the_head_that_never_saw_it(
    audit: MorphologyAudit, subject: AuditSubject, head_weights: dict[int, HeadWeights]
) -> None:
    fold = subject.winner.folds[1]
    own = room.Explainer(subject).explain(head_weights[fold.fold], fold.test_tiles)
    assert np.array_equal(audit.maps[fold.test_tiles], own)


def test_particles_of_each_tile_are_those_of_its_image(audit: MorphologyAudit, subject: AuditSubject) -> None:
    table = audit.particles
    for tile, image in enumerate(subject.tiles.image_of_tile):
        numbers = np.unique(table.particle_maps[tile])
        assert set(table.image_of_particle[numbers[numbers > 0] - 1]) <= {image}
    assert table.particle_maps.shape[1] % audit.maps.shape[1] == 0
    assert audit.n_particles == len(table.measures["solidity"]) > 10


def test_all_questions_are_answered_in_words(audit: MorphologyAudit) -> None:
    text = audit.to_text()
    for words in (
        "Heads of different folds order the places of a tile alike to",
        "With the new layers randomised a map keeps",
        "Deleting the hottest cells first lowers",
        "particles were found; they cover",
        "equivalent diameter: ",
        "roughness: ",
        "stripes: ",
    ):
        assert words in text


@pytest.mark.parametrize(("high", "words"), [(0.1, "do depend on what was learnt"), (0.9, "do not read them as what")])
def test_maps_that_randomised_weights_share_are_not_believed(audit: MorphologyAudit, high: float, words: str) -> None:
    folds = dataclasses.replace(audit.folds, rank_correlation=Interval(value=0.6, low=0.5, high=0.7))
    randomised = dataclasses.replace(audit.all_trained, rank_correlation=Interval(value=0.05, low=0.0, high=high))
    assert words in dataclasses.replace(audit, folds=folds, all_trained=randomised).to_text()


@pytest.mark.parametrize(
    ("p_value", "value", "words"),
    [
        (0.01, 0.4, "the heat lies on particles with large equivalent diameter"),
        (0.01, -0.4, "the heat lies on particles with small equivalent diameter"),
        (0.5, 0.4, "no more than chance"),
    ],
)
def test_a_correlation_is_told_with_its_sign(audit: MorphologyAudit, p_value: float, value: float, words: str) -> None:
    entry = dataclasses.replace(
        audit.correlations[0],
        adjusted_p_value=p_value,
        chance_correlation=0.0,
        correlation=Interval(value=value, low=value - 0.1, high=value + 0.1),
    )
    assert words in dataclasses.replace(audit, correlations=(entry,)).to_text()


def test_a_closed_bed_is_told(audit: MorphologyAudit) -> None:
    assert "Hardly any ground is seen" in dataclasses.replace(audit, share_covered=0.9).to_text()
    assert "Hardly any ground is seen" not in dataclasses.replace(audit, share_covered=0.4).to_text()


def test_numbers_particles_and_figures_are_logged(audit: MorphologyAudit, subject: AuditSubject) -> None:
    entries = list(iter_morphology_entries(audit, subject=subject))
    assert [type(entry) for entry in entries] == [
        TextArtifact,
        JsonArtifact,
        TableArtifact,
        FigureArtifact,
        FigureArtifact,
        Metrics,
    ]
    content = list_morphology(audit)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    for entry in entries[3:5]:
        entry.draw().canvas.draw()  # type: ignore[union-attr]


def test_diameters_are_told_in_nm_where_the_file_tells(audit: MorphologyAudit, subject: AuditSubject) -> None:
    assert {row[-1] for row in build_particle_table(audit, subject=subject).rows} == {None}
    records = tuple(dataclasses.replace(record, pixel_size_nm=10.0) for record in subject.catalogue.records)
    known = dataclasses.replace(subject, catalogue=dataclasses.replace(subject.catalogue, records=records))
    table = build_particle_table(audit, subject=known)
    assert table.rows[0][-1] == pytest.approx(10 * table.rows[0][2], abs=0.01)


def test_maps_that_do_not_fit_the_tiles_are_refused(subject: AuditSubject) -> None:
    with pytest.raises(DataError, match="tile_px=48 is no multiple of a heat map of 7 x 7 cells"):
        measure_images(subject, shape=(7, 7))

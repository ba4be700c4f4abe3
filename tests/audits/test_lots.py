"""Lots compared: found where they differ, not claimed where they do not, and what speaks for it shown."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from sem_search.audits.lots import LotsAudit, audit_lots, iter_lots_entries, list_lots
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, Metrics, TableArtifact


def list_entries(audit: LotsAudit, *, subject: AuditSubject) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the files by their paths, and the metrics by their names."""
    *files, metrics = iter_lots_entries(audit, catalogue=subject.catalogue, grid=subject.grid, command="do")
    assert isinstance(metrics, Metrics)
    return {file.path: file for file in files}, {point.key: point.value for point in metrics.points}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def audit(subject: AuditSubject) -> LotsAudit:
    """Three textures as three lots: everybody can tell them apart."""
    return audit_lots(subject.catalogue, tiles=subject.tiles, features=subject.features.arrays)


def test_every_pair_is_tested(audit: LotsAudit) -> None:
    assert [(pair.first, pair.second) for pair in audit.pairs] == [
        ("blobs", "grains"),
        ("blobs", "stripes"),
        ("grains", "stripes"),
    ]
    assert all(pair.accuracy.value == 1 for pair in audit.pairs)


def test_what_tells_most_is_one_tile_of_each_image_and_of_its_own_lot(audit: LotsAudit) -> None:
    first = [tile for tile in audit.telling if tile.pair == "blobs / grains"]
    assert [tile.lot for tile in first] == ["blobs"] * 4 + ["grains"] * 4
    assert all(tile.image_id.startswith(f"{tile.lot}/") for tile in audit.telling)
    assert len({tile.image_id for tile in first}) == 8
    scores = [tile.score for tile in first[:4]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0


def test_a_session_of_its_own_is_said_first(subject: AuditSubject, take_in_sessions) -> None:
    dated = take_in_sessions(subject, lambda _, label: f"day of {label}")
    audit = audit_lots(dated.catalogue, tiles=subject.tiles, features=subject.features.arrays)
    assert audit.to_answer().sections[0].heading == "Take care"
    assert str(audit.to_answer().sections[0].parts[0]).startswith("The session alone predicts the class")
    assert audit.to_text().endswith("But see below how they were imaged.")


def test_a_lot_with_too_few_images_is_named(subject: AuditSubject) -> None:
    groups = tuple("one place" if image.startswith("blobs") else image for image in subject.tiles.image_ids)
    tiles = dataclasses.replace(subject.tiles, group_of_image=groups)
    with pytest.raises(DataError, match="lot blobs has 1 independent image"):
        audit_lots(subject.catalogue, tiles=tiles, features=subject.features.arrays)


def test_words_numbers_and_pictures_are_written(audit: LotsAudit, subject: AuditSubject) -> None:
    artifacts, _ = list_entries(audit, subject=subject)
    assert list(artifacts) == [
        "lots.txt",
        "lots.json",
        "lots.png",
        "telling_regions.jpg",
        "lots.html",
        "telling_tiles.csv",
        "telling_tiles.jpg",
        "telling_regions.json",
        "lots.csv",
    ]
    content = list_lots(audit)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    table, sheet = artifacts["telling_tiles.csv"], artifacts["telling_tiles.jpg"]
    assert isinstance(table, TableArtifact) and len(table.rows) == 24
    assert isinstance(sheet, FigureArtifact)
    figure = sheet.draw()
    assert len(figure.axes) == 24
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.shape == (48, 48)


def test_the_regions_that_tell_most_are_shown_with_their_numbers(audit: LotsAudit, subject: AuditSubject) -> None:
    for tile in audit.telling:
        assert tile.shares.mean() == pytest.approx(tile.score, rel=1e-4)
    artifacts, _ = list_entries(audit, subject=subject)
    sheet, numbers = artifacts["telling_regions.jpg"], artifacts["telling_regions.json"]
    assert isinstance(sheet, FigureArtifact) and isinstance(numbers, JsonArtifact)
    images = sheet.draw().axes[0].images
    assert len(images) == 2, "the tile, and the heat over it"
    assert sheet.draw().axes[0].get_title() == "blobs, not grains"
    assert np.asarray(images[1].get_array()).max() == 1
    assert len(numbers.content) == len(audit.telling)
    np.testing.assert_allclose(numbers.content[0]["shares"], audit.telling[0].shares)


def test_every_pair_has_a_row_and_two_metrics(audit: LotsAudit, subject: AuditSubject) -> None:
    artifacts, metrics = list_entries(audit, subject=subject)
    table = artifacts["lots.csv"]
    assert [row[:2] for row in table.rows] == [(pair.first, pair.second) for pair in audit.pairs]
    assert metrics["lots/n_different"] == sum(pair.is_different() for pair in audit.pairs)
    assert metrics["lots/accuracy/blobs_grains"] == 1
    assert metrics["lots/p_value/blobs_grains"] == audit.pairs[0].adjusted_p_value

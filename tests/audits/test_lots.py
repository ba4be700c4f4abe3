"""Lots compared: found where they differ, not claimed where they do not, and what speaks for it shown."""

import dataclasses
import json

import numpy as np
import pytest

from sem_search.audits.lots import LotsAudit, audit_lots, describe_pair, iter_lots_artifacts, list_lots
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, TableArtifact


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
    assert audit.to_text().splitlines()[1].startswith("Take care: The session alone predicts the class")


def test_a_lot_with_too_few_images_is_named(subject: AuditSubject) -> None:
    groups = tuple("one place" if image.startswith("blobs") else image for image in subject.tiles.image_ids)
    tiles = dataclasses.replace(subject.tiles, group_of_image=groups)
    with pytest.raises(DataError, match="lot blobs has 1 independent image"):
        audit_lots(subject.catalogue, tiles=tiles, features=subject.features.arrays)


@pytest.mark.parametrize(
    ("p_value", "smallest", "detectable", "words"),
    [
        (0.01, 0.001, 0.7, "blobs and grains differ: 1.000"),
        (0.4, 0.001, 0.7, "no difference was found, which does not prove that there is none"),
        (0.4, 0.001, 0.7, "found in four of five cases if 0.70 of all images can be told apart"),
        (0.4, 0.001, None, "a very large difference would as a rule have been missed"),
        (0.1, 0.1, None, "nothing can be said."),
    ],
)
def test_words_follow_the_test(
    audit: LotsAudit, p_value: float, smallest: float, detectable: float | None, words: str
) -> None:
    pair = dataclasses.replace(
        audit.pairs[0], adjusted_p_value=p_value, smallest_p_value=smallest, detectable_accuracy=detectable
    )
    assert words in describe_pair(pair, n_pairs=3)
    assert f"AUROC 1.000, p = {p_value:.3f}, 3 pairs considered" in describe_pair(pair, n_pairs=3)
    assert "considered" not in describe_pair(pair, n_pairs=1)


def test_a_verdict_is_not_contradicted_by_what_stands_beside_it(audit: LotsAudit) -> None:
    """Ten of ten right, and one in eighteen permutations does as well: no interval without 0.5, no power passed."""
    pair = dataclasses.replace(
        audit.pairs[0], p_value=1 / 18, adjusted_p_value=1 / 18, smallest_p_value=1 / 126, detectable_accuracy=0.85
    )
    text = describe_pair(pair, n_pairs=1)
    assert "no difference was found" in text
    assert "1.000 of the images are assigned" in text
    assert pair.accuracy.to_text() not in text
    assert "5.56 % of all permutations of these images rank them as well" in text
    assert "here as many were, but chance too often brings about the same: take more images, ten or more" in text
    below = dataclasses.replace(pair, accuracy=Interval(value=0.7, low=0.4, high=0.9))
    assert "take more images" not in describe_pair(below, n_pairs=1)


def test_images_of_unlike_size_are_told(audit: LotsAudit) -> None:
    pair = dataclasses.replace(audit.pairs[0], n_tiles_of_image=2, n_tiles_left_out=18)
    assert "2 tiles of each were looked at, as many as the smallest has, and 18 tiles left out" in describe_pair(
        pair, n_pairs=3
    )
    assert "unlike size" not in describe_pair(audit.pairs[0], n_pairs=3)


def test_words_numbers_and_pictures_are_written(audit: LotsAudit, subject: AuditSubject) -> None:
    artifacts = {
        artifact.path: artifact
        for artifact in iter_lots_artifacts(audit, catalogue=subject.catalogue, grid=subject.grid)
    }
    assert list(artifacts) == [
        "lots.txt",
        "lots.json",
        "lots.png",
        "telling_regions.jpg",
        "lots.html",
        "telling_tiles.csv",
        "telling_tiles.jpg",
        "telling_regions.json",
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
    artifacts = {
        artifact.path: artifact
        for artifact in iter_lots_artifacts(audit, catalogue=subject.catalogue, grid=subject.grid)
    }
    sheet, numbers = artifacts["telling_regions.jpg"], artifacts["telling_regions.json"]
    assert isinstance(sheet, FigureArtifact) and isinstance(numbers, JsonArtifact)
    images = sheet.draw().axes[0].images
    assert len(images) == 2, "the tile, and the heat over it"
    assert sheet.draw().axes[0].get_title() == "blobs, not grains"
    assert np.asarray(images[1].get_array()).max() == 1
    assert len(numbers.content) == len(audit.telling)
    np.testing.assert_allclose(numbers.content[0]["shares"], audit.telling[0].shares)

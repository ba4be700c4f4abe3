"""Accepted lots in a file: what is read is what was written, and what cannot be used is named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sem_search.audits.heat_maps.particles import MEASURES, find_particles
from sem_search.audits.lot_reference import build_lot, check_lots, read_reference, write_reference
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError, StoreError
from sem_search.transfer.features import embed_stored_features
from tests.audits.lots import make_lot, make_reference


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    reference = make_reference(3)
    file = write_reference(reference, folder=tmp_path / "kept")
    read = read_reference(tmp_path / "kept")
    assert read.looked_at == reference.looked_at
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [file.name]
    for lot, same in zip(reference.lots, read.lots, strict=True):
        np.testing.assert_array_equal(lot.features, same.features)
        assert list(lot.measures) == list(same.measures) == list(MEASURES)
        for name, values in lot.measures.items():
            np.testing.assert_array_equal(values, same.measures[name])
        for name in ("name", "pixels", "acquired_at", "attributes"):
            assert getattr(lot, name) == getattr(same, name)


def test_a_missing_or_damaged_reference_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no lots\.npz: make a reference with `sem-search lots-reference`"):
        read_reference(tmp_path)
    file = write_reference(make_reference(3), folder=tmp_path)
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], content[:200] + bytes([content[200] ^ 1]) + content[201:], b""):
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"lots\.npz is damaged"):
            read_reference(tmp_path)


def test_a_picture_or_a_name_in_two_lots_is_refused() -> None:
    lots = [make_lot(0), make_lot(1), make_lot(2)]
    check_lots(lots)
    with pytest.raises(DataError, match="lots lot-1 and other hold the same picture"):
        check_lots([*lots, dataclasses.replace(lots[1], name="other")])
    with pytest.raises(DataError, match="two lots are called lot-1"):
        check_lots([*lots, dataclasses.replace(make_lot(3), name="lot-1")])


def test_a_lot_is_its_images_and_their_particles(subject: AuditSubject) -> None:
    features = subject.features.arrays
    lot = build_lot("all", catalogue=subject.catalogue, tiles=subject.tiles, features=features, progress=False)
    tiles = embed_stored_features(features)
    image = subject.tiles.image_ids[0]
    group = int(np.flatnonzero(np.unique(subject.tiles.group_of_image) == subject.tiles.group_of_image[0])[0])
    np.testing.assert_allclose(lot.features[group], tiles[subject.tiles.get_tiles_of((image,))].mean(axis=0))
    particles = find_particles(subject.catalogue.read_image(subject.catalogue.records[0]))
    assert lot.measures["roughness"][0] == pytest.approx(np.log(np.median(particles.measures["roughness"])))
    assert lot.pixels[0] == subject.catalogue.records[0].pixels_sha256
    assert lot.acquired_at is None
    assert lot.attributes["pixel size"] == ["not known"]


def test_images_of_one_place_count_once_and_too_few_are_refused(subject: AuditSubject) -> None:
    n_images = len(subject.tiles.image_ids)
    pairs = dataclasses.replace(subject.tiles, group_of_image=tuple(str(n // 2) for n in range(n_images)))
    features = subject.features.arrays
    lot = build_lot("pairs", catalogue=subject.catalogue, tiles=pairs, features=features, progress=False)
    assert len(lot.features) == (n_images + 1) // 2
    one = dataclasses.replace(subject.tiles, group_of_image=("one place",) * n_images)
    with pytest.raises(DataError, match="lot copies has 1 independent image, and 4 are needed"):
        build_lot("copies", catalogue=subject.catalogue, tiles=one, features=features, progress=False)

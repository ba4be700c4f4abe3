"""The gallery of mistakes: the right images, explained by the head that never saw them, and bounded."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from sem_search.records import FinishedFold
from sem_search.search.prepare.data import build_study_tiles
from sem_search.search.results import mistakes as showing
from sem_search.search.results.mistakes import show_mistakes
from sem_search.tracking.entries.context import MistakeGallery
from sem_search.tracking.entries.types import Picture
from sem_search.transfer.gradcam import HeatMaps
from tests.search.conftest import make_outcome, make_study_outcome


def show(prepared, kept) -> MistakeGallery:
    outcome = make_study_outcome(prepared.data.tiles, kept=kept)
    return show_mistakes(outcome, prepared=prepared, finished_folds=kept)


def open_picture(picture: Picture) -> Image.Image:
    assert picture.media_type == "image/jpeg"
    return Image.open(io.BytesIO(picture.content))


def test_every_wrong_image_is_shown_under_two_heat_maps(prepared, store_folds) -> None:
    gallery = show(prepared, store_folds(shares_right=(1.0, 0.0)))
    assert (gallery.n_wrong, gallery.n_tested, len(gallery.images)) == (15, 15, 15)
    assert sorted(image.answer.image for image in gallery.images) == list(range(15))
    for image in gallery.images:
        assert image.answer.other_label == image.answer.predicted_label != image.answer.true_label
        assert not image.is_partly_unseen
        assert open_picture(image.picture).mode == "L"
        assert {open_picture(heat).mode for heat in (image.true_heat, image.other_heat)} == {"RGB"}
        assert {open_picture(one).size for one in (image.picture, image.true_heat, image.other_heat)} == {(96, 96)}


def test_each_image_is_explained_by_the_head_of_its_fold_for_both_classes(
    prepared, store_folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tuple(
        dataclasses.replace(
            one, head_weights=tuple(np.full_like(weight, one.outcome.fold) for weight in one.head_weights)
        )
        for one in store_folds(shares_right=(1.0, 0.0))
    )
    seen = []

    def compute(head, *, features, class_index, convolution):
        seen.append((int(head.get_weights()[0].flat[0]), features[0], class_index.tolist()))
        return HeatMaps(strengths=np.zeros((len(class_index), 3, 3), np.float32))

    monkeypatch.setattr(showing, "compute_heat_maps", compute)
    gallery = show(prepared, kept)
    tiles, found = prepared.data.tiles, {}
    for image in gallery.images:
        at = np.flatnonzero(tiles.image_of_tile == image.answer.image)
        wanted = np.asarray(prepared.features.arrays[0][at])
        found[image.answer.image_id] = [
            (fold, labels) for fold, features, labels in seen if np.array_equal(features, wanted)
        ]
    for image in gallery.images:
        labels = [tiles.class_names.index(name) for name in (image.answer.true_label, image.answer.predicted_label)]
        assert found[image.answer.image_id] == [(image.answer.fold, [label] * 4) for label in labels]


def test_where_no_image_is_wrong_the_least_sure_are_shown(prepared, store_folds) -> None:
    gallery = show(prepared, store_folds())
    assert (gallery.n_wrong, len(gallery.images)) == (0, showing.N_LEAST_SURE)
    assert not any(image.answer.is_wrong for image in gallery.images)


@pytest.mark.parametrize(
    ("limit", "value", "n_shown"), [("MAX_IMAGES", 4, 4), ("MAX_TILES", 11, 2), ("MAX_TILES", 1, 1)]
)
def test_what_is_shown_is_bounded_and_nothing_else_is_read(
    prepared, store_folds, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, n_shown: int
) -> None:
    monkeypatch.setattr(showing, limit, value)
    monkeypatch.setattr(showing, "N_WORST_TILES", 3)
    read = []
    catalogue = prepared.data.catalogue
    read_image = type(catalogue).read_image
    monkeypatch.setattr(
        type(catalogue), "read_image", lambda own, record: read.append(record) or read_image(own, record)
    )
    gallery = show(prepared, store_folds(shares_right=(1.0, 0.0)))
    assert (len(gallery.images), gallery.n_wrong) == (n_shown, 15)
    assert len(read) == n_shown + 3


def test_large_images_are_reduced_and_what_no_tile_covers_is_told(
    prepared, store_folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "SIDE_PX", 40)
    catalogue = prepared.data.catalogue
    read_image = type(catalogue).read_image
    monkeypatch.setattr(
        type(catalogue), "read_image", lambda own, record: np.pad(read_image(own, record), ((0, 0), (0, 32)))
    )
    gallery = show(prepared, store_folds(shares_right=(1.0, 0.0)))
    assert {open_picture(image.picture).size for image in gallery.images} == {(40, 30)}
    assert all(image.is_partly_unseen for image in gallery.images)
    assert {open_picture(tile.picture).size for tile in gallery.tiles} == {(40, 40)}


@pytest.mark.usefixtures("cache")
def test_what_tiles_per_image_leaves_out_is_told(prepared, trainer) -> None:
    grid = dataclasses.replace(prepared.data.grid, per_image=3)
    data = dataclasses.replace(prepared.data, grid=grid, tiles=build_study_tiles(prepared.data.catalogue, grid=grid))
    folds = tuple(
        FinishedFold(
            outcome=make_outcome(data.tiles, fold=fold, shares_right=(1.0, 0.0)),
            head_weights=tuple(trainer.head.get_weights()),
        )
        for fold in data.folds.folds
    )
    gallery = show(dataclasses.replace(prepared, data=data), folds)
    assert len(gallery.images) == 15
    assert all(image.is_partly_unseen for image in gallery.images)


def test_the_tiles_are_the_worst_ones(prepared, store_folds) -> None:
    gallery = show(prepared, store_folds(shares_right=(1.0, 0.5)))
    assert len(gallery.tiles) == showing.N_WORST_TILES
    assert all(tile.answer.is_wrong for tile in gallery.tiles)
    answer = gallery.tiles[0].answer
    top, left = list(prepared.data.grid.iter_corners(96, 96))[answer.place]
    whole = prepared.data.catalogue.read_image(prepared.data.catalogue.records[answer.image])
    shown = np.asarray(open_picture(gallery.tiles[0].picture), dtype=float)
    assert np.corrcoef(shown.ravel(), whole[top : top + 48, left : left + 48].ravel())[0, 1] > 0.9

"""The Grad-CAM sheet: test tiles alone, each by the head that never saw its image."""

import dataclasses

import numpy as np
import pytest

from sem_search.micrographs.folds import Fold, FoldTable
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.records import TileTable
from sem_search.search.results import grad_cam_sheet as explaining
from sem_search.search.results.grad_cam_sheet import SheetTile, choose_sheet_tiles, explain_sheet, read_sheet_pixels
from sem_search.transfer.gradcam import HeatMaps


@pytest.fixture
def sheet(prepared) -> tuple[SheetTile, ...]:
    """One tile of each class, each tested in another fold; the last class stands first."""
    tiles, places = prepared.data.tiles, []
    for label, fold in zip((2, 1, 0), prepared.data.folds.folds, strict=True):
        ids = [image_id for image_id in fold.test if image_id.startswith(tiles.class_names[label])]
        image = tiles.image_ids.index(ids[-1])
        places.append(SheetTile(fold=fold.number, image=image, tile=4 * image + 3))
    return tuple(places)


def test_one_test_tile_of_every_class(prepared) -> None:
    tiles, folds = prepared.data.tiles, prepared.data.folds.folds
    sheet = choose_sheet_tiles(tiles, folds=prepared.data.folds)
    assert [int(tiles.label_of_tile[place.tile]) for place in sheet] == [0, 1, 2]
    for place in sheet:
        assert tiles.image_of_tile[place.tile] == place.image
        assert tiles.image_ids[place.image] in folds[place.fold].test
    assert choose_sheet_tiles(tiles, folds=prepared.data.folds) == sheet, "the same in every trial"


def test_the_first_tile_of_the_first_test_image_of_the_first_fold_with_the_class() -> None:
    tiles = TileTable(
        class_names=("a", "b"),
        image_ids=("a/0", "a/1", "b/0", "b/1"),
        label_of_image=np.array([0, 0, 1, 1]),
        group_of_image=("a/0", "a/1", "b/0", "b/1"),
        image_of_tile=np.array([0, 0, 1, 1, 1, 2, 3, 3]),
    )
    tests = (("b/1",), ("a/1", "a/0"), ("b/0",))
    folds = tuple(Fold(number=n, training=(), validation=(), test=test) for n, test in enumerate(tests))
    assert choose_sheet_tiles(tiles, folds=FoldTable(folds=folds, seed=0)) == (
        SheetTile(fold=1, image=0, tile=0),
        SheetTile(fold=0, image=3, tile=6),
    )


def test_pixels_are_those_of_the_tiles(prepared) -> None:
    sheet = (SheetTile(fold=0, image=2, tile=11), SheetTile(fold=0, image=7, tile=28))
    pixels = read_sheet_pixels(prepared.data, sheet=sheet)
    assert pixels.shape == (2, 48, 48)
    for picture, place, (top, left) in zip(pixels, sheet, ((48, 48), (0, 0)), strict=True):
        whole = read_micrograph(prepared.data.catalogue.records[place.image].path).pixels
        np.testing.assert_array_equal(picture, whole[top : top + 48, left : left + 48])


def explain(prepared, kept, sheet):
    pixels = np.arange(len(sheet), dtype=np.float32)[:, None, None] + np.zeros((1, 48, 48), np.float32)
    return explain_sheet(prepared, finished_folds=kept, sheet=sheet, pixels=pixels)


def test_each_picture_tells_what_its_own_fold_answered(prepared, store_folds, sheet) -> None:
    kept = store_folds(shares_right=(1.0, 0.0))
    explained = explain(prepared, kept, sheet)
    tiles = prepared.data.tiles
    assert explained.convolution == prepared.network.cut.convolution
    assert [picture.true_label for picture in explained.pictures] == list(tiles.class_names)
    for place, picture in zip(sheet[::-1], explained.pictures, strict=True):
        outcome = kept[place.fold].outcome
        answer = outcome.test_probabilities[outcome.test_tiles.tolist().index(place.tile)]
        assert (picture.fold, picture.tile) == (place.fold, place.tile)
        assert picture.image_id == tiles.image_ids[place.image]
        assert picture.predicted_label == tiles.class_names[answer.argmax()] != picture.true_label
        assert picture.probability == answer.max()
        assert picture.explained_label == picture.true_label
        assert picture.pixels[0, 0] == sheet.index(place)
        assert np.isfinite(picture.heat_map).all()


def test_each_tile_is_explained_by_the_head_of_its_fold(
    prepared, store_folds, sheet, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tuple(
        dataclasses.replace(
            one, head_weights=tuple(np.full_like(weight, one.outcome.fold) for weight in one.head_weights)
        )
        for one in store_folds()
    )
    seen = {}

    def compute(head, *, features, class_index, convolution):
        seen[head.get_weights()[0].flat[0]] = (features[0], class_index, convolution)
        return HeatMaps(strengths=np.zeros((1, 3, 3), np.float32))

    monkeypatch.setattr(explaining, "compute_heat_maps", compute)
    explained = explain(prepared, kept, sheet)
    assert sorted(seen) == [0, 1, 2]
    for place in sheet:
        features, class_index, convolution = seen[place.fold]
        np.testing.assert_array_equal(features, prepared.features.arrays[0][[place.tile]])
        assert class_index.tolist() == [prepared.data.tiles.label_of_tile[place.tile]]
        assert convolution == "conv_2"
    assert all(picture.is_zero for picture in explained.pictures), "a map of nothing is said to be one"


def test_folds_that_were_not_reached_are_left_out(prepared, store_folds, sheet) -> None:
    kept = tuple(one for one in store_folds() if one.outcome.fold != sheet[0].fold)
    explained = explain(prepared, kept, sheet)
    expected = [place.tile for place in sheet[::-1] if place.fold != sheet[0].fold]
    assert [picture.tile for picture in explained.pictures] == expected

"""The eight views of a tile: every symmetry of the square once, and not a pixel changed."""

import numpy as np
import pytest

from sem_search.settings import SearchSettings
from sem_search.transfer.views import VIEWS, turn_tiles

TILE = np.array([[[1, 2], [3, 4]]], dtype=np.float32)
N_VIEWS = VIEWS["dihedral"]


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        (0, [[1, 2], [3, 4]]),
        (1, [[2, 4], [1, 3]]),
        (2, [[4, 3], [2, 1]]),
        (3, [[3, 1], [4, 2]]),
        (4, [[2, 1], [4, 3]]),
        (5, [[1, 3], [2, 4]]),
        (6, [[3, 4], [1, 2]]),
        (7, [[4, 2], [3, 1]]),
    ],
)
def test_each_view_is_a_turn_or_a_mirroring(view: int, rows: list[list[int]]) -> None:
    assert turn_tiles(TILE, view=view).tolist() == [rows]


def test_each_tile_is_turned_by_itself() -> None:
    tiles = np.random.default_rng(0).uniform(size=(3, 5, 5)).astype(np.float32)
    for view in range(N_VIEWS):
        turned = turn_tiles(tiles, view=view)
        assert (turned.shape, turned.dtype) == (tiles.shape, tiles.dtype)
        for one, other in zip(turned, tiles, strict=True):
            np.testing.assert_array_equal(one, turn_tiles(other[None], view=view)[0])


def test_the_views_are_the_dihedral_group_of_the_square() -> None:
    """They differ, and a view of a view is a view: a finite set of movements that is closed is a group."""
    tile = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    views = {turn_tiles(tile, view=view).tobytes() for view in range(N_VIEWS)}
    assert len(views) == N_VIEWS == 8
    for first in range(N_VIEWS):
        seen = {turn_tiles(turn_tiles(tile, view=first), view=second).tobytes() for second in range(N_VIEWS)}
        assert seen == views


def test_without_augmentation_there_is_the_tile_alone() -> None:
    assert VIEWS["none"] == 1
    np.testing.assert_array_equal(turn_tiles(TILE, view=0), TILE)


@pytest.mark.parametrize("augment", VIEWS)
def test_every_choice_is_a_setting(augment: str) -> None:
    assert SearchSettings(data="demo", augment=augment).augment == augment

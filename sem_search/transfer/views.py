"""The eight views of a tile: a specimen has no up, so that a tile turned or mirrored is as good a tile.

Together they are the symmetries of the square, the dihedral group of order eight. View 0 is the tile as it is. Pixels
move and never change: nothing is interpolated, and no texture is made that the microscope did not see.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from sem_search.micrographs.tiles import FloatTiles

N_QUARTER_TURNS = 4

VIEWS: Mapping[str, int] = MappingProxyType({"none": 1, "dihedral": 2 * N_QUARTER_TURNS})
"""Value of the setting `augment` -> number of views of each tile."""


def turn_tiles(tiles: FloatTiles, *, view: int) -> FloatTiles:
    """Return one view of each tile: views 0 to 3 are turned by as many quarters, 4 to 7 are mirrored first.

    Args:
        tiles: Shape (n, size_px, size_px).
        view: In [0, 8); 0 is the tiles as they are.

    Returns:
        The same shape, and where no pixel moves the same memory.
    """
    mirrored = tiles[:, :, ::-1] if view >= N_QUARTER_TURNS else tiles
    return np.rot90(mirrored, view % N_QUARTER_TURNS, axes=(1, 2))

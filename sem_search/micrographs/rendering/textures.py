"""Endless surface textures, made once and looked up under every particle at another place and angle."""

from functools import cache

import numpy as np

from sem_search.micrographs.rendering.exact import Draws, FloatArray
from sem_search.micrographs.rendering.fields import compute_spline_surface

SHEET_PX = 512  # a power of two: places wrap by a bit mask
GRAIN_PX = 8  # width of the finest grains of the grain sheet

_SEED = 100135  # the paper's article number; any other would do
_N_NEEDLES = 4000
_NEEDLE_REACH_PX = 9


@cache
def get_grain_sheet() -> FloatArray:
    """Return isotropic grains of two sizes, mean 0, standard deviation about 1, shape (SHEET_PX, SHEET_PX)."""
    fine = _compute_wrapping_hills(Draws(_SEED), spacing_px=GRAIN_PX)
    return 1.65 * fine + 1.25 * _compute_wrapping_hills(Draws(_SEED + 1), spacing_px=2 * GRAIN_PX)


@cache
def get_needle_sheet() -> FloatArray:
    """Return a felt of needles about 14 by 3 px, heights from 0 to 1.4, shape (SHEET_PX, SHEET_PX)."""
    draws = Draws(_SEED + 2)
    numbers, directions = draws.uniforms(4, _N_NEEDLES, 1, 1), draws.directions(_N_NEEDLES)
    steps = np.arange(-_NEEDLE_REACH_PX, _NEEDLE_REACH_PX + 1)
    x, y = steps[None, None, :].astype(np.float32), steps[None, :, None].astype(np.float32)
    cosine, sine = directions[:, :1, None], directions[:, 1:, None]
    u = (x * cosine + y * sine) / (5.0 + 4.0 * numbers[0])
    v = (y * cosine - x * sine) / (1.2 + 0.9 * numbers[1])
    ridges = np.maximum(1.0 - u * u - v * v, 0.0) * (0.4 + numbers[2])
    # one needle after the other from left to right, at random heights: evenly spread without being regular
    columns = (np.arange(_N_NEEDLES)[:, None, None] * SHEET_PX // _N_NEEDLES + steps[None, None, :]) % SHEET_PX
    rows = ((numbers[3] * SHEET_PX).astype(np.int64) + steps[None, :, None]) % SHEET_PX
    sheet = np.zeros(SHEET_PX * SHEET_PX, dtype=np.float32)
    np.maximum.at(sheet, (rows * SHEET_PX + columns).reshape(-1), ridges.reshape(-1))
    return sheet.reshape(SHEET_PX, SHEET_PX)


def look_up(sheet: FloatArray, rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Return the sheet's values at these places, wrapped round its edges; any shape, the same for all three.

    Args:
        sheet: Shape (SHEET_PX, SHEET_PX).
        rows: Places from the top.
        columns: Places from the left.
    """
    wrapped_rows = np.floor(rows).astype(np.int64) & (SHEET_PX - 1)
    wrapped_columns = np.floor(columns).astype(np.int64) & (SHEET_PX - 1)
    values: FloatArray = sheet.reshape(-1).take(wrapped_rows * SHEET_PX + wrapped_columns)
    return values


def _compute_wrapping_hills(draws: Draws, *, spacing_px: int) -> FloatArray:
    n = SHEET_PX // spacing_px
    lattice = np.pad(draws.normals(n, n), ((1, 2), (1, 2)), mode="wrap")
    return compute_spline_surface(lattice, spacing_px=spacing_px)

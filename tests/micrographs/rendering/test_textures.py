from collections.abc import Callable

import numpy as np
import pytest

from sem_search.micrographs.rendering.exact import FloatArray
from sem_search.micrographs.rendering.textures import SHEET_PX, get_grain_sheet, get_needle_sheet, look_up


@pytest.mark.parametrize("get_sheet", [get_grain_sheet, get_needle_sheet])
def test_sheets_have_no_seam(get_sheet: Callable[[], FloatArray]) -> None:
    sheet = get_sheet()
    assert sheet.shape == (SHEET_PX, SHEET_PX) and sheet.dtype == np.float32
    for axis in (0, 1):
        steps = np.abs(np.diff(sheet, axis=axis, append=sheet.take([0], axis=axis)))
        assert steps.take([-1], axis=axis).mean() < 1.3 * steps.mean()


def test_grains_have_unit_scale_and_needles_stand_up() -> None:
    assert get_grain_sheet().std() == pytest.approx(1.0, abs=0.1)
    assert get_needle_sheet().min() == 0.0 and 1.0 < get_needle_sheet().max() < 1.41


def test_look_up_wraps() -> None:
    sheet = get_grain_sheet()
    rows, columns = np.array([0.2, 5.0, 511.9], dtype=np.float32), np.array([3.0, -1.0, 600.5], dtype=np.float32)
    assert look_up(sheet, rows, columns).tolist() == [sheet[0, 3], sheet[5, 511], sheet[511, 88]]
    assert np.array_equal(look_up(sheet, rows - SHEET_PX, columns + SHEET_PX), look_up(sheet, rows, columns))

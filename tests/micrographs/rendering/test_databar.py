import numpy as np
import pytest

from sem_search.micrographs.rendering.databar import INK, PAPER, PIXEL_SIZE_NM, SCALE_BAR_UM, compute_data_bar


@pytest.mark.parametrize(("width_px", "height_px"), [(672, 32), (1280, 64), (90, 16), (30, 5)])
def test_bar_fits(width_px: int, height_px: int) -> None:
    bar = compute_data_bar(width_px=width_px, height_px=height_px)
    assert bar.shape == (height_px, width_px) and bar.dtype == np.uint8
    assert set(np.unique(bar)) == {INK, PAPER}


@pytest.mark.parametrize(("width_px", "height_px"), [(672, 32), (1280, 64)])
def test_scale_bar_is_as_long_as_it_says(width_px: int, height_px: int) -> None:
    middle = compute_data_bar(width_px=width_px, height_px=height_px)[height_px // 2]
    gaps = np.flatnonzero(np.diff(np.flatnonzero(middle == INK)) > 1)
    length_px = np.count_nonzero(middle == INK) - 1 - gaps[-1]
    assert length_px * PIXEL_SIZE_NM == SCALE_BAR_UM * 1000


def test_text_can_be_read() -> None:
    bar = compute_data_bar(width_px=672, height_px=32)
    first_letter = bar[9:23:2, 12:22:2] == INK
    assert ["".join("#" if ink else "." for ink in row) for row in first_letter] == [
        "####.",
        "#...#",
        "#...#",
        "####.",
        "#.#..",
        "#..#.",
        "#...#",
    ]

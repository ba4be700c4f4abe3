"""The data bar below a rendered scan: a scale bar and a short line of text, in a bitmap font of its own.

Its own font, because font files differ between machines. The bar never names the material: a network that is shown
the bar by mistake must not be able to read the answer in it.
"""

import numpy as np
from numpy.typing import NDArray

ByteImage = NDArray[np.uint8]

PIXEL_SIZE_NM = 500.0  # one magnification for all materials: it must not give them away
SCALE_BAR_UM = 50
TEXT = "RENDERED  10.0 kV  X200  SE"
INK, PAPER = 235, 12

_GLYPHS = {  # 5 columns by 7 rows, one hexadecimal number of 5 bits per row
    " ": "00 00 00 00 00 00 00",
    ".": "00 00 00 00 00 0C 0C",
    "0": "0E 11 13 15 19 11 0E",
    "1": "04 0C 04 04 04 04 0E",
    "2": "0E 11 01 06 08 10 1F",
    "5": "1F 10 1E 01 01 11 0E",
    "C": "0E 11 10 10 10 11 0E",
    "D": "1E 11 11 11 11 11 1E",
    "E": "1F 10 10 1E 10 10 1F",
    "N": "11 19 15 13 11 11 11",
    "R": "1E 11 11 1E 14 12 11",
    "S": "0F 10 10 0E 01 01 1E",
    "V": "11 11 11 11 11 0A 04",
    "X": "11 11 0A 04 0A 11 11",
    "k": "10 10 12 14 18 14 12",
    "m": "00 00 1A 15 15 15 15",
    "µ": "00 11 11 11 13 1D 10",
}
_GLYPH_HEIGHT, _GLYPH_WIDTH, _GLYPH_GAP = 7, 5, 1
_MARGIN_PX = 12


def compute_data_bar(*, width_px: int, height_px: int) -> ByteImage:
    """Return the data bar: text on the left, the scale bar and its length on the right.

    What does not fit into a narrow bar is cut off at its end.

    Returns:
        Grey levels, shape (height_px, width_px).
    """
    bar = np.full((height_px, width_px), PAPER, dtype=np.uint8)
    zoom = max(1, height_px // 16)
    right = width_px - _MARGIN_PX
    left = max(_MARGIN_PX, right - round(SCALE_BAR_UM * 1000 / PIXEL_SIZE_NM))
    middle = height_px // 2
    bar[middle - zoom : middle + zoom, left:right] = INK
    bar[middle - 4 * zoom : middle + 4 * zoom, left : left + zoom] = INK
    bar[middle - 4 * zoom : middle + 4 * zoom, right - zoom : right] = INK
    label = _compute_text(f"{SCALE_BAR_UM} µm", zoom=zoom)
    _paste(label, bar=bar, left=left - _MARGIN_PX - label.shape[1])
    _paste(
        _compute_text(TEXT, zoom=zoom)[:, : max(0, left - 3 * _MARGIN_PX - label.shape[1])], bar=bar, left=_MARGIN_PX
    )
    return bar


def _compute_text(text: str, *, zoom: int) -> ByteImage:
    rows = np.zeros((_GLYPH_HEIGHT, len(text) * (_GLYPH_WIDTH + _GLYPH_GAP)), dtype=np.uint8)
    for place, letter in enumerate(text):
        for row, bits in enumerate(_GLYPHS[letter].split()):
            for column in range(_GLYPH_WIDTH):
                if int(bits, 16) >> (_GLYPH_WIDTH - 1 - column) & 1:
                    rows[row, place * (_GLYPH_WIDTH + _GLYPH_GAP) + column] = 1
    inked = np.where(rows == 1, np.uint8(INK), np.uint8(PAPER))
    return inked.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _paste(text: ByteImage, *, bar: ByteImage, left: int) -> None:
    """Write the text into the bar, at half its height; what would stand outside is left out."""
    text = text[: bar.shape[0], max(0, -left) :]
    top, left = (bar.shape[0] - text.shape[0]) // 2, max(0, left)
    bar[top : top + text.shape[0], left : left + text.shape[1]] = text[:, : bar.shape[1] - left]

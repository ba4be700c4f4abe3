"""The eight ways in which a picture can be turned by quarters and mirrored, as numbers from 0 to 7.

Bit 2: rows and columns are exchanged first. Bit 0: the rows then run backwards; bit 1: the columns. 0 changes nothing.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)
Turns = NDArray[np.uint8]
Places = NDArray[np.int32]
OneOrEach = Places | np.int32

UPRIGHT = 0
OTHER_TURNS = range(1, 8)
ANGLES = {0: (False, 0), 3: (False, 180), 5: (False, 90), 6: (False, 270)} | {
    2: (True, 0),
    4: (True, 90),
    1: (True, 180),
    7: (True, 270),
}
"""Turn -> whether the picture is mirrored left to right, and how many degrees it is then turned counter-clockwise."""


def invert_turn(turn: int) -> int:
    """Return the turn that undoes a turn: all do themselves, but the two by 90 degrees."""
    return {5: 6, 6: 5}.get(turn, turn)


def turn_picture(picture: NDArray[Pixel], turn: int) -> NDArray[Pixel]:
    """Return a view of a picture of shape (h, w), turned; of shape (w, h) where rows and columns are exchanged."""
    turned = picture.T if turn & 4 else picture
    return turned[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]


def turn_places(
    rows: Places, columns: Places, *, heights: OneOrEach, widths: OneOrEach, turns: Turns | int
) -> tuple[Places, Places]:
    """Return where places of pictures lie when these are turned.

    Args:
        rows: Of the places, shape (n,).
        columns: Likewise.
        heights: Of the picture that each place is in, or of all.
        widths: Likewise.
        turns: Of that picture.
    """
    is_exchanged = np.bitwise_and(turns, 4) > 0
    rows, columns = np.where(is_exchanged, columns, rows), np.where(is_exchanged, rows, columns)
    heights, widths = np.where(is_exchanged, widths, heights), np.where(is_exchanged, heights, widths)
    return (
        np.where(np.bitwise_and(turns, 1), heights - 1 - rows, rows).astype(np.int32),
        np.where(np.bitwise_and(turns, 2), widths - 1 - columns, columns).astype(np.int32),
    )


def relate_turns(first: Turns, second: Turns) -> Turns:
    """Return the turns that make the second of two pictures lie as the first.

    Args:
        first: Which rows and columns were reversed, and then exchanged, to bring the first into a common position.
        second: The same of the second.
    """
    turns = first ^ second
    return ((turns & 4) | ((first & 3) ^ _exchange_flips(second, turns=turns))).astype(np.uint8)


def follow_turns(turns: Turns, second: Turns) -> Turns:
    """Return the `first` of which `relate_turns` returns these turns.

    Args:
        turns: They make the second of two pictures lie as the first.
        second: As of `relate_turns`.
    """
    return (((turns ^ second) & 4) | ((turns & 3) ^ _exchange_flips(second, turns=turns))).astype(np.uint8)


def _exchange_flips(flips: Turns, *, turns: Turns) -> Turns:
    """Return the bits of rows and columns that run backwards, exchanged where the turns exchange rows and columns."""
    return np.where((turns & 4) > 0, ((flips & 1) << 1) | ((flips & 2) >> 1), flips & 3).astype(np.uint8)

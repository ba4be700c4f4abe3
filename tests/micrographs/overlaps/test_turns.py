"""Turning is said in two ways, by numbers and by angles, and both mean the same."""

import numpy as np
import pytest

from sem_search.micrographs.overlaps.turns import (
    ANGLES,
    follow_turns,
    invert_turn,
    relate_turns,
    turn_picture,
    turn_places,
)

PICTURE = np.arange(12).reshape(3, 4)


@pytest.mark.parametrize("turn", range(8))
def test_a_turn_is_what_its_angle_says(turn: int) -> None:
    is_mirrored, turn_deg = ANGLES[turn]
    expected = np.rot90(PICTURE[:, ::-1] if is_mirrored else PICTURE, turn_deg // 90)
    assert (turn_picture(PICTURE, turn) == expected).all()
    assert (turn_picture(expected, invert_turn(turn)) == PICTURE).all()


@pytest.mark.parametrize("turn", range(8))
def test_places_go_where_the_picture_takes_them(turn: int) -> None:
    rows, columns = (part.ravel().astype(np.int32) for part in np.mgrid[:3, :4])
    places = turn_places(rows, columns, heights=np.int32(3), widths=np.int32(4), turns=turn)
    assert (turn_picture(PICTURE, turn)[places] == PICTURE.ravel()).all()


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("second", range(8))
def test_two_pictures_that_were_brought_upright_are_related(first: int, second: int) -> None:
    def bring_upright(picture: np.ndarray, turn: int) -> np.ndarray:
        flipped = picture[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
        return flipped.T if turn & 4 else flipped

    upright = np.arange(9).reshape(3, 3)
    ours, theirs = (
        next(p for t in range(8) if (bring_upright(p := turn_picture(upright, t), turn) == upright).all())
        for turn in (first, second)
    )
    turn = int(relate_turns(np.array([first], np.uint8), np.array([second], np.uint8))[0])
    assert (turn_picture(theirs, turn) == ours).all()


def test_the_turn_of_a_partner_follows_from_how_the_two_are_related() -> None:
    first, second = (part.ravel().astype(np.uint8) for part in np.mgrid[:8, :8])
    assert (follow_turns(relate_turns(first, second), second) == first).all()

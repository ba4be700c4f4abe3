import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from sem_search.deployment.classifier.overlay import (
    MAX_SIDE_PX,
    OPACITY,
    blend,
    colour_heat,
    draw_image,
    draw_overlay,
    place_heat_maps,
)


def test_colours_follow_the_even_map() -> None:
    steps = np.linspace(0, 1, 256)
    wanted = matplotlib.colormaps["inferno"](steps)[:, :3]
    assert np.abs(colour_heat(steps) - wanted).max() < 0.04


def test_lightness_never_falls() -> None:
    luma = colour_heat(np.linspace(0, 1, 256)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luma) > 0).all()


def test_no_heat_leaves_the_micrograph_as_it_is() -> None:
    image = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    picture = blend(image, heat=np.zeros_like(image))
    assert np.array_equal(picture, np.repeat(np.rint(255 * image)[..., None], 3, axis=-1))


def test_full_heat_still_shows_the_texture() -> None:
    image = np.array([[0.0, 1.0]], dtype=np.float32)
    dark, bright = blend(image, heat=np.ones_like(image))[0].astype(float)
    assert np.allclose(bright - dark, 255 * (1 - OPACITY), atol=1)


def test_tiles_stand_at_their_corners_and_the_rest_stays_cold() -> None:
    heat_maps = np.array([[[1.0]], [[0.5]]], dtype=np.float32)
    whole = place_heat_maps(heat_maps, corners=[(0, 0), (4, 4)], tile_px=4, shape=(9, 10))
    assert whole.shape == (9, 10)
    assert (whole[:4, :4] == 1).all()
    assert (whole[4:8, 4:8] == 0.5).all()
    assert whole.sum() == 16 * 1.5


def test_overlapping_tiles_show_the_hotter_one() -> None:
    heat_maps = np.array([[[0.9]], [[0.2]]], dtype=np.float32)
    whole = place_heat_maps(heat_maps, corners=[(0, 0), (0, 2)], tile_px=4, shape=(4, 6))
    assert np.allclose(whole[0], [0.9, 0.9, 0.9, 0.9, 0.2, 0.2])


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((40, 50), (50, 40)), ((MAX_SIDE_PX + 1, 40), (20, MAX_SIDE_PX // 2 + 1))],
)
def test_overlay_and_image_are_png_files_of_bounded_size(shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = np.full(shape, 0.5, dtype=np.float32)
    content = draw_overlay(image, heat_maps=np.ones((1, 2, 2), np.float32), corners=[(0, 0)], tile_px=32)
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", wanted)
        red, _, blue = picture.getpixel((0, 0))
        assert red > blue
        assert len(set(picture.getpixel((wanted[0] - 1, wanted[1] - 1)))) == 1
    with Image.open(io.BytesIO(draw_image(image))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", wanted)
        assert picture.getpixel((0, 0)) == 128

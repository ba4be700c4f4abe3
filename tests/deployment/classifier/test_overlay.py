import matplotlib
import numpy as np
import pytest

from sem_search.deployment.classifier.overlay import (
    MAX_SIDE_PX,
    OPACITY,
    blend,
    colour_heat,
    draw_image,
    draw_overlays,
    place_heat_maps,
)

GREY = np.full((40, 50), 0.5, dtype=np.float32)


def measure_colour(picture: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from grey."""
    return np.ptp(picture.astype(int), axis=-1)


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


def test_what_was_not_looked_at_is_hatched_in_two_greys() -> None:
    heat = np.full_like(GREY, np.nan)
    heat[:, :25] = 0
    picture = blend(GREY, heat=heat)
    assert (picture[:, :25] == 128).all()
    assert (measure_colour(picture) == 0).all()
    assert len(np.unique(picture[:, 25:])) == 2
    assert 128 not in picture[:, 25:]


def test_tiles_stand_at_their_places_and_the_rest_is_not_looked_at() -> None:
    heat_maps = np.stack([np.full((3, 3), value, np.float32) for value in (4.0, 2.0)])
    whole = place_heat_maps(heat_maps, boxes=[(0, 30, 0, 30), (60, 90, 60, 90)], shape=(95, 100))
    assert np.allclose(whole[:30, :30], 4)
    assert np.allclose(whole[60:90, 60:90], 2), "cold or unseen surroundings do not cool the edge of a tile"
    assert np.isnan(whole).sum() == 95 * 100 - 2 * 30 * 30


def test_overlapping_tiles_show_their_mean() -> None:
    heat_maps = np.stack([np.full((30, 30), value, np.float32) for value in (1.0, 0.5)])
    whole = place_heat_maps(heat_maps, boxes=[(0, 30, 0, 30), (0, 30, 15, 45)], shape=(30, 45))
    assert np.allclose(whole[0, [0, 22, 44]], [1.0, 0.75, 0.5])


def test_no_seam_shows_between_two_tiles() -> None:
    """One hot, one cold: the step at their border becomes a slope, none of its steps higher than inside a tile."""
    heat_maps = np.zeros((2, 7, 7), np.float32)
    heat_maps[0] = 1
    whole = place_heat_maps(heat_maps, boxes=[(0, 70, 0, 70), (0, 70, 70, 140)], shape=(70, 140))
    assert np.abs(np.diff(whole, axis=1)).max() < 0.1
    assert whole[0, 0] == pytest.approx(1)
    assert whole[0, -1] == pytest.approx(0)


def test_all_tiles_and_both_classes_are_on_one_scale() -> None:
    ones = np.ones((2, 2, 2), np.float32)
    weak, strong = ones * np.array([0.1, 0.2], np.float32)[:, None, None], 8 * ones
    faint, full = draw_overlays(GREY, heat_maps=[weak, strong], corners=[(0, 0), (0, 20)], tile_px=20)
    (alone,) = draw_overlays(GREY, heat_maps=[weak], corners=[(0, 0), (0, 20)], tile_px=20)
    assert measure_colour(faint).max() < 20 < measure_colour(full).max()
    assert measure_colour(alone)[10, 2] < measure_colour(alone)[10, 38] == measure_colour(full).max()


def test_without_heat_nothing_is_coloured() -> None:
    (picture,) = draw_overlays(GREY, heat_maps=[np.zeros((1, 2, 2), np.float32)], corners=[(0, 0)], tile_px=20)
    assert (measure_colour(picture) == 0).all()
    assert (picture[:20, :20] == 128).all()


@pytest.mark.parametrize(
    ("shape", "max_side_px", "wanted"),
    [
        ((40, 50), MAX_SIDE_PX, (40, 50, 3)),
        ((MAX_SIDE_PX + 2, 40), MAX_SIDE_PX, (MAX_SIDE_PX, 40, 3)),
        ((300, 400), 40, (30, 40, 3)),
    ],
)
def test_a_large_micrograph_is_drawn_reduced(shape: tuple[int, int], max_side_px: int, wanted: tuple[int, ...]) -> None:
    (picture,) = draw_overlays(
        np.full(shape, 0.5, np.float32),
        heat_maps=[np.ones((1, 2, 2), np.float32)],
        corners=[(0, 0)],
        tile_px=32,
        max_side_px=max_side_px,
    )
    assert picture.shape == wanted
    assert picture.dtype == np.uint8
    assert measure_colour(picture)[0, 0] > 50
    assert measure_colour(picture)[-1, -1] == 0


@pytest.mark.parametrize("shape", [(40, 50), (MAX_SIDE_PX + 2, 40)])
def test_the_image_is_drawn_as_large_as_its_overlay(shape: tuple[int, int]) -> None:
    image = np.full(shape, 0.5, np.float32)
    (overlay,) = draw_overlays(image, heat_maps=[np.zeros((1, 2, 2), np.float32)], corners=[(0, 0)], tile_px=32)
    picture = draw_image(image)
    assert picture.shape == overlay.shape[:2]
    assert (picture[:32, :32] == overlay[:32, :32, 0]).all()

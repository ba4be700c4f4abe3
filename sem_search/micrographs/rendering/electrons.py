"""From heights to grey levels: secondary electrons, and the drifts, blur and noise of the instrument.

The yield grows like the secant of the surface's tilt (Reimer, Scanning Electron Microscopy, 2nd ed. 1998, ch. 4):
steep flanks and edges are bright. Hollows are dark, because their electrons are caught by the walls.
"""

from dataclasses import dataclass

import numpy as np

from sem_search.micrographs.rendering.exact import Draws, FloatArray, exp2
from sem_search.micrographs.rendering.fields import blur, blur_widely, compute_smooth_noise
from sem_search.micrographs.rendering.scene import Scene

_BEAM_SIGMA_PX = 0.6  # what the beam itself smooths: steps become flanks
_SATURATION = 2.5  # the secant levels off at 1 + this
_SIDE_LIGHT = 0.22  # the detector stands to one side
_RIDGE_SIGMA_PX = 2.0
_RIDGE_GAIN = 0.10  # brightness per px that a ridge stands above its surroundings
_RIDGE_LIMIT_PX = 4.0
_HOLLOW_SIGMA_PX = 14.0
_HOLLOW_DEPTH_PX = 32.0  # at which half of the darkening is reached
_HOLLOW_GAIN = 0.55
_DARKEST = 0.02
_ROW_SD = 0.006  # unsteadiness of the beam from line to line
_UNEVEN_SD = 0.05  # of the brightness over the field
_UNEVEN_PX = 192
_SHOULDER = 0.3  # how the amplifier levels off towards white


@dataclass(frozen=True, kw_only=True)
class Camera:
    """How the instrument's settings vary from image to image."""

    blur_px: tuple[float, float] = (0.45, 0.95)
    """Lowest and highest standard deviation of the focus blur."""
    gain: float = 0.26
    """Median contrast: grey level of a level surface, from 0 to 1."""
    gain_spread: float = 0.2
    """Standard deviation of the contrast, in doublings."""
    offset: float = 0.08
    """Mean brightness added to all."""
    offset_sd: float = 0.025
    electrons: tuple[float, float] = (120.0, 260.0)
    """Lowest and highest number of electrons for a white pixel: the fewer, the noisier."""


DEFAULT_CAMERA = Camera()


def compute_signal(scene: Scene, *, draws: Draws) -> FloatArray:
    """Return the secondary electrons per pixel, about 1 from a level particle, shape (height_px, width_px)."""
    heights = blur(scene.heights_px, sigma_px=_BEAM_SIGMA_PX)
    secant = _compute_secant(heights)
    signal = secant * (1.0 + 1.0 / _SATURATION) / (1.0 + secant / _SATURATION)
    signal *= 1.0 + _SIDE_LIGHT * _compute_side_light(heights, direction=draws.direction())
    ridges = heights - blur(heights, sigma_px=_RIDGE_SIGMA_PX)
    signal += _RIDGE_GAIN * np.clip(ridges, -_RIDGE_LIMIT_PX, _RIDGE_LIMIT_PX)
    depth = heights - blur_widely(np.maximum(heights, 0.0), sigma_px=_HOLLOW_SIGMA_PX, step_px=4)
    signal *= 1.0 + _HOLLOW_GAIN * depth / (_HOLLOW_DEPTH_PX + np.abs(depth))
    return np.maximum(signal, _DARKEST) * scene.yields


def compute_exposure(signal: FloatArray, *, camera: Camera, draws: Draws) -> FloatArray:
    """Return the grey levels, from 0 to 1, of one exposure with its own focus, contrast, brightness and noise.

    Args:
        signal: Electrons from each place, shape (height_px, width_px).
        camera: Range of the settings.
        draws: Random numbers.
    """
    height, width = signal.shape
    grey = blur(signal, sigma_px=draws.uniform(*camera.blur_px))
    grey = grey * (1.0 + _ROW_SD * draws.normals(height, 1))
    uneven = compute_smooth_noise(draws, height_px=height, width_px=width, spacing_px=_UNEVEN_PX)
    gain = camera.gain * exp2(draws.normal(0.0, camera.gain_spread))
    grey *= gain * (1.0 + _UNEVEN_SD * uneven)
    grey /= 1.0 + _SHOULDER * grey
    grey += draws.normal(camera.offset, camera.offset_sd)
    noise = np.sqrt(np.maximum(grey, _DARKEST) / draws.uniform(*camera.electrons)) * draws.normals(height, width)
    exposure: FloatArray = np.clip(grey + noise, 0.0, 1.0)
    return exposure


def _compute_secant(heights: FloatArray) -> FloatArray:
    """Return the secant of the slope down to the lower neighbours: the foot of a cliff does not glow, its edge does."""
    padded = np.pad(heights, 1, mode="edge")
    drop_x = np.maximum(heights - np.minimum(padded[1:-1, 2:], padded[1:-1, :-2]), 0.0)
    drop_y = np.maximum(heights - np.minimum(padded[2:, 1:-1], padded[:-2, 1:-1]), 0.0)
    secant: FloatArray = np.sqrt(1.0 + drop_x * drop_x + drop_y * drop_y)
    return secant


def _compute_side_light(heights: FloatArray, *, direction: tuple[float, float]) -> FloatArray:
    """Return how far the surface leans towards the detector, from -1 to 1."""
    padded = np.pad(heights, 1, mode="edge")
    slope_x = 0.5 * (padded[1:-1, 2:] - padded[1:-1, :-2])
    slope_y = 0.5 * (padded[2:, 1:-1] - padded[:-2, 1:-1])
    lean = slope_x * direction[0] + slope_y * direction[1]
    lean /= np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    return lean

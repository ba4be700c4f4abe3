"""Random fields and filters over whole pictures, exact in the sense of `exact.py`."""

import numpy as np

from sem_search.micrographs.rendering.exact import Draws, FloatArray

_SPLINE_GAIN = 2.08  # gives a B-spline surface over unit normals a standard deviation of 1, averaged over its phase
_VARIANCE_PER_PASS_PX2 = 0.5  # of the three-tap kernel (1/4, 1/2, 1/4), the smoothest


def compute_smooth_noise(draws: Draws, *, height_px: int, width_px: int, spacing_px: int) -> FloatArray:
    """Return random hills about `spacing_px` wide, of mean 0 and standard deviation about 1.

    A cubic B-spline surface over a lattice of random numbers: its slope is smooth, too.

    Args:
        draws: Random numbers.
        height_px: Height.
        width_px: Width.
        spacing_px: Step of the lattice.

    Returns:
        Shape (height_px, width_px).
    """
    lattice = draws.normals(height_px // spacing_px + 4, width_px // spacing_px + 4)
    return compute_spline_surface(lattice * np.float32(_SPLINE_GAIN), spacing_px=spacing_px)[:height_px, :width_px]


def compute_spline_surface(lattice: FloatArray, *, spacing_px: int) -> FloatArray:
    """Return the uniform cubic B-spline surface of a lattice; the first pixel lies at the lattice's point (1, 1).

    Returns:
        Shape ((n_rows - 3) * spacing_px, (n_columns - 3) * spacing_px).
    """
    by_rows = _spline_up_rows(lattice, spacing_px=spacing_px)
    return np.ascontiguousarray(_spline_up_rows(by_rows.T, spacing_px=spacing_px).T)


def blur(image: FloatArray, *, sigma_px: float) -> FloatArray:
    """Return the image blurred by nearly a Gaussian, as repeated three-tap kernels; border pixels repeat outwards.

    Args:
        image: Shape (height_px, width_px).
        sigma_px: Standard deviation; 0 returns the image itself.
    """
    variance = sigma_px * sigma_px
    n_passes = -int(-variance // _VARIANCE_PER_PASS_PX2)
    for _ in range(n_passes):
        image = _blur_rows(image, side_weight=variance / n_passes / 2.0)
        image = _blur_rows(image.T, side_weight=variance / n_passes / 2.0).T
    return image


def blur_widely(image: FloatArray, *, sigma_px: float, step_px: int) -> FloatArray:
    """Return the image blurred over many pixels, computed on a grid that is coarser by `step_px`.

    Args:
        image: Shape (height_px, width_px).
        sigma_px: Standard deviation of the Gaussian.
        step_px: Step of the grid.

    Returns:
        Shape (height_px, width_px), shifted by at most half a pixel.
    """
    height, width = image.shape
    padded = np.pad(image, ((0, -height % step_px), (0, -width % step_px)), mode="edge")
    coarse = _add_in_order([padded[i::step_px] for i in range(step_px)])
    coarse = _add_in_order([coarse[:, i::step_px] for i in range(step_px)]) / np.float32(step_px * step_px)
    coarse = blur(coarse, sigma_px=sigma_px / step_px)
    fine = compute_spline_surface(np.pad(coarse, 2, mode="edge"), spacing_px=step_px)
    start = step_px // 2  # from the padding's point to the corner of the first coarse pixel
    return fine[start : start + height, start : start + width]


def _spline_up_rows(lattice: FloatArray, *, spacing_px: int) -> FloatArray:
    phase = (np.arange(spacing_px, dtype=np.float32) / np.float32(spacing_px))[None, :, None]
    rest = 1.0 - phase
    weights = (
        rest * rest * rest / 6.0,
        (4.0 - 6.0 * phase * phase + 3.0 * phase * phase * phase) / 6.0,
        (4.0 - 6.0 * rest * rest + 3.0 * rest * rest * rest) / 6.0,
        phase * phase * phase / 6.0,
    )
    n_steps = lattice.shape[0] - 3
    parts = [weight * lattice[k : k + n_steps, None, :] for k, weight in enumerate(weights)]
    return _add_in_order(parts).reshape(n_steps * spacing_px, lattice.shape[1])


def _blur_rows(image: FloatArray, *, side_weight: float) -> FloatArray:
    side = image * np.float32(side_weight)
    blurred = image - 2.0 * side
    blurred[1:] += side[:-1]
    blurred[0] += side[0]
    blurred[:-1] += side[1:]
    blurred[-1] += side[-1]
    return blurred


def _add_in_order(parts: list[FloatArray]) -> FloatArray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total

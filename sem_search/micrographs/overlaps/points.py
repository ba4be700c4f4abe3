"""Points of a picture that are found again in another one of the same place, each with a code of 64 levels.

A point is an extremum of the flattened picture, smoothed: a bright or dark spot. What surrounds it is written as cosine
transform, and brought by its own gradient to one of the eight turns, so that codes are equal in pictures that are
turned by quarters or mirrored; where the gradient leaves a doubt, the point stands twice. A code holds 64 linear
discriminants, which differ most between places and least with noise (R. A. Fisher, Annals of Eugenics 7, 1936,
179-188; for descriptors G. Hua, M. Brown and S. Winder, "Discriminant embedding for local image descriptors", ICCV
2007). They are learnt from random textures, each exposed twice, so they favour no specimen.
"""

from functools import lru_cache

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from sem_search.micrographs.overlaps.registration import build_plane, build_scene
from sem_search.micrographs.reading.grey import FloatImage

Points = NDArray[np.void]
N_VALUES = 64
POINT = np.dtype([("row", "<i2"), ("column", "<i2"), ("turn", "u1"), ("code", "u1", N_VALUES // 2)])
"""Place in the plane; whether rows and columns are reversed (bits 0, 1) and then exchanged (bit 2); `unpack_codes`."""

Codes = NDArray[np.uint8]
"""Two levels in each byte, shape (n, N_VALUES // 2): half as much memory, and no less is found."""

Coefficients = NDArray[np.float32]

SPOT_PX = 3.0  # Gaussian of the spots: of strong noise (0.15), 4 in 10 are found again; of 2 px, 1 in 3
SPOT_RATIO = 1.6  # to the wider Gaussian that is taken off: a Laplacian, nearly
SPOT_AREA_PX = 9  # one spot in a square of so many pixels: 70 on 10,000 pixels
LEAST_SPOT = 0.1  # of the deviation: even ground has none
PATCH_PX = 12  # each way: with 16 the codes tell more, but overlaps a tenth wide are lost
PATCH_SIGMA_PX = 9.6  # a spot's place is right to a pixel or two: what is far from it counts less
SMOOTH_PX = 1.5  # the same for what is fine
N_WAVES = 9  # cosines each way
LEVELS = 2.5  # for each deviation of a value, up to 3.2 deviations each way
DOUBT = np.sin(np.deg2rad(10))  # gradients nearer to the border between two turns take both: 9 in 10 points then agree

N_TEXTURES, TEXTURE_PX = 10, 256
GRAINS_PX = (0.7, 5.0)
NOISE = (0.15, 0.5)  # of the texture's deviation
SAME_PX = 1.6  # spots nearer to each other are one
RIDGE = 1e-3


def find_points(values: FloatImage) -> Points:
    """Return the points of a flattened picture, row by row.

    Args:
        values: Of a `registration.Plane`, shape (h, w).
    """
    rows, columns, waves, _ = _describe_spots(values)
    upright, index, turns = _bring_upright(waves, doubt=DOUBT)
    projection, middle = _learn_projection()
    discriminants = (upright.reshape(len(upright), N_WAVES**2) - middle) @ projection
    deviation = np.sqrt((discriminants**2).mean(axis=1, keepdims=True))
    levels = np.clip(np.floor(LEVELS * discriminants / deviation) + 8, 0, 15).astype(np.uint8)
    order = np.argsort(index, kind="stable")
    points = np.empty(len(index), dtype=POINT)
    points["row"], points["column"], points["turn"] = rows[index], columns[index], turns
    points["code"] = levels[:, : N_VALUES // 2] << 4 | levels[:, N_VALUES // 2 :]
    return points[order]


def unpack_codes(codes: Codes) -> NDArray[np.float32]:
    """Return the levels of codes as numbers from -7.5 to 7.5, shape (n, N_VALUES); best discriminants first."""
    return np.concatenate((codes >> 4, codes & 15), axis=1).astype(np.float32) - np.float32(7.5)


def _describe_spots(
    values: FloatImage,
) -> tuple[NDArray[np.intp], NDArray[np.intp], Coefficients, NDArray[np.bool_]]:
    """Return rows, columns, waves of shape (n, N_WAVES, N_WAVES), bright spots on dark, and which ones were bright."""
    smooth = gaussian_filter(values, SPOT_PX)
    band = smooth - gaussian_filter(values, SPOT_RATIO * SPOT_PX)
    size = np.abs(band)
    is_spot = (size == maximum_filter(size, size=SPOT_AREA_PX)) & (size > LEAST_SPOT * size.std())
    rows, columns = np.nonzero(is_spot)
    reach = np.arange(-PATCH_PX, PATCH_PX + 1)
    # The flattened picture's mean is 0, so nothing is what lies beyond the border.
    padded = np.pad(gaussian_filter(values, SMOOTH_PX), PATCH_PX)
    patches = padded[(rows[:, None] + PATCH_PX + reach)[:, :, None], (columns[:, None] + PATCH_PX + reach)[:, None, :]]
    phase = np.pi * np.arange(N_WAVES)[:, None] * (reach + PATCH_PX + 0.5) / len(reach)
    cosines = (np.cos(phase) * np.exp(-0.5 * (reach / PATCH_SIGMA_PX) ** 2)).astype(np.float32)
    is_bright = band[rows, columns] > 0
    waves = cosines @ patches @ cosines.T
    return rows, columns, np.where(is_bright[:, None, None], waves, -waves), is_bright


def _bring_upright(waves: Coefficients, *, doubt: float) -> tuple[Coefficients, NDArray[np.intp], NDArray[np.uint8]]:
    """Return the waves turned so that they rise downwards and to the right, and downwards more steeply.

    Args:
        waves: Shape (n, N_WAVES, N_WAVES).
        doubt: Sine of the angle to the border between two turns, within which waves are given with both.

    Returns:
        Waves of shape (m, N_WAVES, N_WAVES), the index into `waves` of each, and its turn as in `POINT`.
    """
    down, right = waves[:, 1, 0], waves[:, 0, 1]
    steep = np.maximum(np.hypot(down, right), np.finfo(np.float32).tiny)
    is_flat = np.abs(down) < np.abs(right)
    turns = ((down < 0) * 1 + (right < 0) * 2 + is_flat * 4).astype(np.uint8)
    near_axis = np.nonzero(np.minimum(np.abs(down), np.abs(right)) < doubt * steep)[0]
    near_diagonal = np.nonzero(np.abs(np.abs(down) - np.abs(right)) < doubt * np.sqrt(2) * steep)[0]
    index = np.concatenate((np.arange(len(waves)), near_axis, near_diagonal))
    other_flip = np.where(is_flat, 1, 2).astype(np.uint8)
    turns = np.concatenate((turns, (turns ^ other_flip)[near_axis], turns[near_diagonal] ^ 4))
    return _turn_waves(waves[index], turns), index, turns


def _turn_waves(waves: Coefficients, turns: NDArray[np.uint8]) -> Coefficients:
    """Return the waves of patches that are turned: reversed, odd waves change their sign."""
    signs = np.where(np.arange(N_WAVES) % 2, np.float32(-1), np.float32(1))
    turned = waves * np.where((turns & 1)[:, None] > 0, signs, np.float32(1))[:, :, None]
    turned *= np.where((turns & 2)[:, None] > 0, signs, np.float32(1))[:, None, :]
    return np.where((turns & 4)[:, None, None] > 0, turned.transpose(0, 2, 1), turned)


@lru_cache(maxsize=1)
def _learn_projection() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return discriminants, best first, shape (N_WAVES**2, N_VALUES), and the waves' median, shape (N_WAVES**2,)."""
    rng = np.random.default_rng(0)
    firsts, seconds = zip(*(_expose_twice(rng) for _ in range(N_TEXTURES)), strict=True)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    both = np.concatenate((first, second))
    total, within = np.cov(both.T), np.cov((first - second).T) / 2
    within += RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    _, vectors = scipy.linalg.eigh(total, within)
    best = vectors[:, ::-1][:, :N_VALUES]
    best *= np.sign(best[np.abs(best).argmax(axis=0), range(N_VALUES)])
    return best / np.sqrt(np.einsum("ij,ik,kj->j", best, total, best)), np.median(both, axis=0)


def _expose_twice(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the upright waves of the spots found in both of two exposures of a texture, shape (n, N_WAVES**2) each."""
    grain_px = float(np.exp(rng.uniform(*np.log(GRAINS_PX))))
    layers = [gaussian_filter(rng.normal(size=(TEXTURE_PX, TEXTURE_PX)), grain) for grain in (grain_px, 3 * grain_px)]
    texture = layers[0] / layers[0].std() + 0.7 * layers[1] / layers[1].std()
    spots = []
    for _ in range(2):
        seen = gaussian_filter(texture, rng.uniform(0, GRAINS_PX[0]))
        seen = seen / seen.std() + rng.uniform(*NOISE) * rng.normal(size=texture.shape)
        scene = build_scene(((seen - seen.min()) / np.ptp(seen)).astype(np.float32))
        spots.append(_describe_spots(build_plane(scene, (TEXTURE_PX, TEXTURE_PX)).values))
    (rows, columns, waves, is_bright), (other_rows, other_columns, other_waves, other_is_bright) = spots
    distance = np.hypot(rows[:, None] - other_rows, columns[:, None] - other_columns)
    nearest = distance.argmin(axis=1)
    inside = (np.minimum(rows, columns) >= PATCH_PX) & (np.maximum(rows, columns) < TEXTURE_PX - PATCH_PX)
    kept = np.nonzero((distance.min(axis=1) < SAME_PX) & (is_bright == other_is_bright[nearest]) & inside)[0]
    upright, index, turns = _bring_upright(waves[kept], doubt=0.0)
    other = _turn_waves(other_waves[nearest[kept]][index], turns)
    return upright.reshape(len(index), -1), other.reshape(len(index), -1)

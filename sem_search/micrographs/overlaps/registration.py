"""Whether two pictures show, in part or whole, the same place of the specimen.

Both are brought to the same step on the specimen, reduced to about 256 px, and freed of their local mean and local
contrast, so that brightness, contrast, gamma, bit depth, shading and charging do not matter. They are correlated at
every shift at once by FFT, the spectrum half whitened: between plain and phase correlation (C. D. Kuglin and
D. C. Hines, "The phase correlation image alignment method", Proc. IEEE Int. Conf. Cybernetics and Society, 1975,
163-165). Each sum is divided by the root of its overlap's area, so that chance is equally high everywhere; the
highest peak is then judged by five numbers, each against its own way of being wrong (`Registration`).
Last, what agrees as well when one is mirrored or turned, as a whole or in the common part alone, is not one place but
one form, such as a round outline.

Fields that are turned by quarters or mirrored are found when one is turned back first (`turn_scene`). Not seen: fields
turned by other angles, and fields of different magnification where no file gives the ratio. What was measured on how
many pairs: docs/decisions/010-same-places.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sem_search.micrographs.overlaps.turns import OTHER_TURNS, turn_picture
from sem_search.micrographs.reading.grey import FloatImage, resize

Spectrum = NDArray[np.complex64]
Shape = tuple[int, int]

MIN_SHARPNESS = 10.0  # chance among real fields reached 7.1, real overlaps of a tenth 23 and more
MAX_AMBIGUITY = 0.55  # chance was never below 0.59 but for single spheres, dense specimens never above 0.5
MIN_SPREAD = 0.2  # one particle, a label: up to 0.19; dense specimens 0.4 and more
MIN_REMAINDER = 0.4  # data bars: up to 0.27; dense specimens 0.5 and more
MAX_SYMMETRY = 0.7  # single round particles: 0.87 and more; 623 real overlaps of dense specimens: at most 0.4
MIN_CORRELATION = 0.08  # strong noise (a fifth of the range) left 0.1 and more on all but thin fibres

WORK_SIDE_PX = 256  # longer side where all shifts are tried: 384 separated no better, at twice the cost
KEPT_SIDE_PX = 1024  # longer side that is kept of a picture: enough to find a field in one 14 times as wide
MIN_SIDE_PX = 48  # shorter side of the smaller field while shifts are tried: a real one at 1/10 stood out 6 times
MIN_OVERLAP = 0.08  # of the smaller field: of less, too little is common to tell it from chance
MIN_OVERLAP_PX = 1500  # the same as an area, for small pictures and for fields in wider ones
DETAIL_PX = 3.0  # structure coarser than this Gaussian is taken out: shading, charging, vignetting
CONTRAST_PX = 9.0  # reach over which contrast is made even
CONTRAST_FLOOR = 0.25  # of the whole picture's contrast: noise in empty areas is not raised to the height of structure
CLIP = 3.0  # in deviations: single bright specks count no more than edges do
WHITENING = 0.5  # 0 is plain, 1 is phase correlation; between them the real overlaps stood out most
SPECTRUM_FLOOR = 1e-3  # of its maximum: empty frequencies are not raised by whitening
PEAK_RADIUS_PX = 8  # a peak, and the ring around it that the taking out of coarse structure makes
BLOCK_PX = 16  # squares over which the spread of the agreement is counted
STRIP_SHARE = 0.2  # of height or width: no instrument's data bar is higher
FINE_FACTOR = 2.0  # how much finer the step is at which the place is checked
FINE_SEARCH_PX = 5  # the place is right to one coarse step; the rest is distortion by drift
EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What is kept of one picture while pairs are compared."""

    pixels: NDArray[np.uint8]
    """Reduced to at most KEPT_SIDE_PX, its grey levels stretched, shape (h, w)."""
    height_px: int
    width_px: int
    """Of the picture itself."""

    @property
    def step_px(self) -> float:
        """Pixels of the picture per pixel kept."""
        n_columns: int = self.pixels.shape[1]
        return self.width_px / n_columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """A scene reduced to a working step and flattened, with its spectra by FFT shape, filled when asked for."""

    values: FloatImage
    """Mean 0, deviation about 1 where there is structure, shape (h, w)."""
    spectra: dict[Shape, Spectrum] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """Where two pictures agree best, and how surely."""

    row_px: float
    column_px: float
    """Where the second's upper left corner lies, in pixels of the first."""
    overlap: float
    """Share of the smaller field's area, in (0, 1]."""
    sharpness: float
    """Height of the peak in root mean squares over all shifts: too low where the fields have nothing in common."""
    ambiguity: float
    """Second peak over first, in [0, 1]: near 1 for lattices, stripes, and a few round particles that look alike."""
    spread: float
    """Share of the overlap that carries the agreement, in [0, 1]: low for a label or one particle."""
    remainder: float
    """Share of the agreement that is left without its strongest fifth of rows or columns: low for a data bar."""
    correlation: float
    """Normalised correlation over the overlap at a finer step, in [-1, 1]: low where only coarse forms agree."""

    @property
    def is_match(self) -> bool:
        """Whether the two show the same place."""
        return (
            self.sharpness >= MIN_SHARPNESS
            and self.ambiguity <= MAX_AMBIGUITY
            and self.spread >= MIN_SPREAD
            and self.remainder >= MIN_REMAINDER
            and self.correlation >= MIN_CORRELATION
        )


def build_scene(image: FloatImage) -> Scene:
    """Return what is kept of a picture.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px), data bar removed.
    """
    factor = min(1.0, KEPT_SIDE_PX / max(image.shape))
    height_px, width_px = (max(1, round(side * factor)) for side in image.shape)
    reduced = resize(image, shape=(height_px, width_px))
    low, high = np.percentile(reduced, (0.1, 99.9))
    stretched = np.clip((reduced - low) / max(float(high - low), EPSILON), 0, 1)
    return Scene(pixels=np.round(255 * stretched).astype(np.uint8), height_px=image.shape[0], width_px=image.shape[1])


def turn_scene(scene: Scene, turn: int) -> Scene:
    """Return a scene mirrored and turned.

    Args:
        scene: The picture.
        turn: As in `turns`.
    """
    height_px, width_px = (scene.width_px, scene.height_px) if turn & 4 else (scene.height_px, scene.width_px)
    return Scene(pixels=turn_picture(scene.pixels, turn), height_px=height_px, width_px=width_px)


def build_plane(scene: Scene, shape: Shape) -> Plane:
    """Return a scene at a working size.

    Args:
        scene: The picture.
        shape: Rows and columns to reduce it to.
    """
    reduced = resize(scene.pixels.astype(np.float32), shape=shape)
    detail = reduced - gaussian_filter(reduced, DETAIL_PX)
    floor = CONTRAST_FLOOR**2 * float(detail.var()) + EPSILON
    flat = np.clip(detail / np.sqrt(gaussian_filter(detail**2, CONTRAST_PX) + floor), -CLIP, CLIP)
    return Plane(values=(flat - flat.mean()).astype(np.float32))


def register(
    first: Scene,
    second: Scene,
    *,
    scale: float = 1.0,
    get_plane: Callable[[Scene, Shape], Plane] = build_plane,
) -> Registration | None:
    """Return where two pictures agree best, None if that does not even look like more than chance.

    Args:
        first: One picture.
        second: The other.
        scale: Size on the specimen of the second's pixels, in pixels of the first.
        get_plane: Gives planes, from a cache where there is one.

    Returns:
        None also where the fields are so unlike in size that the smaller would be reduced below MIN_SIDE_PX, and where
        they agree nearly as well when one is mirrored or turned.
    """
    step_px = _choose_step(first, second, scale=scale)
    if step_px is None:
        return None
    planes = [get_plane(scene, shape) for scene, shape in _reduce(first, second, scale=scale, step_px=step_px)]
    peak = _find_peak(planes[0], planes[1])
    if peak is None or peak.sharpness < MIN_SHARPNESS or peak.ambiguity > MAX_AMBIGUITY:
        return None
    row, column = peak.row * step_px, peak.column * step_px
    ours, theirs = _cut_overlap(planes[0].values, planes[1].values, row=peak.row, column=peak.column)
    spread, remainder = _compute_spread(ours * theirs), _compute_remainder(ours * theirs)
    fine_px = max(step_px / FINE_FACTOR, first.step_px, second.step_px * scale)
    fine = [build_plane(scene, shape).values for scene, shape in _reduce(first, second, scale=scale, step_px=fine_px)]
    fine_row, fine_column = _refine(fine[0], fine[1], row=round(row / fine_px), column=round(column / fine_px))
    ours, theirs = _cut_overlap(fine[0], fine[1], row=fine_row, column=fine_column)
    found = Registration(
        row_px=fine_row * fine_px,
        column_px=fine_column * fine_px,
        overlap=ours.size / min(fine[0].size, fine[1].size),
        sharpness=peak.sharpness,
        ambiguity=peak.ambiguity,
        spread=spread,
        remainder=remainder,
        correlation=_correlate(ours, theirs),
    )
    # Asked last, since it costs fifteen more correlations: a data bar left on makes candidates of all pairs.
    return None if found.is_match and _is_form(*planes, peak=peak) else found


def _choose_step(first: Scene, second: Scene, *, scale: float) -> float | None:
    """Return the working step in pixels of the first, None where no step suits both."""
    sides = (first.height_px, first.width_px, second.height_px * scale, second.width_px * scale)
    shortest = min(sides)
    finest = max(first.step_px, second.step_px * scale)  # nothing is enlarged
    step_px = max(min(max(sides) / WORK_SIDE_PX, shortest / MIN_SIDE_PX), finest)
    return step_px if round(shortest / step_px) >= MIN_SIDE_PX else None


def _reduce(first: Scene, second: Scene, *, scale: float, step_px: float) -> list[tuple[Scene, Shape]]:
    """Return both scenes with their shapes at a step given in pixels of the first."""
    return [
        (scene, (max(1, round(scene.height_px * size / step_px)), max(1, round(scene.width_px * size / step_px))))
        for scene, size in ((first, 1.0), (second, scale))
    ]


@dataclass(frozen=True, kw_only=True)
class _Peak:
    """The highest correlation over all shifts, in working pixels."""

    row: int
    column: int
    sharpness: float
    ambiguity: float


def _find_peak(first: Plane, second: Plane) -> _Peak | None:
    """Return the best shift, None where a picture is constant or no shift leaves enough overlap."""
    shape, other_shape = _get_shape(first), _get_shape(second)
    weights = _compute_weights(shape, other_shape)
    product = _get_spectrum(first, weights.fft_shape) * np.conj(_get_spectrum(second, weights.fft_shape))
    scores = scipy.fft.irfft2(product, weights.fft_shape, overwrite_x=True)
    scores *= weights.values
    deviation = float(np.sqrt(np.vdot(scores, scores) / max(weights.n_shifts, 1)))
    if not deviation > 0:
        return None
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    highest = float(scores[row, column])
    around = np.arange(-PEAK_RADIUS_PX, PEAK_RADIUS_PX + 1)
    scores[np.ix_((row + around) % scores.shape[0], (column + around) % scores.shape[1])] = 0
    return _Peak(
        row=row if row < shape[0] else row - scores.shape[0],
        column=column if column < shape[1] else column - scores.shape[1],
        sharpness=highest / deviation,
        ambiguity=float(scores.max()) / max(highest, EPSILON),
    )


def _is_form(first: Plane, second: Plane, *, peak: _Peak) -> bool:
    """Return whether they agree about as well when one is turned: in a form, such as a round outline, not in a place.

    Asked of the whole pictures and of what they have in common alone: whether a corner with one round particle in it
    is found again, turned, in the other's same corner is not seen among all that is elsewhere in the pictures.
    """
    if _compute_symmetry(first, second, sharpness=peak.sharpness) > MAX_SYMMETRY:
        return True
    common = _cut_overlap(first.values, second.values, row=peak.row, column=peak.column)
    ours, theirs = (Plane(values=values) for values in common)
    upright = _find_peak(ours, theirs)
    return upright is None or _compute_symmetry(ours, theirs, sharpness=upright.sharpness) > MAX_SYMMETRY


def _compute_symmetry(first: Plane, second: Plane, *, sharpness: float) -> float:
    """Return the highest peak against the first turned by quarters or mirrored, seven ways, over the true one.

    Chance for this very pair: a mirror image has the same forms, edges and contrasts, but shows another place.
    """
    peaks = [_find_peak(Plane(values=turn_picture(first.values, turn)), second) for turn in OTHER_TURNS]
    return max((found.sharpness for found in peaks if found is not None), default=0.0) / sharpness


def _get_shape(plane: Plane) -> Shape:
    return plane.values.shape[0], plane.values.shape[1]


def _get_spectrum(plane: Plane, fft_shape: Shape) -> Spectrum:
    """Return the half whitened spectrum, computed when first asked for."""
    if fft_shape not in plane.spectra:
        spectrum = scipy.fft.rfft2(plane.values, fft_shape)
        size = np.abs(spectrum)
        floor = SPECTRUM_FLOOR * float(size.max()) + EPSILON
        plane.spectra[fft_shape] = spectrum / np.maximum(size, floor) ** WHITENING
    return plane.spectra[fft_shape]


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """One over the root of the overlap at each shift, zero where the overlap is too small."""

    values: FloatImage
    fft_shape: Shape
    n_shifts: int


@lru_cache(maxsize=16)
def _compute_weights(shape: Shape, other_shape: Shape) -> _Weights:
    fft_shape = tuple(scipy.fft.next_fast_len(a + b, real=True) for a, b in zip(shape, other_shape, strict=True))
    common = [_count_common(*sides, n_fft=n_fft) for *sides, n_fft in zip(shape, other_shape, fft_shape, strict=True)]
    area = np.outer(*common).astype(np.float32)
    smaller = min(shape[0] * shape[1], other_shape[0] * other_shape[1])
    is_enough = area >= max(MIN_OVERLAP * smaller, min(MIN_OVERLAP_PX, smaller))
    values = np.where(is_enough, 1 / np.sqrt(np.maximum(area, 1)), 0).astype(np.float32)
    return _Weights(values=values, fft_shape=(fft_shape[0], fft_shape[1]), n_shifts=int(is_enough.sum()))


def _count_common(side: int, other_side: int, *, n_fft: int) -> NDArray[np.int64]:
    """Return how many rows (or columns) two planes share at each shift, in the order of the FFT, shape (n_fft,)."""
    shift = np.arange(n_fft)
    shift = np.where(shift < side, shift, shift - n_fft)
    common: NDArray[np.int64] = np.minimum(side, shift + other_side) - np.maximum(0, shift)
    return np.maximum(common, 0)


def _cut_overlap(first: FloatImage, second: FloatImage, *, row: int, column: int) -> tuple[FloatImage, FloatImage]:
    """Return what both cover where the second's corner lies at (row, column) of the first."""
    height = min(first.shape[0], row + second.shape[0]) - max(0, row)
    width = min(first.shape[1], column + second.shape[1]) - max(0, column)
    ours = first[max(0, row) :, max(0, column) :][:height, :width]
    theirs = second[max(0, -row) :, max(0, -column) :][:height, :width]
    return ours, theirs


def _compute_spread(product: FloatImage) -> float:
    """Return the share of the area that carries the agreement.

    The participation ratio of the blocks' sums of products, those against it counted as none: 1 where all blocks
    contribute alike, k / n where only k of n do.
    """
    rows = np.arange(0, product.shape[0], BLOCK_PX)
    columns = np.arange(0, product.shape[1], BLOCK_PX)
    sums = np.maximum(np.add.reduceat(np.add.reduceat(product, rows, axis=0), columns, axis=1), 0)
    return float(sums.sum() ** 2 / max(sums.size * np.vdot(sums, sums), EPSILON))


def _compute_remainder(product: FloatImage) -> float:
    """Return the share of the agreement left without the strip of rows, or of columns, that carries most of it."""
    total = max(float(product.sum()), EPSILON)
    strongest = 0.0
    for axis in (0, 1):
        sums = np.concatenate(([0.0], product.sum(axis=1 - axis, dtype=np.float64).cumsum()))
        n_strip = math.ceil(product.shape[axis] * STRIP_SHARE)
        strongest = max(strongest, float((sums[n_strip:] - sums[:-n_strip]).max()))
    return 1 - strongest / total


def _refine(first: FloatImage, second: FloatImage, *, row: int, column: int) -> tuple[int, int]:
    """Return the best place within FINE_SEARCH_PX of a place found at a coarser step."""
    ours, theirs = _cut_overlap(first, second, row=row, column=column)
    spectra = [scipy.fft.rfft2(part - part.mean()) for part in (ours, theirs)]
    scores = scipy.fft.irfft2(spectra[0] * np.conj(spectra[1]), ours.shape)
    reach = min(FINE_SEARCH_PX, (min(ours.shape) - 1) // 2)
    window = np.roll(scores, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    down, right = divmod(int(window.argmax()), window.shape[1])
    return row + down - reach, column + right - reach


def _correlate(first: FloatImage, second: FloatImage) -> float:
    """Return the normalised correlation of two pictures of one shape, 0 where one is constant."""
    ours, theirs = first - first.mean(), second - second.mean()
    norm = float(np.sqrt(np.vdot(ours, ours) * np.vdot(theirs, theirs)))
    return float(np.vdot(ours, theirs)) / norm if norm > EPSILON else 0.0

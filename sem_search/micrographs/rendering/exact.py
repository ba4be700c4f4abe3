"""Random draws and functions whose results are the same on every machine, to the last bit.

Here because the demonstration set must have the same pixels everywhere, while exponentials and sines differ between
processors in their last bit, and random distributions between NumPy versions. The whole package uses instead: raw
PCG64 bits, which NumPy promises never to change; and +, -, *, /, square root, comparison and conversion of floats,
whose results IEEE 754 prescribes. No compiled routine is called that may join a product and a sum into one rounding,
or that adds floats in an order of its own: no `sum` or `mean` of floats, `dot`, `power`, `exp` or SciPy filter.
"""

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_N_USED_BITS = 24  # what a 32-bit float holds exactly
_MEAN_OF_BYTE_SUM = 1020.0  # eight bytes, each uniform on 0 to 255
_SD_OF_BYTE_SUM = 209.0215  # sqrt(8 * (256**2 - 1) / 12)
_LN_2 = 0.6931471805599453
_N_EXP2_TERMS = 12  # of the power series; the error is below 1e-11


class Draws:
    """A stream of random numbers that depends on its seed alone."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniforms(self, *shape: int) -> FloatArray:
        """Return numbers from [0, 1), in steps of 2**-24, of the given shape."""
        raw = self._draw_words(math.prod(shape)) >> np.uint64(64 - _N_USED_BITS)
        return raw.astype(np.float32).reshape(shape) * np.float32(2.0**-_N_USED_BITS)

    def normals(self, *shape: int) -> FloatArray:
        """Return nearly normal numbers of mean 0 and standard deviation 1, none beyond 5, of the given shape.

        Each is the sum of the eight bytes of a random word: exact, and quick enough for one number per pixel.
        """
        octets = self._draw_words(math.prod(shape)).view(np.uint8).reshape(-1, 8)
        sums: FloatArray = octets.sum(axis=1, dtype=np.int32).astype(np.float32).reshape(shape)
        sums -= _MEAN_OF_BYTE_SUM
        sums /= _SD_OF_BYTE_SUM
        return sums

    def directions(self, n: int) -> FloatArray:
        """Return unit vectors of the plane, all directions alike, shape (n, 2)."""
        points = self.normals(n, 2)
        squares = points * points
        length: FloatArray = np.sqrt(squares[:, 0] + squares[:, 1])
        is_nowhere = length == 0.0
        points[is_nowhere], length[is_nowhere] = (1.0, 0.0), 1.0
        points /= length[:, None]
        return points

    def uniform(self, low: float, high: float) -> float:
        """Return one number from [low, high)."""
        return low + (high - low) * float(self.uniforms(1)[0])

    def normal(self, mean: float, sd: float) -> float:
        """Return one nearly normal number."""
        return mean + sd * float(self.normals(1)[0])

    def direction(self) -> tuple[float, float]:
        """Return one unit vector of the plane."""
        x, y = self.directions(1)[0].tolist()
        return x, y

    def _draw_words(self, n: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(n), dtype=np.uint64)


def exp2(x: float) -> float:
    """Return 2 to the power x, to ten digits."""
    whole = math.floor(x)
    power = (x - whole) * _LN_2
    value = 1.0
    for k in range(_N_EXP2_TERMS, 0, -1):
        value = 1.0 + power / k * value
    return math.ldexp(value, whole)

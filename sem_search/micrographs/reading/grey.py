"""How the levels that a file stores become grey in [0, 1].

- 8 bits: level / 255. 16 bits: level / 65535, so that equal pictures of either depth give equal floats.
- 9 to 15 bits count against their own white only where the file gives it (12-bit TIFF, TIFF tag 281). Where the levels
  alone suggest 12 bits there is a warning: to stretch by what one picture happens to hold would give one level two
  meanings.
- Colour becomes luma after ITU-R BT.601 in whole levels, so that grey stored as colour gives what grey would; palettes
  and CMYK go by way of RGB. Transparency is ignored, with a warning unless all is opaque.
- Colour profiles and gamma are not applied: instruments write none, and detector levels are not colours.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sem_search.errors import UnreadableImageError

FloatImage = NDArray[np.float32]
"""Grey levels in [0, 1], shape (height_px, width_px)."""
Levels = NDArray[np.uint8] | NDArray[np.uint16]
"""Grey levels as stored, shape (height_px, width_px)."""
Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""Grey or colour, and alpha where there is one, as stored, shape (height_px, width_px, n_samples)."""

TWELVE_BIT_WHITE = 4095
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # some Pillow versions call a 16-bit PNG "I"
LUMA_WEIGHTS = (19595, 38470, 7471)  # ITU-R BT.601 in 1/65536, the same whole numbers that Pillow uses
ALPHA_WARNING = "transparency was ignored"


def compute_luma(samples: Samples) -> Levels:
    """Return grey of shape (height, width) from samples (height, width, n): grey, grey and alpha, or colour first."""
    if samples.shape[2] < 3:
        return samples[:, :, 0]
    weighted = samples[:, :, :3].astype(np.uint32) @ np.array(LUMA_WEIGHTS, dtype=np.uint32)
    grey = (weighted + np.uint32(1 << 15)) >> np.uint32(16)
    return grey.astype(np.uint8) if samples.dtype == np.uint8 else grey.astype(np.uint16)


def name_plain_mode(samples: Samples) -> str:
    """Return a name in Pillow's manner; Pillow itself has none for 16-bit colour."""
    name = {1: "L", 2: "LA", 3: "RGB"}.get(samples.shape[2], "RGBA")
    return name if samples.dtype == np.uint8 else f"{name};16".replace("L;16", "I;16")


def find_plain_alpha(samples: Samples) -> tuple[str, ...]:
    """Return a warning if a fourth, or second, channel is not opaque everywhere."""
    opaque = np.iinfo(samples.dtype).max
    has_alpha = samples.shape[2] in (2, 4) and bool((samples[:, :, -1] < opaque).any())
    return (ALPHA_WARNING,) if has_alpha else ()


def compute_levels(image: Image.Image) -> Levels:
    """Return grey levels as stored, shape (height, width), from any mode that Pillow decodes to."""
    if image.mode in SIXTEEN_BIT_MODES:
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "RGBX", "YCbCr"):
        raise UnreadableImageError(f"has the colour mode {image.mode}: save it as grey of 8 or 16 bits")
    return np.asarray(image.convert("L"))


def name_mode(image: Image.Image) -> str:
    """Return Pillow's mode, with one name for 16-bit grey of either byte order."""
    return "I;16" if image.mode in SIXTEEN_BIT_MODES else image.mode


def find_losses(image: Image.Image, *, bits: int) -> tuple[str, ...]:
    """Return a warning for each thing that the file holds and the grey levels do not."""
    warnings = []
    if bits == 16 and image.mode not in SIXTEEN_BIT_MODES:
        warnings.append("its 16-bit colour was read with 8 bits: save it as grey to keep 16 bits")
    if bits == 1:
        warnings.append("has only two grey levels (1 bit)")
    bands = image.getbands()
    alpha = next((band for band in ("A", "a") if band in bands), None)
    is_see_through = alpha is not None and int(np.asarray(image.getchannel(alpha)).min()) < 255
    if is_see_through or "transparency" in image.info:
        warnings.append(ALPHA_WARNING)
    return tuple(warnings)


def scale_levels(
    levels: Levels, *, given_white: int | None, is_inverted: bool = False
) -> tuple[FloatImage, tuple[str, ...]]:
    """Return grey in [0, 1], and a warning if the levels look like 12 bits that the file calls 16.

    A quotient of whole numbers, so that 8-bit levels and the same levels stored in 16 bits give the same float.

    Args:
        levels: As stored.
        given_white: The highest level that the file gives, where it is not that of its bits.
        is_inverted: Whether the highest level means black.
    """
    highest = int(np.iinfo(levels.dtype).max)
    warnings: tuple[str, ...] = ()
    found = int(levels.max())
    if given_white is not None and found <= given_white:
        highest = given_white
    elif levels.dtype == np.uint16 and found <= TWELVE_BIT_WHITE:
        warnings = (
            "all its 16-bit grey levels are below 4096 of 65535, as if the instrument had stored 12 bits, so the image "
            f"is nearly {'white' if is_inverted else 'black'}: scale all such files to the full range, in the same way",
        )
    grey = levels.astype(np.float32)
    return (highest - grey if is_inverted else grey) / np.float32(highest), warnings


def resize(image: FloatImage, *, shape: tuple[int, int]) -> FloatImage:
    """Return the image with another shape (height, width), averaged over what each new pixel covers."""
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    resized: FloatImage = np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR))
    return resized


def stretch_contrast(image: FloatImage) -> FloatImage:
    """Return the image for people to look at: all but the darkest and the brightest half per cent fill [0, 1]."""
    low, high = np.percentile(image, (0.5, 99.5))
    stretched: FloatImage = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    return stretched


def to_bytes(image: FloatImage) -> NDArray[np.uint8]:
    """Return grey in [0, 1] as levels of 8 bits, what lies outside clipped."""
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)

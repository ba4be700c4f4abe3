"""Lengths as instruments write them: numbers with units in any encoding, converted to nanometres and compared."""

import contextlib
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

NM_PER_UNIT = {"pm": 1e-3, "Å": 0.1, "nm": 1.0, "um": 1e3, "μm": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}
NM_PER_UNIT |= {"micron": 1e3, "microns": 1e3, "inch": 2.54e7, "in": 2.54e7}  # as ImageJ and OME spell them
EAST_ASIAN_ENCODINGS = ("cp932", "gbk", "cp949", "big5")  # each writes the micro sign with two bytes of its own
SIZE_TOLERANCE = 0.02  # scale bars are given in whole pixels, fields of view in three or four digits
NUMBER = r"(?:0,\d+|\d+,(?!\d{3}(?!\d))\d+|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"  # not 1,500: 1.5 or 1500
UNIT = r"[^\d\s.,;+-]+"
LENGTHS = re.compile(rf"(?:({NUMBER})(?:\s*({UNIT}))?\s+)?({NUMBER})\s*({UNIT})")


def parse_lengths(text: str | None) -> tuple[list[tuple[float, str]], tuple[str, ...]]:
    """Return the lengths in `5um`, `128.0µm 96.0µm` or `1.067 0.800mm`, where the last unit is that of all.

    Anything else is none, with a warning: a part that looks like a length would be another one.
    """
    if text is None:
        return [], ()
    match = LENGTHS.fullmatch(text.strip())
    first, first_unit, last, unit = match.groups() if match else (None, None, None, "")
    written = [(first, first_unit or unit), (last, unit)] if first else [(last, unit)]
    lengths = [(to_positive((number or "").replace(",", ".")), name) for number, name in written]
    known = [(length, name) for length, name in lengths if length is not None]
    if len(known) < len(lengths):
        return [], (
            f"its metadata give {text[:20]!r} as a length, which cannot be read, or in two ways, and is left out",
        )
    return known, ()


def is_length(unit: str) -> bool:
    """Return whether a scale was set at all: programs write these words where it was not."""
    return unit.strip().lower() not in ("", "pixel", "pixels", "reference frame", "none", "null")


def agree(*lengths: tuple[Any, str]) -> tuple[float | None, tuple[str, ...]]:
    """Return the pixel size in nm that all of several (length, unit) mean, or None, with a warning where they differ.

    Those without a length or a unit are passed over; one in a unit that is not known may contradict the others, and
    leaves no size. Pixels that are wider than high have no single size.
    """
    given = [(length, unit) for value, unit in lengths if unit and (length := to_positive(value)) is not None]
    sizes = [length * _find_factor(unit) for length, unit in given]
    unknown = [unit for (_, unit), size in zip(given, sizes, strict=True) if math.isnan(size)]
    if unknown:
        return None, (f"its pixel size is in the unit {unknown[0][:20]!r}, which is not known here, and is left out",)
    if not sizes:
        return None, ()
    if max(sizes) > min(sizes) * (1 + SIZE_TOLERANCE):
        return None, (f"its metadata give pixels of {min(sizes):.4g} and of {max(sizes):.4g} nm, so no size is used",)
    return scale(sizes[0], 1.0), ()


def _find_factor(unit: str) -> float:
    """Return nm per unit, nan where it is not known.

    There are two signs for micro, ImageJ writes one of them as six ASCII letters, and a text from Japan, China,
    Korea or Taiwan that was decoded as western shows it as two other letters.
    """
    plain = unit.strip().replace("\\u00B5", "µ")
    names = (unicodedata.normalize("NFKC", spelling) for spelling in (plain, *_iter_eastern(plain)))
    return next((NM_PER_UNIT[name] for name in names if name in NM_PER_UNIT), math.nan)


def _iter_eastern(text: str) -> Iterator[str]:
    """Yield what a text that was decoded as western may be in the encodings of East Asia."""
    for western in ("latin-1", "cp1252"):
        for eastern in EAST_ASIAN_ENCODINGS:
            with contextlib.suppress(UnicodeError):
                yield text.encode(western).decode(eastern)


def scale(value: float | None, factor: float) -> float | None:
    """Return the value in another unit, to the six digits that instruments give; None where either is unknown."""
    scaled = math.nan if value is None else value * factor
    return float(f"{scaled:.6g}") if math.isfinite(scaled) else None


def to_positive(value: Any) -> float | None:
    """Return a finite number above zero, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None

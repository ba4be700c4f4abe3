"""What the instrument wrote about a micrograph: pixel size, date, detector, voltage, and where the scan ends.

It is kept because it decides two things: where the data bar begins, and whether the classes differ in how they were
taken rather than in what they show. Sources, in this order: Thermo/FEI TIFF tags 34682 and 34680, Zeiss TIFF tag
34118 (all three parsed by tifffile), and the text file that Hitachi and JEOL instruments write beside the picture.

Nothing is guessed: what is not told, or can be read two ways, is None, with a warning for the latter.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

FEI_TAGS = (34682, 34680)  # FEI_HELIOS, and FEI_SFEG of older instruments
ZEISS_TAG = 34118
SIDECAR_SUFFIXES = (".txt", ".TXT", ".Txt")
MAX_SIDECAR_BYTES = 1_000_000  # a sidecar has a few kB; anything larger is some other text
NM_PER_UNIT = {"pm": 1e-3, "nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "m": 1e9}  # two signs for micro
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True, kw_only=True)
class InstrumentMetadata:
    """What the instrument tells about one micrograph; None where it does not."""

    pixel_size_nm: float | None = None
    acquired_at: str | None = None
    """ISO 8601 in the instrument's local time: `2020-02-06T12:44:01`, or the date alone."""
    detector: str | None = None
    """As the instrument names it: `ETD`, `InLens`, `SE(M)`."""
    voltage_kv: float | None = None
    """Acceleration voltage."""
    instrument: str | None = None
    scan_width_px: int | None = None
    scan_height_px: int | None = None
    """Rows of the scan; what lies below is the data bar."""
    warnings: tuple[str, ...] = ()


def read_tiff_metadata(page: tifffile.TiffPage) -> InstrumentMetadata:
    """Return what a TIFF's own tags tell, all None where there are none.

    Args:
        page: The page that holds the micrograph.
    """
    sections: dict[str, Any] = {}
    for code in FEI_TAGS:
        tag = page.tags.valueof(code)
        if isinstance(tag, dict):
            sections = {**tag, **sections}
    if sections:
        return _parse_fei(sections)
    tag = page.tags.valueof(ZEISS_TAG)
    if isinstance(tag, dict):
        return _parse_zeiss(tag, file_height_px=page.imagelength)
    return InstrumentMetadata()


def read_sidecar_metadata(picture: Path, *, file_height_px: int) -> InstrumentMetadata:
    """Return what the text file beside a picture tells (`a.tif` and `a.txt`), all None where there is none.

    A text that neither Hitachi nor JEOL wrote is nobody's business here and left alone.

    Args:
        picture: The picture's path.
        file_height_px: Rows of the picture file; these instruments give a size that is the scan's only where it
            is smaller.
    """
    text = _read_sidecar(picture)
    if "[SemImageFile]" in text:
        return _parse_hitachi(_parse_pairs(text, separator="="), file_height_px=file_height_px)
    if "$CM_" in text:
        return _parse_jeol(_parse_pairs(text, separator=None), file_height_px=file_height_px)
    return InstrumentMetadata()


def merge_metadata(first: InstrumentMetadata, second: InstrumentMetadata) -> InstrumentMetadata:
    """Return the first, its gaps filled from the second."""
    filled: dict[str, Any] = {
        field.name: getattr(second, field.name)
        for field in dataclasses.fields(first)
        if getattr(first, field.name) is None
    }
    return dataclasses.replace(first, **filled, warnings=first.warnings + second.warnings)


def _parse_fei(sections: Mapping[str, Any]) -> InstrumentMetadata:
    """Read the INI-like sections of a Thermo/FEI tag, which is in SI units."""

    def tell(section: str, key: str) -> Any:
        content = sections.get(section)
        return content.get(key) if isinstance(content, Mapping) else None

    beam, scan = str(tell("Beam", "Beam") or "EBeam"), str(tell("Beam", "Scan") or "EScan")
    width_px = _to_count(tell("Image", "ResolutionX"))
    pixel_m = _to_positive(tell("Scan", "PixelWidth")) or _to_positive(tell(scan, "PixelWidth"))
    field_m = _to_positive(tell("Scan", "HorFieldsize")) or _to_positive(tell(beam, "HFW"))
    if pixel_m is None and field_m is not None and width_px is not None:
        pixel_m = field_m / width_px
    voltage_v = _to_positive(tell("Beam", "HV")) or _to_positive(tell(beam, "HV"))
    # TimeOfCreation is always day.month.year; Date follows the settings of the instrument's Windows.
    moment = _to_text(tell("PrivateFei", "TimeOfCreation"))
    acquired_at, warnings = parse_moment(moment) if moment else (None, ())
    if acquired_at is None:
        acquired_at, warnings = parse_moment(_join(tell("User", "Date"), tell("User", "Time")))
    return InstrumentMetadata(
        pixel_size_nm=_scale(pixel_m, 1e9),
        acquired_at=acquired_at,
        detector=_to_text(tell("Detectors", "Name")),
        voltage_kv=_scale(voltage_v, 1e-3),
        instrument=_to_text(tell("System", "SystemType")),
        scan_width_px=width_px,
        scan_height_px=_to_int(tell("Image", "ResolutionY")),
        warnings=warnings,
    )


def _parse_zeiss(entries: Mapping[str, Any], *, file_height_px: int) -> InstrumentMetadata:
    """Read tifffile's form of a Zeiss tag: key -> (name, value[, unit])."""

    def tell(*keys: str) -> tuple[Any, str]:
        found: list[Any] = next((list(entries[key]) for key in keys if key in entries), [])
        value, unit = [*found[1:3], None, None][:2]
        return value, str(unit)

    pixel, unit = tell("ap_image_pixel_size", "ap_pixel_size")
    voltage, voltage_unit = tell("ap_actualkv", "ap_manualkv")
    acquired_at, warnings = parse_moment(_join(tell("ap_date")[0], tell("ap_time")[0]))
    width_px, height_px = _parse_size(_to_text(tell("dp_image_store")[0]))
    return InstrumentMetadata(
        pixel_size_nm=_scale(_to_positive(pixel), NM_PER_UNIT.get(unit, math.nan)),
        acquired_at=acquired_at,
        detector=_to_text(tell("dp_detector_channel", "dp_detector_type")[0]),
        voltage_kv=_scale(_to_positive(voltage), 1e-3 if voltage_unit == "V" else 1.0),
        instrument=_to_text(tell("dp_sem", "sv_serial_number")[0]),
        scan_width_px=width_px,
        scan_height_px=_keep_if_bar_is_below(height_px, file_height_px=file_height_px),
        warnings=warnings,
    )


def _parse_hitachi(pairs: Mapping[str, str], *, file_height_px: int) -> InstrumentMetadata:
    """Read `Key=value` lines: pixel size in nm, voltage as `5000 Volt`, size as `1280x960`."""
    acquired_at, warnings = parse_moment(_join(pairs.get("Date"), pairs.get("Time")))
    width_px, height_px = _parse_size(pairs.get("DataSize"))
    return InstrumentMetadata(
        pixel_size_nm=_scale(_to_positive(pairs.get("PixelSize")), 1.0),
        acquired_at=acquired_at,
        detector=_to_text(pairs.get("SignalName")),
        voltage_kv=_parse_hitachi_voltage(pairs.get("AcceleratingVoltage")),
        instrument=_to_text(pairs.get("InstructName")),  # the instrument's own spelling
        scan_width_px=width_px,
        scan_height_px=_keep_if_bar_is_below(height_px, file_height_px=file_height_px),
        warnings=warnings,
    )


def _parse_hitachi_voltage(text: str | None) -> float | None:
    """Return kV from `5000 Volt` or `5.0 kV`."""
    match = re.match(r"\s*([\d.]+)\s*(k?)", text or "", re.IGNORECASE)
    return _scale(_to_positive(match[1]), 1.0 if match[2] else 1e-3) if match else None


def _parse_jeol(pairs: Mapping[str, str], *, file_height_px: int) -> InstrumentMetadata:
    """Read `$KEY value` lines: the pixel size follows from the scale bar's label and its length in pixels."""
    acquired_at, warnings = parse_moment(_join(pairs.get("$CM_DATE"), pairs.get("$CM_TIME")))
    width_px, height_px = _parse_size(pairs.get("$CM_FULL_SIZE"))
    return InstrumentMetadata(
        pixel_size_nm=_parse_scale_bar(pairs.get("$$SM_MICRON_MARKER"), pairs.get("$$SM_MICRON_BAR")),
        acquired_at=acquired_at,
        detector=_to_text(pairs.get("$CM_SIGNAL_NAME", pairs.get("$CM_SIGNAL"))),
        voltage_kv=_scale(_to_positive(pairs.get("$CM_ACCEL_VOLT")), 1.0),
        instrument=_to_text(pairs.get("$CM_INSTRUMENT")),
        scan_width_px=width_px,
        scan_height_px=_keep_if_bar_is_below(height_px, file_height_px=file_height_px),
        warnings=warnings,
    )


def _parse_scale_bar(label: str | None, length_px: str | None) -> float | None:
    """Return nm per pixel from `5um` and `160`."""
    match = re.fullmatch(r"\s*([\d.]+)\s*(\S+)\s*", label or "")
    length, bar_px = (_to_positive(match[1]) if match else None), _to_positive(length_px)
    if match is None or length is None or bar_px is None:
        return None
    return _scale(length / bar_px, NM_PER_UNIT.get(match[2], math.nan))


def _keep_if_bar_is_below(height_px: int | None, *, file_height_px: int) -> int | None:
    """Return the scan height only if rows are left below it.

    FEI hangs the bar below the scan and always says so. The others may also draw it into the scan's own rows, and then
    their size says nothing about the bar: only the user knows (`crop_bottom_px`).
    """
    return height_px if height_px is not None and 0 < height_px < file_height_px else None


def _read_sidecar(picture: Path) -> str:
    """Return the text beside the picture, empty where there is none."""
    for suffix in SIDECAR_SUFFIXES:
        path = picture.with_suffix(suffix)
        if path != picture and path.is_file() and path.stat().st_size <= MAX_SIDECAR_BYTES:
            return _decode(path.read_bytes())
    return ""


def _decode(data: bytes) -> str:
    """Return text written in whatever encoding the instrument's Windows used; the keys are ASCII in all of them."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _parse_pairs(text: str, *, separator: str | None) -> dict[str, str]:
    """Return key -> value of all lines that have both."""
    parts = (line.strip().split(separator, 1) for line in text.splitlines())
    return {part[0].strip(): part[1].strip() for part in parts if len(part) == 2}


def _parse_size(text: str | None) -> tuple[int | None, int | None]:
    """Return (width, height) from `1280x960`, `1024 * 768` or `1280 960`."""
    match = re.fullmatch(r"\s*(\d+)\s*[xX*\s]\s*(\d+)\s*", text or "")
    return (int(match[1]), int(match[2])) if match else (None, None)


def parse_moment(text: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return a date, and a time where told, as ISO 8601, and a warning where the date has two readings.

    Known forms: `2020-02-06` (also with / or .), `06.02.2020` (dots: day first), `17 Nov 2020`, and `02/13/2020` or
    `13/02/2020` where only one reading is a date; then a time of 24 hours, or of 12 with AM or PM. The names of
    months are English whatever the locale.
    """
    if not text:
        return None, ()
    day = _parse_date(text)
    if day is None:
        return None, ("its acquisition date cannot be read, or can be read day first and month first, and is left out",)
    time = _parse_time(text)
    return (f"{day}T{time}" if time else day), ()


def _parse_date(text: str) -> str | None:
    """Return YYYY-MM-DD, or None where no reading, or more than one, is a date."""
    if match := re.search(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)", text):
        readings = {(int(match[1]), int(match[2]), int(match[3]))}
    elif match := re.search(r"\b(\d{1,2})[ -]([A-Za-z]{3})[a-z]*[ -](\d{4})\b", text):
        month = MONTHS.index(match[2].lower()) + 1 if match[2].lower() in MONTHS else 0
        readings = {(int(match[3]), month, int(match[1]))}
    elif match := re.search(r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b", text):
        readings = {(int(match[3]), int(match[2]), int(match[1]))}
    elif match := re.search(r"\b(\d{1,2})[-/](\d{1,2})[-/](\d{4})\b", text):
        readings = {(int(match[3]), int(match[1]), int(match[2])), (int(match[3]), int(match[2]), int(match[1]))}
    else:
        return None
    dates = [reading for reading in readings if 1 <= reading[1] <= 12 and 1 <= reading[2] <= 31]
    return "{:04d}-{:02d}-{:02d}".format(*dates[0]) if len(dates) == 1 else None


def _parse_time(text: str) -> str | None:
    """Return HH:MM:SS, or None where there is none."""
    match = re.search(r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([AaPp][Mm])?", text)
    if match is None:
        return None
    hour = int(match[1])
    if match[4]:
        hour = hour % 12 + (12 if match[4].lower() == "pm" else 0)
    return f"{hour:02d}:{match[2]}:{match[3] or '00'}" if hour < 24 else None


def _join(date: Any, time: Any) -> str | None:
    """Return date and time as one text, None where there is no date."""
    shown = _to_text(date)
    return f"{shown} {_to_text(time) or ''}".strip() if shown else None


def _to_text(value: Any) -> str | None:
    """Return a non-empty text, or None."""
    return str(value).strip() or None if value is not None else None


def _to_positive(value: Any) -> float | None:
    """Return a finite number above zero, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _to_int(value: Any) -> int | None:
    """Return a whole number of either sign, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _to_count(value: Any) -> int | None:
    """Return a whole number above zero, or None."""
    number = _to_int(value)
    return number if number is not None and number > 0 else None


def _scale(value: float | None, factor: float) -> float | None:
    """Return the value in another unit, to the six digits that instruments give; None where either is unknown."""
    scaled = math.nan if value is None else value * factor
    return float(f"{scaled:.6g}") if math.isfinite(scaled) else None

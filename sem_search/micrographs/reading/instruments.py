"""What the instrument wrote about a micrograph: pixel size, date, detector, voltage, and where the scan ends.

It is kept because it decides two things: where the data bar begins, and whether the classes differ in how they were
taken rather than in what they show. Sources, in this order: TIFF tags of Thermo/FEI (34682, 34680), Zeiss (34118),
TESCAN (50431) and Phenom (34683); the scale that ImageJ or OME-TIFF give in a TIFF's description; and the text file
that Hitachi, JEOL and TESCAN instruments write beside the picture.

Nothing is guessed: what is not told, or can be read two ways, is None, with a warning for the latter. A pixel size is
that of this file's pixels: the size of a display's pixels, or a resolution for printing, is another quantity.
"""

import contextlib
import dataclasses
import html
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from sem_search.errors import UnreadableImageError

FEI_TAGS = (34682, 34680)  # FEI_HELIOS, and FEI_SFEG of older instruments
ZEISS_TAG = 34118
TESCAN_TAG = 50431
PHENOM_TAG = 34683
X_RESOLUTION_TAG, Y_RESOLUTION_TAG = 282, 283
SIDECAR_SUFFIXES = (".txt", ".TXT", ".Txt", ".hdr", ".HDR")
MAX_TAG_BYTES = 4_000_000  # a tag has some 10 kB, and TESCAN's a small preview; ten million lines would take seconds
MAX_SIDECAR_BYTES = 1_000_000  # a sidecar has a few kB; anything larger is some other text
NM_PER_UNIT = {"pm": 1e-3, "Å": 0.1, "nm": 1.0, "um": 1e3, "μm": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}
NM_PER_UNIT |= {"micron": 1e3, "microns": 1e3, "inch": 2.54e7, "in": 2.54e7}  # as ImageJ and OME spell them
EAST_ASIAN_ENCODINGS = ("cp932", "gbk", "cp949", "big5")  # each writes the micro sign with two bytes of its own
PRINT_UNITS = ("inch", "in", "cm")
FINEST_PRINT_NM = 1000.0  # no printer or scanner has 25,400 dots per inch; ImageJ takes over what they have as a scale
MAX_OME_PICTURES = 1000  # as many as pages are counted; a file may name millions to keep its reader busy
SIZE_TOLERANCE = 0.02  # scale bars are told in whole pixels, fields of view in three or four digits
NUMBER = r"(?:0,\d+|\d+,(?!\d{3}(?!\d))\d+|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"  # not 1,500: 1.5 or 1500
UNIT = r"[^\d\s.,;+-]+"
LENGTHS = re.compile(rf"(?:({NUMBER})(?:\s*({UNIT}))?\s+)?({NUMBER})\s*({UNIT})")
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

    Raises:
        UnreadableImageError: The tags say that the picture shows several view fields side by side.
    """
    sections = [_parse_sections(_read_tag(page, code)) for code in FEI_TAGS]
    if any(sections):
        return _parse_fei({**sections[1], **sections[0]})
    zeiss = _parse_zeiss_entries(_read_tag(page, ZEISS_TAG))
    if zeiss:
        return _parse_zeiss(zeiss, file_width_px=page.imagewidth, file_height_px=page.imagelength)
    tescan = _read_tag(page, TESCAN_TAG)
    if tescan:
        return _parse_tescan(tescan, file_height_px=page.imagelength)
    phenom = _read_tag(page, PHENOM_TAG)
    if "<FeiImage" in phenom:  # Thermo's transmission microscopes use the tag, too
        return _parse_phenom(phenom, file_height_px=page.imagelength)
    return _read_scale(page)


def read_sidecar_metadata(picture: Path, *, file_height_px: int) -> InstrumentMetadata:
    """Return what the text file beside a picture tells, all None where there is none.

    It is `a.txt` beside `a.tif`; TESCAN's is `a-tif.hdr` or `a.hdr`. A text that none of the known makers wrote is
    nobody's business here and left alone.

    Args:
        picture: The picture's path.
        file_height_px: Rows of the picture file; these instruments give a size that is the scan's only where it
            is smaller.

    Raises:
        UnreadableImageError: The text says that the picture shows several view fields side by side.
    """
    for text in _iter_sidecars(picture):
        if "[SemImageFile]" in text:
            return _parse_hitachi(_parse_pairs(text, separator="="), file_height_px=file_height_px)
        if "$CM_" in text:
            return _parse_jeol(_parse_pairs(text, separator=None), file_height_px=file_height_px)
        if "[MAIN]" in text and "PixelSizeX=" in text:
            return _parse_tescan(text, file_height_px=file_height_px)
    return InstrumentMetadata()


def merge_metadata(first: InstrumentMetadata, second: InstrumentMetadata) -> InstrumentMetadata:
    """Return the first, its gaps filled from the second."""
    filled: dict[str, Any] = {
        field.name: getattr(second, field.name)
        for field in dataclasses.fields(first)
        if getattr(first, field.name) is None
    }
    return dataclasses.replace(first, **filled, warnings=first.warnings + second.warnings)


def _read_tag(page: tifffile.TiffPage, code: int) -> str:
    """Return the text of a tag, empty where there is none or it is larger than any instrument's.

    It is decoded here: tifffile drops the whole of it if an operator's remark is not in a western encoding.
    """
    tag = page.tags.get(code)
    if tag is None or tag.valuebytecount > MAX_TAG_BYTES:
        return ""
    file = page.parent.filehandle
    file.seek(tag.valueoffset)
    return _decode(file.read(tag.valuebytecount))


def _parse_sections(text: str) -> dict[str, dict[str, str]]:
    """Return section -> key -> value of the INI-like lines of a Thermo/FEI tag."""
    sections: dict[str, dict[str, str]] = {}
    pairs: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        key, separator, value = line.partition("=")
        if line.startswith("["):
            pairs = sections.setdefault(line[1:-1], {})
        elif separator:
            pairs[key.strip()] = value.strip()
    return sections


def _parse_fei(sections: Mapping[str, Mapping[str, str]]) -> InstrumentMetadata:
    """Read the sections of a Thermo/FEI tag, which is in SI units."""

    def tell(section: str, key: str) -> str | None:
        return sections.get(section, {}).get(key)

    # Which beam took the picture; where none is named, another beam's field would be another picture's.
    beam, scan = tell("Beam", "Beam") or "", tell("Beam", "Scan") or ""
    width_px = _to_count(tell("Image", "ResolutionX"))
    section = next((name for name in ("Scan", scan) if _to_positive(tell(name, "PixelWidth"))), "")
    sides: list[tuple[Any, str]] = [(tell(section, side), "m") for side in ("PixelWidth", "PixelHeight")]
    field_m = _to_positive(tell("Scan", "HorFieldsize")) or _to_positive(tell(beam, "HFW"))
    if not section and field_m is not None and width_px is not None:
        sides = [(field_m / width_px, "m")]
    pixel_nm, doubts = _agree(*sides)
    voltage_v = _to_positive(tell("Beam", "HV")) or _to_positive(tell(beam, "HV"))
    # TimeOfCreation is always day.month.year; Date follows the settings of the instrument's Windows.
    moment = _to_text(tell("PrivateFei", "TimeOfCreation"))
    acquired_at, warnings = parse_moment(moment) if moment else (None, ())
    if acquired_at is None:
        acquired_at, warnings = parse_moment(_join(tell("User", "Date"), tell("User", "Time")))
    return InstrumentMetadata(
        pixel_size_nm=pixel_nm,
        acquired_at=acquired_at,
        detector=_to_text(tell("Detectors", "Name")),
        voltage_kv=_scale(voltage_v, 1e-3),
        instrument=_to_text(tell("System", "SystemType")),
        scan_width_px=width_px,
        scan_height_px=_to_int(tell("Image", "ResolutionY")),
        warnings=warnings + doubts,
    )


def _parse_zeiss_entries(text: str) -> dict[str, str]:
    """Return key -> value of a Zeiss tag: below each line `KEY` stands one `Name = value`, or `Name :value`."""
    return {
        key.strip(): line.partition("=" if "=" in line else ":")[2].strip()
        for key, line in itertools.pairwise(text.splitlines())
        if key.isupper()
    }


def _parse_zeiss(entries: Mapping[str, str], *, file_width_px: int, file_height_px: int) -> InstrumentMetadata:
    """Read the entries of a Zeiss tag.

    AP_PIXEL_SIZE is not used: it is that of the instrument's display, which is 1024 pixels wide whatever is stored.
    Older instruments write no AP_IMAGE_PIXEL_SIZE, but the width and height of the field.
    """

    def tell(*keys: str) -> str | None:
        return next((entries[key] for key in keys if key in entries), None)

    def measure(*keys: str) -> tuple[str, str]:
        value, _, unit = (tell(*keys) or "").partition(" ")
        return value, unit.strip()

    def divide(key: str, n_px: int) -> tuple[float | None, str]:
        field, unit = measure(key)
        length = _to_positive(field)
        return (length / n_px if length is not None and n_px > 0 else None), unit

    sizes: list[tuple[Any, str]] = [measure("AP_IMAGE_PIXEL_SIZE"), divide("AP_WIDTH", file_width_px)]
    if _to_positive(sizes[0][0]) is None:  # only the field tells it: a file that was cut shows in its height
        sizes.append(divide("AP_HEIGHT", file_height_px))
    pixel_nm, doubts = _agree(*sizes)
    voltage, voltage_unit = measure("AP_ACTUALKV", "AP_MANUALKV")
    acquired_at, warnings = parse_moment(_join(tell("AP_DATE"), tell("AP_TIME")))
    width_px, height_px = _parse_size(tell("DP_IMAGE_STORE"))
    return InstrumentMetadata(
        pixel_size_nm=pixel_nm,
        acquired_at=acquired_at,
        detector=_to_text(tell("DP_DETECTOR_CHANNEL", "DP_DETECTOR_TYPE")),
        voltage_kv=_scale(_to_positive(voltage), {"V": 1e-3, "kV": 1.0}.get(voltage_unit, math.nan)),
        instrument=_to_text(tell("DP_SEM", "SV_SERIAL_NUMBER")),
        scan_width_px=width_px,
        scan_height_px=_keep_if_bar_is_below(height_px, file_height_px=file_height_px),
        warnings=warnings + doubts,
    )


def _parse_tescan(text: str, *, file_height_px: int) -> InstrumentMetadata:
    """Read the `Key=value` lines of TESCAN's tag or header file, which are in SI units."""
    lines = re.findall(r"(?:^|[\0\r\n])(\w+)=([^\0\r\n]*)", text)
    pairs = dict(reversed(lines))  # the first of several wins
    columns, rows = (_to_positive(pairs.get(key)) or 1 for key in ("ViewFieldsCountX", "ViewFieldsCountY"))
    if columns * rows != 1:
        raise UnreadableImageError(
            f"shows {columns:g} x {rows:g} view fields (ViewFieldsCountX, ViewFieldsCountY), which are pictures of "
            "several detectors side by side: save each as a file of its own"
        )
    pixel_nm, doubts = _agree((pairs.get("PixelSizeX"), "m"), (pairs.get("PixelSizeY"), "m"))
    acquired_at, warnings = parse_moment(_join(pairs.get("Date"), pairs.get("Time")))
    return InstrumentMetadata(
        pixel_size_nm=pixel_nm,
        acquired_at=acquired_at,
        detector=_to_text(pairs.get("Detector", pairs.get("Detector0"))),
        voltage_kv=_scale(_to_positive(pairs.get("HV")), 1e-3),
        instrument=_to_text(pairs.get("Device")),
        scan_height_px=_subtract_bar(pairs.get("ImageStripSize"), file_height_px=file_height_px),
        warnings=warnings + doubts,
    )


def _parse_phenom(xml: str, *, file_height_px: int) -> InstrumentMetadata:
    """Read a Phenom's XML; by patterns, since a file from anywhere may hold XML that keeps its parser busy for ever."""

    def tell(name: str) -> tuple[str | None, str]:
        match = re.search(rf"<{name}(\s[^<>]*)?>([^<>]*)</{name}>", xml)
        return (html.unescape(match[2]), _find_attribute(match[1] or "", "unit")) if match else (None, "")

    pixel_nm, doubts = _agree(tell("pixelWidth"), tell("pixelHeight"))
    acquired_at, warnings = parse_moment(_to_text(tell("time")[0]))
    voltage, voltage_unit = tell("highVoltage")
    magnitude = _to_positive((voltage or "").strip().lstrip("-"))  # it is told as the cathode's, which is negative
    return InstrumentMetadata(
        pixel_size_nm=pixel_nm,
        acquired_at=acquired_at,
        detector=_to_text(tell("detector")[0]),
        voltage_kv=_scale(magnitude, {"V": 1e-3, "kV": 1.0}.get(voltage_unit, math.nan)),
        instrument=_to_text(tell("type")[0]),
        scan_height_px=_subtract_bar(tell("databarHeight")[0], file_height_px=file_height_px),
        warnings=warnings + doubts,
    )


def _read_scale(page: tifffile.TiffPage) -> InstrumentMetadata:
    """Return the pixel size that ImageJ or OME-TIFF give in the file's description."""
    file = page.parent
    imagej = file.pages.first.imagej_description  # of the file: the other pages need not have one
    if imagej is not None:
        pixel_nm, warnings = _parse_imagej(page, pairs=_parse_pairs(imagej, separator="="))
    elif file.is_ome:
        pixel_nm, warnings = _parse_ome(file.ome_metadata or "", width_px=page.imagewidth)
    else:
        return InstrumentMetadata()
    return InstrumentMetadata(pixel_size_nm=pixel_nm, warnings=warnings)


def _parse_imagej(page: tifffile.TiffPage, *, pairs: Mapping[str, str]) -> tuple[float | None, tuple[str, ...]]:
    """Read ImageJ's scale: a unit in the description, pixels per unit in the tags for resolution.

    In inches and centimetres it is mostly the resolution for printing that ImageJ found in the file.
    """
    x_unit = pairs.get("unit", "")
    sides = [
        (_invert(page.tags.valueof(code)), unit)
        for code, unit in ((X_RESOLUTION_TAG, x_unit), (Y_RESOLUTION_TAG, pairs.get("yunit", x_unit)))
    ]
    if not _is_length(x_unit):
        return None, ()
    pixel_nm, warnings = _agree(*sides)
    is_print = x_unit in PRINT_UNITS and (pixel_nm is None or pixel_nm >= FINEST_PRINT_NM)
    return (None, ()) if is_print else (pixel_nm, warnings)


def _parse_ome(xml: str, *, width_px: int) -> tuple[float | None, tuple[str, ...]]:
    """Read the sizes of the OME pictures that are as wide as this one; the unit is µm where none stands."""
    told = [
        (_find_attribute(pixels, f"PhysicalSize{axis}"), _find_attribute(pixels, f"PhysicalSize{axis}Unit") or "µm")
        for pixels in re.findall(r"<(?:\w+:)?Pixels\s[^<>]*>", xml)[:MAX_OME_PICTURES]
        if _find_attribute(pixels, "SizeX") == str(width_px)
        for axis in "XY"
    ]
    return _agree(*((value, unit) for value, unit in told if _is_length(unit)))


def _find_attribute(tag: str, name: str) -> str:
    """Return an attribute of an XML tag, empty where it has none of this name."""
    match = re.search(rf"""\s{name}\s*=\s*(?:"([^"]*)"|'([^']*)')""", tag)
    return html.unescape(match[1] or match[2] or "") if match else ""


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
    match = re.match(r"\s*([\d.]+)\s*(k?)V", text or "", re.IGNORECASE)
    return _scale(_to_positive(match[1]), 1.0 if match[2] else 1e-3) if match else None


def _parse_jeol(pairs: Mapping[str, str], *, file_height_px: int) -> InstrumentMetadata:
    """Read `$KEY value` lines, whose keys differ between older and newer instruments.

    The pixel size is told, or follows from the field of view, or from the scale bar's label and its length in pixels.
    """

    def tell(*keys: str) -> str | None:
        return next((pairs[key] for key in keys if key in pairs), None)

    acquired_at, warnings = parse_moment(_join(tell("$CM_DATE"), tell("$CM_TIME")))
    size = _parse_size(tell("$CM_FULL_SIZE", "$CM_IMAGE_SIZE"))
    sides, side_doubts = _parse_lengths(tell("$CM_PIXEL_SIZE"))
    fields, field_doubts = _parse_lengths(tell("$CM_FIELD_OF_VIEW"))
    labels, label_doubts = _parse_lengths(tell("$$SM_MICRON_MARKER", "$SM_MICRON_MARKER"))
    bar_px = _to_positive(tell("$$SM_MICRON_BAR", "$SM_MICRON_BAR"))
    pixel_nm, doubts = _agree(
        *sides,
        *((length / n_px, unit) for (length, unit), n_px in zip(fields, size, strict=False) if n_px),
        *((length / bar_px, unit) for length, unit in labels if bar_px),
    )
    return InstrumentMetadata(
        pixel_size_nm=pixel_nm,
        acquired_at=acquired_at,
        detector=_to_text(tell("$CM_SIGNAL_NAME", "$CM_SIGNAL", "$SM_DETECTOR")),
        voltage_kv=_scale(_to_positive(tell("$CM_ACCEL_VOLT")), 1.0),
        instrument=_to_text(tell("$CM_INSTRUMENT")),
        scan_width_px=size[0],
        scan_height_px=_keep_if_bar_is_below(size[1], file_height_px=file_height_px),
        warnings=warnings + side_doubts + field_doubts + label_doubts + doubts,
    )


def _parse_lengths(text: str | None) -> tuple[list[tuple[float, str]], tuple[str, ...]]:
    """Return the lengths in `5um`, `128.0µm 96.0µm` or `1.067 0.800mm`, where the last unit is that of all.

    Anything else is none, with a warning: a part that looks like a length would be another one.
    """
    if text is None:
        return [], ()
    match = LENGTHS.fullmatch(text.strip())
    first, first_unit, last, unit = match.groups() if match else (None, None, None, "")
    written = [(first, first_unit or unit), (last, unit)] if first else [(last, unit)]
    lengths = [(_to_positive((number or "").replace(",", ".")), name) for number, name in written]
    known = [(length, name) for length, name in lengths if length is not None]
    if len(known) < len(lengths):
        return [], (
            f"its metadata give {text[:20]!r} as a length, which cannot be read, or in two ways, and is left out",
        )
    return known, ()


def _keep_if_bar_is_below(height_px: int | None, *, file_height_px: int) -> int | None:
    """Return the scan height only if rows are left below it.

    FEI hangs the bar below the scan and always says so. The others may also draw it into the scan's own rows, and then
    their size says nothing about the bar: only the user knows (`crop_bottom_px`).
    """
    return height_px if height_px is not None and 0 < height_px < file_height_px else None


def _subtract_bar(bar_px: str | None, *, file_height_px: int) -> int | None:
    """Return the scan height where the height of the data bar is told, and leaves something above it."""
    n_rows = _to_count(bar_px)
    return _keep_if_bar_is_below(n_rows and file_height_px - n_rows, file_height_px=file_height_px)


def _iter_sidecars(picture: Path) -> Iterator[str]:
    """Yield the texts beside the picture."""
    tescan = f"{picture.stem}-{picture.suffix[1:]}.hdr"
    for path in (*(picture.with_suffix(suffix) for suffix in SIDECAR_SUFFIXES), picture.with_name(tescan)):
        if path != picture and path.is_file() and path.stat().st_size <= MAX_SIDECAR_BYTES:
            yield _decode(path.read_bytes())


def _decode(data: bytes) -> str:
    """Return text written in whatever encoding the instrument's Windows used; the keys are ASCII in all of them.

    Latin-1 keeps every byte, so that `_find_factor` can read a micro sign of another encoding.
    """
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
    match = re.fullmatch(r"\s*(\d{1,9})\s*[xX*\s]\s*(\d{1,9})\s*", text or "")
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
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _to_int(text: str | None) -> int | None:
    """Return a whole number of either sign, or None where there is none or it has more digits than any size."""
    return int(text) if re.fullmatch(r"\s*[+-]?\d{1,9}\s*", text or "", re.ASCII) and text else None


def _to_count(text: str | None) -> int | None:
    """Return a whole number above zero, or None."""
    number = _to_int(text)
    return number if number is not None and number > 0 else None


def _invert(resolution: Any) -> float | None:
    """Return the length of a pixel from a TIFF's (pixels, units)."""
    pixels, units = resolution if isinstance(resolution, tuple) and len(resolution) == 2 else (None, None)
    above, below = _to_positive(units), _to_positive(pixels)
    return above / below if above is not None and below is not None else None


def _is_length(unit: str) -> bool:
    """Return whether a scale was set at all: programs write these words where it was not."""
    return unit.strip().lower() not in ("", "pixel", "pixels", "reference frame", "none", "null")


def _agree(*told: tuple[Any, str]) -> tuple[float | None, tuple[str, ...]]:
    """Return the pixel size in nm that all of several (length, unit) mean, or None, with a warning where they differ.

    Those without a length or a unit are passed over; one in a unit that is not known may contradict the others, and
    leaves no size. Pixels that are wider than high have no single size.
    """
    given = [(length, unit) for value, unit in told if unit and (length := _to_positive(value)) is not None]
    sizes = [length * _find_factor(unit) for length, unit in given]
    unknown = [unit for (_, unit), size in zip(given, sizes, strict=True) if math.isnan(size)]
    if unknown:
        return None, (f"its pixel size is in the unit {unknown[0][:20]!r}, which is not known here, and is left out",)
    if not sizes:
        return None, ()
    if max(sizes) > min(sizes) * (1 + SIZE_TOLERANCE):
        return None, (f"its metadata give pixels of {min(sizes):.4g} and of {max(sizes):.4g} nm, so no size is used",)
    return _scale(sizes[0], 1.0), ()


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


def _scale(value: float | None, factor: float) -> float | None:
    """Return the value in another unit, to the six digits that instruments give; None where either is unknown."""
    scaled = math.nan if value is None else value * factor
    return float(f"{scaled:.6g}") if math.isfinite(scaled) else None

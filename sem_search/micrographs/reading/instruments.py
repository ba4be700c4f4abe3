"""What the instrument wrote about a micrograph: pixel size, date, detector, voltage, and where the scan ends.

It is kept because it decides two things: where the data bar begins, and whether the classes differ in how they were
taken rather than in what they show. Sources, in this order: TIFF tags of Thermo/FEI (34682, 34680), Zeiss (34118),
TESCAN (50431) and Phenom (34683); the scale that ImageJ or OME-TIFF give in a TIFF's description; and the text file
that Hitachi, JEOL and TESCAN instruments write beside the picture.

Nothing is guessed: what is not given, or can be read in two ways, is None, with a warning for the latter. A pixel size
is that of this file's pixels: the size of a display's pixels, or a resolution for printing, is another quantity.
"""

import dataclasses
import html
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.dates import parse_moment
from sem_search.micrographs.reading.lengths import agree, is_length, parse_lengths, scale, to_positive

FEI_TAGS = (34682, 34680)  # FEI_HELIOS, and FEI_SFEG of older instruments
ZEISS_TAG = 34118
TESCAN_TAG = 50431
PHENOM_TAG = 34683
X_RESOLUTION_TAG, Y_RESOLUTION_TAG = 282, 283
SIDECAR_SUFFIXES = (".txt", ".TXT", ".Txt", ".hdr", ".HDR")
MAX_TAG_BYTES = 4_000_000  # a tag has some 10 kB, and TESCAN's a small preview; ten million lines would take seconds
MAX_SIDECAR_BYTES = 1_000_000  # a sidecar has a few kB; anything larger is some other text
PRINT_UNITS = ("inch", "in", "cm")
FINEST_PRINT_NM = 1000.0  # no printer or scanner has 25,400 dots per inch; ImageJ takes over what they have as a scale
MAX_OME_PICTURES = 1000  # as many as pages are counted; a file may name millions to keep its reader busy


@dataclass(frozen=True, kw_only=True)
class InstrumentMetadata:
    """What the instrument wrote about one micrograph; None where it did not."""

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
    stage: tuple[float, float, float] | None = None
    """Where the stage stood: x and y in mm, rotation in degrees. Instruments differ in the directions of the axes."""
    warnings: tuple[str, ...] = ()


def read_tiff_metadata(page: tifffile.TiffPage) -> InstrumentMetadata:
    """Return what a TIFF's own tags contain, all None where there are none.

    Args:
        page: The page that holds the micrograph.

    Raises:
        UnreadableImageError: The tags say that the picture shows several view fields side by side.
    """
    sections = [_parse_sections(_read_tag(page, code)) for code in FEI_TAGS]
    if any(sections):
        return _parse_fei({**sections[1], **sections[0]}, file_height_px=page.imagelength)
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
    """Return what the text file beside a picture contains, all None where there is none.

    It is `a.txt` beside `a.tif`; TESCAN's is `a-tif.hdr` or `a.hdr`. A text that none of the known makers wrote is
    not used.

    Args:
        picture: The picture's path.
        file_height_px: Rows of the picture file; these instruments give a size that is the scan's only where it
            is smaller.

    Raises:
        UnreadableImageError: The picture shows several view fields side by side.
    """
    for text in _iter_sidecars(picture):
        if "[SemImageFile]" in text:
            pairs = _parse_pairs(text, separator="=")
            lengths = [(pairs.get("PixelSize"), "nm")]
            stage = _parse_stage(*map(pairs.get, HITACHI_STAGE), unit_mm=1e-6)
            return _build_metadata(HITACHI, pairs, lengths=lengths, stage=stage, file_height_px=file_height_px)
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


Fields = Mapping[str, str]
"""What is wanted -> the names under which a maker writes it, of which the first that is there counts.

`size` is width and height of the scan in one field, `bar` the height of the data bar, `unit` that of a voltage without.
"""

FEI: Fields = {"date": "date", "detector": "Detectors.Name", "voltage": "voltage", "instrument": "System.SystemType"}
ZEISS: Fields = {
    "date": "AP_DATE",
    "time": "AP_TIME",
    "detector": "DP_DETECTOR_CHANNEL DP_DETECTOR_TYPE",
    "voltage": "AP_ACTUALKV AP_MANUALKV",
    "unit": "",
    "instrument": "DP_SEM SV_SERIAL_NUMBER",
    "size": "DP_IMAGE_STORE",
}
TESCAN: Fields = {
    "date": "Date",
    "time": "Time",
    "detector": "Detector Detector0",
    "voltage": "HV",
    "instrument": "Device",
    "bar": "ImageStripSize",
}
PHENOM: Fields = {
    "date": "time",
    "detector": "detector",
    "voltage": "highVoltage",
    "unit": "",
    "instrument": "type",
    "bar": "databarHeight",
}
HITACHI: Fields = {
    "date": "Date",
    "time": "Time",
    "detector": "SignalName",
    "voltage": "AcceleratingVoltage",
    "unit": "",
    "instrument": "InstructName",  # the instrument's own spelling
    "size": "DataSize",
}
JEOL: Fields = {
    "date": "$CM_DATE",
    "time": "$CM_TIME",
    "detector": "$CM_SIGNAL_NAME $CM_SIGNAL $SM_DETECTOR",
    "voltage": "$CM_ACCEL_VOLT",
    "unit": "kV",
    "instrument": "$CM_INSTRUMENT",
    "size": "$CM_FULL_SIZE $CM_IMAGE_SIZE",
}
HITACHI_STAGE = ("StagePositionX", "StagePositionY", "StagePositionR")  # in nm and degrees
TESCAN_STAGE = ("StageX", "StageY", "StageRotation")  # in m and degrees
FEI_STAGE = ("Stage.StageX", "Stage.StageY", "Stage.StageR")  # in m and radians
ZEISS_STAGE = ("AP_STAGE_AT_X", "AP_STAGE_AT_Y", "AP_STAGE_AT_R")  # with their units, mm and degrees
JEOL_STAGE = ("$CM_STAGE_POSITION", "$CM_STAGE_POS")  # x, y, z, rotation, tilt in mm and degrees


def _build_metadata(
    fields: Fields,
    pairs: Mapping[str, str],
    *,
    lengths: Sequence[tuple[Any, str]],
    stage: tuple[float, float, float] | None,
    file_height_px: int,
    warnings: tuple[str, ...] = (),
) -> InstrumentMetadata:
    """Return the metadata in a maker's text; `lengths` are pixel sizes with their units, which must agree."""

    def get(what: str) -> str | None:
        return _get(pairs, *fields.get(what, "").split())

    pixel_nm, doubts = agree(*lengths)
    acquired_at, date_doubts = parse_moment(_join(get("date"), get("time")))
    width_px, height_px = _parse_size(get("size"))
    if bar_px := _to_count(get("bar")):
        height_px = file_height_px - bar_px
    # Only FEI always puts the bar below the scan. The others may also draw it into the scan's own rows, and then their
    # size does not show it: only the user knows (`crop_bottom_px`).
    return InstrumentMetadata(
        pixel_size_nm=pixel_nm,
        acquired_at=acquired_at,
        detector=_to_text(get("detector")),
        voltage_kv=_parse_voltage(get("voltage"), unit=fields.get("unit", "V")),
        instrument=_to_text(get("instrument")),
        scan_width_px=width_px,
        scan_height_px=height_px if height_px is not None and 0 < height_px < file_height_px else None,
        stage=stage,
        warnings=date_doubts + warnings + doubts,
    )


def _get(pairs: Mapping[str, str], *names: str) -> str | None:
    return next((pairs[name] for name in names if name in pairs), None)


def _parse_fei(sections: Mapping[str, Mapping[str, str]], *, file_height_px: int) -> InstrumentMetadata:
    """Read the sections of a Thermo/FEI tag, which is in SI units."""
    pairs = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    # Which beam took the picture; where none is named, another beam's field would be another picture's.
    beam, scan = pairs.get("Beam.Beam", ""), pairs.get("Beam.Scan", "")
    width_px = _to_count(pairs.get("Image.ResolutionX"))
    section = next((name for name in ("Scan", scan) if to_positive(pairs.get(f"{name}.PixelWidth"))), "")
    lengths: list[tuple[Any, str]] = [(pairs.get(f"{section}.{side}"), "m") for side in ("PixelWidth", "PixelHeight")]
    field_m = to_positive(pairs.get("Scan.HorFieldsize")) or to_positive(pairs.get(f"{beam}.HFW"))
    if not section and field_m is not None and width_px is not None:
        lengths = [(field_m / width_px, "m")]
    voltages = (pairs[key] for key in ("Beam.HV", f"{beam}.HV") if to_positive(pairs.get(key)))
    # TimeOfCreation is always day.month.year; Date follows the settings of the instrument's Windows.
    created = pairs.get("PrivateFei.TimeOfCreation")
    moment = created if parse_moment(created)[0] else _join(pairs.get("User.Date"), pairs.get("User.Time"))
    chosen = {"date": moment or "", "voltage": next(voltages, "")}
    stage = _parse_stage(*map(pairs.get, FEI_STAGE), unit_mm=1e3, unit_deg=math.degrees(1))
    metadata = _build_metadata(FEI, {**pairs, **chosen}, lengths=lengths, stage=stage, file_height_px=file_height_px)
    return dataclasses.replace(metadata, scan_width_px=width_px, scan_height_px=_to_int(pairs.get("Image.ResolutionY")))


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

    def measure(*names: str) -> tuple[str, str]:
        value, _, unit = (_get(entries, *names) or "").partition(" ")
        return value, unit.strip()

    def divide(name: str, n_px: int) -> tuple[float | None, str]:
        """Return the length of one pixel of a field that is `n_px` pixels long, and its unit."""
        field, unit = measure(name)
        length = to_positive(field)
        return (length / n_px if length is not None and n_px > 0 else None), unit

    lengths: list[tuple[Any, str]] = [measure("AP_IMAGE_PIXEL_SIZE"), divide("AP_WIDTH", file_width_px)]
    if to_positive(lengths[0][0]) is None:  # only the field gives it: its height shows whether the file was cropped
        lengths.append(divide("AP_HEIGHT", file_height_px))
    x, y, rotation = (measure(name) for name in ZEISS_STAGE)
    stage = _parse_stage(x[0], y[0], rotation[0], unit_mm=1.0) if x[1] == y[1] == "mm" else None
    return _build_metadata(ZEISS, entries, lengths=lengths, stage=stage, file_height_px=file_height_px)


def _parse_tescan(text: str, *, file_height_px: int) -> InstrumentMetadata:
    """Read the `Key=value` lines of TESCAN's tag or header file, which are in SI units."""
    lines = re.findall(r"(?:^|[\0\r\n])(\w+)=([^\0\r\n]*)", text)
    pairs = dict(reversed(lines))  # the first of several wins
    columns, rows = (to_positive(pairs.get(key)) or 1 for key in ("ViewFieldsCountX", "ViewFieldsCountY"))
    if columns * rows != 1:
        raise UnreadableImageError(
            f"shows {columns:g} x {rows:g} view fields (ViewFieldsCountX, ViewFieldsCountY), the images of several "
            "detectors side by side: save each as a file of its own"
        )
    lengths = [(pairs.get("PixelSizeX"), "m"), (pairs.get("PixelSizeY"), "m")]
    stage = _parse_stage(*map(pairs.get, TESCAN_STAGE), unit_mm=1e3)
    return _build_metadata(TESCAN, pairs, lengths=lengths, stage=stage, file_height_px=file_height_px)


def _parse_phenom(xml: str, *, file_height_px: int) -> InstrumentMetadata:
    """Read a Phenom's XML; by patterns, since a file from anywhere may hold XML that keeps its parser busy for ever."""
    pairs, units = {}, {}
    for name in ("pixelWidth", "pixelHeight", "highVoltage", "time", "detector", "type", "databarHeight"):
        match = re.search(rf"<{name}(\s[^<>]*)?>([^<>]*)</{name}>", xml)
        if match:
            pairs[name], units[name] = html.unescape(match[2]), _find_attribute(match[1] or "", "unit")
    lengths = [(pairs.get(name), units.get(name, "")) for name in ("pixelWidth", "pixelHeight")]
    pairs["highVoltage"] = f"{pairs.get('highVoltage', '')} {units.get('highVoltage', '')}"
    return _build_metadata(PHENOM, pairs, lengths=lengths, stage=None, file_height_px=file_height_px)


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
    if not is_length(x_unit):
        return None, ()
    pixel_nm, warnings = agree(*sides)
    is_print = x_unit in PRINT_UNITS and (pixel_nm is None or pixel_nm >= FINEST_PRINT_NM)
    return (None, ()) if is_print else (pixel_nm, warnings)


def _parse_ome(xml: str, *, width_px: int) -> tuple[float | None, tuple[str, ...]]:
    """Read the sizes of the OME pictures that are as wide as this one; the unit is µm where none stands."""
    sizes = [
        (_find_attribute(pixels, f"PhysicalSize{axis}"), _find_attribute(pixels, f"PhysicalSize{axis}Unit") or "µm")
        for pixels in re.findall(r"<(?:\w+:)?Pixels\s[^<>]*>", xml)[:MAX_OME_PICTURES]
        if _find_attribute(pixels, "SizeX") == str(width_px)
        for axis in "XY"
    ]
    return agree(*((value, unit) for value, unit in sizes if is_length(unit)))


def _find_attribute(tag: str, name: str) -> str:
    """Return an attribute of an XML tag, empty where it has none of this name."""
    match = re.search(rf"""\s{name}\s*=\s*(?:"([^"]*)"|'([^']*)')""", tag)
    return html.unescape(match[1] or match[2] or "") if match else ""


def _parse_jeol(pairs: Mapping[str, str], *, file_height_px: int) -> InstrumentMetadata:
    """Read `$KEY value` lines, whose keys differ between older and newer instruments.

    The pixel size is given, or follows from the field of view, or from the scale bar's label and its length in pixels.
    """
    sides, side_doubts = parse_lengths(pairs.get("$CM_PIXEL_SIZE"))
    fields, field_doubts = parse_lengths(pairs.get("$CM_FIELD_OF_VIEW"))
    labels, label_doubts = parse_lengths(_get(pairs, "$$SM_MICRON_MARKER", "$SM_MICRON_MARKER"))
    bar_px = to_positive(_get(pairs, "$$SM_MICRON_BAR", "$SM_MICRON_BAR"))
    lengths = [
        *sides,
        *(
            (length / n_px, unit)
            for (length, unit), n_px in zip(fields, _parse_size(_get(pairs, *JEOL["size"].split())), strict=False)
            if n_px
        ),
        *((length / bar_px, unit) for length, unit in labels if bar_px),
    ]
    doubts = side_doubts + field_doubts + label_doubts
    x, y, _, rotation = [*(_get(pairs, *JEOL_STAGE) or "").split(), *[None] * 4][:4]
    stage = _parse_stage(x, y, rotation, unit_mm=1.0)
    return _build_metadata(JEOL, pairs, lengths=lengths, stage=stage, file_height_px=file_height_px, warnings=doubts)


def _parse_stage(
    x: str | None, y: str | None, rotation: str | None, *, unit_mm: float, unit_deg: float = 1.0
) -> tuple[float, float, float] | None:
    """Return x and y in mm and the rotation in degrees, None where the place is not given.

    Nor is it where both are 0: that is written by instruments that do not know it.
    """
    try:
        place = float(x or "nan") * unit_mm, float(y or "nan") * unit_mm, float(rotation or 0) * unit_deg
    except ValueError:
        return None
    return place if all(map(math.isfinite, place)) and any(place[:2]) else None


def _parse_voltage(text: str | None, *, unit: str) -> float | None:
    """Return kV from `5000 Volt`, `5.0 kV` or `-10000` (the cathode's), None where no unit is known."""
    match = re.fullmatch(r"\s*-?([\d.]+(?:[eE][+-]?\d+)?)\s*(?:(k?V)(?:olts?)?)?\s*", text or "", re.IGNORECASE)
    if match is None:
        return None
    return scale(to_positive(match[1]), {"v": 1e-3, "kv": 1.0}.get((match[2] or unit).lower(), math.nan))


def _iter_sidecars(picture: Path) -> Iterator[str]:
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


def _join(date: Any, time: Any) -> str | None:
    """Return date and time as one text, None where there is no date."""
    shown = _to_text(date)
    return f"{shown} {_to_text(time) or ''}".strip() if shown else None


def _to_text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _to_int(text: str | None) -> int | None:
    """Return a whole number of either sign, or None where there is none or it has more digits than any size."""
    return int(text) if re.fullmatch(r"\s*[+-]?\d{1,9}\s*", text or "", re.ASCII) and text else None


def _to_count(text: str | None) -> int | None:
    number = _to_int(text)
    return number if number is not None and number > 0 else None


def _invert(resolution: Any) -> float | None:
    """Return the length of a pixel from a TIFF's (pixels, units)."""
    pixels, units = resolution if isinstance(resolution, tuple) and len(resolution) == 2 else (None, None)
    above, below = to_positive(units), to_positive(pixels)
    return above / below if above is not None and below is not None else None

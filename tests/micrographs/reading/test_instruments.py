"""What the instruments of six makers write is understood; what can be read two ways is not guessed."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.instruments import (
    InstrumentMetadata,
    merge_metadata,
    read_sidecar_metadata,
    read_tiff_metadata,
)

FEI = {
    "User": {"Date": "02/13/2020", "Time": "07:16:19 PM"},
    "System": {"SystemType": "Versa 3D"},
    "Beam": {"HV": "5000", "Beam": "EBeam", "Scan": "EScan"},
    "EBeam": {"HV": "4000", "HFW": "0.0002"},
    "Scan": {"PixelWidth": "1.34896e-007", "HorFieldsize": "0.0002072"},
    "EScan": {"PixelWidth": "2e-007"},
    "Image": {"ResolutionX": "1536", "ResolutionY": "1024"},
    "Detectors": {"Name": "ETD"},
    "PrivateFei": {"TimeOfCreation": "14.02.2020 19:16:19"},
}

ZEISS = (
    "\r\n0\r\n0\r\nAP_DATE\r\nDate :17 Nov 2020\r\nAP_TIME\r\nTime :09:28:25\r\n"
    "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 9.923 nm\r\nAP_PIXEL_SIZE\r\nPixel Size = 99.0 nm\r\n"
    "AP_ACTUALKV\r\nEHT =  3.00 kV\r\nDP_DETECTOR_CHANNEL\r\nSignal A = InLens\r\n"
    "DP_IMAGE_STORE\r\nStore resolution = 40 * 24\r\nSV_SERIAL_NUMBER\r\nSerial No. = SUPRA 55-25-73\r\n"
)

HITACHI = (
    "[SemImageFile]\r\nInstructName=S-4800\r\nDate=04/16/2013\r\nTime=09:38:00\r\nDataSize=40x24\r\nPixelSize=24.80469\r\n"
    "SignalName=SE(M)\r\nAcceleratingVoltage=15000 Volt\r\nMagnification=4000\r\n"
)

JEOL = (
    "$CM_FORMAT JEOL/SEM\n$CM_INSTRUMENT JSM-7800F\n$CM_SIGNAL SEI\n$CM_MAG 5000\n$CM_ACCEL_VOLT 15.0\n"
    "$CM_DATE 2019/03/12\n$CM_TIME 10:21:55\n$CM_FULL_SIZE 40 24\n$$SM_MICRON_BAR 180\n$$SM_MICRON_MARKER 5um\n"
)


NEW_JEOL = (
    "$CM_FORMAT JEOL-SEM\n$CM_INSTRUMENT JSM-IT800\n$CM_DATE 2024/03/05\n$CM_TIME 10:11:12\n$CM_ACCEL_VOLT 15.00\n"
    "$CM_IMAGE_SIZE 1280 960\n$CM_FIELD_OF_VIEW 128.000µm 96.000µm\n$CM_PIXEL_SIZE 100.000nm 100.000nm\n"
    "$SM_DETECTOR SED\n$SM_MICRON_BAR 100\n$SM_MICRON_MARKER 10µm\n$SM_PNU_HEIGHT 64\n"
)

TESCAN = (
    "[MAIN]\nAccFrames=1\nDate=2016-05-16\nDevice=MIRA3 XMU\nImageStripSize=6\nPixelSizeX=2.5012e-6\n"
    "PixelSizeY=2.5012e-6\nTime=16:03:27\nViewFieldsCountX=1\nViewFieldsCountY=1\n[SEM]\nDetector=SE\nHV=10.0e3\n"
)
TESCAN_TOLD = InstrumentMetadata(
    pixel_size_nm=2501.2,
    acquired_at="2016-05-16T16:03:27",
    detector="SE",
    voltage_kv=10.0,
    instrument="MIRA3 XMU",
    scan_height_px=24,
)

PHENOM = (
    '<?xml version="1.0"?><FeiImage><databarHeight>6</databarHeight><time>2020-02-03T10:20:30</time>'
    '<pixelWidth unit="um">0.131</pixelWidth><pixelHeight unit="um">0.131</pixelHeight>'
    "<instrument><type>Phenom</type></instrument><acquisition><scan><detector>BSD</detector>"
    '<highVoltage unit="kV">-15</highVoltage></scan></acquisition></FeiImage>'
)


def write_fei(sections: dict[str, dict[str, str]]) -> str:
    return "".join(
        f"[{name}]\r\n" + "".join(f"{key}={value}\r\n" for key, value in pairs.items()) + "\r\n"
        for name, pairs in sections.items()
    )


def without(section: str, *keys: str) -> dict[str, dict[str, str]]:
    changed = {name: dict(pairs) for name, pairs in FEI.items()}
    for key in keys:
        del changed[section][key]
    return changed


def read_tag(code: int, text: str) -> InstrumentMetadata:
    return read_tiff(extratags=[(code, "s", 0, text.encode("cp1252"), True)])


def read_tiff(shape: tuple[int, int] = (30, 40), **options: Any) -> InstrumentMetadata:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros(shape, np.uint8), **options)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as tiff:
        return read_tiff_metadata(tiff.pages[0].aspage())


@pytest.mark.parametrize("code", [34682, 34680])
def test_fei_tags(code: int) -> None:
    assert read_tag(code, write_fei(FEI)) == InstrumentMetadata(
        pixel_size_nm=134.896,
        acquired_at="2020-02-14T19:16:19",  # TimeOfCreation, not the date that hangs on the locale of Windows
        detector="ETD",
        voltage_kv=5.0,
        instrument="Versa 3D",
        scan_width_px=1536,
        scan_height_px=1024,
    )


@pytest.mark.parametrize(
    ("sections", "field", "expected"),
    [
        (without("Scan", "PixelWidth"), "pixel_size_nm", 200.0),
        ({**without("Scan", "PixelWidth"), "EScan": {}}, "pixel_size_nm", 134.896),
        ({**without("Scan", "PixelWidth", "HorFieldsize"), "EScan": {}}, "pixel_size_nm", 130.208),
        ({**FEI, "Scan": {}, "EScan": {}, "EBeam": {}}, "pixel_size_nm", None),
        ({**FEI, "Scan": {"PixelWidth": "-1"}, "EScan": {}, "EBeam": {}}, "pixel_size_nm", None),
        ({**FEI, "Scan": {"PixelWidth": "nan"}, "EScan": {}, "EBeam": {}}, "pixel_size_nm", None),
        ({**FEI, "Scan": {"PixelWidth": "1e-7", "PixelHeight": "1.01e-7"}}, "pixel_size_nm", 100.0),
        ({**FEI, "Scan": {"PixelWidth": "1e-7", "PixelHeight": "1.4e-7"}}, "pixel_size_nm", None),
        ({**FEI, "Beam": {}, "Scan": {}}, "pixel_size_nm", None),  # of a camera's picture, not of the beam's
        (without("Beam", "HV"), "voltage_kv", 4.0),
        ({**FEI, "Beam": {}, "EBeam": {}}, "voltage_kv", None),
        (without("PrivateFei", "TimeOfCreation"), "acquired_at", "2020-02-13T19:16:19"),
        ({**FEI, "Image": {}}, "scan_height_px", None),
        ({**FEI, "Image": {"ResolutionY": "soon"}}, "scan_height_px", None),
        ({**FEI, "Image": {"ResolutionY": "0"}}, "scan_height_px", 0),  # nonsense is for the reader to refuse
        ({**FEI, "Detectors": {"Name": ""}}, "detector", None),
    ],
)
def test_fei_gaps_are_filled_or_stay_open(sections: dict[str, dict[str, str]], field: str, expected: Any) -> None:
    assert getattr(read_tag(34682, write_fei(sections)), field) == expected


def test_an_ambiguous_fei_date_is_not_guessed() -> None:
    sections = {**FEI, "PrivateFei": {}, "User": {"Date": "02/06/2020", "Time": "12:44:01 PM"}}
    metadata = read_tag(34682, write_fei(sections))
    assert metadata.acquired_at is None
    assert "has two readings (day first, month first)" in metadata.warnings[0]


def test_zeiss_tag() -> None:
    assert read_tag(34118, ZEISS) == InstrumentMetadata(
        pixel_size_nm=9.923,
        acquired_at="2020-11-17T09:28:25",
        detector="InLens",
        voltage_kv=3.0,
        instrument="SUPRA 55-25-73",
        scan_width_px=40,
        scan_height_px=24,
    )


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("9.923 nm", "1.5 µm", "pixel_size_nm", 1500.0),
        ("9.923 nm", "1.5 um", "pixel_size_nm", 1500.0),
        ("9.923 nm", "950.0 pm", "pixel_size_nm", 0.95),
        ("9.923 nm", "1.5 furlong", "pixel_size_nm", None),
        ("AP_ACTUALKV\r\nEHT =  3.00 kV", "AP_MANUALKV\r\nEHT Target = 500.0 V", "voltage_kv", 0.5),
        ("40 * 24", "40 * 30", "scan_height_px", None),  # the bar may be drawn into the scan: only the user knows
        ("40 * 24", "40 * 90", "scan_height_px", None),
        ("AP_IMAGE_PIXEL_SIZE", "AP_OTHER", "pixel_size_nm", None),  # AP_PIXEL_SIZE is of the display's pixels
    ],
)
def test_zeiss_variants(old: str, new: str, field: str, expected: Any) -> None:
    assert getattr(read_tag(34118, ZEISS.replace(old, new)), field) == expected


@pytest.mark.parametrize(("width", "expected"), [(512, 11.6504), (1024, 5.82520), (2048, 2.9126)])
def test_older_zeiss_files_are_scaled_by_their_own_width(width: int, expected: float) -> None:
    """Older instruments tell the pixel size of their display only, which is 1024 pixels wide."""
    text = (
        "AP_PIXEL_SIZE\r\nPixel Size = 5.825 nm\r\nAP_WIDTH\r\nWidth = 5.965 µm\r\nAP_HEIGHT\r\nHeight = 4.474 µm\r\n"
    )
    tag = (34118, "s", 0, text.encode("cp1252"), True)
    assert read_tiff((width * 3 // 4, width), extratags=[tag]).pixel_size_nm == expected
    cut = read_tiff((width // 2, width), extratags=[tag])
    assert cut.pixel_size_nm is None
    assert "so no size is used" in cut.warnings[0]


def test_a_zeiss_file_that_was_resized_has_no_pixel_size() -> None:
    told = ZEISS.replace("Store resolution = 40 * 24", "").replace("DP_IMAGE_STORE", "")
    assert read_tag(34118, told + "AP_WIDTH\r\nWidth = 396.9 nm\r\n").pixel_size_nm == 9.923
    resized = read_tag(34118, told + "AP_WIDTH\r\nWidth = 793.8 nm\r\n")
    assert resized.pixel_size_nm is None
    assert resized.warnings == ("its metadata give pixels of 9.923 and of 19.84 nm, so no size is used",)


@pytest.mark.parametrize(
    "preview",
    [b"", b"\x1f\x03\0\0", b"\xff\x4f\xff\x51PixelSizeX=1\xff\n=\n\n" + bytes(range(256)) + b"\0\0"],
)
def test_tescan_tag(preview: bytes) -> None:
    lines = [line for line in TESCAN.splitlines() if not line.startswith("[")]
    text = preview + "\n".join(lines[:9]).encode() + b"\n\0\x41\0\0\0" + "\n".join(lines[9:]).encode()
    assert read_tiff(extratags=[(50431, 7, len(text), text, True)]) == TESCAN_TOLD


@pytest.mark.parametrize("name", ["a-tif.hdr", "a.hdr"])
def test_tescan_header_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TESCAN)
    (tmp_path / "a.txt").write_text("I liked this one")  # does not hide the other
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30) == TESCAN_TOLD


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("PixelSizeY=2.5012e-6", "PixelSizeY=5.0e-6", "pixel_size_nm", None),
        ("PixelSizeY=2.5012e-6\n", "", "pixel_size_nm", 2501.2),
        ("Size=6", "Size=0", "scan_height_px", None),  # the bar may be drawn into the scan: only the user knows
        ("Size=6", "Size=30", "scan_height_px", None),
        ("Size=6", "Size=-6", "scan_height_px", None),
        ("Detector=SE", "Detector0=BSE", "detector", "BSE"),
    ],
)
def test_tescan_variants(tmp_path: Path, old: str, new: str, field: str, expected: Any) -> None:
    (tmp_path / "a.hdr").write_text(TESCAN.replace(old, new))
    assert getattr(read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30), field) == expected


def test_pictures_of_several_detectors_side_by_side_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a-tif.hdr").write_text(TESCAN.replace("CountX=1", "CountX=2"))
    with pytest.raises(UnreadableImageError, match=r"shows 2 x 1 view fields .* save each as a file of its own"):
        read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30)


def test_phenom_tag() -> None:
    assert read_tag(34683, PHENOM) == InstrumentMetadata(
        pixel_size_nm=131.0,
        acquired_at="2020-02-03T10:20:30",
        detector="BSD",
        voltage_kv=15.0,
        instrument="Phenom",
        scan_height_px=24,
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"um"', '"&#181;m"', 131.0),
        ('"um"', '"nm"', 0.131),
        ('"um"', '"furlong"', None),
        ("<pixelHeight", "<x", 131.0),
        (">0.131</pixelHeight>", ">0.2</pixelHeight>", None),
        ("<pixelWidth", "<pixelWidth <pixelWidth", 131.0),
        ("FeiImage", "Metadata", None),
    ],
)
def test_phenom_variants(old: str, new: str, expected: float | None) -> None:
    assert read_tag(34683, PHENOM.replace(old, new)).pixel_size_nm == expected


@pytest.mark.parametrize(
    ("unit", "resolution", "expected"),
    [
        ("micron", (5.928571, 5.928571), 168.675),  # as Fiji 1.51 wrote it
        ("\\u00B5m", (5.0, 5.0), 200.0),
        ("um", (5.0, 5.0), 200.0),
        ("nm", (0.05, 0.05), 20.0),
        ("mm", (1000.0, 1000.0), 1000.0),
        ("nm", (0.05, 0.1), None),
        ("furlong", (5.0, 5.0), None),
        ("pixel", (1.0, 1.0), None),
        ("", (1.0, 1.0), None),
        ("inch", (300.0, 300.0), None),  # for printing
        ("inch", (204.0, 98.0), None),
        ("cm", (118.11, 118.11), None),
        ("cm", (1e6, 1e6), 10.0),
    ],
)
def test_imagej_scale(unit: str, resolution: tuple[float, float], expected: float | None) -> None:
    told = read_tiff(
        description=f"ImageJ=1.53t\nunit={unit}\nmin=0.0\nmax=255.0\n", resolution=resolution, metadata=None
    )
    assert told.pixel_size_nm == (None if expected is None else pytest.approx(expected, rel=1e-5))
    assert bool(told.warnings) == (unit == "furlong" or (unit == "nm" and resolution[0] != resolution[1]))


def test_a_resolution_without_a_unit_of_length_is_no_scale() -> None:
    assert read_tiff(resolution=(300.0, 300.0), resolutionunit="inch") == InstrumentMetadata()
    assert read_tiff(description="ImageJ=1.53t\n", resolution=(5.0, 5.0), metadata=None) == InstrumentMetadata()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('PhysicalSizeX="0.13" PhysicalSizeY="0.13"', 130.0),
        ('PhysicalSizeX="13" PhysicalSizeXUnit="nm" PhysicalSizeY="13" PhysicalSizeYUnit="nm"', 13.0),
        ('PhysicalSizeX="0.13" PhysicalSizeXUnit="&#181;m"', 130.0),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="Å"', 0.1),
        ('PhysicalSizeX="0.13" PhysicalSizeY="0.26"', None),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel"', None),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="reference frame"', None),
        ('PhysicalSizeX="-1"', None),
        ("", None),
    ],
)
def test_ome_scale(attributes: str, expected: float | None) -> None:
    xml = (
        '<OME xmlns="x"><Image><Pixels SizeX="400" SizeY="300" PhysicalSizeX="9"/></Image>'
        f'<Image><Pixels SizeX="40" SizeY="30" {attributes}/></Image></OME>'
    )
    assert read_tiff(description=xml.encode(), metadata=None).pixel_size_nm == expected


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "utf-8"])
@pytest.mark.parametrize("code", [34682, 34680, 34118, 34683, 50431])
def test_an_operator_s_remark_in_another_script_hides_nothing(code: int, encoding: str) -> None:
    """tifffile drops a tag whole whose text it cannot decode; the data bar would stay on."""
    remark = "Ärger" if encoding == "cp1252" else "結晶、粒"
    text, line = {
        34682: (write_fei(FEI), "UserText"),
        34680: (write_fei(FEI), "UserText"),
        34118: (ZEISS, "SV_USER_TEXT\r\nUser Text"),
        34683: (PHENOM, "<!--"),
        50431: (TESCAN, "Description"),
    }[code]
    told = read_tiff(extratags=[(code, 7, len(data := f"{text}{line}={remark}\n".encode(encoding)), data, True)])
    assert told == read_tiff(extratags=[(code, 7, len(text), text.encode("ascii"), True)])
    assert told.pixel_size_nm is not None
    assert told.scan_height_px is not None


def test_a_tag_larger_than_any_instrument_s_is_not_read() -> None:
    """Two million lines took 25 s."""
    assert read_tag(34682, write_fei(FEI) + "x" * 3_000_000).detector == "ETD"
    assert read_tag(34682, write_fei(FEI) + "b=c\r\n" * 1_000_000) == InstrumentMetadata()


@pytest.mark.parametrize("number", ["9" * 400, "1" + "0" * 5000, "-1e999"])
def test_numbers_that_no_size_can_be_are_left_out(tmp_path: Path, number: str) -> None:
    sections = {
        **FEI,
        "Scan": {"PixelWidth": number},
        "EScan": {},
        "Image": {"ResolutionX": number, "ResolutionY": number},
    }
    told = read_tag(34682, write_fei(sections))
    assert (told.pixel_size_nm, told.scan_width_px, told.scan_height_px) == (None, None, None)
    (tmp_path / "a.hdr").write_text(TESCAN.replace("Size=6", f"Size={number}"))
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30).scan_height_px is None
    (tmp_path / "b.txt").write_text(NEW_JEOL.replace("1280 960", f"{number} {number}"))
    assert read_sidecar_metadata(tmp_path / "b.tif", file_height_px=30).scan_width_px is None


def test_a_tiff_without_such_tags_tells_nothing() -> None:
    assert read_tag(270, "a description") == InstrumentMetadata()


@pytest.mark.parametrize("text", ["", "rubbish", "[User", "=\r\n[]\r\n=5", "[Scan]\r\nPixelWidth\r\n"])
@pytest.mark.parametrize("code", [34682, 34118, 34683, 50431])
def test_rubbish_in_the_tags_tells_nothing(code: int, text: str) -> None:
    assert read_tag(code, text) == InstrumentMetadata()


@pytest.mark.parametrize("suffix", [".txt", ".TXT", ".Txt"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8-sig", "utf-16"])
def test_hitachi_sidecar(tmp_path: Path, suffix: str, encoding: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(HITACHI.encode(encoding))
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30) == InstrumentMetadata(
        pixel_size_nm=24.8047,
        acquired_at="2013-04-16T09:38:00",
        detector="SE(M)",
        voltage_kv=15.0,
        instrument="S-4800",
        scan_width_px=40,
        scan_height_px=24,
    )


def test_jeol_sidecar(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JEOL)
    assert read_sidecar_metadata(tmp_path / "a.bmp", file_height_px=30) == InstrumentMetadata(
        pixel_size_nm=27.7778,
        acquired_at="2019-03-12T10:21:55",
        detector="SEI",
        voltage_kv=15.0,
        instrument="JSM-7800F",
        scan_width_px=40,
        scan_height_px=24,
    )


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("5um", "100nm", "pixel_size_nm", 0.555556),
        ("5um", "5", "pixel_size_nm", None),
        ("5um", "5 furlong", "pixel_size_nm", None),
        ("BAR 180", "BAR 0", "pixel_size_nm", None),
        ("40 24", "40 30", "scan_height_px", None),
        ("15.0", "none", "voltage_kv", None),
    ],
)
def test_jeol_variants(tmp_path: Path, old: str, new: str, field: str, expected: Any) -> None:
    (tmp_path / "a.txt").write_text(JEOL.replace(old, new))
    assert getattr(read_sidecar_metadata(tmp_path / "a.bmp", file_height_px=30), field) == expected


def test_newer_jeol_sidecar(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(NEW_JEOL)
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=1024) == InstrumentMetadata(
        pixel_size_nm=100.0,
        acquired_at="2024-03-05T10:11:12",
        detector="SED",
        voltage_kv=15.0,
        instrument="JSM-IT800",
        scan_width_px=1280,
        scan_height_px=960,
    )


@pytest.mark.parametrize(
    ("left_out", "changes", "expected"),
    [
        ((), {}, 100.0),
        (("$CM_PIXEL_SIZE",), {"10µm": "10.1µm"}, 100.0),  # a bar is told in whole pixels
        (("$CM_PIXEL_SIZE", "$SM_MICRON"), {"128.000µm 96.000µm": "1.067 0.800mm"}, 833.594),
        (("$CM_PIXEL_SIZE", "$CM_FIELD"), {"10µm": "500nm"}, 5.0),
        (("$CM_PIXEL_SIZE", "$CM_FIELD", "$SM_MICRON"), {}, None),
        (("$SM_MICRON",), {"100.000nm 100.000nm": "50.000nm"}, None),  # of other pixels than the field of view's
        (("$CM_FIELD", "$SM_MICRON"), {"100.000nm 100.000nm": "100.000nm 140.000nm"}, None),
        (("$CM_FIELD", "$SM_MICRON"), {"100.000nm 100.000nm": "100.000"}, None),
        (("$CM_IMAGE", "$CM_PIXEL", "$SM_MICRON"), {}, None),
        ((), {"µm": "?m"}, None),  # it may be another size
        (("$CM_FIELD", "$CM_PIXEL"), {"10µm": "10?m"}, None),
        (("$CM_PIXEL",), {"µm": "?m"}, None),
    ],
)
def test_newer_jeol_variants(
    tmp_path: Path, left_out: tuple[str, ...], changes: dict[str, str], expected: float | None
) -> None:
    text = "".join(line for line in NEW_JEOL.splitlines(keepends=True) if not line.startswith(left_out or "none"))
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "a.txt").write_text(text)
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=1024).pixel_size_nm == expected


@pytest.mark.parametrize(
    ("sign", "encoding"),
    [
        *(("\u00b5", encoding) for encoding in ("utf-8", "utf-16", "cp1250", "cp1251", "cp1252")),
        *(("\u03bc", encoding) for encoding in ("utf-8", "utf-16", "cp932", "gbk", "cp949", "big5")),
    ],
)
def test_the_micro_sign_of_any_windows_is_understood(tmp_path: Path, sign: str, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(JEOL.replace("5um", f"5{sign}m").encode(encoding))
    told = read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30)
    assert (told.pixel_size_nm, told.warnings) == (27.7778, ())


def test_a_unit_that_is_not_known_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JEOL.replace("5um", "5furlong"))
    told = read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30)
    assert told.warnings == ("its pixel size is in the unit 'furlong', which is not known here, and is left out",)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("5um", 33.3333),
        ("1,5um", 10.0),
        ("1.5um", 10.0),
        ("1,50 um", 10.0),
        ("0,500um", 3.33333),
        (".5um", 3.33333),
        ("1.5e-6m", 10.0),
        ("1.5E-6 m", 10.0),
        ("1500 nm", 10.0),
        ("1.500um", 10.0),
        ("1,500um", None),  # one and a half, or fifteen hundred
        ("1,500.5um", None),
        ("1,5.5um", None),
        ("1 000nm", None),
        ("1, 5um", None),
        ("-5um", None),
        ("5um or 6um", None),
        ("1um 2um 3um", None),
        ("5", None),
        ("um", None),
        ("1e400m", None),
        ("0um", None),
        ("about 5um", None),
        ("5um,", None),
    ],
)
def test_a_scale_bar_s_label_is_read_whole_or_not_at_all(tmp_path: Path, label: str, expected: float | None) -> None:
    (tmp_path / "a.txt").write_text(JEOL.replace("5um", label).replace("BAR 180", "BAR 150"))
    told = read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30)
    assert told.pixel_size_nm == expected
    warning = f"its metadata give {label!r} as a length, which cannot be read, or in two ways, and is left out"
    assert told.warnings == (() if expected else (warning,))


def test_a_field_of_view_with_decimal_commas_is_understood(tmp_path: Path) -> None:
    text = NEW_JEOL.replace("128.000µm 96.000µm", "128,0 96,0µm").replace("100.000nm 100.000nm", "1,0e2nm")
    (tmp_path / "a.txt").write_text(text)
    told = read_sidecar_metadata(tmp_path / "a.tif", file_height_px=1024)
    assert (told.pixel_size_nm, told.warnings) == (100.0, ())


def test_a_long_row_of_lengths_does_not_keep_the_reader_busy(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JEOL.replace("5um", "1  " * 100_000 + "!"))
    (warning,) = read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30).warnings
    assert len(warning) < 120


@pytest.mark.parametrize(("voltage", "expected"), [("15000 Volt", 15.0), ("15.0 kV", 15.0), ("15.0", None)])
def test_a_voltage_needs_its_unit(tmp_path: Path, voltage: str, expected: float | None) -> None:
    (tmp_path / "a.txt").write_text(HITACHI.replace("15000 Volt", voltage))
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30).voltage_kv == expected


def test_texts_of_other_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("PixelSize=5\nI liked this one")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.txt").write_text(HITACHI + "x" * 2_000_000)
    for name in ("a.tif", "b.tif", "c.tif", "d.tif"):
        assert read_sidecar_metadata(tmp_path / name, file_height_px=30) == InstrumentMetadata()


def test_old_code_pages_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes((HITACHI + "Comment=µ-Probe Ä\r\n").encode("cp1252"))
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30).pixel_size_nm == 24.8047


def test_the_first_source_wins_and_its_gaps_are_filled() -> None:
    first = InstrumentMetadata(detector="ETD", warnings=("a",))
    second = InstrumentMetadata(detector="SE", voltage_kv=5.0, warnings=("b",))
    assert merge_metadata(first, second) == InstrumentMetadata(detector="ETD", voltage_kv=5.0, warnings=("a", "b"))


FEI_STAGE = {"StageX": "-0.0113433", "StageY": "0.0143206", "StageR": "-1.5707963"}
ZEISS_STAGE = (
    "AP_STAGE_AT_X\r\nStage at X =  61.234 mm\r\nAP_STAGE_AT_Y\r\nStage at Y =  40.5 mm\r\n"
    "AP_STAGE_AT_R\r\nStage at R = 12.0 °\r\n"
)
TESCAN_STAGE = "StageRotation=12.5\nStageX=1.5e-3\nStageY=-2.5e-3\n"


@pytest.mark.parametrize(
    ("code", "text", "stage"),
    [
        (34682, write_fei(FEI | {"Stage": FEI_STAGE}), (-11.3433, 14.3206, -90.0)),
        (34682, write_fei(FEI | {"Stage": {"StageX": "0", "StageY": "0"}}), None),
        (34682, write_fei(FEI | {"Stage": {"StageX": "0.001"}}), None),
        (34682, write_fei(FEI | {"Stage": {"StageX": "0.001", "StageY": "nan"}}), None),
        (34682, write_fei(FEI | {"Stage": {"StageX": "0.001", "StageY": "left"}}), None),
        (34118, ZEISS + ZEISS_STAGE, (61.234, 40.5, 12.0)),
        (34118, ZEISS + ZEISS_STAGE.replace(" mm", " furlong"), None),
        (50431, TESCAN + TESCAN_STAGE, (1.5, -2.5, 12.5)),
        (50431, TESCAN, None),
    ],
)
def test_the_place_on_the_stage(code: int, text: str, stage: tuple[float, float, float] | None) -> None:
    assert read_tag(code, text).stage == (None if stage is None else pytest.approx(stage))


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        (f"{HITACHI}StagePositionX=50340000\r\nStagePositionY=-3000000\r\nStagePositionR=90\r\n", (50.34, -3.0, 90.0)),
        (f"{JEOL}$CM_STAGE_POS 2.044 0.704 10.2 11.0 0.0 0\n", (2.044, 0.704, 11.0)),
        (f"{NEW_JEOL}$CM_STAGE_POSITION 2.044 0.704 10.2 11.0 0.0 0\n", (2.044, 0.704, 11.0)),
        (f"{NEW_JEOL}$CM_STAGE_POSITION 0.000 0.000 0.000 0.000 0.000 0.000\n", None),
        (f"{JEOL}$CM_STAGE_POS 2.044\n", None),
        (JEOL, None),
    ],
)
def test_the_place_on_the_stage_in_sidecars(
    tmp_path: Path, text: str, stage: tuple[float, float, float] | None
) -> None:
    (tmp_path / "a.txt").write_text(text)
    found = read_sidecar_metadata(tmp_path / "a.tif", file_height_px=1024).stage
    assert found == (None if stage is None else pytest.approx(stage))

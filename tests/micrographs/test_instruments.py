"""What the instruments of four makers write is understood; what can be read two ways is not guessed."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from sem_search.micrographs.instruments import (
    InstrumentMetadata,
    merge_metadata,
    parse_moment,
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
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((30, 40), np.uint8), extratags=[(code, "s", 0, text.encode("cp1252"), True)])
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
    assert "can be read day first and month first" in metadata.warnings[0]


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


def test_a_tiff_without_such_tags_tells_nothing() -> None:
    assert read_tag(270, "a description") == InstrumentMetadata()


@pytest.mark.parametrize("text", ["", "rubbish", "[User", "=\r\n[]\r\n=5", "[Scan]\r\nPixelWidth\r\n"])
@pytest.mark.parametrize("code", [34682, 34118])
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
        ("BAR 180", "BAR 0", "pixel_size_nm", None),
        ("40 24", "40 30", "scan_height_px", None),
        ("15.0", "none", "voltage_kv", None),
    ],
)
def test_jeol_variants(tmp_path: Path, old: str, new: str, field: str, expected: Any) -> None:
    (tmp_path / "a.txt").write_text(JEOL.replace(old, new))
    assert getattr(read_sidecar_metadata(tmp_path / "a.bmp", file_height_px=30), field) == expected


def test_texts_of_other_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("PixelSize=5\nI liked this one")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.txt").write_text(HITACHI + "x" * 2_000_000)
    for name in ("a.tif", "b.tif", "c.tif", "d.tif"):
        assert read_sidecar_metadata(tmp_path / name, file_height_px=30) == InstrumentMetadata()


def test_old_code_pages_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes((HITACHI + "Comment=µ-Probe Ä\r\n").encode("cp1252"))
    assert read_sidecar_metadata(tmp_path / "a.tif", file_height_px=30).pixel_size_nm == 24.8047


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("06.02.2020 12:44:01", "2020-02-06T12:44:01"),
        ("13.02.2020 19:16:19", "2020-02-13T19:16:19"),
        ("02/13/2020 07:16:19 PM", "2020-02-13T19:16:19"),
        ("13/02/2020 12:05:00 AM", "2020-02-13T00:05:00"),
        ("02/02/2020 12:05:00 pm", "2020-02-02T12:05:00"),
        ("2020-02-06T12:44", "2020-02-06T12:44:00"),
        ("2019/3/12", "2019-03-12"),
        ("17 Nov 2020 9:28:25", "2020-11-17T09:28:25"),
        ("17 November 2020", "2020-11-17"),
        ("17 Nov 2020 29:28:25", "2020-11-17"),
        ("02/06/2020", None),
        ("31/31/2020", None),
        ("17 Brumaire 2020", None),
        ("yesterday", None),
    ],
)
def test_moments(text: str, expected: str | None) -> None:
    moment, warnings = parse_moment(text)
    assert moment == expected
    assert bool(warnings) == (expected is None)


def test_no_moment_is_no_warning() -> None:
    assert parse_moment(None) == parse_moment("") == (None, ())


def test_the_first_source_wins_and_its_gaps_are_filled() -> None:
    first = InstrumentMetadata(detector="ETD", warnings=("a",))
    second = InstrumentMetadata(detector="SE", voltage_kv=5.0, warnings=("b",))
    assert merge_metadata(first, second) == InstrumentMetadata(detector="ETD", voltage_kv=5.0, warnings=("a", "b"))

"""Names that contradict the metadata are told; names that could be read otherwise are not accused."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from sem_search.micrographs.inspection.file_names import find_name_contradictions, find_named_days

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("stem", "days"),
    [
        ("DC_02052021_5KV", [date(2021, 2, 5), date(2021, 5, 2)]),
        ("DC_13022020_5KV", [date(2020, 2, 13)]),
        ("20200206-3", [date(2020, 2, 6)]),
        ("scan 2020-02-06 a", [date(2020, 2, 6)]),
        ("6.2.2020", [date(2020, 2, 6), date(2020, 6, 2)]),
        ("a_06-02-2020_b", [date(2020, 2, 6), date(2020, 6, 2)]),
        ("20201302", []),  # neither day nor month
        ("99999999", []),
        ("1234567", []),
        ("123456789", []),
        ("30022020", []),
        ("12121899", []),
    ],
)
def test_all_readings_of_a_date(stem: str, days: list[date]) -> None:
    assert [day for meant in find_named_days(stem).values() for day in meant] == days


@pytest.mark.parametrize(
    ("stem", "acquired_at", "is_wrong"),
    [
        ("a_02052021_7", "2020-02-05T10:00:00", True),
        ("a_02052021_7", "2021-02-05T10:00:00", False),
        ("a_02052021_7", "2021-05-02", False),
        ("a_02052021_7", None, False),
        ("a_2020-02-05", "2020-02-06T00:10:00", True),
        ("a_12345678", "2020-02-06", False),
        ("7", "2020-02-06", False),
    ],
)
def test_dates(make_record: Make, make_catalogue: Make, stem: str, acquired_at: str | None, is_wrong: bool) -> None:
    catalogue = make_catalogue(make_record(f"sand/{stem}.tif", acquired_at=acquired_at))
    findings = find_name_contradictions(catalogue)
    assert [finding.kind for finding in findings] == ["name_contradicts_date"] * is_wrong
    if is_wrong:
        assert findings[0].severity == "warning"
        assert findings[0].images == (f"sand/{stem}.tif",)


def test_the_message_tells_both_sides_and_what_to_do(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"sand/02052021_{i}.tif", acquired_at="2020-02-05T10:00:00") for i in range(3)]
    (finding,) = find_name_contradictions(make_catalogue(*records))
    assert finding.message == (
        "3 file names (sand/02052021_0.tif, sand/02052021_1.tif and sand/02052021_2.tif) give a date that is not the "
        "day of acquisition: named 02052021 (2021-02-05 or 2021-05-02), but "
        "taken on 2020-02-05 (3 files). Trust the metadata, and rename the files: somebody who chooses images by name "
        "gets others than meant."
    )


@pytest.mark.parametrize(
    ("stem", "detector", "is_wrong"),
    [
        ("a_ICE-HV_5", "ETD", True),
        ("a_ETD-HV_5", "ETD", False),
        ("a_etd_5", "ETD", False),
        ("ice_cream", "ETD", True),
        ("a_ICE", None, False),
        ("rice_1", "ETD", False),
        ("a_InLens_3", "In-Lens", False),
        ("a_ETD_ICE", "ICE", False),
    ],
)
def test_detectors(make_record: Make, make_catalogue: Make, stem: str, detector: str | None, is_wrong: bool) -> None:
    findings = find_name_contradictions(make_catalogue(make_record(f"sand/{stem}.tif", detector=detector)))
    assert [finding.kind for finding in findings] == ["name_contradicts_detector"] * is_wrong


def test_detectors_are_also_known_from_the_other_files(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record("sand/a_XQD9_1.tif", detector="ETD"), make_record("sand/b.tif", detector="xqd-9")]
    (finding,) = find_name_contradictions(make_catalogue(*records))
    assert finding.images == ("sand/a_XQD9_1.tif",)


@pytest.mark.parametrize(
    ("stem", "voltage_kv", "is_wrong"),
    [
        ("a_5KV_b", 5.0, False),
        ("a_5.0 kV", 5.0, False),
        ("a_15kV", 5.0, True),
        ("a_1,5kV", 1.5, False),
        ("a,15kV", 5.0, True),
        ("a_5KV", None, False),
        ("a_5KVA", 15.0, False),
        ("a_x15kv", 5.0, False),
    ],
)
def test_voltages(make_record: Make, make_catalogue: Make, stem: str, voltage_kv: float | None, is_wrong: bool) -> None:
    findings = find_name_contradictions(make_catalogue(make_record(f"sand/{stem}.tif", voltage_kv=voltage_kv)))
    assert [finding.kind for finding in findings] == ["name_contradicts_voltage"] * is_wrong


DISPLAY_NM = 207.2e6  # field width times magnification on one instrument


def find_wrong(make_record: Make, make_catalogue: Make, images: list[tuple[str, float | None]]) -> list[str]:
    """Inspect images given by name and the magnification that their pixel size means."""
    records = [
        make_record(f"sand/{stem}.tif", pixel_size_nm=None if true is None else DISPLAY_NM / true / 1280)
        for stem, true in images
    ]
    findings = find_name_contradictions(make_catalogue(*records))
    assert {finding.kind for finding in findings} <= {"name_contradicts_magnification"}
    return [image_id.removeprefix("sand/").removesuffix(".tif") for f in findings for image_id in f.images]


@pytest.mark.parametrize(
    ("images", "wrong"),
    [
        ([("a_1000x", 1000), ("b_1000x", 1000), ("c_2500x", 2500), ("d_2500x", 1000)], ["d_2500x"]),
        ([("a_1000x", 1000), ("b_1000x", 1000), ("c_2500x", 2500), ("d_12000x", 12000)], []),
        ([("a_x1.2k", 1200), ("b_1.2kx", 1200), ("c_1200X", 1200), ("d_12kx", 1200)], ["d_12kx"]),
        # a number with a comma has two readings, and its parts are other numbers
        ([("a_1000x", 1000), ("b_1000x", 1000), ("c_1000x", 1000), ("d_1,200x", 1200)], []),
        ([("a_1000x", 1000), ("b_1000x", 1000), ("c_1000x", 1000), ("d_x1,200", 1200)], []),
        ([("a_1000", 1000), ("b_1000", 1000), ("c_2500", 2500), ("d_2500", 2500), ("e_1,200", 1200)], []),
        # numbers without an x count once they are known to be magnifications
        ([("a_1000_1", 1000), ("b_1000_2", 1000), ("c_2500_3", 2500), ("d_2500_4", 1000)], ["d_2500_4"]),
        ([("a_1000x", 1000), ("b_1000x", 1000), ("c_1200x", 1200), ("d_2500_4", 2500), ("e_1000", 2500)], []),
        # 400 and 600 are grades of a polymer
        ([("PEG_400_1", 1000), ("PEG_400_2", 1000), ("PEG_400_3", 1000), ("PEG_600_4", 1000)], []),
        # running numbers, and sizes
        ([(f"img_{i}", 1000) for i in (50, 100, 150, 200)], []),
        ([(f"a_640x480_{i}", 1000) for i in range(4)] + [("b_1280x960", 1000)], []),
        # too few to know, no pixel size, one x beside a word
        ([("a_1000x", 1000), ("b_1000x", 2500)], []),
        ([("a_1000x", None), ("b_1000x", None), ("c_2500x", None), ("d_1000x", None)], []),
        ([("fox1000", 10), ("box_x", 1000), ("ax100", 1000)], []),
    ],
)
def test_magnifications(
    make_record: Make, make_catalogue: Make, images: list[tuple[str, float | None]], wrong: list[str]
) -> None:
    assert find_wrong(make_record, make_catalogue, images) == wrong


def test_two_instruments_are_not_taken_for_errors(make_record: Make, make_catalogue: Make) -> None:
    other = [("p_500x", 900), ("q_1000x", 1800), ("r_2000x", 3600)]
    assert (
        find_wrong(make_record, make_catalogue, [("a_1000x", 1000), ("b_500x", 500), ("c_2500x", 2500), *other]) == []
    )


def test_the_magnification_that_the_pixels_mean_is_told(make_record: Make, make_catalogue: Make) -> None:
    records = [
        make_record(f"sand/{stem}.tif", pixel_size_nm=DISPLAY_NM / true / 1280)
        for stem, true in [("a_1000x", 1000), ("b_1000x", 1000), ("c_500x", 500), ("d_1000x", 2500)]
    ]
    (finding,) = find_name_contradictions(make_catalogue(*records))
    assert "named 1000x, but its pixels of 64.75 nm mean 2500x (1 file)" in finding.message

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


def test_the_message_gives_both_dates_and_what_to_do(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"sand/02052021_{i}.tif", acquired_at="2020-02-05T10:00:00") for i in range(3)]
    (finding,) = find_name_contradictions(make_catalogue(*records))
    assert finding.message == (
        "The date in the name of 3 files (sand/02052021_0.tif, sand/02052021_1.tif and sand/02052021_2.tif) differs "
        "from the metadata: the name gives 02052021 (2021-02-05 or 2021-05-02), the metadata 2020-02-05 (3 files). "
        "Trust the metadata and rename the files: if images are selected by file name, the wrong ones will be selected."
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

"""Dates as instruments write them."""

import pytest

from sem_search.micrographs.reading.dates import parse_moment


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

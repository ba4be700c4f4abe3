"""Dates as instruments write them; one that can be read in two ways is none."""

import re

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_moment(text: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return a date, and a time where there is one, as ISO 8601, and a warning where the date has two readings.

    Known forms: `2020-02-06` (also with / or .), `06.02.2020` (dots: day first), `17 Nov 2020`, and `02/13/2020` or
    `13/02/2020` where only one reading is a date; then a time of 24 hours, or of 12 with AM or PM. The names of
    months are English whatever the locale.
    """
    if not text:
        return None, ()
    day = _parse_date(text)
    if day is None:
        return None, (
            "its acquisition date cannot be read, or has two readings (day first, month first), and is not used",
        )
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

"""File names that contradict what the instrument wrote into the file: one of the two is wrong, mostly the name.

Names are habits, so they are read with care: a number counts as a date only if it is one, as a magnification only if
`x` stands beside it or most such numbers in the data agree with the pixel sizes, as a detector only if it is a known
one. A date that can be read day first and month first contradicts only if neither reading is the day of acquisition.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.findings import Finding
from sem_search.words import count, join_words, name_some

KNOWN_DETECTORS = frozenset(  # two letters, or letter and digit, are left out: they are sample names as often
    ("ETD", "TLD", "ICE", "ICD", "LVSED", "LFD", "GSED", "VCD", "CBS", "DBS", "BSED", "CDEM", "INLENS", "ESB", "ASB")
)
YEARS = range(1960, 2100)  # SEMs were first sold in 1965
MAGNIFICATION_TOLERANCE = 0.1  # rounded in names; microscopes step by more
VOLTAGE_TOLERANCE = 0.05
MIN_AGREEING = 3  # images whose names agree with one another, before a further one can contradict
MIN_AGREEING_SHARE = 0.6
MAX_PLAIN_MAGNIFICATION = 99_999  # without an x: six digits and more are dates
MAX_EXAMPLES = 6
DAY_FORMS = (  # digits of year, month and day: 8 digits in a row, or parted by one sign
    re.compile(r"(?<!\d)(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d{2})(?P<m>\d{2})(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?<!\d)(?P<m>\d{2})(?P<d>\d{2})(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?<!\d)(?P<y>\d{4})[-_. ](?P<m>\d{1,2})[-_. ](?P<d>\d{1,2})(?!\d)"),
    re.compile(r"(?<!\d)(?P<d>\d{1,2})[-_. ](?P<m>\d{1,2})[-_. ](?P<y>\d{4})(?!\d)"),
    re.compile(r"(?<!\d)(?P<m>\d{1,2})[-_. ](?P<d>\d{1,2})[-_. ](?P<y>\d{4})(?!\d)"),
)
MAGNIFICATION_FORMS = (
    # The number behind a digit and a comma is a part of another: 1,200x is not 200x, 1,5kV not 5 kV.
    re.compile(
        r"(?<![A-Za-z\d.])(?<!\d,)(\d+(?:\.\d+)?)\s?(k?)x(?![A-Za-z\d])", re.IGNORECASE
    ),  # 1200x, 1.2kx; not 640x480
    re.compile(r"(?<![A-Za-z\d.])x(\d+(?:\.\d+)?)(k?)(?![A-Za-z\d]|,\d)", re.IGNORECASE),  # x1200, x1.2k
)
PLAIN_NUMBER = re.compile(r"(?<![A-Za-z\d.])(?<!\d,)[1-9]\d*(?![A-Za-z\d.])")
PLAIN_STEP = 50  # magnifications in names are round; counters and doses are more often not
VOLTAGE_FORM = re.compile(r"(?<![A-Za-z\d.])(?<!\d,)(\d+(?:\.\d+)?)[ _-]?kv(?![A-Za-z])", re.IGNORECASE)
RENAME = "Trust the metadata, and rename the files: somebody who chooses images by name gets others than meant."


@dataclass(frozen=True, kw_only=True)
class _Contradiction:
    """What a name says and what the metadata say."""

    image_id: str
    named: str
    told: str


def find_name_contradictions(catalogue: Catalogue) -> list[Finding]:
    """Return a warning for each kind of statement in which names contradict metadata."""
    checks: tuple[tuple[str, str, Callable[[Sequence[ImageRecord]], list[_Contradiction]]], ...] = (
        ("date", "give a date that is not the day of acquisition", _check_dates),
        ("magnification", "give a magnification that does not fit the pixel size", _check_magnifications),
        ("detector", "give a detector that did not take the image", _check_detectors),
        ("voltage", "give a voltage that was not used", _check_voltages),
    )
    findings = []
    for subject, what, check in checks:
        contradictions = check(catalogue.records)
        if contradictions:
            findings.append(_describe(contradictions, subject=subject, what=what))
    return findings


def find_named_days(stem: str) -> dict[str, tuple[date, ...]]:
    """Return each date in a file name, as written, with all days that it can mean."""
    days: dict[str, set[date]] = {}
    for form in DAY_FORMS:
        for match in form.finditer(stem):
            try:
                day = date(int(match["y"]), int(match["m"]), int(match["d"]))
            except ValueError:  # no such day in the calendar
                continue
            if day.year in YEARS:
                days.setdefault(match[0], set()).add(day)
    return {written: tuple(sorted(meant)) for written, meant in days.items()}


def _describe(contradictions: Sequence[_Contradiction], *, subject: str, what: str) -> Finding:
    """Return the warning about one kind of statement."""
    groups = Counter((found.named, found.told) for found in contradictions)
    examples = [
        f"named {said}, but {told} ({count(n, 'file')})" for (said, told), n in groups.most_common(MAX_EXAMPLES)
    ]
    more = f" and {len(groups) - MAX_EXAMPLES} more such cases" if len(groups) > MAX_EXAMPLES else ""
    verb = what if len(contradictions) > 1 else what.replace("give", "gives", 1)
    images = tuple(sorted(found.image_id for found in contradictions))
    named = f"{count(len(images), 'file name')} ({name_some(images)})"
    return Finding(
        kind=f"name_contradicts_{subject}",
        severity="warning",
        message=f"{named} {verb}: {'; '.join(examples)}{more}. {RENAME}",
        images=images,
    )


def _get_stem(record: ImageRecord) -> str:
    """Return the file's name without folders and suffix."""
    return PurePosixPath(record.image_id).stem


def _check_dates(records: Sequence[ImageRecord]) -> list[_Contradiction]:
    """Return the names none of whose dates can mean the day of acquisition."""
    found = []
    for record in records:
        days = find_named_days(_get_stem(record))
        if not days or record.acquired_at is None:
            continue
        acquired = record.acquired_at[:10]
        if all(day.isoformat() != acquired for meant in days.values() for day in meant):
            named = join_words([f"{written} ({_join_days(meant)})" for written, meant in days.items()])
            found.append(_Contradiction(image_id=record.image_id, named=named, told=f"taken on {acquired}"))
    return found


def _join_days(days: Sequence[date]) -> str:
    """Return `2021-02-05 or 2021-05-02`."""
    return " or ".join(day.isoformat() for day in days)


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A magnification in a name, and the width of the display on which it would be true."""

    record: ImageRecord
    magnification: float
    display_mm: float

    def agrees_with(self, display_mm: float) -> bool:
        """Whether it is true on a display of this width."""
        return abs(self.display_mm / display_mm - 1) <= MAGNIFICATION_TOLERANCE


def _check_magnifications(records: Sequence[ImageRecord]) -> list[_Contradiction]:
    """Return the names whose magnification does not fit the pixel size.

    Magnification is display width over field width, and an instrument keeps to one display width: where most images
    agree on it, the others are wrong, without knowing the instrument.
    """
    marked = [named for record in records for named in _read_marked(record)]
    plain = [named for record in records if not _read_marked(record) for named in _read_plain(record)]
    displays_mm = _find_displays(marked, is_marked=True) or _find_displays(plain, is_marked=False)
    if not displays_mm:
        return []
    n_agreeing = sum(_fits(named, displays_mm) for named in plain)
    checked = marked + (plain if n_agreeing >= MIN_AGREEING_SHARE * len(plain) else [])
    fitting = {named.record.image_id for named in checked if _fits(named, displays_mm)}
    return [
        _Contradiction(
            image_id=named.record.image_id,
            named=f"{named.magnification:g}x",
            told=f"its pixels of {named.record.pixel_size_nm:.4g} nm mean {_name_magnification(named, displays_mm)}",
        )
        for named in checked
        if named.record.image_id not in fitting
    ]


def _read_marked(record: ImageRecord) -> list[_Named]:
    """Return the first magnification with an x beside it, in a list, for images of known pixel size."""
    matches = (form.search(_get_stem(record)) for form in MAGNIFICATION_FORMS)
    values = (float(match[1]) * (1000 if match[2] else 1) for match in matches if match)
    return _build_named(record, [value for value in values if value > 0][:1])


def _read_plain(record: ImageRecord) -> list[_Named]:
    """Return the round numbers that could be magnifications."""
    values = (int(number) for number in PLAIN_NUMBER.findall(_get_stem(record).replace("_", " ")))
    return _build_named(
        record, [v for v in values if PLAIN_STEP <= v <= MAX_PLAIN_MAGNIFICATION and v % PLAIN_STEP == 0]
    )


def _build_named(record: ImageRecord, values: Sequence[float]) -> list[_Named]:
    """Return each magnification with its display width, none where the pixel size is not known."""
    if record.pixel_size_nm is None:
        return []
    field_mm = record.pixel_size_nm * record.width_px * 1e-6
    return [_Named(record=record, magnification=value, display_mm=value * field_mm) for value in values]


def _find_displays(entries: Sequence[_Named], *, is_marked: bool) -> list[float]:
    """Return the display widths that enough images agree on, by their number or at several magnifications.

    Numbers without an x must agree at several magnifications: at one, any number in all names would. The width that
    most agree on comes first.
    """
    n_agreeing: dict[float, int] = {}
    for display_mm in sorted({float(f"{entry.display_mm:.3g}") for entry in entries}):
        agreeing = [entry for entry in entries if entry.agrees_with(display_mm)]
        is_many = is_marked and len(agreeing) >= MIN_AGREEING_SHARE * len(entries)
        is_varied = len({entry.magnification for entry in agreeing}) > 1
        if len(agreeing) >= MIN_AGREEING and (is_many or is_varied):
            n_agreeing[display_mm] = len(agreeing)
    return sorted(n_agreeing, key=lambda display_mm: -n_agreeing[display_mm])


def _fits(named: _Named, displays_mm: Sequence[float]) -> bool:
    """Whether a magnification is true on one of these displays."""
    return any(named.agrees_with(display_mm) for display_mm in displays_mm)


def _name_magnification(named: _Named, displays_mm: Sequence[float]) -> str:
    """Return what the pixel size means on the display that most images agree on."""
    meant = named.magnification * displays_mm[0] / named.display_mm
    return f"{float(f'{meant:.2g}'):.0f}x"  # two digits, as magnifications are chosen


def _check_detectors(records: Sequence[ImageRecord]) -> list[_Contradiction]:
    """Return the names that give known detectors, but not the one that the metadata tell."""
    told = {_plain(record.detector) for record in records if record.detector}
    known = KNOWN_DETECTORS | {name for name in told if len(name) > 2}
    found = []
    for record in records:
        named = {word for word in re.split(r"[^A-Z0-9]+", _get_stem(record).upper()) if word in known}
        if named and record.detector and _plain(record.detector) not in named:
            found.append(
                _Contradiction(
                    image_id=record.image_id, named=join_words(sorted(named)), told=f"taken with {record.detector}"
                )
            )
    return found


def _plain(detector: str) -> str:
    """Return a detector's letters and digits in upper case."""
    return re.sub(r"[^A-Z0-9]+", "", detector.upper())


def _check_voltages(records: Sequence[ImageRecord]) -> list[_Contradiction]:
    """Return the names that give a voltage other than the metadata's."""
    found = []
    for record in records:
        match = VOLTAGE_FORM.search(_get_stem(record))
        if match is None or record.voltage_kv is None:
            continue
        if abs(float(match[1]) - record.voltage_kv) > VOLTAGE_TOLERANCE * record.voltage_kv:
            found.append(
                _Contradiction(
                    image_id=record.image_id, named=f"{float(match[1]):g} kV", told=f"taken at {record.voltage_kv:g} kV"
                )
            )
    return found

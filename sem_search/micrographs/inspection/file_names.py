"""File names that contradict what the instrument wrote into the file: one of the two is wrong, mostly the name.

Only what has one meaning is judged: a number counts as a date only if it is one, a word as a detector only if it is a
known one. A date that can be read day first and month first contradicts only if neither is the day of acquisition.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.finding import Finding
from sem_search.words import count, join_words, name_some

KNOWN_DETECTORS = frozenset(  # two letters, or letter and digit, are left out: they are sample names as often
    ("ETD", "TLD", "ICE", "ICD", "LVSED", "LFD", "GSED", "VCD", "CBS", "DBS", "BSED", "CDEM", "INLENS", "ESB", "ASB")
)
YEARS = range(1960, 2100)  # SEMs were first sold in 1965
VOLTAGE_TOLERANCE = 0.05
MAX_EXAMPLES = 6
DAY_FORMS = tuple(  # 8 digits in a row, or parted by one sign: year first, day first, month first
    re.compile(rf"(?<!\d){form}(?!\d)")
    for form in (
        r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})",
        r"(?P<d>\d{2})(?P<m>\d{2})(?P<y>\d{4})",
        r"(?P<m>\d{2})(?P<d>\d{2})(?P<y>\d{4})",
        r"(?P<y>\d{4})[-_. ](?P<m>\d{1,2})[-_. ](?P<d>\d{1,2})",
        r"(?P<d>\d{1,2})[-_. ](?P<m>\d{1,2})[-_. ](?P<y>\d{4})",
        r"(?P<m>\d{1,2})[-_. ](?P<d>\d{1,2})[-_. ](?P<y>\d{4})",
    )
)
# A number behind a digit and a comma is a part of another: 1,5kV is not 5 kV.
VOLTAGE_FORM = re.compile(r"(?<![A-Za-z\d.])(?<!\d,)(\d+(?:\.\d+)?)[ _-]?kv(?![A-Za-z])", re.IGNORECASE)
ADVICE = (
    "Trust the metadata and rename the files: if images are selected by file name, the wrong ones will be selected."
)


@dataclass(frozen=True, kw_only=True)
class _Contradiction:
    subject: str
    image_id: str
    in_name: str
    in_metadata: str


def find_name_contradictions(catalogue: Catalogue) -> list[Finding]:
    """Return a warning for each of date, detector and voltage that names give otherwise than the metadata."""
    detectors = KNOWN_DETECTORS | {name for record in catalogue.records if len(name := _plain(record.detector)) > 2}
    found = [case for record in catalogue.records for case in _iter_contradictions(record, detectors=detectors)]
    cases = {
        subject: [case for case in found if case.subject == subject] for subject in ("date", "detector", "voltage")
    }
    return [_describe(same) for same in cases.values() if same]


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


def _iter_contradictions(record: ImageRecord, *, detectors: frozenset[str]) -> Iterator[_Contradiction]:
    stem = PurePosixPath(record.image_id).stem

    def contradict(subject: str, in_name: str, in_metadata: str) -> _Contradiction:
        return _Contradiction(subject=subject, image_id=record.image_id, in_name=in_name, in_metadata=in_metadata)

    acquired = record.acquired_at and record.acquired_at[:10]
    days = {written: [day.isoformat() for day in meant] for written, meant in find_named_days(stem).items()}
    if days and acquired and not any(acquired in meant for meant in days.values()):
        named = join_words([f"{written} ({' or '.join(meant)})" for written, meant in days.items()])
        yield contradict("date", named, acquired)
    words = {word for word in re.split(r"[^A-Z0-9]+", stem.upper()) if word in detectors}
    if words and record.detector and _plain(record.detector) not in words:
        yield contradict("detector", join_words(sorted(words)), record.detector)
    voltage = VOLTAGE_FORM.search(stem)
    if voltage and record.voltage_kv is not None:
        named_kv = float(voltage[1])
        if abs(named_kv - record.voltage_kv) > VOLTAGE_TOLERANCE * record.voltage_kv:
            yield contradict("voltage", f"{named_kv:g} kV", f"{record.voltage_kv:g} kV")


def _describe(cases: Sequence[_Contradiction]) -> Finding:
    groups = Counter((case.in_name, case.in_metadata) for case in cases)
    examples = [
        f"the name gives {in_name}, the metadata {in_metadata} ({count(n, 'file')})"
        for (in_name, in_metadata), n in groups.most_common(MAX_EXAMPLES)
    ]
    more = f"; and {len(groups) - MAX_EXAMPLES} more combinations" if len(groups) > MAX_EXAMPLES else ""
    images = tuple(sorted(case.image_id for case in cases))
    subject = cases[0].subject
    return Finding(
        kind=f"name_contradicts_{subject}",
        severity="warning",
        message=(
            f"The {subject} in the name of {count(len(images), 'file')} ({name_some(images)}) differs from the "
            f"metadata: {'; '.join(examples)}{more}. {ADVICE}"
        ),
        images=images,
    )


def _plain(detector: str | None) -> str:
    """Return a detector's letters and digits in upper case."""
    return re.sub(r"[^A-Z0-9]+", "", (detector or "").upper())

"""The three forms of an inspection: JSON for programs, text for the terminal, HTML for the browser.

Pure: everything comes out of the Inspection, no file is read.
"""

import base64
import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.confounds import UNKNOWN, describe_pixel_size
from sem_search.micrographs.inspection.finding import SEVERITIES, Finding
from sem_search.micrographs.inspection.overlap_findings import (
    WHOLE,
    ZOOMED,
    compute_zoom,
    describe_turn,
    get_turned_size,
)
from sem_search.micrographs.overlaps.similarity import SimilarPair
from sem_search.terminal import align_columns
from sem_search.words import count

if TYPE_CHECKING:
    from sem_search.micrographs.inspection.inspect import Inspection

SCHEMA = 1  # goes up when a name or a meaning in the JSON changes
TEXT_COLUMNS = 100
MAX_CELL_COLUMNS = 30
MAX_PAIRS_SHOWN = 30  # two thumbnails of 15 kB each
MAX_NAMED_SHOWN = 40  # images that findings name, of all findings together
MAX_GALLERY_IMAGES = 24  # per class
MAX_GALLERY = 120  # of all classes together: with pairs and named images the page stays below 5 MB
MIN_GALLERY_IMAGES = 3  # per class, as long as there are no more than 40 classes
MAX_OPEN = 48  # thumbnails that a reader scrolls past; more are folded
MAX_VALUES = 10  # sessions, sizes ... of one class in a table; the JSON has all
MAX_LISTED = 500  # names of images, or cases, below one finding; the JSON has all
HEADINGS = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
NOTHING_FOUND = "No problems were found."

Tally = dict[str, int]
"""Value -> number of images, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures of one class that the page shows."""

    name: str
    shown: tuple[ImageRecord, ...]
    n_images: int


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """What is there of one class."""

    name: str
    n_images: int
    n_fields: int
    """Groups, images of the same place joined."""
    sessions: Tally
    pixel_sizes: Tally
    bit_depths: Tally
    image_sizes: Tally
    detectors: Tally


def render_json(inspection: "Inspection") -> str:
    """Return the JSON that `inspection`'s docstring describes."""
    content = {
        "schema": SCHEMA,
        "data": inspection.catalogue.root.name,
        "digest": inspection.catalogue.digest,
        "n_images": len(inspection.catalogue.records),
        "n_fields": _count_fields(inspection),
        "classes": [dataclasses.asdict(summary) for summary in summarise_classes(inspection)],
        "pairs": [dataclasses.asdict(pair) for pair in inspection.pairs],
        "confounds": [
            {
                **dataclasses.asdict(confound),
                "given_away": confound.given_away,
                "is_warning": confound.is_warning,
                "table": {name: dict(values) for name, values in confound.table},
            }
            for confound in inspection.confounds
        ],
        "findings": [_to_json(finding) for finding in inspection.findings],
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding's fields, without those that the message repeats."""
    return {name: value for name, value in dataclasses.asdict(finding).items() if name != "advice"}


def render_text(inspection: "Inspection") -> str:
    """Return the report for the terminal, at most TEXT_COLUMNS wide."""
    lines = [*_wrap(_headline(inspection)), "", *_tabulate(summarise_classes(inspection))]
    for severity in SEVERITIES:
        findings = [finding for finding in inspection.findings if finding.severity == severity]
        if findings:
            lines += ["", f"{HEADINGS[severity]} ({len(findings)})"]
        for finding in findings:
            lines += _wrap(finding.message, first="  - ", rest="    ")
    if not inspection.findings:
        lines += ["", NOTHING_FOUND]
    return "\n".join(lines)


def render_html(inspection: "Inspection", *, next_command: str | None = None) -> str:
    """Return the report as one file: no scripts, nothing loaded, every name escaped.

    Args:
        inspection: What was found.
        next_command: The search of these data, to be typed next; None leaves it out.
    """
    records = {record.image_id: record for record in inspection.catalogue.records}
    gallery = choose_gallery(inspection.catalogue)
    named = _name_images(inspection.findings)
    found = Counter(finding.severity for finding in inspection.findings)
    return _load_template().render(
        light="bad" if found["error"] else "unclear" if found["warning"] else "good",
        found={severity: count(found[severity], severity) for severity in SEVERITIES},
        made_at=f"{datetime.now().astimezone():%Y-%m-%d %H:%M}",
        next_command=next_command,
        title=f"Inspection of {inspection.catalogue.root.name}",
        headline=_headline(inspection),
        summaries=summarise_classes(inspection),
        severities=[
            (
                severity,
                HEADINGS[severity],
                [pair for pair in zip(inspection.findings, named, strict=True) if pair[0].severity == severity],
            )
            for severity in SEVERITIES
        ],
        nothing_found=NOTHING_FOUND,
        pairs=[_describe_pair(pair, records) for pair in inspection.pairs[:MAX_PAIRS_SHOWN]],
        n_pairs=len(inspection.pairs),
        confounds=inspection.confounds,
        gallery=gallery,
        n_classes=len(inspection.catalogue.class_names),
        is_open=sum(len(entry.shown) for entry in gallery) <= MAX_OPEN,
        n_listed=MAX_LISTED,
        n_values=MAX_VALUES,
        shown={
            image_id: f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
            for image_id, content in inspection.thumbnails.items()
        },
    )


def choose_gallery(catalogue: Catalogue) -> list[Gallery]:
    """Return which pictures are shown of each class: evenly spaced among its images, and no more than a page takes."""
    of_class: dict[str, list[ImageRecord]] = {name: [] for name in catalogue.class_names}
    for record in catalogue.records:
        of_class[record.label].append(record)
    n_most = min(max(MAX_GALLERY // len(of_class), MIN_GALLERY_IMAGES), MAX_GALLERY_IMAGES)
    return [
        Gallery(name=name, shown=_space_evenly(records, n=n_most), n_images=len(records))
        for name, records in list(of_class.items())[: MAX_GALLERY // n_most]
    ]


def list_gallery(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the ids of the images that are shown of each class."""
    return tuple(record.image_id for entry in choose_gallery(catalogue) for record in entry.shown)


def list_suspects(pairs: Sequence[SimilarPair], *, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return the ids of the images that are shown because of what was found."""
    ends = [image_id for pair in pairs[:MAX_PAIRS_SHOWN] for image_id in (pair.first, pair.second)]
    return (*ends, *chain.from_iterable(_name_images(findings)))


def _name_images(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """Return for each finding the images that its message names, no more than a page takes."""
    n_left, named = MAX_NAMED_SHOWN, []
    for finding in findings:
        own = tuple(image_id for image_id in finding.images if image_id in finding.message)[:n_left]
        named.append(own)
        n_left -= len(own)
    return named


def _space_evenly(records: list[ImageRecord], *, n: int) -> tuple[ImageRecord, ...]:
    """Return at most n of the records, the first among them: one session or lot often follows another."""
    n_shown = min(n, len(records))
    return tuple(records[place * len(records) // n_shown] for place in range(n_shown))


def summarise_classes(inspection: "Inspection") -> list[ClassSummary]:
    """Return what is there of each class, in sorted order."""
    grouped = inspection.grouped
    summaries = []
    for name in grouped.class_names:
        records = [record for record in grouped.records if record.label == name]
        summaries.append(
            ClassSummary(
                name=name,
                n_images=len(records),
                n_fields=len({record.group for record in records}),
                sessions=_tally(records, lambda record: record.session or UNKNOWN),
                pixel_sizes=_tally(records, describe_pixel_size),
                bit_depths=_tally(records, lambda record: str(record.bit_depth)),
                image_sizes=_tally(records, lambda record: f"{record.width_px} x {record.height_px}"),
                detectors=_tally(records, lambda record: record.detector or UNKNOWN),
            )
        )
    return summaries


def _tally(records: list[ImageRecord], describe: Callable[[ImageRecord], str]) -> Tally:
    return dict(Counter(describe(record) for record in records).most_common())


def _count_fields(inspection: "Inspection") -> int:
    return len({record.group for record in inspection.grouped.records})


def _headline(inspection: "Inspection") -> str:
    catalogue = inspection.catalogue
    n_fields = _count_fields(inspection)
    fields = "" if n_fields == len(catalogue.records) else f", {n_fields} separate fields of view"
    found = Counter(finding.severity for finding in inspection.findings)
    counts = ", ".join(count(found[severity], severity) for severity in SEVERITIES)
    return (
        f"{catalogue.root.name}: {count(len(catalogue.records), 'image')} of {len(catalogue.class_names)} "
        f"classes{fields}; {counts}."
    )


def _wrap(text: str, *, first: str = "", rest: str = "") -> list[str]:
    """Return the text in lines; file names are broken only where they are longer than a line."""
    return textwrap.wrap(text, width=TEXT_COLUMNS, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _tabulate(summaries: list[ClassSummary]) -> list[str]:
    """Return the table of classes, one line each, columns cut to fit."""
    rows = [["class", "images", "fields", "sessions", "pixel size", "bits", "size in px"]]
    for summary in summaries:
        numbers = (summary.n_images, summary.n_fields, len(set(summary.sessions) - {UNKNOWN}))
        tallies = (summary.pixel_sizes, summary.bit_depths, summary.image_sizes)
        rows.append([summary.name, *map(str, numbers), *(", ".join(tally) for tally in tallies)])
    cut = [
        [cell if len(cell) <= MAX_CELL_COLUMNS else f"{cell[: MAX_CELL_COLUMNS - 3]}..." for cell in row]
        for row in rows
    ]
    return [line[:TEXT_COLUMNS] for line in align_columns(cut)]


def _describe_pair(pair: SimilarPair, records: Mapping[str, ImageRecord]) -> dict[str, Any]:
    zoom = compute_zoom(pair, records)
    words = {"identical_file": "same file", "identical_pixels": "same pixels"}.get(pair.kind)
    if words is None and max(zoom, 1 / zoom) > ZOOMED:
        words = f"one field at {max(zoom, 1 / zoom):.3g} times the magnification of the other"
    elif words is None:
        words = "same field" if pair.overlap > WHOLE else f"overlap of {pair.overlap:.0%}"
    words += describe_turn(pair)
    boxes = _compute_boxes(pair, first=records[pair.first], second=records[pair.second])
    images = [(records[image_id], box) for image_id, box in zip((pair.first, pair.second), boxes, strict=True)]
    return {"words": words, "correlation": pair.correlation, "images": images}


def _compute_boxes(pair: SimilarPair, *, first: ImageRecord, second: ImageRecord) -> tuple[dict[str, float], ...]:
    """Return where on each of the two images the other one lies, in per cent of its height and width."""
    row, column = pair.shift_px or (0, 0)
    sizes = (first.height_px, first.width_px), tuple(side * pair.scale for side in get_turned_size(pair, second))
    top, left = max(0.0, row), max(0.0, column)
    bottom, right = min(sizes[0][0], row + sizes[1][0]), min(sizes[0][1], column + sizes[1][1])
    ours, theirs = (
        (((top - y) / height, (bottom - y) / height), ((left - x) / width, (right - x) / width))
        for (height, width), y, x in zip(sizes, (0, row), (0, column), strict=True)
    )
    return tuple(
        {
            "top": 100 * rows[0],
            "left": 100 * columns[0],
            "height": 100 * (rows[1] - rows[0]),
            "width": 100 * (columns[1] - columns[0]),
        }
        for rows, columns in (ours, _turn_back(*theirs, pair=pair))
    )


Span = tuple[float, float]
"""Where a box begins and ends, as shares of the side."""


def _turn_back(rows: Span, columns: Span, *, pair: SimilarPair) -> tuple[Span, Span]:
    """Return a box on the second image, turned, as it lies on the image itself."""

    def reverse(span: Span) -> Span:
        return 1 - span[1], 1 - span[0]

    for _ in range(pair.turn_deg // 90):
        rows, columns = columns, reverse(rows)
    return rows, reverse(columns) if pair.is_mirrored else columns


@lru_cache(maxsize=1)
def _load_template() -> Template:
    """Return the page's template; every value in it is escaped, and a missing one is an error."""
    source = files(__package__).joinpath("templates", "inspection.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )

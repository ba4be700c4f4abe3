"""The three forms of an inspection: JSON for programs, text for the terminal, HTML for people who want to look.

Pure: everything comes out of the Inspection, nothing is read.
"""

import base64
import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template

from sem_search.micrographs.catalogue import ImageRecord
from sem_search.micrographs.inspection.checks import WHOLE, ZOOMED, compute_zoom
from sem_search.micrographs.inspection.confounds import UNTOLD, describe_pixel_size
from sem_search.micrographs.inspection.findings import SEVERITIES, Finding
from sem_search.micrographs.overlaps.similarity import SimilarPair
from sem_search.words import count

if TYPE_CHECKING:
    from sem_search.micrographs.inspection.inspect import Inspection

SCHEMA = 1  # goes up when a name or a meaning in the JSON changes
TEXT_COLUMNS = 100
MAX_CELL_COLUMNS = 30
MAX_PAIRS_SHOWN = 50  # two thumbnails of 15 kB each: the page stays below 3 MB
MAX_GALLERY_IMAGES = 24  # per class
HEADINGS = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
NOTHING_FOUND = "Nothing was found that speaks against these data."

Tally = dict[str, int]
"""Value -> number of images, the commonest first."""


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


def render_html(inspection: "Inspection") -> str:
    """Return the report as one file: no scripts, nothing loaded, every name escaped."""
    records = {record.image_id: record for record in inspection.catalogue.records}
    thumbnails = inspection.thumbnails
    shown = {image_id: _encode_jpeg(content) for image_id, content in _choose_thumbnails(inspection, thumbnails)}
    return _load_template().render(
        title=f"Inspection of {inspection.catalogue.root.name}",
        headline=_headline(inspection),
        summaries=summarise_classes(inspection),
        severities=[
            (severity, HEADINGS[severity], [f for f in inspection.findings if f.severity == severity])
            for severity in SEVERITIES
        ],
        nothing_found=NOTHING_FOUND,
        pairs=[_describe_pair(pair, records) for pair in inspection.pairs[:MAX_PAIRS_SHOWN]],
        n_pairs=len(inspection.pairs),
        confounds=inspection.confounds,
        gallery=[(name, [r for r in records.values() if r.label == name]) for name in inspection.catalogue.class_names],
        n_gallery=MAX_GALLERY_IMAGES,
        shown=shown,
    )


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
                sessions=_tally(records, lambda record: record.session or UNTOLD),
                pixel_sizes=_tally(records, describe_pixel_size),
                bit_depths=_tally(records, lambda record: str(record.bit_depth)),
                image_sizes=_tally(records, lambda record: f"{record.width_px} x {record.height_px}"),
                detectors=_tally(records, lambda record: record.detector or UNTOLD),
            )
        )
    return summaries


def _tally(records: list[ImageRecord], describe: Callable[[ImageRecord], str]) -> Tally:
    """Return how many images have each value."""
    return dict(Counter(describe(record) for record in records).most_common())


def _count_fields(inspection: "Inspection") -> int:
    """Return the number of groups after images of the same place are joined."""
    return len({record.group for record in inspection.grouped.records})


def _headline(inspection: "Inspection") -> str:
    """Return what is there and how much was found, in one sentence."""
    catalogue = inspection.catalogue
    n_fields = _count_fields(inspection)
    fields = "" if n_fields == len(catalogue.records) else f", {n_fields} of them separate fields of view"
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
    header = ["class", "images", "fields", "sessions", "pixel size", "bits", "size in px"]
    rows = [
        [
            summary.name,
            str(summary.n_images),
            str(summary.n_fields),
            str(len(set(summary.sessions) - {UNTOLD})),
            ", ".join(summary.pixel_sizes),
            ", ".join(summary.bit_depths),
            ", ".join(summary.image_sizes),
        ]
        for summary in summaries
    ]
    cut = [
        [cell if len(cell) <= MAX_CELL_COLUMNS else f"{cell[: MAX_CELL_COLUMNS - 3]}..." for cell in row]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in [header, *cut]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *cut]]
    return [line.rstrip()[:TEXT_COLUMNS] for line in lines]


@dataclass(frozen=True, kw_only=True)
class _Box:
    """Where on a thumbnail the other image lies, in per cent of its sides."""

    top: float
    left: float
    height: float
    width: float


def _describe_pair(pair: SimilarPair, records: Mapping[str, ImageRecord]) -> dict[str, Any]:
    """Return what the template shows of one pair."""
    zoom = compute_zoom(pair, records)
    words = {"identical_file": "same file", "identical_pixels": "same pixels"}.get(pair.kind)
    if words is None and max(zoom, 1 / zoom) > ZOOMED:
        words = f"one field at {max(zoom, 1 / zoom):.3g} times the magnification of the other"
    elif words is None:
        words = "same field" if pair.overlap > WHOLE else f"overlap of {pair.overlap:.0%}"
    boxes = _compute_boxes(pair, first=records[pair.first], second=records[pair.second])
    sides = [(records[image_id], box) for image_id, box in zip((pair.first, pair.second), boxes, strict=True)]
    return {"words": words, "correlation": pair.correlation, "sides": sides}


def _compute_boxes(pair: SimilarPair, *, first: ImageRecord, second: ImageRecord) -> tuple[_Box, _Box]:
    """Return what both images show, on each of them."""
    row, column = pair.shift_px or (0, 0)
    top, left = max(0.0, row), max(0.0, column)
    height = min(first.height_px, row + second.height_px * pair.scale) - top
    width = min(first.width_px, column + second.width_px * pair.scale) - left
    return (
        _scale_box(top, left, height, width, record=first),
        _scale_box(*(side / pair.scale for side in (top - row, left - column, height, width)), record=second),
    )


def _scale_box(top: float, left: float, height: float, width: float, *, record: ImageRecord) -> _Box:
    """Return a box of pixels in per cent."""
    rows, columns = record.height_px / 100, record.width_px / 100
    return _Box(top=top / rows, left=left / columns, height=height / rows, width=width / columns)


def _choose_thumbnails(inspection: "Inspection", thumbnails: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the thumbnails that the page shows."""
    wanted = {image_id for pair in inspection.pairs[:MAX_PAIRS_SHOWN] for image_id in (pair.first, pair.second)}
    seen: Counter[str] = Counter()
    for record in inspection.catalogue.records:
        seen[record.label] += 1
        if seen[record.label] <= MAX_GALLERY_IMAGES:
            wanted.add(record.image_id)
    yield from ((image_id, content) for image_id, content in thumbnails.items() if image_id in wanted)


def _encode_jpeg(content: bytes) -> str:
    """Return a JPEG as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


@lru_cache(maxsize=1)
def _load_template() -> Template:
    """Return the page's template; every value in it is escaped, and a missing one is an error."""
    source = files(__package__).joinpath("templates", "inspection.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )

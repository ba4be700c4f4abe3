"""What can be wrong with a catalogue beyond names and confounds, one function per question."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sem_search.errors import ClassTooSmallError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord, SkippedCause, find_causes
from sem_search.micrographs.folds import draw_folds
from sem_search.micrographs.inspection.findings import Finding, Severity
from sem_search.micrographs.inspection.survey import MAX_HOLLOW_LEVELS, PixelFacts
from sem_search.micrographs.overlaps.similarity import SimilarPair, group_similar
from sem_search.micrographs.tiles import TileGrid
from sem_search.words import count, join_words, name_some

MAX_IMBALANCE = 3.0  # largest class over smallest: beyond, F-measures of the small ones are mostly luck
MAX_WHITE, MAX_BLACK = 0.01, 0.05  # shares of clipped pixels; black ground is common, white is burnt out
MIN_CONTRAST = 0.01  # standard deviation: less than three of 256 levels
FEW_TILES = 4
ZOOMED = 1.05  # fields that differ more in pixel size are called one field at two magnifications
WHOLE = 0.95  # overlaps of more are called the same field
REMOVE = "Keep one of them; until then they are one group, and count as one field."
GROUPED = (
    "A search keeps them in one group, never divided between training and test: they count as one field. If they do "
    "not show the same place, set overlaps=report."
)
REPORTED = "They are not kept in one group, since overlaps=report: if they do show the same place, set overlaps=group."
RELABEL = (
    "At least one label is wrong: find out which, and move or remove that file. To go on as they are, set "
    "allow_errors=label_conflict"
)
DAY_LENGTH = len("2020-02-06")
DEFAULT_GRID = TileGrid()

PixelFault = tuple[str, Severity, Callable[[ImageRecord, PixelFacts], bool], str]
"""Kind, severity, test, and what is said of the images that fail it."""

PIXEL_FAULTS: tuple[PixelFault, ...] = (
    (
        "almost_constant",
        "warning",
        lambda record, _: record.contrast < MIN_CONTRAST,
        "almost of one grey: is there a specimen in view? If not, leave them out.",
    ),
    (
        "clipped_white",
        "note",
        lambda _, facts: facts.white > MAX_WHITE,
        f"burnt out, more than {MAX_WHITE:.0%} of the pixels white: what was there is lost. Lower the detector's "
        "brightness or contrast.",
    ),
    (
        "clipped_black",
        "note",
        lambda _, facts: facts.black > MAX_BLACK,
        f"black in more than {MAX_BLACK:.0%} of the pixels: unless that is empty ground, raise the detector's "
        "brightness.",
    ),
    (
        "hollow_bits",
        "note",
        lambda record, facts: record.bit_depth == 16 and facts.n_levels <= MAX_HOLLOW_LEVELS,
        f"of 16 bits, but with no more than {MAX_HOLLOW_LEVELS} grey levels: 8-bit pictures in 16-bit files. They read "
        "alike, but the depth tells how they were saved.",
    ),
)


def find_small_classes(catalogue: Catalogue, pairs: Sequence[SimilarPair], *, n_folds: int) -> list[Finding]:
    """Return an error if the classes are too small for the folds, and a note if they are very unequal.

    What counts is groups, so images that show the same place are counted once.

    Raises:
        SettingsError: `n_folds` is below 3.
    """
    grouped = group_similar(catalogue, pairs)
    findings = []
    try:
        draw_folds(grouped, n_folds=n_folds, seed=0)
    except ClassTooSmallError as error:
        groups = {name: {r.group for r in grouped.records if r.label == name} for name in grouped.class_names}
        small = tuple(name for name, found in groups.items() if len(found) < n_folds)
        message = f"{str(error)[0].upper()}{str(error)[1:]}" + explain_grouping(pairs)
        findings.append(Finding(kind="class_too_small", severity="error", message=message, classes=small))
    n_images = Counter(record.label for record in catalogue.records)
    (largest, most), (smallest, fewest) = n_images.most_common()[0], n_images.most_common()[-1]
    if most > MAX_IMBALANCE * fewest:
        message = (
            f"The classes are of very unequal size: {largest} has {count(most, 'image')}, {smallest} {fewest}. Scores "
            f"are averaged over classes, so the few of {smallest} weigh as much as the many of {largest}: more images "
            f"of {smallest} would make them surer."
        )
        findings.append(
            Finding(
                kind="unequal_classes", severity="note", message=message, classes=tuple(sorted((largest, smallest)))
            )
        )
    return findings


def explain_grouping(pairs: Sequence[SimilarPair]) -> str:
    """Return what is added where too few groups are left because images were joined along these pairs."""
    if not pairs:
        return ""
    has_overlaps = any(pair.kind == "overlapping" for pair in pairs)
    way_out = " Overlapping fields stay apart with overlaps=report." if has_overlaps else ""
    return f" Images that show the same place count as one group: sem-search inspect shows which.{way_out}"


def find_similar_images(
    catalogue: Catalogue, pairs: Sequence[SimilarPair], *, is_grouped: bool = True
) -> list[Finding]:
    """Return a warning for each set of copies and each overlapping pair, and an error where their labels differ.

    Args:
        catalogue: The images.
        pairs: Pairs among them.
        is_grouped: Whether overlapping fields are taken for the same place; copies always are.
    """
    records = {record.image_id: record for record in catalogue.records}
    copies = [pair for pair in pairs if pair.kind != "overlapping"]
    told = [(*_describe_copies(pairs), _list_ids(pairs), True) for pairs in _join_copies(copies)]
    told += [
        (*_describe_overlap(pair, zoom=compute_zoom(pair, records)), (pair.first, pair.second), False)
        for pair in pairs
        if pair.kind == "overlapping"
    ]
    findings = []
    for kind, what, ids, is_copy in told:
        labels = tuple(sorted({records[image_id].label for image_id in ids}))
        advice = REMOVE if is_copy else GROUPED if is_grouped else REPORTED
        build = partial(Finding, images=ids, classes=labels)
        findings.append(build(kind=kind, severity="warning", message=f"{what} {advice}", advice=advice))
        if len(labels) > 1 and (is_copy or is_grouped):
            stands = name_some([f"{image_id} as {records[image_id].label}" for image_id in ids])
            relabel = f"{RELABEL}." if is_copy else f"{RELABEL}; if they do not show the same place, overlaps=report."
            message = f"The same place stands in {count(len(labels), 'class')}: {stands}. {relabel}"
            findings.append(build(kind="label_conflict", severity="error", message=message, advice=relabel))
    return findings


def find_joined_groups(catalogue: Catalogue, pairs: Sequence[SimilarPair]) -> list[Finding]:
    """Return a warning for each group of the CSV that is joined with another, or with an image that has none, and why.

    Args:
        catalogue: The images, with the groups that the CSV gives.
        pairs: Pairs along which a search joins groups.
    """
    records = {record.image_id: record for record in catalogue.records}
    reasons: dict[tuple[str, ...], SimilarPair] = {}
    for pair in pairs:
        ends = records[pair.first], records[pair.second]
        is_given = any(record.group != record.image_id for record in ends)
        if is_given and ends[0].group != ends[1].group:
            reasons.setdefault(tuple(sorted(record.group for record in ends)), pair)
    return [_describe_joined(pair, records=records) for pair in reasons.values()]


def _describe_joined(pair: SimilarPair, *, records: Mapping[str, ImageRecord]) -> Finding:
    """Return the warning that the ends of a pair are kept together, of which one at least has a group."""
    ends = [records[pair.first], records[pair.second]]
    groups = sorted(record.group for record in ends if record.group != record.image_id)
    alone = [record.image_id for record in ends if record.group == record.image_id]
    if alone:
        joined = f"Group {groups[0]} and image {alone[0]}"
        mend = "They stay in one split, whole, though the CSV gives the image no group. Give it that group there"
    else:
        joined = f"The groups {join_words(groups)}"
        mend = "They stay in one split, whole, though the CSV divides them. Give them one group there"
    advice = (
        f"{mend}; or, where the two do not show the same place, set overlaps=report. Copies of one picture are always "
        "kept together."
    )
    return Finding(
        kind="groups_joined",
        severity="warning",
        message=f"{joined} are joined, because of {pair.first} and {pair.second} "
        f"({_describe_likeness(pair)}). {advice}",
        images=(pair.first, pair.second),
        classes=tuple(sorted({record.label for record in ends})),
        advice=advice,
    )


def _describe_likeness(pair: SimilarPair) -> str:
    """Return in a few words how two images are similar."""
    if pair.kind == "overlapping":
        return f"overlap of {pair.overlap:.0%}, correlation {pair.correlation:.2f}"
    return pair.kind.replace("_", " ")


def compute_zoom(pair: SimilarPair, records: Mapping[str, ImageRecord]) -> float:
    """Return how many times wider the second's field is than the first's."""
    return pair.scale * records[pair.second].width_px / records[pair.first].width_px


def find_same_moments(catalogue: Catalogue, pairs: Sequence[SimilarPair]) -> list[Finding]:
    """Return a warning for images taken at the same second that were not found to be alike.

    One scan recorded by two detectors is one field, however unlike the two pictures look.
    """
    known = {(pair.first, pair.second) for pair in pairs}
    moments: dict[str, list[str]] = defaultdict(list)
    for record in catalogue.records:
        if record.acquired_at is not None and len(record.acquired_at) > DAY_LENGTH:
            moments[record.acquired_at].append(record.image_id)
    if all(moment.endswith(":00") for moment in moments):  # told to the minute only
        return []
    findings = []
    for moment, ids in sorted(moments.items()):
        ids.sort()
        if len(ids) > 1 and any((a, b) not in known for i, a in enumerate(ids) for b in ids[i + 1 :]):
            advice = "If one scan was recorded by several detectors, give its images one group in the CSV."
            what = f"{name_some(ids)} were taken at the same second ({moment}), but do not look alike."
            findings.append(
                Finding(
                    kind="same_moment",
                    severity="warning",
                    message=f"{what} {advice}",
                    advice=advice,
                    images=tuple(ids),
                )
            )
    return findings


def find_pixel_faults(
    catalogue: Catalogue, facts: Mapping[str, PixelFacts], *, grid: TileGrid = DEFAULT_GRID
) -> list[Finding]:
    """Return findings on images that are almost constant, clipped, hollow or small.

    Args:
        catalogue: The images.
        facts: What their pixels tell, by image id.
        grid: The tiles that will be cut from them.
    """
    findings = []
    for kind, severity, has_fault, words in (*PIXEL_FAULTS, _build_few_tiles_fault(grid)):
        ids = tuple(sorted(r.image_id for r in catalogue.records if has_fault(r, facts[r.image_id])))
        if ids:
            message = f"{count(len(ids), 'image')} ({name_some(ids)}) {'is' if len(ids) == 1 else 'are'} {words}"
            findings.append(Finding(kind=kind, severity=severity, message=message, images=ids))
    return findings


def _build_few_tiles_fault(grid: TileGrid) -> PixelFault:
    """Return the fault of giving too few tiles of this grid."""
    return (
        "few_tiles",
        "note",
        lambda record, _: math.prod(grid.count(record.height_px, record.width_px)) < FEW_TILES,
        f"so small that fewer than {FEW_TILES} tiles of {grid.size_px} px fit: they carry little weight.",
    )


def find_missing_metadata(catalogue: Catalogue) -> list[Finding]:
    """Return a note on what the files do not tell, so that its absence is not taken for a clean bill."""
    questions: tuple[tuple[str, Callable[[ImageRecord], object], str], ...] = (
        ("pixel size", lambda r: r.pixel_size_nm, "one field at two magnifications cannot be found among them"),
        ("session", lambda r: r.session, "whether a class comes from one session cannot be checked"),
        ("detector", lambda r: r.detector, "whether a class comes from one detector cannot be checked"),
    )
    n_images = len(catalogue.records)
    findings = []
    for what, tell, consequence in questions:
        untold = [record for record in catalogue.records if tell(record) is None]
        if untold:
            how_many = "no image" if len(untold) == n_images else f"{count(len(untold), 'image')} of {n_images}"
            verb = "is told for" if len(untold) == n_images else "is not told for"
            message = f"The {what} {verb} {how_many}: {consequence}."
            findings.append(
                Finding(
                    kind=f"no_{what.replace(' ', '_')}",
                    severity="note",
                    message=message,
                    images=tuple(sorted(record.image_id for record in untold)),
                )
            )
    return findings


def find_reading_troubles(catalogue: Catalogue) -> list[Finding]:
    """Return a warning for each cause why files cannot be used, and a note for each thing that reading had to say."""
    findings = [
        Finding(
            kind="unusable_file",
            severity="warning",
            message=_describe_cause(cause, n_all=len(catalogue.records) + len(catalogue.skipped)),
            details=cause.cases,
        )
        for cause in find_causes(catalogue.skipped, root=catalogue.root)
    ]
    said = [warning for warning in catalogue.warnings if not warning.startswith("left out ")]  # told above
    return findings + [Finding(kind="reading", severity="note", message=f"{word.rstrip('.')}.") for word in said]


def _describe_cause(cause: SkippedCause, *, n_all: int) -> str:
    """Return which files cannot be used, and why."""
    n_files = len(cause.names)
    names = cause.names[0] if n_files == 1 else f"{count(n_files, 'file')} ({name_some(cause.names)})"
    share = "" if n_files == 1 else f" of {n_all:,}"
    told = f", for example {cause.cases[0]}" if cause.is_example else f": {cause.reason}"
    return f"{names}{share} cannot be used{told.rstrip('.')}."


def _join_copies(copies: Sequence[SimilarPair]) -> list[list[SimilarPair]]:
    """Return the pairs of each set of copies: all that hang together, for a copy of a copy is a copy."""
    sets: dict[str, list[SimilarPair]] = {}
    first_of: dict[str, str] = {}
    for pair in copies:
        first = first_of.setdefault(pair.first, pair.first)
        first_of[pair.second] = first
        sets.setdefault(first, []).append(pair)
    return list(sets.values())


def _list_ids(pairs: Sequence[SimilarPair]) -> tuple[str, ...]:
    """Return all images of some pairs, sorted."""
    return tuple(sorted({image_id for pair in pairs for image_id in (pair.first, pair.second)}))


def _describe_copies(pairs: Sequence[SimilarPair]) -> tuple[str, str]:
    """Return kind and message for a set of copies."""
    names = name_some(_list_ids(pairs))
    if all(pair.kind == "identical_file" for pair in pairs):
        return "identical_files", f"{names} are the same file, byte for byte, under several names."
    return "identical_pixels", f"{names} hold the same picture, pixel for pixel, though the files differ."


def _describe_overlap(pair: SimilarPair, *, zoom: float) -> tuple[str, str]:
    """Return kind and message for two overlapping fields, the second's `zoom` times as wide."""
    surely = f"correlation {pair.correlation:.2f}"
    if max(zoom, 1 / zoom) > ZOOMED:
        near, far = (pair.first, pair.second) if zoom > 1 else (pair.second, pair.first)
        part = "lies within" if pair.overlap > WHOLE else f"lies by {pair.overlap:.0%} of its area within"
        times = f"magnified {max(zoom, 1 / zoom):.3g} times as much"
        return "zoomed_field", f"{near} {part} {far}, {times} ({surely})."
    if pair.overlap > WHOLE:
        return "same_field", (
            f"{pair.first} and {pair.second} show the same field ({surely}): a copy with other brightness, size or bit "
            "depth, or a second scan."
        )
    return "overlapping_fields", (
        f"{pair.first} and {pair.second} overlap by {pair.overlap:.0%} of their area ({surely})."
    )

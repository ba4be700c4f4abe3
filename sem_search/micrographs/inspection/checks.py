"""What can be wrong with classes, files and single images, one function per question."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sem_search.errors import ClassTooSmallError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.class_folders import DOUBT
from sem_search.micrographs.folds import draw_folds
from sem_search.micrographs.inspection.finding import Finding, Severity
from sem_search.micrographs.inspection.overlap_findings import explain_grouping
from sem_search.micrographs.inspection.survey import MAX_HOLLOW_LEVELS, PixelFacts
from sem_search.micrographs.overlaps.similarity import SimilarPair, group_similar
from sem_search.micrographs.tiles import TileGrid
from sem_search.micrographs.unusable_files import find_causes
from sem_search.words import count, name_some

MAX_IMBALANCE = 3.0  # largest class over smallest: beyond, F-measures of the small ones are mostly luck
MAX_WHITE, MAX_BLACK = 0.01, 0.05  # shares of clipped pixels; black ground is common, white is burnt out
MIN_CONTRAST = 0.01  # standard deviation: less than three of 256 levels
FEW_TILES = 4
DEFAULT_GRID = TileGrid()

PIXEL_FAULTS: tuple[tuple[str, Severity, Callable[[ImageRecord, PixelFacts, TileGrid], bool], str, str], ...] = (
    (
        "almost_constant",
        "warning",
        lambda record, _, grid: record.contrast < MIN_CONTRAST,
        "almost no contrast",
        "Is there a specimen in view? If not, leave them out.",
    ),
    (
        "clipped_white",
        "note",
        lambda _, facts, grid: facts.white > MAX_WHITE,
        f"more than {MAX_WHITE:.0%} white pixels",
        "Details are lost there. For new images, lower the detector's brightness or contrast.",
    ),
    (
        "clipped_black",
        "note",
        lambda _, facts, grid: facts.black > MAX_BLACK,
        f"more than {MAX_BLACK:.0%} black pixels",
        "Unless these are empty background, raise the detector's brightness for new images.",
    ),
    (
        "hollow_bits",
        "note",
        lambda record, facts, grid: record.bit_depth == 16 and facts.n_levels <= MAX_HOLLOW_LEVELS,
        f"16 bits, but not more than {MAX_HOLLOW_LEVELS} grey levels",
        "They are 8-bit images in 16-bit files. They are read correctly, but the bit depth shows how they were saved: "
        "save all classes in the same way.",
    ),
    (
        "few_tiles",
        "note",
        lambda record, _, grid: math.prod(grid.count(record.height_px, record.width_px)) < FEW_TILES,
        f"room for fewer than {FEW_TILES} tiles of {{tile_px}} px",
        "They carry little weight in training: use larger images, or a smaller tile_px.",
    ),
)
"""Kind, severity, test, what the images have that fail it, and what that means."""

METADATA: tuple[tuple[str, Callable[[ImageRecord], object], str], ...] = (
    ("pixel size", lambda r: r.pixel_size_nm, "one field at two magnifications cannot be found among them"),
    ("session", lambda r: r.session, "whether a class comes from one session cannot be checked"),
    ("detector", lambda r: r.detector, "whether a class comes from one detector cannot be checked"),
)
"""What the files may not contain, and what cannot be checked without it."""


def find_small_classes(catalogue: Catalogue, pairs: Sequence[SimilarPair], *, n_folds: int) -> list[Finding]:
    """Return an error if the classes are too small for the folds, and a note if they are very unequal.

    What counts is groups, so images that show the same place are counted once.

    Args:
        catalogue: The images.
        pairs: Images that are kept in one group.
        n_folds: Folds that the classes must be large enough for.

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
            f"The classes differ much in size: {largest} has {count(most, 'image')}, {smallest} {fewest}. Scores are "
            f"means over classes, so the few images of {smallest} weigh as much as the many of {largest}: more images "
            f"of {smallest} would make the scores more certain."
        )
        classes = tuple(sorted((largest, smallest)))
        findings.append(Finding(kind="unequal_classes", severity="note", message=message, classes=classes))
    return findings


def find_pixel_faults(
    catalogue: Catalogue, facts: Mapping[str, PixelFacts], *, grid: TileGrid = DEFAULT_GRID
) -> list[Finding]:
    """Return findings on images that are almost constant, clipped, hollow or small.

    Args:
        catalogue: The images, at the pixel size at which tiles are cut.
        facts: What their pixels show, by image id.
        grid: The tiles that will be cut from them.
    """
    findings = []
    shapes = [catalogue.get_shape(record) for record in catalogue.records]
    cut = [
        dataclasses.replace(record, height_px=height_px, width_px=width_px)
        for record, (height_px, width_px) in zip(catalogue.records, shapes, strict=True)
    ]
    for kind, severity, has_fault, fault, advice in PIXEL_FAULTS:
        ids = tuple(sorted(record.image_id for record in cut if has_fault(record, facts[record.image_id], grid)))
        if ids:
            has = f"{'has' if len(ids) == 1 else 'have'} {fault.format(tile_px=grid.size_px)}"
            message = f"{count(len(ids), 'image')} ({name_some(ids)}) {has}. {advice}"
            findings.append(Finding(kind=kind, severity=severity, message=message, images=ids))
    return findings


def find_missing_metadata(catalogue: Catalogue) -> list[Finding]:
    """Return a note on what the files do not contain, and what cannot be checked without it."""
    n_images = len(catalogue.records)
    findings = []
    for what, get, consequence in METADATA:
        ids = tuple(sorted(record.image_id for record in catalogue.records if get(record) is None))
        if ids:
            which = "all images" if len(ids) == n_images else f"{count(len(ids), 'image')} of {n_images}"
            message = f"The {what} is not known for {which}: {consequence}."
            kind = f"no_{what.replace(' ', '_')}"
            findings.append(Finding(kind=kind, severity="note", message=message, images=ids))
    return findings


def find_reading_troubles(catalogue: Catalogue) -> list[Finding]:
    """Return a warning for each cause why files cannot be used, and a finding for each warning of the reading."""
    n_files = len(catalogue.records) + len(catalogue.skipped)
    findings = []
    for cause in find_causes(catalogue.skipped, root=catalogue.root):
        what = cause.names[0]
        if len(cause.names) > 1:
            what = f"{count(len(cause.names), 'file')} ({name_some(cause.names)}) of {n_files:,}"
        why = f", for example {cause.cases[0]}" if cause.is_example else f": {cause.reason}"
        message = f"{what} cannot be used{why.rstrip('.')}."
        findings.append(Finding(kind="unusable_file", severity="warning", message=message, details=cause.cases))
    notes = [warning for warning in catalogue.warnings if not warning.startswith("left out ")]  # these are above
    for message in (f"{note.rstrip('.')}." for note in notes):
        if message.startswith(DOUBT):
            findings.append(Finding(kind="nested_classes", severity="warning", message=message))
        else:
            findings.append(Finding(kind="reading", severity="note", message=message))
    return findings

"""Findings on images that show the same place: copies, overlapping fields, and what they mean for labels and groups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.finding import Finding
from sem_search.micrographs.overlaps.similarity import SimilarPair, group_similar
from sem_search.words import count, join_words, name_some

ZOOMED = 1.05  # fields that differ more in pixel size are called one field at two magnifications
WHOLE = 0.95  # overlaps of more are called the same field
DAY_LENGTH = len("2020-02-06")
KEEP_ONE = "Keep one of them. Until then they are kept in one group and count as one field of view."
GROUPED = (
    "A search keeps overlapping images in one group, so that training and test images never show the same place; they "
    "count as one field of view. If they do not show the same place, set overlaps=report."
)
REPORTED = (
    "They are not kept in one group, because overlaps=report. If they do show the same place, set overlaps=group."
)
RELABEL = (
    "At least one label is wrong: find out which one, and move or remove that file. To continue without a change, set "
    "allow_errors=label_conflict."
)
RELABEL_OVERLAP = f"{RELABEL} If the images do not show the same place, set overlaps=report."
ONE_SCAN = "If several detectors recorded one scan, give its images one group in the CSV."


def find_similar_images(
    catalogue: Catalogue, pairs: Sequence[SimilarPair], *, is_grouped: bool = True
) -> list[Finding]:
    """Return a warning for each set of copies and each overlapping pair, and an error where their labels differ.

    Args:
        catalogue: The images.
        pairs: Pairs among them.
        is_grouped: Whether overlapping fields count as the same place; copies always do.
    """
    records = {record.image_id: record for record in catalogue.records}
    findings = []
    copies_of: dict[str, list[SimilarPair]] = defaultdict(list)
    for pair in pairs:
        if pair.kind != "overlapping":
            copies_of[pair.first].append(pair)  # all pairs of one set of copies begin with its first
    for copies in copies_of.values():
        findings += _describe_place(
            *_describe_copies(copies), advice=KEEP_ONE, relabel=RELABEL, images=_list_records(copies, records)
        )
    for pair in pairs:
        if pair.kind == "overlapping":
            findings += _describe_place(
                *_describe_overlap(pair, zoom=compute_zoom(pair, records)),
                advice=GROUPED if is_grouped else REPORTED,
                relabel=RELABEL_OVERLAP if is_grouped else None,
                images=_list_records([pair], records),
            )
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
    return [_describe_joined(pair, ends=(records[pair.first], records[pair.second])) for pair in reasons.values()]


def find_same_moments(catalogue: Catalogue, pairs: Sequence[SimilarPair]) -> list[Finding]:
    """Return a warning for images taken at the same second that no common place, and no group of the CSV, joins.

    One scan recorded by two detectors is one field, however different the two images look.
    """
    group_of = {record.image_id: record.group for record in group_similar(catalogue, pairs).records}
    moments: dict[str, list[str]] = defaultdict(list)
    for record in catalogue.records:
        if record.acquired_at is not None and len(record.acquired_at) > DAY_LENGTH:
            moments[record.acquired_at].append(record.image_id)
    if all(moment.endswith(":00") for moment in moments):  # the instrument writes minutes only
        return []
    return [
        Finding(
            kind="same_moment",
            severity="warning",
            message=f"{name_some(ids)} were taken at the same second ({moment}), but do not look alike. {ONE_SCAN}",
            advice=ONE_SCAN,
            images=tuple(sorted(ids)),
        )
        for moment, ids in sorted(moments.items())
        if len({group_of[image_id] for image_id in ids}) > 1
    ]


def explain_grouping(pairs: Sequence[SimilarPair]) -> str:
    """Return what is added where too few groups are left because images were joined along these pairs."""
    if not pairs:
        return ""
    has_overlaps = any(pair.kind == "overlapping" for pair in pairs)
    way_out = " To keep overlapping images in separate groups, set overlaps=report." if has_overlaps else ""
    return f" Images that show the same place count as one group; `sem-search inspect` lists them.{way_out}"


def compute_zoom(pair: SimilarPair, records: Mapping[str, ImageRecord]) -> float:
    """Return how many times wider the second's field is than the first's, as the second lies when it is turned."""
    return pair.scale * get_turned_size(pair, records[pair.second])[1] / records[pair.first].width_px


def get_turned_size(pair: SimilarPair, second: ImageRecord) -> tuple[int, int]:
    """Return height and width of the second image of a pair when it is turned to lie as the first."""
    size = second.height_px, second.width_px
    return size[::-1] if pair.turn_deg % 180 else size


def describe_turn(pair: SimilarPair) -> str:
    """Return `, mirrored and turned by 90°`, as far as it is so."""
    words = ["mirrored"] * pair.is_mirrored + [f"turned by {pair.turn_deg}°"] * bool(pair.turn_deg)
    return f", {' and '.join(words)}" if words else ""


def _describe_place(
    kind: str, what: str, *, advice: str, relabel: str | None, images: Sequence[ImageRecord]
) -> list[Finding]:
    """Return the warning about images of one place, and an error if labels differ and `relabel` says what to do."""
    ids, labels = tuple(record.image_id for record in images), tuple(sorted({record.label for record in images}))
    findings = [
        Finding(kind=kind, severity="warning", message=f"{what} {advice}", advice=advice, images=ids, classes=labels)
    ]
    if len(labels) > 1 and relabel:
        found = name_some([f"{record.image_id} in {record.label}" for record in images])
        message = f"The same place is in {count(len(labels), 'class')}: {found}. {relabel}"
        findings.append(
            Finding(
                kind="label_conflict", severity="error", message=message, advice=relabel, images=ids, classes=labels
            )
        )
    return findings


def _list_records(pairs: Sequence[SimilarPair], records: Mapping[str, ImageRecord]) -> list[ImageRecord]:
    return [records[image_id] for image_id in sorted({end for pair in pairs for end in (pair.first, pair.second)})]


def _describe_copies(pairs: Sequence[SimilarPair]) -> tuple[str, str]:
    names = name_some({end for pair in pairs for end in (pair.first, pair.second)})
    if all(pair.kind == "identical_file" for pair in pairs):
        return "identical_files", f"{names} are copies of one file, equal in every byte."
    return "identical_pixels", f"{names} are equal in every pixel, although the files differ."


def _describe_overlap(pair: SimilarPair, *, zoom: float) -> tuple[str, str]:
    """Return kind and message for two overlapping fields, the second's `zoom` times as wide."""
    correlation = f"correlation {pair.correlation:.2f}{describe_turn(pair)}"
    if max(zoom, 1 / zoom) > ZOOMED:
        near, far = (pair.first, pair.second) if zoom > 1 else (pair.second, pair.first)
        part = "a part" if pair.overlap > WHOLE else f"with {pair.overlap:.0%} of its area a part"
        times = f"at {max(zoom, 1 / zoom):.3g} times the magnification"
        return "zoomed_field", f"{near} shows {part} of {far}, {times} ({correlation})."
    if pair.overlap > WHOLE:
        return "same_field", (
            f"{pair.first} and {pair.second} show the same field of view ({correlation}): a copy with another "
            "brightness, size or bit depth, or a second scan."
        )
    return "overlapping_fields", (
        f"{pair.first} and {pair.second} overlap by {pair.overlap:.0%} of their area ({correlation})."
    )


def _describe_joined(pair: SimilarPair, *, ends: tuple[ImageRecord, ImageRecord]) -> Finding:
    """Return the warning that the ends of a pair are kept together, of which one at least has a group."""
    groups = sorted(record.group for record in ends if record.group != record.image_id)
    alone = [record.image_id for record in ends if record.group == record.image_id]
    if alone:
        joined = f"Group {groups[0]} and image {alone[0]}"
        mend = "They are always in the same split, although the CSV gives the image no group. Give it that group there"
    else:
        joined = f"The groups {join_words(groups)}"
        mend = "They are always in the same split, although the CSV separates them. Give them one group there"
    likeness = pair.kind.replace("_", " ")
    if pair.kind == "overlapping":
        likeness = f"overlap of {pair.overlap:.0%}, correlation {pair.correlation:.2f}"
    advice = (
        f"{mend}. If the two images do not show the same place, set overlaps=report; copies of one image are always "
        "kept together."
    )
    return Finding(
        kind="groups_joined",
        severity="warning",
        message=f"{joined} are joined, because of {pair.first} and {pair.second} ({likeness}). {advice}",
        images=(pair.first, pair.second),
        classes=tuple(sorted({record.label for record in ends})),
        advice=advice,
    )

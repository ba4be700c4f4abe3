"""Each question that inspection asks of a catalogue, with its answer in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sem_search.errors import SettingsError
from sem_search.micrographs.catalogue import SkippedFile
from sem_search.micrographs.inspection.checks import (
    compute_zoom,
    explain_grouping,
    find_joined_groups,
    find_missing_metadata,
    find_pixel_faults,
    find_reading_troubles,
    find_same_moments,
    find_similar_images,
    find_small_classes,
)
from sem_search.micrographs.inspection.survey import PixelFacts
from sem_search.micrographs.overlaps.similarity import SimilarPair

Make = Callable[..., Any]


def make_pair(first: str, second: str, **changes: Any) -> SimilarPair:
    values = {"kind": "overlapping", "overlap": 0.42, "shift_px": (0, 9), "correlation": 0.876}
    return SimilarPair(first=first, second=second, **{**values, **changes})


def make_copy(first: str, second: str, *, kind: str = "identical_file") -> SimilarPair:
    return make_pair(first, second, kind=kind, overlap=1.0, shift_px=(0, 0), correlation=1.0)


def make_classes(make_record: Make, make_catalogue: Make, **n_images: int) -> Any:
    return make_catalogue(*(make_record(f"{label}/{i}.png") for label, n in n_images.items() for i in range(n)))


def test_classes_that_are_large_enough_are_no_finding(make_record: Make, make_catalogue: Make) -> None:
    assert find_small_classes(make_classes(make_record, make_catalogue, salt=5, sand=9), [], n_folds=5) == []


def test_a_class_too_small_for_the_folds_is_an_error(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, chalk=2, salt=5, sand=6)
    (finding,) = find_small_classes(catalogue, [], n_folds=5)
    assert (finding.kind, finding.severity, finding.classes) == ("class_too_small", "error", ("chalk",))
    assert finding.message.startswith("Class 'chalk' has 2 groups (2 images), but 5 folds need at least 5 groups")
    assert "exclude=chalk" in finding.message


def test_images_of_one_place_count_once(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=5, sand=6)
    (finding,) = find_small_classes(catalogue, [make_pair("salt/0.png", "salt/3.png")], n_folds=5)
    assert finding.classes == ("salt",)
    assert "Class 'salt' has 4 groups (5 images)" in finding.message


@pytest.mark.parametrize(("n_sand", "n_findings"), [(15, 0), (16, 1)])
def test_very_unequal_classes_are_a_note(make_record: Make, make_catalogue: Make, n_sand: int, n_findings: int) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=5, sand=n_sand)
    findings = find_small_classes(catalogue, [], n_folds=5)
    assert [(f.kind, f.severity, f.classes) for f in findings] == [
        ("unequal_classes", "note", ("salt", "sand"))
    ] * n_findings


def test_two_folds_are_refused(make_record: Make, make_catalogue: Make) -> None:
    with pytest.raises(SettingsError, match="folds must be 3 or more, got 2"):
        find_small_classes(make_classes(make_record, make_catalogue, salt=5, sand=5), [], n_folds=2)


@pytest.mark.parametrize(
    ("pair", "kind", "words"),
    [
        (make_copy("salt/0.png", "salt/1.png"), "identical_files", "are the same file, byte for byte"),
        (
            make_copy("salt/0.png", "salt/1.png", kind="identical_pixels"),
            "identical_pixels",
            "hold the same picture, pixel for pixel, though the files differ",
        ),
        (
            make_pair("salt/0.png", "salt/1.png"),
            "overlapping_fields",
            "overlap by 42% of their area (correlation 0.88)",
        ),
        (make_pair("salt/0.png", "salt/1.png", overlap=0.99), "same_field", "show the same field (correlation 0.88)"),
        (
            make_pair("salt/0.png", "salt/1.png", scale=10.0, overlap=1.0),
            "zoomed_field",
            "salt/0.png lies within salt/1.png, magnified 10 times as much",
        ),
        (
            make_pair("salt/0.png", "salt/1.png", scale=0.5),
            "zoomed_field",
            "salt/1.png lies by 42% of its area within salt/0.png, magnified 2 times as much",
        ),
    ],
)
def test_each_kind_of_pair_has_its_words(
    make_record: Make, make_catalogue: Make, pair: SimilarPair, kind: str, words: str
) -> None:
    (finding,) = find_similar_images(make_classes(make_record, make_catalogue, salt=3, sand=3), [pair])
    assert (finding.kind, finding.severity) == (kind, "warning")
    assert (finding.images, finding.classes) == (("salt/0.png", "salt/1.png"), ("salt",))
    assert words in finding.message
    assert "one group" in finding.message


def test_a_smaller_copy_of_the_whole_field_is_no_other_magnification(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_catalogue(make_record("salt/0.png"), make_record("salt/1.png", width_px=640, height_px=480))
    pair = make_pair("salt/0.png", "salt/1.png", overlap=1.0, scale=2.0)
    assert compute_zoom(pair, {record.image_id: record for record in catalogue.records}) == 1.0
    (finding,) = find_similar_images(catalogue, [pair])
    assert finding.kind == "same_field"


def test_copies_that_hang_together_are_one_finding(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=5)
    pairs = [make_copy(f"salt/{a}.png", f"salt/{b}.png") for a, b in [(0, 1), (0, 2), (1, 2), (3, 4)]]
    three, two = find_similar_images(catalogue, pairs)
    assert three.images == ("salt/0.png", "salt/1.png", "salt/2.png")
    assert three.message.startswith("salt/0.png, salt/1.png and salt/2.png are the same file")
    assert two.images == ("salt/3.png", "salt/4.png")
    mixed = [pairs[0], make_copy("salt/0.png", "salt/2.png", kind="identical_pixels")]
    assert [finding.kind for finding in find_similar_images(catalogue, mixed)] == ["identical_pixels"]


@pytest.mark.parametrize("pair", [make_copy("salt/0.png", "sand/0.png"), make_pair("salt/0.png", "sand/0.png")])
def test_one_place_under_two_labels_is_an_error(make_record: Make, make_catalogue: Make, pair: SimilarPair) -> None:
    findings = find_similar_images(make_classes(make_record, make_catalogue, salt=2, sand=2), [pair])
    assert [finding.severity for finding in findings] == ["warning", "error"]
    conflict = findings[1]
    assert (conflict.kind, conflict.classes) == ("label_conflict", ("salt", "sand"))
    assert "The same place stands in 2 classes: salt/0.png as salt and sand/0.png as sand." in conflict.message


@pytest.mark.parametrize(
    ("moments", "pairs", "n_findings"),
    [
        (["2020-01-01T10:00:01", "2020-01-01T10:00:01", "2020-01-01T10:00:02"], [], 1),
        (["2020-01-01T10:00:01", "2020-01-01T10:00:01", None], [make_pair("salt/0.png", "salt/1.png")], 0),
        (["2020-01-01", "2020-01-01", "2020-01-01"], [], 0),
        (["2020-01-01T10:00:00", "2020-01-01T10:00:00", "2020-01-01T10:07:00"], [], 0),  # told to the minute
        ([None, None, None], [], 0),
    ],
)
def test_images_of_one_second_that_do_not_look_alike(
    make_record: Make, make_catalogue: Make, moments: list[str | None], pairs: list[SimilarPair], n_findings: int
) -> None:
    catalogue = make_catalogue(*(make_record(f"salt/{i}.png", acquired_at=m) for i, m in enumerate(moments)))
    findings = find_same_moments(catalogue, pairs)
    assert [(f.kind, f.severity, f.images) for f in findings] == [
        ("same_moment", "warning", ("salt/0.png", "salt/1.png"))
    ] * n_findings


def make_facts(*, black: float = 0.0, white: float = 0.0, n_levels: int = 250) -> PixelFacts:
    foot = np.zeros((2, 2), dtype=np.uint8)
    return PixelFacts(black=black, white=white, n_levels=n_levels, foot=foot, head=foot, thumbnail=b"")


@pytest.mark.parametrize(
    ("record", "facts", "kind", "severity", "words"),
    [
        ({"contrast": 0.005}, {}, "almost_constant", "warning", "(salt/0.png) is almost of one grey"),
        ({}, {"white": 0.02}, "clipped_white", "note", "is burnt out, more than 1% of the pixels white"),
        ({}, {"black": 0.06}, "clipped_black", "note", "is black in more than 5% of the pixels"),
        ({"bit_depth": 16}, {"n_levels": 255}, "hollow_bits", "note", "is of 16 bits, but with no more than 256 grey"),
        ({"width_px": 447}, {}, None, None, None),
        ({"width_px": 400, "height_px": 400}, {}, "few_tiles", "note", "fewer than 4 tiles of 224 px fit"),
        ({"bit_depth": 16}, {"n_levels": 257}, None, None, None),
        ({}, {"white": 0.009, "black": 0.049}, None, None, None),
    ],
)
def test_faults_of_single_images(
    make_record: Make,
    make_catalogue: Make,
    record: dict[str, Any],
    facts: dict[str, Any],
    kind: str | None,
    severity: str | None,
    words: str | None,
) -> None:
    catalogue = make_catalogue(make_record("salt/0.png", **record), make_record("salt/1.png"))
    told = {"salt/0.png": make_facts(**facts), "salt/1.png": make_facts()}
    findings = find_pixel_faults(catalogue, told)
    assert [(f.kind, f.severity, f.images) for f in findings] == (
        [] if kind is None else [(kind, severity, ("salt/0.png",))]
    )
    if words is not None:
        assert words in findings[0].message
        assert findings[0].message.startswith("1 image (salt/0.png) is ")


def test_several_images_of_one_fault_are_one_finding(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=6)
    (finding,) = find_pixel_faults(catalogue, {r.image_id: make_facts(white=0.5) for r in catalogue.records})
    assert finding.message.startswith("6 images (salt/0.png, salt/1.png, salt/2.png and 3 more) are burnt out")
    assert len(finding.images) == 6


def test_what_the_files_do_not_tell(make_record: Make, make_catalogue: Make) -> None:
    told = {"pixel_size_nm": 10.0, "session": "monday", "detector": "ETD"}
    assert find_missing_metadata(make_catalogue(make_record("salt/0.png", **told))) == []
    some = make_catalogue(make_record("salt/0.png", **told), make_record("salt/1.png", **{**told, "detector": None}))
    (finding,) = find_missing_metadata(some)
    assert (finding.kind, finding.severity, finding.images) == ("no_detector", "note", ("salt/1.png",))
    assert finding.message.startswith("The detector is not told for 1 image of 2:")
    none = find_missing_metadata(make_classes(make_record, make_catalogue, salt=2))
    assert [finding.kind for finding in none] == ["no_pixel_size", "no_session", "no_detector"]
    assert none[0].message.startswith("The pixel size is told for no image:")


def test_what_is_grouped_and_what_is_only_reported_says_the_way_out(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=2, sand=2)
    pair, copy = make_pair("salt/0.png", "sand/0.png"), make_copy("salt/1.png", "sand/1.png")
    grouped = find_similar_images(catalogue, [pair, copy])
    assert [finding.kind for finding in grouped] == [
        "identical_files", "label_conflict", "overlapping_fields", "label_conflict",
    ]  # fmt: skip
    of_copy, overlap, of_overlap = grouped[1:]
    assert of_copy.message.endswith("To go on as they are, set allow_errors=label_conflict.")
    assert "overlaps" not in of_copy.message
    assert "set overlaps=report" in overlap.message
    assert "overlaps=report" in of_overlap.message
    reported = find_similar_images(catalogue, [pair, copy], is_grouped=False)
    assert [finding.kind for finding in reported] == ["identical_files", "label_conflict", "overlapping_fields"]
    assert "They are not kept in one group" in reported[2].message
    assert "set overlaps=group" in reported[2].message


def test_many_copies_of_one_picture_are_not_all_named(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=20, sand=20)
    ids = [record.image_id for record in catalogue.records]
    found = find_similar_images(catalogue, [make_copy(ids[0], other) for other in ids[1:]])
    assert [finding.kind for finding in found] == ["identical_files", "label_conflict"]
    assert all(len(finding.message) < 450 and len(finding.images) == 40 for finding in found)
    assert "and 37 more" in found[0].message


@pytest.mark.parametrize(
    ("groups", "pairs", "joined"),
    [
        ({"a": "monday", "b": "tuesday"}, [("a", "b")], ["The groups monday and tuesday are joined"]),
        ({"a": "monday", "b": "monday"}, [("a", "b")], []),
        ({"a": "a", "b": "b"}, [("a", "b")], []),  # the CSV gave none
        ({"a": "monday", "b": "b"}, [("a", "b")], ["Group monday and image b are joined"]),
        ({"a": "x", "b": "y", "c": "x"}, [("a", "b"), ("b", "c")], ["The groups x and y are joined"]),
        ({"a": "a", "b": "monday"}, [("a", "b")], ["Group monday and image a are joined"]),
        ({"a": "b", "b": "a"}, [("a", "b")], ["The groups a and b are joined"]),
        ({"a": "x", "b": "y"}, [], []),
    ],
)
def test_groups_of_the_csv_are_not_joined_in_silence(
    make_record: Make,
    make_catalogue: Make,
    groups: dict[str, str],
    pairs: list[tuple[str, str]],
    joined: list[str],
) -> None:
    catalogue = make_catalogue(*(make_record(name, group=group) for name, group in groups.items()))
    findings = find_joined_groups(catalogue, [make_pair(*ends) for ends in pairs])
    assert [(f.kind, f.severity) for f in findings] == [("groups_joined", "warning")] * len(joined)
    for finding, words in zip(findings, joined, strict=True):
        assert finding.message.startswith(words)
        assert "because of a and b (overlap of 42%, correlation 0.88)" in finding.message
        assert "set overlaps=report" in finding.message
        assert ("the CSV divides them" in finding.message) == words.startswith("The groups")
        assert ("the CSV gives the image no group" in finding.message) == words.startswith("Group ")


def test_classes_made_too_small_by_grouping_are_told_how_to_undo_it(make_record: Make, make_catalogue: Make) -> None:
    assert explain_grouping([]) == ""
    assert "overlaps=report" not in explain_grouping([make_copy("a", "b")])
    catalogue = make_classes(make_record, make_catalogue, salt=5, sand=6)
    (finding,) = find_small_classes(catalogue, [make_pair("salt/0.png", "salt/3.png")], n_folds=5)
    assert finding.message.endswith("Overlapping fields stay apart with overlaps=report.")


def skip(name: str, reason: str, size_px: tuple[int, int] | None = None) -> SkippedFile:
    return SkippedFile(path=Path("data") / "salt" / name, reason=reason, size_px=size_px)


def test_files_with_one_fault_are_one_finding(make_record: Make, make_catalogue: Make) -> None:
    small = [skip(f"{n:04}.png", "is 200 x 200 px, smaller", (200, 200)) for n in range(1800)]
    cut = [skip(f"cut{n}.tif", f"holds {n} of 14190 bytes") for n in range(7)]
    empty = [skip("empty1.png", "is empty"), skip("empty2.png", "is empty")]
    findings = find_reading_troubles(make_catalogue(make_record("salt/a.png"), skipped=(*small, *cut, *empty)))
    assert [finding.message.split(" cannot")[0] for finding in findings] == [
        "salt/empty1.png",
        "salt/empty2.png",
        "1,800 files (salt/0000.png, salt/0001.png, salt/0002.png and 1,797 more) of 1,810",
        "7 files (salt/cut0.tif, salt/cut1.tif, salt/cut2.tif and 4 more) of 1,810",
    ]
    assert findings[2].message.endswith(" of 1,810 cannot be used: is 200 x 200 px, smaller.")
    assert findings[3].message.endswith(" cannot be used, for example salt/cut0.tif: holds 0 of 14190 bytes.")
    assert findings[2].details[1799] == "salt/1799.png: is 200 x 200 px, smaller"
    assert [len(finding.details) for finding in findings] == [1, 1, 1800, 7]


def test_what_reading_had_to_say(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_catalogue(
        make_record("salt/0.png"),
        skipped=(SkippedFile(path=Path("data") / "salt" / "broken.png", reason="is empty: copy it again."),),
        warnings=("left out salt/broken.png: is empty: copy it again.", "1 file of sand is no picture: notes.docx"),
    )
    broken, notes = find_reading_troubles(catalogue)
    assert (broken.kind, broken.severity) == ("unusable_file", "warning")
    assert broken.message == "salt/broken.png cannot be used: is empty: copy it again."
    assert (notes.kind, notes.severity) == ("reading", "note")
    assert notes.message == "1 file of sand is no picture: notes.docx."

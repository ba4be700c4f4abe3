"""Images of the same place, and what they mean for labels and groups, in words."""

from collections.abc import Callable
from typing import Any

import pytest

from sem_search.micrographs.inspection.checks import find_small_classes
from sem_search.micrographs.inspection.overlap_findings import (
    compute_zoom,
    explain_grouping,
    find_joined_groups,
    find_same_moments,
    find_similar_images,
)
from sem_search.micrographs.overlaps.similarity import SimilarPair
from tests.micrographs.conftest import make_copy, make_pair

Make = Callable[..., Any]


def make_classes(make_record: Make, make_catalogue: Make, **n_images: int) -> Any:
    return make_catalogue(*(make_record(f"{label}/{i}.png") for label, n in n_images.items() for i in range(n)))


@pytest.mark.parametrize(
    ("pair", "kind", "words"),
    [
        (make_copy("salt/0.png", "salt/1.png"), "identical_files", "are copies of one file, equal in every byte"),
        (
            make_copy("salt/0.png", "salt/1.png", kind="identical_pixels"),
            "identical_pixels",
            "are equal in every pixel, although the files differ",
        ),
        (
            make_pair("salt/0.png", "salt/1.png"),
            "overlapping_fields",
            "overlap by 42% of their area (correlation 0.88)",
        ),
        (
            make_pair("salt/0.png", "salt/1.png", overlap=0.99),
            "same_field",
            "show the same field of view (correlation 0.88)",
        ),
        (
            make_pair("salt/0.png", "salt/1.png", is_mirrored=True, turn_deg=90, scale=4 / 3),
            "overlapping_fields",
            "overlap by 42% of their area (correlation 0.88, mirrored and turned by 90°)",
        ),
        (
            make_pair("salt/0.png", "salt/1.png", overlap=0.99, turn_deg=180),
            "same_field",
            "show the same field of view (correlation 0.88, turned by 180°)",
        ),
        (
            make_pair("salt/0.png", "salt/1.png", scale=10.0, overlap=1.0),
            "zoomed_field",
            "salt/0.png shows a part of salt/1.png, at 10 times the magnification",
        ),
        (
            make_pair("salt/0.png", "salt/1.png", scale=0.5),
            "zoomed_field",
            "salt/1.png shows with 42% of its area a part of salt/0.png, at 2 times the magnification",
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
    pairs = [make_copy(f"salt/{a}.png", f"salt/{b}.png") for a, b in [(0, 1), (0, 2), (3, 4)]]
    three, two = find_similar_images(catalogue, pairs)
    assert three.images == ("salt/0.png", "salt/1.png", "salt/2.png")
    assert three.message.startswith("salt/0.png, salt/1.png and salt/2.png are copies of one file")
    assert two.images == ("salt/3.png", "salt/4.png")
    mixed = [pairs[0], make_copy("salt/0.png", "salt/2.png", kind="identical_pixels")]
    assert [finding.kind for finding in find_similar_images(catalogue, mixed)] == ["identical_pixels"]


@pytest.mark.parametrize("pair", [make_copy("salt/0.png", "sand/0.png"), make_pair("salt/0.png", "sand/0.png")])
def test_one_place_under_two_labels_is_an_error(make_record: Make, make_catalogue: Make, pair: SimilarPair) -> None:
    findings = find_similar_images(make_classes(make_record, make_catalogue, salt=2, sand=2), [pair])
    assert [finding.severity for finding in findings] == ["warning", "error"]
    conflict = findings[1]
    assert (conflict.kind, conflict.classes) == ("label_conflict", ("salt", "sand"))
    assert "The same place is in 2 classes: salt/0.png in salt and sand/0.png in sand." in conflict.message


@pytest.mark.parametrize(
    ("moments", "pairs", "n_findings"),
    [
        (["2020-01-01T10:00:01", "2020-01-01T10:00:01", "2020-01-01T10:00:02"], [], 1),
        (["2020-01-01T10:00:01", "2020-01-01T10:00:01", None], [make_pair("salt/0.png", "salt/1.png")], 0),
        (["2020-01-01", "2020-01-01", "2020-01-01"], [], 0),
        (["2020-01-01T10:00:00", "2020-01-01T10:00:00", "2020-01-01T10:07:00"], [], 0),  # told to the minute
        ([None, None, None], [], 0),
        (
            ["2020-01-01T10:00:01"] * 3,
            [make_copy("salt/0.png", "salt/1.png"), make_copy("salt/0.png", "salt/2.png")],
            0,
        ),
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


def test_images_of_one_second_in_one_group_of_the_csv_are_no_finding(make_record: Make, make_catalogue: Make) -> None:
    """That is what the advice asks for."""
    moment = "2020-01-01T10:00:01"
    records = [make_record(f"salt/{i}.png", acquired_at=moment, group="scan") for i in range(2)]
    assert find_same_moments(make_catalogue(*records), []) == []


def test_what_is_grouped_and_what_is_only_reported_says_the_way_out(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=2, sand=2)
    pair, copy = make_pair("salt/0.png", "sand/0.png"), make_copy("salt/1.png", "sand/1.png")
    grouped = find_similar_images(catalogue, [pair, copy])
    assert [finding.kind for finding in grouped] == [
        "identical_files", "label_conflict", "overlapping_fields", "label_conflict",
    ]  # fmt: skip
    of_copy, overlap, of_overlap = grouped[1:]
    assert of_copy.message.endswith("To continue without a change, set allow_errors=label_conflict.")
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
        assert ("the CSV separates them" in finding.message) == words.startswith("The groups")
        assert ("the CSV gives the image no group" in finding.message) == words.startswith("Group ")


def test_classes_made_too_small_by_grouping_are_told_how_to_undo_it(make_record: Make, make_catalogue: Make) -> None:
    assert explain_grouping([]) == ""
    assert "overlaps=report" not in explain_grouping([make_copy("a", "b")])
    catalogue = make_classes(make_record, make_catalogue, salt=5, sand=6)
    (finding,) = find_small_classes(catalogue, [make_pair("salt/0.png", "salt/3.png")], n_folds=5)
    assert finding.message.endswith("To keep overlapping images in separate groups, set overlaps=report.")

"""Each question that inspection asks of a catalogue, with its answer in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sem_search.errors import SettingsError
from sem_search.micrographs.class_folders import DOUBT
from sem_search.micrographs.inspection.checks import (
    find_missing_metadata,
    find_pixel_faults,
    find_reading_troubles,
    find_small_classes,
)
from sem_search.micrographs.inspection.survey import PixelFacts
from sem_search.micrographs.unusable_files import SkippedFile
from tests.micrographs.conftest import make_pair

Make = Callable[..., Any]


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


def make_facts(*, black: float = 0.0, white: float = 0.0, n_levels: int = 250) -> PixelFacts:
    return PixelFacts(black=black, white=white, n_levels=n_levels)


@pytest.mark.parametrize(
    ("record", "facts", "kind", "severity", "words"),
    [
        ({"contrast": 0.005}, {}, "almost_constant", "warning", "(salt/0.png) has almost no contrast"),
        ({}, {"white": 0.02}, "clipped_white", "note", "has more than 1% white pixels"),
        ({}, {"black": 0.06}, "clipped_black", "note", "has more than 5% black pixels"),
        ({"bit_depth": 16}, {"n_levels": 255}, "hollow_bits", "note", "has 16 bits, but not more than 256 grey"),
        ({"width_px": 447}, {}, None, None, None),
        ({"width_px": 400, "height_px": 400}, {}, "few_tiles", "note", "room for fewer than 4 tiles of 224 px"),
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
        assert findings[0].message.startswith("1 image (salt/0.png) has ")


def test_several_images_of_one_fault_are_one_finding(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, salt=6)
    (finding,) = find_pixel_faults(catalogue, {r.image_id: make_facts(white=0.5) for r in catalogue.records})
    assert finding.message.startswith(
        "6 images (salt/0.png, salt/1.png, salt/2.png and 3 more) have more than 1% white"
    )
    assert len(finding.images) == 6


def test_what_the_files_do_not_tell(make_record: Make, make_catalogue: Make) -> None:
    told = {"pixel_size_nm": 10.0, "session": "monday", "detector": "ETD"}
    assert find_missing_metadata(make_catalogue(make_record("salt/0.png", **told))) == []
    some = make_catalogue(make_record("salt/0.png", **told), make_record("salt/1.png", **{**told, "detector": None}))
    (finding,) = find_missing_metadata(some)
    assert (finding.kind, finding.severity, finding.images) == ("no_detector", "note", ("salt/1.png",))
    assert finding.message.startswith("The detector is not known for 1 image of 2:")
    none = find_missing_metadata(make_classes(make_record, make_catalogue, salt=2))
    assert [finding.kind for finding in none] == ["no_pixel_size", "no_session", "no_detector"]
    assert none[0].message.startswith("The pixel size is not known for all images:")


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
        warnings=(
            "left out salt/broken.png: is empty: copy it again.",
            "1 file of sand is no picture: notes.docx",
            DOUBT,
        ),
    )
    broken, notes, doubt = find_reading_troubles(catalogue)
    assert (broken.kind, broken.severity) == ("unusable_file", "warning")
    assert broken.message == "salt/broken.png cannot be used: is empty: copy it again."
    assert (notes.kind, notes.severity) == ("reading", "note")
    assert notes.message == "1 file of sand is no picture: notes.docx."
    assert (doubt.kind, doubt.severity) == ("nested_classes", "warning")

"""An attribute that gives the class away is told, one that does not is left alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection import confounds as room
from sem_search.micrographs.inspection.confounds import compute_confounds, compute_counts, find_confounds, find_mixtures
from sem_search.micrographs.inspection.finding import join_findings

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("values", "labels", "counts"),
    [
        ("aaabbb", [0, 0, 0, 1, 1, 1], [[3, 0], [0, 3]]),
        ("abab", [0, 1, 1, 1], [[1, 1], [0, 2]]),
        ("aaaa", [1, 1, 1, 0], [[1, 3]]),
        ("ba", [0, 0], [[1, 0], [1, 0]]),
    ],
)
def test_images_are_counted_by_value_and_class(values: str, labels: list[int], counts: list[list[int]]) -> None:
    numbers = np.unique(list(values), return_inverse=True)[1]
    assert compute_counts(numbers, np.array(labels), n_classes=2).tolist() == counts


def test_values_of_one_image_each_tell_nothing(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, session=lambda c, i: f"day {c} {i}")
    (confound,) = compute_confounds(catalogue)
    assert (confound.n_right, confound.n_right_by_chance, confound.p_value) == (30, 30.0, 1.0)
    assert not confound.is_warning


def make_classes(make_record: Make, make_catalogue: Make, *, n_images: int = 10, **values: Any) -> Catalogue:
    """Three classes; each attribute is a function of class number and image number."""
    records = [
        make_record(f"{label}/{i}.png", **{name: tell(c, i) for name, tell in values.items()})
        for c, label in enumerate(("chalk", "salt", "sand"))
        for i in range(n_images)
    ]
    catalogue: Catalogue = make_catalogue(*records)
    return catalogue


@pytest.mark.parametrize(
    ("attribute", "name", "values"),
    [
        ("pixel size", "pixel_size_nm", [100.0, 100.0, 50.0]),
        ("detector", "detector", ["ETD", "TLD", None]),
        ("voltage", "voltage_kv", [5.0, 2.0, 5.0]),
        ("bit depth", "bit_depth", [8, 16, 16]),
        ("image size", "width_px", [1280, 1536, 1024]),
        ("colour mode", "mode", ["L", "RGB", "P"]),
        ("session", "session", ["monday", "tuesday", "tuesday"]),
    ],
)
def test_each_attribute_that_tells_the_class_is_a_warning(
    make_record: Make, make_catalogue: Make, attribute: str, name: str, values: list[Any]
) -> None:
    catalogue = make_classes(make_record, make_catalogue, **{name: lambda c, i: values[c]})
    confounds = compute_confounds(catalogue)
    assert [confound.attribute for confound in confounds] == [attribute]
    assert confounds[0].is_warning
    assert confounds[0].n_images == 30
    assert confounds[0].n_right == 10 * len(set(values))
    assert 10 < confounds[0].n_right_by_chance < confounds[0].n_right - 3
    (finding,) = [f for f in find_confounds(catalogue, confounds) if f.kind.startswith("confounded_")]
    assert finding.kind == f"confounded_{attribute.replace(' ', '_')}"
    assert finding.severity == "warning"
    assert f"The {attribute} alone predicts the class of {confounds[0].n_right} of 30 images" in finding.message


def test_what_differs_within_all_classes_alike_is_no_confound(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(
        make_record,
        make_catalogue,
        session=lambda c, i: f"day {i % 3}",
        bit_depth=lambda c, i: 8 if i % 2 else 16,
        mean_grey=lambda c, i: 0.3 + 0.01 * i,
    )
    confounds = compute_confounds(catalogue)
    assert {confound.attribute for confound in confounds} == {"session", "bit depth"}
    assert not [confound for confound in confounds if confound.is_warning]
    assert find_confounds(catalogue, confounds) == []


def test_one_class_of_many_that_is_given_away_is_a_warning(make_record: Make, make_catalogue: Make) -> None:
    records = [
        make_record(f"{label}/{i}.png", detector="TLD" if label == "a" and i < 9 else "ETD")
        for label in "abcdefghij"
        for i in range(10)
    ]
    catalogue = make_catalogue(*records)
    (confound,) = compute_confounds(catalogue)
    assert (confound.n_right, confound.given_away) == (19, ("a",))
    (finding,) = find_confounds(catalogue, [confound])
    assert "predicts the class of 19 of 100 images correctly" in finding.message
    assert ", best for a: a network can learn it" in finding.message


def test_one_odd_image_is_no_confound(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, detector=lambda c, i: "ICE" if c == i == 0 else "ETD")
    assert find_confounds(catalogue, compute_confounds(catalogue)) == []


def test_rounding_in_the_pixel_size_is_not_another_pixel_size(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(make_record, make_catalogue, pixel_size_nm=lambda c, i: 112.413 + 0.0002 * c)
    assert compute_confounds(catalogue) == ()
    assert find_mixtures(catalogue) == []


def test_chance_alone_seldom_warns(make_record: Make, make_catalogue: Make) -> None:
    n_warnings = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        catalogue = make_classes(make_record, make_catalogue, session=lambda c, i, r=random: f"day {r.integers(4)}")
        n_warnings += any(confound.is_warning for confound in compute_confounds(catalogue))
    assert n_warnings <= 1


def test_images_of_one_group_are_one_witness(
    make_record: Make, make_catalogue: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three overlapping images of each place share class and session by nature: dealt out image by image, every second
    data set would seem confounded."""
    monkeypatch.setattr(room, "N_PERMUTATIONS", 99)
    p_values = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        session, grey = random.integers(2, size=(3, 4)), random.normal(size=(3, 4))
        catalogue = make_classes(
            make_record,
            make_catalogue,
            n_images=12,
            session=lambda c, i, found=session: f"day {found[c, i // 3]}",
            group=lambda c, i: f"place {c} {i // 3}",
            mean_grey=lambda c, i, found=grey: float(found[c, i // 3]),
        )
        p_values += [confound.p_value for confound in compute_confounds(catalogue)]
    n_found = int((np.array(p_values) <= 0.05).sum())
    assert n_found <= binom.ppf(0.999, len(p_values), 0.05)


def test_a_group_of_its_own_for_each_image_changes_nothing(make_record: Make, make_catalogue: Make) -> None:
    told = make_classes(make_record, make_catalogue, session=lambda c, i: f"day {c}")
    in_pairs = make_classes(
        make_record, make_catalogue, session=lambda c, i: f"day {c}", group=lambda c, i: f"{c} {i // 2}"
    )
    (alone,), (paired,) = compute_confounds(told), compute_confounds(in_pairs)
    assert alone.p_value == paired.p_value == 0.001
    assert alone.table == paired.table


def test_a_class_of_one_session_is_named_with_its_company(make_record: Make, make_catalogue: Make) -> None:
    days = {0: lambda i: "2020-01-01", 1: lambda i: f"2020-01-0{i % 2 + 1}", 2: lambda i: "2020-03-03"}
    catalogue = make_classes(make_record, make_catalogue, session=lambda c, i: days[c](i))
    chalk, sand = [f for f in find_confounds(catalogue, ()) if f.kind == "single_session"]
    assert chalk.classes == ("chalk",)
    assert "All 10 images of chalk come from one session (2020-01-01), together with salt" in chalk.message
    assert sand.classes == ("sand",)
    assert "(2020-03-03), in which no other class was imaged" in sand.message
    assert "Image sand in another session, too." in sand.message


@pytest.mark.parametrize("session", ["2020-01-01", None])
def test_one_session_for_all_is_no_finding(make_record: Make, make_catalogue: Make, session: str | None) -> None:
    catalogue = make_classes(make_record, make_catalogue, session=lambda c, i: session)
    assert find_confounds(catalogue, compute_confounds(catalogue)) == []


@pytest.mark.parametrize(("level", "name"), [("brightness", "mean_grey"), ("contrast", "contrast"), ("noise", "noise")])
def test_grey_levels_that_tell_the_class_are_a_note(
    make_record: Make, make_catalogue: Make, level: str, name: str
) -> None:
    catalogue = make_classes(make_record, make_catalogue, **{name: lambda c, i: 0.1 + 0.1 * c + 0.001 * i})
    (finding,) = find_confounds(catalogue, ())
    assert (finding.kind, finding.severity) == (f"telling_{level}", "note")
    assert f"The {level} alone predicts the class of 30 of 30 images" in finding.message


def test_what_differs_within_a_class_is_a_note(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_classes(
        make_record,
        make_catalogue,
        pixel_size_nm=lambda c, i: 50.0 if c == 1 and i < 3 else 100.0,
        session=lambda c, i: f"day {i}",
    )
    (finding,) = find_mixtures(catalogue)
    assert (finding.kind, finding.severity, finding.classes) == ("mixed_pixel_size", "note", ("salt",))
    assert "salt 100 nm (7) and 50 nm (3)" in finding.message
    assert "magnification" in finding.message


def test_the_test_of_chance_is_the_same_each_time(make_record: Make, make_catalogue: Make) -> None:
    records: list[ImageRecord] = [
        make_record(f"{label}/{i}.png", detector=("a", "b", "c")[i % 3]) for label in ("x", "y") for i in range(7)
    ]
    assert compute_confounds(make_catalogue(*records)) == compute_confounds(make_catalogue(*reversed(records)))


def test_many_classes_of_one_session_each_are_one_finding(make_record: Make, make_catalogue: Make) -> None:
    names = [f"class{number:02}" for number in range(30)]
    records = [make_record(f"{name}/{n}.png", session=f"day {name}") for name in names for n in range(3)]
    catalogue = make_catalogue(*records)
    found = join_findings(find_confounds(catalogue, compute_confounds(catalogue)))
    told = {finding.kind: finding for finding in found}
    assert len(told) == len(found)
    single, confounded = told["single_session"], told["confounded_session"]
    assert single.message.startswith("30 times: All 3 images of class00 come from one session (day class00), in which")
    assert single.message.endswith(" And 27 more. Image every class in more than one session.")
    assert len(single.details) == len(confounded.details) == 30
    assert "class09: day class09 (3); and 20 more classes. " in confounded.message
    assert "best for class00, class01, class02 and 27 more" in confounded.message


def test_many_values_within_a_class_are_counted(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"{'ab'[n % 2]}/{n}.png", width_px=1000 + n) for n in range(60)]
    (mixed,) = find_mixtures(make_catalogue(*records))
    assert mixed.message.count("px (1)") == 20
    assert mixed.message.count("and 20 more") == 2

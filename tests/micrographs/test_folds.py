"""No group in two splits, every image tested once, classes even: for any groups, labels and seeds."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sem_search.errors import ClassTooSmallError, LeakError, SettingsError, StoreError
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.folds import Fold, FoldTable, check_folds, draw_folds
from tests.micrographs.conftest import build_record

TOO_FEW_FOR_ANY = " No folds do with fewer than 3 groups of a class: one to train, one to validate and one to test."


def make_catalogue(rows: Iterable[tuple[str, str, str]]) -> Catalogue:
    """A catalogue of (image_id, label, group)."""
    records = tuple(build_record(image_id, label=label, group=group) for image_id, label, group in rows)
    return Catalogue(root=Path("/data"), records=records)


def make_single_images(**n_images: int) -> Catalogue:
    names = [(f"{label}/{number}", label) for label, count in n_images.items() for number in range(count)]
    return make_catalogue((name, label, name) for name, label in names)


def count_labels(catalogue: Catalogue, image_ids: Sequence[str]) -> Counter[str]:
    label_of = {record.image_id: record.label for record in catalogue.records}
    return Counter(label_of[image_id] for image_id in image_ids)


def test_ten_single_images_give_the_papers_two_two_six() -> None:
    catalogue = make_single_images(**{f"class{number}": 10 for number in range(10)})
    table = draw_folds(catalogue, n_folds=5, seed=0)
    assert [fold.number for fold in table.folds] == [0, 1, 2, 3, 4]
    for fold in table.folds:
        for split, count in (("test", 2), ("validation", 2), ("training", 6)):
            assert set(count_labels(catalogue, fold.splits[split]).values()) == {count}, (fold.number, split)
    check_folds(table, catalogue=catalogue)


def test_validation_of_a_fold_is_the_test_of_the_next() -> None:
    table = draw_folds(make_single_images(a=11, b=7), n_folds=4, seed=3)
    for fold, following in zip(table.folds, (*table.folds[1:], table.folds[0]), strict=True):
        assert fold.validation == following.test


single_sizes = st.lists(st.integers(3, 17), min_size=2, max_size=4)


@settings(deadline=None)
@given(sizes=single_sizes, n_folds=st.integers(3, 6), seed=st.integers(0, 9))
def test_single_images_are_spread_to_within_one(sizes: list[int], n_folds: int, seed: int) -> None:
    assume(min(sizes) >= n_folds)
    catalogue = make_single_images(**{f"class{number}": size for number, size in enumerate(sizes)})
    table = draw_folds(catalogue, n_folds=n_folds, seed=seed)
    check_folds(table, catalogue=catalogue)
    for label, size in zip(catalogue.class_names, sizes, strict=True):
        for fold in table.folds:
            tested = count_labels(catalogue, fold.test)[label]
            assert size // n_folds <= tested <= -(-size // n_folds)
    totals = [len(fold.test) for fold in table.folds]
    assert max(totals) - min(totals) <= 1


groups_of_one_class = st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=12), min_size=2, max_size=3)


@settings(deadline=None)
@given(sizes=groups_of_one_class, n_folds=st.integers(3, 5), seed=st.integers(0, 9))
def test_groups_of_one_class_are_spread_to_within_the_largest(sizes: list[list[int]], n_folds: int, seed: int) -> None:
    assume(min(map(len, sizes)) >= n_folds)
    catalogue = make_catalogue(
        (f"{label}/{group}/{number}", f"class{label}", f"{label}/{group}")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for number in range(size)
    )
    table = draw_folds(catalogue, n_folds=n_folds, seed=seed)
    check_invariants(table, catalogue=catalogue, n_folds=n_folds)
    for label, groups in zip(catalogue.class_names, sizes, strict=True):
        tested = [count_labels(catalogue, fold.test)[label] for fold in table.folds]
        assert max(tested) - min(tested) <= max(groups)


mixed_rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 14)), min_size=12, max_size=60)


@settings(deadline=None, max_examples=100)
@given(rows=mixed_rows, n_folds=st.integers(3, 4), seed=st.integers(0, 9))
def test_groups_of_several_classes_are_never_divided(rows: list[tuple[int, int]], n_folds: int, seed: int) -> None:
    catalogue = make_catalogue(
        (f"{number}", f"class{label}", f"g{group}") for number, (label, group) in enumerate(rows)
    )
    try:
        table = draw_folds(catalogue, n_folds=n_folds, seed=seed)
    except ClassTooSmallError:
        n_groups = [len({group for label, group in rows if label == wanted}) for wanted in {label for label, _ in rows}]
        assert min(n_groups) < n_folds or any(count > 1 for count in Counter(group for _, group in set(rows)).values())
        return
    check_invariants(table, catalogue=catalogue, n_folds=n_folds)


def check_invariants(table: FoldTable, *, catalogue: Catalogue, n_folds: int) -> None:
    """The same rules as check_folds, told anew."""
    group_of = {record.image_id: record.group for record in catalogue.records}
    assert len(table.folds) == n_folds
    assert sorted(image_id for fold in table.folds for image_id in fold.test) == sorted(group_of)
    for fold in table.folds:
        groups = [{group_of[image_id] for image_id in split} for split in fold.splits.values()]
        assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
        assert sum(map(len, fold.splits.values())) == len(group_of)
        for split in fold.splits.values():
            assert set(count_labels(catalogue, split)) == set(catalogue.class_names)
    check_folds(table, catalogue=catalogue)


@settings(deadline=None)
@given(order=st.permutations(range(20)))
def test_the_order_of_the_images_does_not_matter(order: list[int]) -> None:
    catalogue = make_catalogue((f"{number}", f"class{number % 3}", f"g{number // 2 * 2}") for number in range(20))
    shuffled = dataclasses.replace(catalogue, records=tuple(catalogue.records[index] for index in order))
    assert draw_folds(shuffled, n_folds=3, seed=5) == draw_folds(catalogue, n_folds=3, seed=5)


def test_the_seed_decides_which_images_and_nothing_else() -> None:
    catalogue = make_single_images(a=12, b=9)
    tables = [draw_folds(catalogue, n_folds=3, seed=seed) for seed in range(4)]
    assert len({fold.test for table in tables for fold in table.folds[:1]}) == 4
    assert len({len(fold.test) for table in tables for fold in table.folds}) == 1
    assert draw_folds(catalogue, n_folds=3, seed=2) == tables[2]


def test_the_table_is_the_same_in_every_release() -> None:
    table = draw_folds(make_single_images(a=3, b=4), n_folds=3, seed=0)
    assert [fold.test for fold in table.folds] == [("a/0", "b/1", "b/3"), ("a/2", "b/2"), ("a/1", "b/0")]


def test_leaving_a_class_out_leaves_the_others_where_they_were() -> None:
    whole = draw_folds(make_single_images(a=10, b=10, c=10), n_folds=5, seed=1)
    less = draw_folds(make_single_images(a=10, c=10), n_folds=5, seed=1)
    for fold, smaller in zip(whole.folds, less.folds, strict=True):
        assert tuple(image_id for image_id in fold.test if not image_id.startswith("b")) == smaller.test


@pytest.mark.parametrize("n_folds", [-1, 0, 1, 2])
def test_fewer_than_three_folds_are_refused(n_folds: int) -> None:
    with pytest.raises(SettingsError, match=f"folds must be 3 or more, got {n_folds}"):
        draw_folds(make_single_images(a=10, b=10), n_folds=n_folds, seed=0)


def test_a_class_too_small_is_named_with_the_ways_out() -> None:
    with pytest.raises(ClassTooSmallError) as caught:
        draw_folds(make_single_images(big=10, other=10, tiny=2), n_folds=5, seed=0)
    assert str(caught.value) == (
        "class 'tiny' has 2 groups (2 images), but 5 folds need at least 5 groups of each class. "
        f"What you can do: set exclude=tiny, or add at least 3 images of other fields of view.{TOO_FEW_FOR_ANY}"
    )
    assert caught.value.changes == {"exclude": "tiny"}
    with pytest.raises(ClassTooSmallError) as caught:
        draw_folds(make_single_images(big=10, other=10, four=4, three=3), n_folds=5, seed=0)
    assert str(caught.value) == (
        "class 'four' has 4 groups (4 images); class 'three' has 3 groups (3 images), but 5 folds need at least "
        "5 groups of each class. What you can do: set folds=3, or set exclude=four,three, or add at least 2 images "
        "of other fields of view."
    )
    assert caught.value.changes == {"folds": "3"}


def test_a_class_too_small_for_any_folds_may_be_left_out_and_fewer_folds_drawn_for_the_others() -> None:
    catalogue = make_single_images(big=10, four=4, other=10, tiny=1)
    with pytest.raises(
        ClassTooSmallError, match="set exclude=tiny and folds=4, or set exclude=four,tiny, or"
    ) as caught:
        draw_folds(catalogue, n_folds=5, seed=0)
    assert caught.value.changes == {"exclude": "tiny", "folds": "4"}
    assert len(draw_folds(make_single_images(big=10, four=4, other=10), n_folds=4, seed=0).folds) == 4


@pytest.mark.parametrize(
    ("n_images", "ways"),
    [
        ({"a": 3, "b": 3, "c": 3}, "What you can do: set folds=3, or add at least 2 images of other fields of view."),
        ({"a": 2, "b": 9}, "What you can do: add at least 3 images of other fields of view."),
        ({"a": 2, "b": 9, "c": 9}, "What you can do: set exclude=a, or add at least 3 images of other fields of view."),
        (
            {"a": 2, "b": 9, "c": 4},
            "What you can do: set exclude=a and folds=4, or add at least 3 images of other fields of view.",
        ),
    ],
)
def test_no_classes_are_to_be_excluded_that_a_search_needs(n_images: dict[str, int], ways: str) -> None:
    with pytest.raises(ClassTooSmallError) as caught:
        draw_folds(make_single_images(**n_images), n_folds=5, seed=0)
    assert str(caught.value).removesuffix(TOO_FEW_FOR_ANY).endswith(ways)


def test_many_small_classes_are_counted() -> None:
    with pytest.raises(ClassTooSmallError, match="; 20 more classes are as small, but 5 folds need") as caught:
        draw_folds(make_single_images(**{f"c{number:02}": 2 for number in range(30)}), n_folds=5, seed=0)
    assert str(caught.value).count(" has 2 groups") == 10


def test_many_images_of_one_group_are_one_group() -> None:
    rows = [(f"a/{number}", "a", "same") for number in range(20)] + [(f"b/{n}", "b", f"b{n}") for n in range(5)]
    with pytest.raises(ClassTooSmallError, match=r"class 'a' has 1 group \(20 images\)"):
        draw_folds(make_catalogue(rows), n_folds=5, seed=0)


def test_classes_that_hang_together_are_told() -> None:
    rows = [("1", "a", "x"), ("2", "b", "x"), ("3", "b", "x"), ("4", "a", "y"), ("5", "a", "z"), ("6", "b", "y")]
    with pytest.raises(ClassTooSmallError, match="class 'b' has 2 groups"):
        draw_folds(make_catalogue(rows), n_folds=3, seed=0)


def make_leak_free() -> tuple[FoldTable, Catalogue]:
    catalogue = make_catalogue((f"{label}{n}", label, f"{label}{n // 2}") for label in "ab" for n in range(6))
    return draw_folds(catalogue, n_folds=3, seed=0), catalogue


def replace_fold(table: FoldTable, **splits: tuple[str, ...]) -> FoldTable:
    return dataclasses.replace(table, folds=(dataclasses.replace(table.folds[0], **splits), *table.folds[1:]))


def test_leaks_made_by_hand_are_caught() -> None:
    table, catalogue = make_leak_free()
    first = table.folds[0]
    moved = first.training[0]
    cases = {
        "has group": replace_fold(table, training=first.training[1:], validation=(*first.validation, moved)),
        f"has image {first.test[0]} 2 times, not 1": replace_fold(table, validation=(*first.validation, first.test[0])),
        f"has image {moved} 2 times, not 1": replace_fold(table, training=(*first.training, moved)),
        f"has image {moved} 0 times, not 1": replace_fold(table, training=first.training[1:]),
        "has image stranger 1 times, not 0": replace_fold(table, test=(*first.test, "stranger")),
        "is a test image 2 times, not once": dataclasses.replace(table, folds=(first, *table.folds)),
        "is a test image 0 times, not once": dataclasses.replace(table, folds=table.folds[1:]),
        f"image {catalogue.records[0].image_id} is a test image 0 times": dataclasses.replace(table, folds=()),
    }
    check_folds(table, catalogue=catalogue)
    for message, leaking in cases.items():
        with pytest.raises(LeakError) as caught:
            check_folds(leaking, catalogue=catalogue)
        assert message in str(caught.value)


def test_groups_that_grew_after_the_draw_are_a_leak() -> None:
    table, catalogue = make_leak_free()
    one, other = table.folds[0].test[0], table.folds[0].training[0]
    grown = catalogue.with_groups({one: "together", other: "together"})
    with pytest.raises(LeakError, match="has group together in two splits, training and test"):
        check_folds(table, catalogue=grown)


def test_every_single_move_of_an_image_is_caught() -> None:
    table, catalogue = make_leak_free()
    fold = table.folds[1]
    for source in ("training", "validation", "test"):
        for target in ("training", "validation", "test"):
            for image_id in fold.splits[source]:
                if source == target:
                    continue
                changed = dataclasses.replace(
                    fold,
                    **{source: tuple(i for i in fold.splits[source] if i != image_id)},
                    **{target: (*fold.splits[target], image_id)},
                )
                leaking = dataclasses.replace(table, folds=(table.folds[0], changed, table.folds[2]))
                with pytest.raises(LeakError):
                    check_folds(leaking, catalogue=catalogue)


def test_json_round_trip() -> None:
    table, _ = make_leak_free()
    assert FoldTable.from_json(table.to_json()) == table
    assert FoldTable.from_json(json.dumps(json.loads(table.to_json()))).digest == table.digest
    assert dataclasses.replace(table, seed=1).digest != table.digest
    assert replace_fold(table, test=("x",)).digest != table.digest


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"folds": [{"number": 0}], "seed": 0}', '{"folds": 1, "seed": 0}'])
def test_damaged_json_is_told(text: str) -> None:
    with pytest.raises(StoreError, match="a stored fold table is damaged"):
        FoldTable.from_json(text)


def test_sides_of_a_fold_by_name() -> None:
    fold = Fold(number=0, training=("a",), validation=("b",), test=("c",))
    assert fold.splits == {"training": ("a",), "validation": ("b",), "test": ("c",)}

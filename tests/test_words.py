"""The phrases that messages share."""

import csv

import pytest

from sem_search.words import count, join_some, join_values, join_words, name_some, read_list, write_duration, write_list


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "image", "1 image"),
        (2, "image", "2 images"),
        (0, "note", "0 notes"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (1800, "image", "1,800 images"),
    ],
)
def test_count(number: int, noun: str, words: str) -> None:
    assert count(number, noun) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (150, "2 min 30 s"), (3600, "1 h 0 min"), (98765, "27 h 26 min")],
)
def test_write_duration(seconds: float, words: str) -> None:
    assert write_duration(seconds) == words


@pytest.mark.parametrize(("words", "joined"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_join_words(words: list[str], joined: str) -> None:
    assert join_words(words) == joined


@pytest.mark.parametrize(
    ("names", "words"), [("dbca", "a, b, c and d"), ("a", "a"), ("fedcba", "a, b, c and 3 more"), ("ba", "a and b")]
)
def test_some_are_named_and_all_are_counted(names: str, words: str) -> None:
    assert name_some(list(names)) == words


@pytest.mark.parametrize(
    "names",
    [(), ("a",), ("a", "b"), ("MCC, 50 um", "starch"), ('the "fine" one', "a,b,c"), ("Lactose; \u03b1", "d'or", 'x"y')],
)
def test_names_with_any_sign_go_through_a_setting(names: tuple[str, ...]) -> None:
    assert read_list(write_list(names)) == names


@pytest.mark.parametrize(
    ("line", "names"),
    [("", ()), (" , ", ()), ("a, b ,c", ("a", "b", "c")), ('"MCC, 50 um", starch', ("MCC, 50 um", "starch"))],
)
def test_a_list_is_read_as_it_is_written_by_hand(line: str, names: tuple[str, ...]) -> None:
    assert read_list(line) == names


def test_blanks_round_a_name_and_empty_names_are_lost() -> None:
    assert read_list(write_list([" x", "y ", "", "a b"])) == ("x", "y", "a b")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a\nb", "a line break outside quotation marks"),
        ("a\rb", "a line break outside quotation marks"),
        ("x" * 200_000, "200,000 characters"),
    ],
)
def test_a_line_that_is_none_is_a_value_error(line: str, found: str) -> None:
    limit = csv.field_size_limit(131_072)  # Python's own; a server in this process raises it
    try:
        with pytest.raises(ValueError, match=f"^names by commas are expected in one line, but it holds {found}$"):
            read_list(line)
    finally:
        csv.field_size_limit(limit)


def test_long_lists_are_cut_and_counted() -> None:
    assert join_some(["a 1", "b 2"], noun="class") == "a 1; b 2"
    many = join_some([f"c{number}" for number in range(1500)], noun="class")
    assert many.endswith("c9; and 1,490 more classes")
    assert join_values([("8 bits", 4)]) == "8 bits (4)"
    assert join_values([(f"{n} px", 1) for n in range(12)]).endswith("9 px (1) and 2 more")

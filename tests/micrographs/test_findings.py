"""How findings name what they are about."""

import pytest

from sem_search.micrographs.findings import count, join_words, name_some


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "image", "1 image"),
        (2, "image", "2 images"),
        (0, "note", "0 notes"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
    ],
)
def test_count(number: int, noun: str, words: str) -> None:
    assert count(number, noun) == words


@pytest.mark.parametrize(("words", "joined"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_join_words(words: list[str], joined: str) -> None:
    assert join_words(words) == joined


@pytest.mark.parametrize(
    ("names", "words"), [("dbca", "a, b, c and d"), ("a", "a"), ("fedcba", "a, b, c and 3 more"), ("ba", "a and b")]
)
def test_some_are_named_and_all_are_counted(names: str, words: str) -> None:
    assert name_some(list(names)) == words

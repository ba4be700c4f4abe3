"""Labels that can be drawn, and told apart."""

import warnings

import pytest

from sem_search.tracking.figures.style import (
    is_drawable,
    make_caption,
    make_figure,
    make_labels,
    map_labels,
    render_figure,
    shorten,
    wrap,
)

PRIVATE = "\ue123"
"""A character of the private use area: no ordinary font draws it."""


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["fine", "rough"], ("fine", "rough")),
        (["a\nb\tc"], ("a b c",)),
        (["fine", PRIVATE], ("fine", "class 2")),
        (["$x$"], (r"\$x\$",)),
        (["a" * 60 + "1", "a" * 60 + "1 "], (f"{'a' * 17}…{'a' * 17}1 (1)", f"{'a' * 17}…{'a' * 17}1 (2)")),
        (["класс β"], ("класс β",)),
    ],
)
def test_labels_are_short_drawable_and_distinct(names: list[str], labels: tuple[str, ...]) -> None:
    made = make_labels(names)
    assert made == labels
    assert len(set(made)) == len(names)


def test_a_class_has_one_label_in_every_figure() -> None:
    ordered = ["a" * 60, "a" * 61, "b"]
    assert tuple(map_labels(["b", *ordered[::-1]]).items()) == tuple(zip(ordered, make_labels(ordered), strict=True))


@pytest.mark.parametrize(
    ("text", "length", "short"),
    [("abc", 3, "abc"), ("abcdef", 5, "ab…ef"), ("abcdefg", 6, "ab…efg"), ("  a   b ", 9, "a b")],
)
def test_long_text_loses_its_middle(text: str, length: int, short: str) -> None:
    assert shorten(text, length=length) == short


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("short", ["short"]),
        ("cellulose-elongated", ["cellulose-", "elongated"]),
        ("x" * 36, ["x" * 18, "x" * 18]),
        ("aaa bbbbbbbbbbbbbbbbbb ccccccccccccc", ["aaa bbbbbbbbbbbbbb", "bbbb ccccccccccccc"]),
        (r"\$a", [r"\$a"]),
    ],
)
def test_labels_take_two_lines_at_most(label: str, lines: list[str]) -> None:
    assert wrap(label).split("\n") == lines


def test_a_caption_shows_no_character_that_no_font_has() -> None:
    assert make_caption(f"a{PRIVATE}/b$.png", length=20) == r"a?/b\$.png"
    assert is_drawable("Å β й")
    assert not is_drawable(PRIVATE)


def test_equal_figures_give_equal_bytes_without_a_warning() -> None:
    def draw() -> bytes:
        figure = make_figure(width_in=2, height_in=1)
        figure.add_subplot().set_title(make_labels(["$a$ £", PRIVATE])[0])
        return render_figure(figure, suffix=".png")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw() == draw()

"""Text from outside, made harmless where it is shown."""

import ast
import json
import logging
import sys
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

import sem_search
from sem_search.terminal import (
    PlainFormatter,
    align_columns,
    echo,
    interruptible,
    print_warnings,
    protect_cell,
    show_controls,
    show_line,
    warn,
)

CLEAR, TITLE, BELL, C1, RIGHT_TO_LEFT = "\x1b[2J", "\x1b]0;pwned\x07", "\x07", "\x9b2J", "\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("größe µm 图像 a\tb\nc", "größe µm 图像 a\tb\nc"),
        (f"a{CLEAR}b", "a\\u001b[2Jb"),
        (TITLE, "\\u001b]0;pwned\\u0007"),
        (C1, "\\u009b2J"),
        ("good\rbad", "good\\u000dbad"),
        ("a\x00\x08\x7f", "a\\u0000\\u0008\\u007f"),
        (f"a{RIGHT_TO_LEFT}b", "a\\u202eb"),
        ("a\udcff", "a\\udcff"),
    ],
)
def test_control_characters_are_spelt_out(text: str, shown: str) -> None:
    assert show_controls(text) == shown
    assert show_controls(shown) == shown


def test_one_line_stays_one_line() -> None:
    assert show_line("a\n2. promoted\tb\u2028c") == "a\\u000a2. promoted\\u0009b\\u2028c"


def test_json_stays_json() -> None:
    content = {"reason": f"{C1}{RIGHT_TO_LEFT}\x7f"}
    assert json.loads(show_controls(json.dumps(content, ensure_ascii=False))) == content


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_compute_is_marked(start: str) -> None:
    assert protect_cell(f"{start}HYPERLINK(1)") == f"'{start}HYPERLINK(1)"
    assert protect_cell(f"a{start}b") == f"a{start}b"


@pytest.mark.parametrize("value", [-1.5, -3, None, True, "", "starch", "'=1"])
def test_numbers_and_other_texts_stay_as_they_are(value: Any) -> None:
    assert protect_cell(value) is value


@pytest.mark.parametrize(
    ("is_right", "lines"),
    [((), ["name    n", "a       1", "longer  100"]), ((False, True), ["name      n", "a         1", "longer  100"])],
)
def test_columns_stand_below_one_another(is_right: tuple[bool, ...], lines: list[str]) -> None:
    assert align_columns([("name", "n"), ("a", "1"), ("longer", "100")], is_right=is_right) == lines


def test_printed_and_logged_text_is_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"a{BELL}", nl=False)
    echo(f"b{BELL}", err=True)
    assert capsys.readouterr() == ("a\\u0007", "b\\u0007\n")
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "served %s", (CLEAR,), None)
    assert PlainFormatter("%(message)s").format(record) == "served \\u001b[2J"


NO_FILES = {"words.py", "data_sets.py"}
"""Names in a message are quoted there as a list of settings is read. What is left of a set is read by a search, for
which an apostrophe would be part of a class's name. No spreadsheet opens either."""


def test_every_csv_that_is_written_marks_formulas() -> None:
    writers = []
    for file in sorted(Path(sem_search.__file__).parent.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        writes = called & {"csv.writer", "csv.DictWriter"} or any(name.endswith(".to_csv") for name in called)
        if writes and file.name not in NO_FILES:
            assert any(isinstance(node, ast.Name) and node.id == "protect_cell" for node in nodes), file
            writers.append(file.name)
    assert len(writers) >= 3


def test_the_command_line_prints_each_warning_of_ours_and_leaves_others_to_python(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with warnings.catch_warnings():
        others: list[str] = []
        warnings.showwarning = lambda message, *_: others.append(str(message))
        print_warnings()
        for _ in range(2):
            warn("the cache was damaged\x1b[2J")
        warnings.warn("of a library", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: the cache was damaged\\u001b[2J\n" * 2
    assert others == ["of a library"]


class _Interrupting:
    def __del__(self) -> None:
        raise KeyboardInterrupt


def _make_interrupting_weak_reference() -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    collected = set[int]()
    reference = weakref.ref(collected, interrupt)
    del collected
    assert reference() is None


@pytest.mark.parametrize("make_garbage", [_Interrupting, _make_interrupting_weak_reference])
def test_an_interruption_that_comes_while_garbage_is_collected_ends_what_runs(make_garbage: Any) -> None:
    before, begun_s = sys.unraisablehook, time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        make_garbage()
        time.sleep(30)
    assert time.monotonic() - begun_s < 15
    assert sys.unraisablehook is before


def test_an_interruption_at_the_very_end_hits_nothing_later() -> None:
    with interruptible():
        _Interrupting()
    time.sleep(0.2)


def test_other_faults_in_a_destructor_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty:
        def __del__(self) -> None:
            raise ValueError("of a library")

    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(str(dropped.exc_value)))
    with interruptible():
        Faulty()
        time.sleep(0.2)
    assert told == ["of a library"]

"""Progress is a bar on a terminal, plain lines elsewhere, and silence where nobody asked."""

import pytest

from sem_search import progress
from sem_search.progress import ProgressMeter, iter_measured


def test_plain_lines_tell_the_rate_and_end_with_a_sum(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with ProgressMeter("Features", total=4, unit="tiles", is_shown=True) as meter:
        meter.update(1)
        meter.update(3)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert [line.split(" in ")[0] for line in lines] == [
        "Features: 1 of 4 tiles",
        "Features: 4 of 4 tiles",
    ]
    assert " s left (" in lines[0]
    assert "left" not in lines[1]
    assert lines[-1].endswith("tiles/s)")


@pytest.mark.parametrize(("seconds", "left"), [(1, " in 1.0 s, 3 s left (1.0"), (60, " in 60.0 s, 3 min left (0.0")])
def test_lines_tell_the_time_left(capsys, monkeypatch, seconds, left):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with ProgressMeter("Features", total=4, unit="tiles", is_shown=True) as meter:
        now[0] = seconds
        meter.update(1)
    assert left in capsys.readouterr().err


def test_lines_do_not_come_more_often_than_every_few_seconds(capsys):
    with ProgressMeter("Features", total=None, unit="tiles", is_shown=True) as meter:
        for _ in range(100):
            meter.update(1)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressMeter("Features", total=4, unit="tiles", is_shown=True) as meter:
        meter.update(4)
    assert "Features: 100%" in capsys.readouterr().err


def test_silence_where_nothing_is_to_be_shown(capsys):
    with ProgressMeter("Features", total=4, unit="tiles", is_shown=False) as meter:
        meter.update(4)
    assert capsys.readouterr().err == ""


def test_no_sum_after_an_error(capsys):
    with pytest.raises(ValueError, match="torn"), ProgressMeter("Features", total=4, unit="tiles", is_shown=True):
        raise ValueError("torn")
    assert capsys.readouterr().err == ""


def test_measured_items_come_as_they_are_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(iter_measured("abc", label="Reading", total=3, unit="files", is_shown=True)) == ["a", "b", "c"]
    assert "Reading: 3 of 3 files" in capsys.readouterr().err
    assert list(iter_measured("abc", label="Reading", total=3, unit="files", is_shown=False)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""

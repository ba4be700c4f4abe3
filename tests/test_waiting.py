"""What is away is waited for, with growing pauses, and said once."""

from types import SimpleNamespace

import pytest

from sem_search import waiting
from sem_search.errors import StoreError
from sem_search.waiting import repeat_while_away


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made, which take no time."""
    now, made = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        made.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    return made


def ask(*answers: Exception | str, wait_s: float, warnings: list[str] | None = None) -> str:
    """Ask for something that gives these answers, the last one for ever."""
    left = list(answers)

    def act() -> str:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return repeat_while_away(
        act,
        name="The hall",
        is_away=lambda error: isinstance(error, ConnectionError),
        wait_s=wait_s,
        warn=(warnings if warnings is not None else []).append,
        advice="Come back.",
    )


def test_it_is_asked_again_and_warned_of_once(pauses: list[float]) -> None:
    warnings: list[str] = []
    assert ask(ConnectionError(), ConnectionError(), ConnectionError(), "done", wait_s=60, warnings=warnings) == "done"
    assert pauses == [0.5, 1.0, 2.0]
    assert warnings == ["The hall does not answer; waiting for it, at most 60 s.", "The hall answers again."]


def test_what_answers_is_not_spoken_of(pauses: list[float]) -> None:
    warnings: list[str] = []
    assert ask("done", wait_s=60, warnings=warnings) == "done"
    assert (pauses, warnings) == ([], [])


def test_a_pause_ends_with_the_wait(pauses: list[float]) -> None:
    with pytest.raises(StoreError, match=r"^The hall has not answered for 45 s\. Come back\.$") as caught:
        ask(ConnectionError("with a password"), wait_s=45)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 13.5]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_without_a_wait_it_is_asked_once(pauses: list[float]) -> None:
    with pytest.raises(StoreError, match=r"^The hall does not answer\. Come back\.$"):
        ask(ConnectionError(), wait_s=0)
    assert pauses == []


def test_a_refusal_is_raised_at_once(pauses: list[float]) -> None:
    with pytest.raises(PermissionError):
        ask(PermissionError(), wait_s=60)
    assert pauses == []

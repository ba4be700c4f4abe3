from collections.abc import Sequence
from dataclasses import replace

import pytest

from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.history import (
    count_forks,
    find_previous_champion,
    iter_problems,
    read_history,
)


def build_entry(to: str | None, *, after: Sequence[HistoryEntry] = (), **changes: object) -> HistoryEntry:
    """Return an honest entry that follows others."""
    values = {
        "number": max((entry.number for entry in after), default=0) + 1,
        "previous": tuple(sorted(entry.sha256 for entry in after)),
        "model": "m",
        "at": "2025-01-01T00:00:00.000+00:00",
        "who": "w",
        "action": "promoted",
        "alias": "champion",
        "from_version": after[-1].to_version if after else None,
        "to_version": to,
        "reason": "r",
    }
    return HistoryEntry(**{**values, **changes})


def build_chain(*versions: str | None) -> list[HistoryEntry]:
    chain: list[HistoryEntry] = []
    for version in versions:
        chain.append(build_entry(version, after=chain[-1:]))
    return chain


def write_tags(entries: Sequence[HistoryEntry]) -> dict[str, str]:
    return {"other": "tag"} | {entry.key: entry.to_json() for entry in reversed(entries)}


def find_problems(tags: dict[str, str]) -> list[str]:
    return list(iter_problems(read_history(tags)))


def test_no_history_has_no_problem() -> None:
    history = read_history({"other": "tag"})
    assert (history.entries, history.heads, history.next_number) == ((), (), 1)
    assert history.recorded_champions == {None}
    assert list(iter_problems(history)) == []


def test_an_honest_history_has_no_problem() -> None:
    chain = build_chain("1", "2", "3", "2")
    history = read_history(write_tags(chain))
    assert list(history.entries) == chain
    assert history.heads == (chain[-1].sha256,)
    assert history.next_number == 5
    assert history.recorded_champions == {"2"}
    assert list(iter_problems(history)) == []
    assert count_forks(history) == 0


def test_a_challenger_changes_no_champion() -> None:
    first = build_entry("1")
    second = build_entry("2", after=[first], alias="challenger", from_version=None)
    third = build_entry("2", after=[second], from_version="1")
    assert find_problems(write_tags([first, second, third])) == []
    assert read_history(write_tags([first, second])).recorded_champions == {"1"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_altered_entry_is_named(number: int) -> None:
    chain = build_chain("1", "2", "3")
    altered = chain[number - 1]
    tags = write_tags(chain)
    tags[altered.key] = tags[altered.key].replace('"who":"w"', '"who":"x"')
    assert find_problems(tags)[0].startswith(f"entry {number} was altered: its hash is ")


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_entry_is_named_by_the_one_after(number: int) -> None:
    chain = build_chain("1", "2", "3")
    tags = write_tags(chain)
    del tags[chain[number - 1].key]
    assert find_problems(tags)[0].startswith(f"entry {number + 1} follows an entry with the hash ")


def test_the_last_entry_removed_is_not_seen_from_the_entries_alone() -> None:
    chain = build_chain("1", "2", "3")
    assert find_problems(write_tags(chain[:-1])) == []


def test_an_entry_rewritten_with_a_new_hash_breaks_the_next() -> None:
    chain = build_chain("1", "2", "3")
    forged = replace(chain[1], reason="forged")
    assert "entry 3 follows an entry with the hash" in find_problems(write_tags([chain[0], forged, chain[2]]))[0]


def test_an_entry_moved_to_another_tag_is_named() -> None:
    chain = build_chain("1", "2")
    tags = write_tags(chain)
    tags["sem_search.history.000002.00000000"] = tags.pop(chain[1].key)
    assert (
        f"entry 2 stands in the tag sem_search.history.000002.00000000, and belongs into {chain[1].key}"
        in (find_problems(tags)[0])
    )


def test_a_tag_that_is_no_entry_is_named() -> None:
    tags = write_tags(build_chain("1")) | {"sem_search.history.000002.aaaaaaaa": "nonsense"}
    assert find_problems(tags) == [
        "history tag sem_search.history.000002.aaaaaaaa does not hold an entry: it was altered."
    ]


def test_a_wrong_number_is_named() -> None:
    first = build_entry("1")
    assert (
        "entry 5 should have the number 2"
        in find_problems(write_tags([first, build_entry("2", after=[first], number=5)]))[0]
    )


def test_a_champion_out_of_nowhere_is_named() -> None:
    first = build_entry("1")
    inserted = build_entry("3", after=[first], from_version="2")
    assert find_problems(write_tags([first, inserted])) == [
        "entry 2 says that version 2 was champion before, and the entry before does not."
    ]


def test_two_moves_at_the_same_moment_are_a_fork_until_the_next_move_joins_them() -> None:
    first = build_entry("1")
    left, right = (build_entry(version, after=[first]) for version in ("2", "3"))
    forked = read_history(write_tags([first, left, right]))
    assert set(forked.heads) == {left.sha256, right.sha256}
    assert forked.recorded_champions == {"2", "3"}
    problems = list(iter_problems(forked))
    assert len(problems) == 1
    assert problems[0].startswith("the history forks: entry 2 (")
    joined = build_entry("2", after=[left, right], from_version="3")
    history = read_history(write_tags([first, left, right, joined]))
    assert list(iter_problems(history)) == []
    assert history.heads == (joined.sha256,)
    assert count_forks(history) == 1


def test_two_first_entries_are_a_fork() -> None:
    assert "forks" in find_problems(write_tags([build_entry("1"), build_entry("2")]))[-1]


@pytest.mark.parametrize(
    ("moves", "champion", "previous"),
    [
        ("", None, None),
        ("1", "1", None),
        ("1 2", "2", "1"),
        ("1 2 3", "3", "2"),
        ("1 2 3 <2", "2", "1"),
        ("1 2 3 <2 <1", "1", None),
        ("1 2 3 <2 4", "4", "2"),
        ("1 2 1", "1", "2"),
        ("1 2 1 <2", "2", "1"),
        ("1 2 ?", None, "2"),  # the alias is gone: who held it last
        ("1 2 ? 3", "3", "2"),
        ("1 2 ?3", "3", "2"),
        ("1 1", "1", None),
    ],
)
def test_the_champion_before(moves: str, champion: str | None, previous: str | None) -> None:
    chain: list[HistoryEntry] = []
    for word in moves.split():
        action = {"<": "rolled back", "?": "found"}.get(word[0], "promoted")
        chain.append(build_entry(word.lstrip("<?") or None, after=chain[-1:], action=action))
    assert find_previous_champion(read_history(write_tags(chain)), champion=champion) == previous


def test_challengers_were_never_champion() -> None:
    first = build_entry("1")
    second = build_entry("2", after=[first], alias="challenger", from_version=None)
    assert find_previous_champion(read_history(write_tags([first, second])), champion="1") is None


def test_what_was_registered_is_found() -> None:
    chain = [build_entry("1", action="registered")]
    chain.append(build_entry("2", after=chain, action="registered"))
    history = read_history(write_tags(chain))
    assert history.find(action="registered", version="2") == chain[1]
    assert history.find(action="promoted", version="2") is None

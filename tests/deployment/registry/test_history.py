import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sem_search.deployment.registry.history import (
    LONGEST_TAG,
    History,
    HistoryEntry,
    describe_champion_state,
    format_canonical,
    iter_problems,
    read_history,
)
from sem_search.errors import SettingsError

ENTRY = HistoryEntry(
    number=7,
    previous=("a" * 64,),
    model="sem-search-tiny",
    at="2025-01-02T03:04:05.678+00:00",
    who="iwata",
    action="promoted by hand",
    alias="champion",
    from_version="1",
    to_version="2",
    reason="bessere Aufnahmen, größerer Datensatz",
    scores={"1": {"score": 0.7}, "2": {"score": 0.1 + 0.2}},
    comparison={"difference": -0.4},
    hashes={"data_sha256": "d"},
    run_id="r",
).seal()

CHANGES = {
    "number": 8,
    "previous": ("b" * 64,),
    "model": "another",
    "at": "2025-01-02T03:04:05.679+00:00",
    "who": "hayashi",
    "action": "promoted",
    "alias": "challenger",
    "from_version": None,
    "to_version": "3",
    "reason": "bessere Aufnahmen, größerer Datensatz.",
    "scores": {"1": {"score": 0.7}, "2": {"score": 0.3}},
    "comparison": None,
    "hashes": {"data_sha256": "e"},
    "run_id": None,
}


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
    return HistoryEntry(**{**values, **changes}).seal()


def build_chain(*versions: str | None) -> list[HistoryEntry]:
    chain: list[HistoryEntry] = []
    for version in versions:
        chain.append(build_entry(version, after=chain[-1:]))
    return chain


def write_tags(entries: Sequence[HistoryEntry]) -> dict[str, str]:
    return {"other": "tag"} | {entry.key: entry.to_json() for entry in reversed(entries)}


def read(tags: dict[str, str], *, champion: str | None = None) -> History:
    aliases = {} if champion is None else {"champion": champion}
    return read_stored(name="m", tags=tags, aliases=aliases)


def read_stored(**stored: Any) -> History:
    """Return the history of a registered model as a client gives it."""
    client = SimpleNamespace(get_registered_model=lambda _: SimpleNamespace(**stored))
    return read_history(client, name=stored["name"])


def find_problems(tags: dict[str, str]) -> list[str]:
    return list(iter_problems(read(tags)))


def test_an_entry_survives_being_written_and_read() -> None:
    assert read({ENTRY.key: ENTRY.to_json()}).entries == (ENTRY,)
    assert ENTRY.compute_sha256() == ENTRY.sha256


def test_every_field_is_part_of_the_hash() -> None:
    assert set(CHANGES) == set(HistoryEntry.__dataclass_fields__) - {"sha256"}
    hashes = {replace(ENTRY, **{name: value}).compute_sha256() for name, value in CHANGES.items()}
    assert len(hashes | {ENTRY.sha256}) == len(CHANGES) + 1


def test_the_hash_does_not_depend_on_the_order_of_mappings() -> None:
    turned = replace(ENTRY, scores={"2": {"score": 0.1 + 0.2}, "1": {"score": 0.7}})
    assert turned.to_json() == ENTRY.to_json()


def test_the_hash_is_the_same_for_ever() -> None:
    """A change here makes every history of before look altered: raise FORMAT_VERSION and read both."""
    assert ENTRY.sha256 == "c27b797e9df953d748b40625306bcb68c2dede3c3aa14f50c1fd792c37b03325"


def test_a_history_of_before_is_read_and_sound() -> None:
    """Written when a mark showed whether the last move was carried out, and runs held copies of the entries."""
    stored = json.loads((Path(__file__).parent / "history_of_format_1.json").read_text(encoding="utf-8"))
    history = read_stored(**stored)
    assert list(iter_problems(history)) == []
    assert [(entry.action, entry.alias, entry.from_version, entry.to_version) for entry in history.entries] == [
        ("registered", "champion", None, "1"),
        ("registered", "challenger", None, "2"),
        ("registered", "champion", "1", "3"),
        ("promoted by hand", "champion", "3", "2"),
        ("rolled back", "champion", "2", "3"),
        ("found", "champion", "3", "1"),
        ("promoted", "champion", "1", "3"),
    ]
    assert history.champion == history.recorded_champion == "3"
    assert history.entries[3].reason == "the client asked for it: 5 µm"
    assert history.entries[2].comparison["test"]["low"] == 0.394826392297867
    assert {entry.key: entry.to_json() for entry in history.entries}.items() <= stored["tags"].items()


@pytest.mark.parametrize("byte", range(0, 400, 7))
def test_an_altered_character_is_seen(byte: int) -> None:
    entry = build_entry("1", reason="r" * 100)
    text = entry.to_json()
    altered = text[:byte] + chr(ord(text[byte]) ^ 1) + text[byte + 1 :]
    assert find_problems({entry.key: altered}) != []


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "7", '{"format": 1}', "{not json", ENTRY.to_json().replace("by hand", "dreamt")]
)
def test_a_tag_that_holds_no_entry_is_named(text: str) -> None:
    tags = write_tags(build_chain("1")) | {"sem_search.history.000002.aaaaaaaa": text}
    assert find_problems(tags) == [
        "history tag sem_search.history.000002.aaaaaaaa does not hold its entry: it was altered."
    ]


def test_an_entry_under_another_name_is_named() -> None:
    chain = build_chain("1", "2")
    tags = write_tags(chain)
    tags["sem_search.history.000002.00000000"] = tags.pop(chain[1].key)
    assert "tag sem_search.history.000002.00000000 does not hold its entry" in find_problems(tags)[0]


def test_an_entry_of_a_later_format_is_named() -> None:
    problems = find_problems({ENTRY.key: ENTRY.to_json().replace('"format":1', '"format":2')})
    assert problems[0].startswith(f"history tag {ENTRY.key} has format 2, and this sem_search reads format 1")


def test_a_reason_too_long_to_be_kept_is_refused() -> None:
    longest = LONGEST_TAG - len(replace(ENTRY, reason="").to_json())
    assert len(replace(ENTRY, reason="x" * longest).to_json()) == LONGEST_TAG
    with pytest.raises(SettingsError, match=f"the reason is too long: with {longest + 1} characters"):
        replace(ENTRY, reason="x" * (longest + 1)).to_json()


def test_keys_sort_as_numbers() -> None:
    keys = [replace(ENTRY, number=number).key for number in (9, 10, 999999)]
    assert keys == sorted(keys)


def test_canonical_json_has_one_form() -> None:
    assert format_canonical({"b": [1.0, None], "a": "ä"}) == '{"a":"ä","b":[1.0,null]}'
    with pytest.raises(ValueError, match="JSON"):
        format_canonical({"a": float("nan")})


def test_no_history_has_no_problem() -> None:
    history = read({"other": "tag"})
    assert (history.entries, history.heads, history.recorded_champion, history.last_sha256) == ((), (), None, None)
    assert list(iter_problems(history)) == []


def test_an_honest_history_has_no_problem() -> None:
    chain = build_chain("1", "2", "3", "2")
    history = read(write_tags(chain))
    assert list(history.entries) == chain
    assert history.heads == (chain[-1].sha256,)
    assert (history.last_sha256, history.recorded_champion) == (chain[-1].sha256, "2")
    assert list(iter_problems(history)) == []


def test_a_challenger_changes_no_champion() -> None:
    first = build_entry("1")
    second = build_entry("2", after=[first], alias="challenger", from_version=None)
    third = build_entry("2", after=[second], from_version="1")
    assert find_problems(write_tags([first, second, third])) == []
    assert read(write_tags([first, second])).recorded_champion == "1"
    assert read(write_tags([first, second]), champion="1").previous_champion is None


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
    assert find_problems(write_tags(build_chain("1", "2", "3")[:-1])) == []


def test_an_entry_rewritten_with_a_new_hash_breaks_the_next() -> None:
    chain = build_chain("1", "2", "3")
    forged = replace(chain[1], reason="forged").seal()
    assert "entry 3 follows an entry with the hash" in find_problems(write_tags([chain[0], forged, chain[2]]))[0]


def test_a_wrong_number_is_named() -> None:
    first = build_entry("1")
    tags = write_tags([first, build_entry("2", after=[first], number=5)])
    assert "entry 5 should have the number 2" in find_problems(tags)[0]


def test_two_moves_at_the_same_moment_are_a_fork_until_the_next_move_joins_them() -> None:
    first = build_entry("1")
    left, right = (build_entry(version, after=[first]) for version in ("2", "3"))
    forked = read(write_tags([first, left, right]))
    assert set(forked.heads) == {left.sha256, right.sha256}
    (problem,) = iter_problems(forked)
    assert problem.startswith("the history forks: entry 2 (")
    joined = build_entry("2", after=[left, right], from_version="3")
    history = read(write_tags([first, left, right, joined]))
    assert list(iter_problems(history)) == []
    assert history.heads == (joined.sha256,)


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
        ("1 2 ?", None, "2"),  # the alias is gone: the version that held it last
        ("1 2 ? 3", "3", "2"),
        ("1 2 ?3", "3", "2"),
        ("1 2 3 <2 ?3", "3", "2"),  # a rollback that was interrupted
        ("1 1", "1", None),
    ],
)
def test_the_champion_before(moves: str, champion: str | None, previous: str | None) -> None:
    chain: list[HistoryEntry] = []
    for word in moves.split():
        action = {"<": "rolled back", "?": "found"}.get(word[0], "promoted")
        chain.append(build_entry(word.lstrip("<?") or None, after=chain[-1:], action=action))
    assert read(write_tags(chain), champion=champion).previous_champion == previous


def test_a_registration_is_found() -> None:
    chain = [build_entry("1", action="registered")]
    chain.append(build_entry("2", after=chain, action="registered"))
    history = read(write_tags(chain))
    assert history.find_registration("2") == chain[1]
    assert history.find_registration("3") is None


@pytest.mark.parametrize(
    ("moves", "champion", "sentence"),
    [
        (["1"], "1", None),
        ([], None, None),
        (["1"], "2", "by the history version 1 is champion, but the alias stands at version 2"),
        (["1"], None, "by the history version 1 is champion, but the alias is gone"),
        (["3"], None, "by the history version 3 is champion, but version 3 was deleted, and MLflow dropped the alias"),
        ([], "2", "by the history there is no champion, but the alias stands at version 2"),
    ],
)
def test_an_alias_elsewhere_than_the_history_says(moves: list[str], champion: str | None, sentence: str | None) -> None:
    found = describe_champion_state(read(write_tags(build_chain(*moves)), champion=champion), versions=("1", "2"))
    assert found is None if sentence is None else found.startswith(sentence)

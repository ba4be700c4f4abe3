from dataclasses import replace

import pytest

from sem_search.deployment.registry.entries import (
    HistoryEntry,
    format_canonical,
    is_history_key,
    is_well_formed_key,
    read_entry,
)
from sem_search.deployment.registry.tags import MODEL_TAG_LENGTH
from sem_search.errors import SettingsError, StoreError

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
)

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


def test_an_entry_survives_being_written_and_read() -> None:
    stored = read_entry(ENTRY.key, ENTRY.to_json())
    assert stored.entry == ENTRY
    assert stored.stated_sha256 == ENTRY.sha256
    assert stored.is_intact


def test_every_field_is_part_of_the_hash() -> None:
    assert set(CHANGES) == set(HistoryEntry.__dataclass_fields__)
    hashes = {replace(ENTRY, **{name: value}).sha256 for name, value in CHANGES.items()}
    assert len(hashes | {ENTRY.sha256}) == len(CHANGES) + 1


def test_the_hash_does_not_depend_on_the_order_of_mappings() -> None:
    turned = replace(ENTRY, scores={"2": {"score": 0.1 + 0.2}, "1": {"score": 0.7}})
    assert turned.to_json() == ENTRY.to_json()


def test_the_hash_is_the_same_for_ever() -> None:
    """A change here makes every history of before look altered: raise FORMAT_VERSION and read both."""
    assert ENTRY.sha256 == "c27b797e9df953d748b40625306bcb68c2dede3c3aa14f50c1fd792c37b03325"


@pytest.mark.parametrize("byte", range(0, 400, 7))
def test_an_altered_character_is_seen(byte: int) -> None:
    text = ENTRY.to_json()
    altered = text[:byte] + chr(ord(text[byte]) ^ 1) + text[byte + 1 :]
    try:
        stored = read_entry(ENTRY.key, altered)
    except StoreError:
        return
    assert not stored.is_intact


def test_an_entry_under_another_name_is_not_intact() -> None:
    assert not read_entry(replace(ENTRY, number=8).key, ENTRY.to_json()).is_intact


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", '{"format": 1}', "{not json"])
def test_what_is_no_entry_is_named(text: str) -> None:
    with pytest.raises(StoreError, match=r"history tag k does not hold an entry: it was altered"):
        read_entry("k", text)


def test_an_unknown_action_is_no_entry() -> None:
    with pytest.raises(StoreError, match="does not hold an entry"):
        read_entry("k", ENTRY.to_json().replace("promoted by hand", "dreamt"))


def test_an_entry_of_a_later_format_is_named() -> None:
    with pytest.raises(StoreError, match="history tag k has format 2, and this sem_search reads format 1"):
        read_entry("k", ENTRY.to_json().replace('"format":1', '"format":2'))


def test_a_reason_too_long_to_be_kept_is_refused() -> None:
    longest = MODEL_TAG_LENGTH - len(replace(ENTRY, reason="").to_json())
    assert len(replace(ENTRY, reason="x" * longest).to_json()) == MODEL_TAG_LENGTH
    with pytest.raises(SettingsError, match=f"the reason is too long: with {longest + 1} characters"):
        replace(ENTRY, reason="x" * (longest + 1)).to_json()


def test_keys_sort_as_numbers_and_are_known() -> None:
    keys = [replace(ENTRY, number=number).key for number in (9, 10, 999999)]
    assert keys == sorted(keys)
    assert all(is_history_key(key) and is_well_formed_key(key) for key in keys)
    assert not is_history_key("sem_search.history_settled")
    assert not is_well_formed_key("sem_search.history.7.abc")


def test_canonical_json_has_one_form() -> None:
    assert format_canonical({"b": [1.0, None], "a": "ä"}) == '{"a":"ä","b":[1.0,null]}'
    with pytest.raises(ValueError, match="JSON"):
        format_canonical({"a": float("nan")})

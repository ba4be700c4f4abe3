"""What is kept is believed only if it is whole; without a store all goes on."""

import sqlite3
import warnings
from pathlib import Path

import pytest

from sem_search.errors import SemSearchWarning
from sem_search.micrographs.overlaps import store as store_module
from sem_search.micrographs.overlaps.store import STORE_FILE, OverlapStore, clear_store, measure_store


def test_what_is_written_is_read_by_the_next(cache_folder: Path) -> None:
    entries = {f"number {number}": bytes([number % 256]) * number for number in range(1200)}
    with OverlapStore() as store:
        assert store.read(entries) == {}
        store.write(entries)
    with OverlapStore() as store:
        assert store.read([*entries, "unknown"]) == entries


def test_batches_are_written_to_the_last_entry_also_when_stopped(cache_folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OverlapStore() as store, store.write_in_batches(2) as keep:
        for name in "abc":
            keep({name: name.encode()})
        raise KeyboardInterrupt
    with OverlapStore() as store:
        assert store.read("abc") == {name: name.encode() for name in "abc"}


def test_an_entry_that_was_changed_is_not_believed(cache_folder: Path) -> None:
    with OverlapStore() as store:
        store.write({"good": b"1", "bad": b"2"})
    with sqlite3.connect(cache_folder / STORE_FILE) as connection:
        connection.execute("UPDATE entries SET content = ? WHERE name LIKE '% bad'", (b"3",))
    connection.close()
    with OverlapStore() as store:
        assert store.read(["good", "bad"]) == {"good": b"1"}


def damage_name(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    name = f"{store_module._compute_version()} n77".encode()
    place = content.find(name) if at == 0 else content.rfind(name)
    content[place + 3] = 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("places", [(0,), (-1,), (0, -1)])
def test_a_damaged_name_costs_one_run(cache_folder: Path, places: tuple[int, ...]) -> None:
    """A name stands in the table and in its index; what is damaged there is no UTF-8."""
    entries = {f"n{number}": b"x" * 400 for number in range(150)}
    with OverlapStore() as store:
        store.write(entries)
    for place in places:
        damage_name(cache_folder / STORE_FILE, place)
    with warnings.catch_warnings(record=True) as warned, OverlapStore() as store:
        warnings.simplefilter("always")
        assert {name: entries[name] for name in store.read(entries)}.items() <= entries.items()
        store.write(entries)
    assert all("was damaged" in str(warning.message) for warning in warned)
    with OverlapStore() as store:
        store.write(entries)
    with OverlapStore() as store:
        assert store.read(entries) == entries


@pytest.mark.parametrize(
    "table", ["entries (name TEXT PRIMARY KEY, content BLOB)", "entries (name TEXT, a, b, c)", "entries (other TEXT)"]
)
def test_another_table_is_replaced_with_one_warning(cache_folder: Path, table: str) -> None:
    cache_folder.mkdir()
    connection = sqlite3.connect(cache_folder / STORE_FILE)
    connection.execute(f"CREATE TABLE {table}")
    connection.close()
    with pytest.warns(SemSearchWarning, match="was damaged") as warned, OverlapStore() as store:
        store.write({"a": b"1"})
        assert store.read("a") == {}
    assert len(warned) == 1
    with OverlapStore() as store:
        store.write({"a": b"1"})
        assert store.read("a") == {"a": b"1"}


def test_a_locked_file_is_left_as_it_is(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OverlapStore() as store:
        store.write({"a": b"1"})
    monkeypatch.setattr(store_module, "WAIT_S", 0.01)
    other = sqlite3.connect(cache_folder / STORE_FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.warns(SemSearchWarning, match="Another process keeps .* locked") as warned, OverlapStore() as store:
        assert store.read("a") == {}
    assert len(warned) == 1
    other.close()
    with OverlapStore() as store:
        assert store.read("a") == {"a": b"1"}


@pytest.mark.parametrize("n_bytes", [0, 100, 5000])
def test_a_damaged_file_is_replaced_with_one_warning(cache_folder: Path, n_bytes: int) -> None:
    with OverlapStore() as store:
        store.write({name: name.encode() * 3000 for name in "abc"})
    file = cache_folder / STORE_FILE
    file.write_bytes(b"x" * n_bytes + file.read_bytes()[n_bytes:] if n_bytes else b"no database, but a text" * 100)
    with pytest.warns(SemSearchWarning, match="was damaged") as warned, OverlapStore() as store:
        assert store.read("abc") == {}
        store.write({"d": b"4"})
    assert len(warned) == 1
    with OverlapStore() as store:
        store.write({"d": b"4"})
    with OverlapStore() as store:
        assert store.read("d") == {"d": b"4"}


def test_a_cache_that_cannot_be_written_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(SemSearchWarning, match="cannot be used") as warned, OverlapStore() as store:
        store.write({"a": b"1"})
        assert store.read(["a"]) == {}
    assert len(warned) == 1


def test_a_full_disk_is_told_once(cache_folder: Path) -> None:
    with pytest.warns(SemSearchWarning, match="make room") as warned, OverlapStore() as store:
        assert store._connection is not None
        store._connection.execute("PRAGMA max_page_count = 4")
        store.write({"a": b"1" * 100_000})
        store.write({"b": b"2"})
        assert store.read("ab") == {}
    assert len(warned) == 1


def test_other_code_has_other_entries(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OverlapStore() as store:
        store.write({"a": b"1"})
    monkeypatch.setattr(store_module, "_compute_version", lambda: "another")
    with OverlapStore() as store:
        assert store.read(["a"]) == {}
        store.write({"b": b"2"})


def test_what_other_code_left_is_removed(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("b", "a", "c", "b0"):
        monkeypatch.setattr(store_module, "_compute_version", lambda version=version: version)
        with OverlapStore() as store:
            store.write({name: name.encode() * 50_000 for name in ("first", "second")})
        with OverlapStore() as store:
            assert len(store.read(["first", "second"])) == 2
        connection = sqlite3.connect(cache_folder / STORE_FILE)
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (2,)
        connection.close()
        assert measure_store(cache_folder) < 800_000


def test_clearing_removes_the_file(cache_folder: Path) -> None:
    assert not clear_store(cache_folder)
    with OverlapStore() as store:
        store.write({"a": b"1"})
    assert measure_store(cache_folder) > 0
    assert clear_store(cache_folder)
    assert measure_store(cache_folder) == 0
    assert not (cache_folder / STORE_FILE).exists()

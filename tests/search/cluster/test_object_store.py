"""Shared storage: whole or not there, in a folder and behind a URL."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sem_search.errors import SettingsError, StoreError
from sem_search.files import seal, unseal
from sem_search.search.cluster.object_store import SharedStore, open_shared

NAME = "features/key/00000.bin"


@pytest.fixture(params=["folder", "file URL", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedStore]:
    urls = {"folder": str(tmp_path), "file URL": f"file://{tmp_path}", "fsspec": f"memory:/{tmp_path}"}
    yield SharedStore(url=urls[request.param])
    if request.param == "fsspec":
        import fsspec

        fsspec.filesystem("memory").rm(str(tmp_path), recursive=True)


def test_what_is_written_is_read(store: SharedStore) -> None:
    assert not store.has(NAME)
    assert store.read(NAME) is None
    store.check()
    store.write(NAME, b"content")
    store.write(NAME, b"other content")
    assert store.has(NAME)
    assert store.read(NAME) == b"other content"
    assert SharedStore(url=store.url).read(NAME) == b"other content"


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-1], lambda sealed: b"0" + sealed[1:], lambda _: b""])
def test_what_is_damaged_counts_as_not_there(damage, tmp_path: Path) -> None:
    store = SharedStore(url=str(tmp_path))
    store.write(NAME, b"content")
    path = tmp_path / NAME
    path.write_bytes(damage(path.read_bytes()))
    assert store.has(NAME)
    assert store.read(NAME) is None


def test_a_seal_holds_any_content() -> None:
    for content in (b"", b"\n", bytes(range(256))):
        assert unseal(seal(content)) == content


def test_a_place_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"shared=.*file: nothing can be written there"):
        SharedStore(url=str(tmp_path / "file")).check()


def test_a_place_that_forgets_is_a_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedStore, "read", lambda *_: None)
    with pytest.raises(SettingsError, match="what is written there cannot be read again"):
        SharedStore(url=str(tmp_path)).check()


def test_an_unknown_protocol_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError, match="cannot be used: Protocol not known: nonsense") as caught:
        SharedStore(url="nonsense://me:secret@host/folder").check()
    assert "secret" not in str(caught.value)


def test_a_url_without_fsspec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[cluster\]'"):
        SharedStore(url="memory://a").check()


def test_a_storage_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(StoreError, match=r"memory://a/b\.bin could not be written: .*Permission denied"):
        SharedStore(url="memory://a").write("b.bin", b"")


def test_without_a_setting_there_is_none() -> None:
    assert open_shared(None) is None
    assert open_shared("a") == SharedStore(url="a")


def test_a_file_url_means_the_folder_of_its_decoded_name(tmp_path: Path) -> None:
    folder = tmp_path / "My Search ü"
    SharedStore(url=folder.as_uri()).write("a.bin", b"content")
    assert (folder / "a.bin").is_file()
    assert SharedStore(url=f"file://{folder}").read("a.bin") == b"content", "as it is, it is understood, too"

"""A store is whole or it does not exist, and what has changed since it was written is not believed."""

import errno
import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from sem_search.errors import StoreError
from sem_search.transfer.feature_store import (
    DamagedStoreError,
    clear_stores,
    get_store_folder,
    list_stores,
    open_store,
    remove_store,
    write_store,
)

KEY = "0123456789abcdef" * 2
VALUES = [np.arange(24, dtype=np.float32).reshape(4, 2, 3), np.arange(4, dtype=np.float32).reshape(4, 1)]


def _get_folder(cache: Path, key: str = KEY) -> Path:
    folder = get_store_folder(cache, key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _write(folder: Path, *, n_tiles: int = 4) -> Path:
    shapes = [(n_tiles, *array.shape[1:]) for array in VALUES]
    batches = ([array[part] for array in VALUES] for part in (slice(3), slice(3, None)))
    write_store(folder, shapes=shapes, about={"backbone": "tiny"}, batches=batches)
    return folder


def test_what_was_written_is_read(tmp_path):
    arrays = open_store(_write(_get_folder(tmp_path)))
    for array, wanted in zip(arrays, VALUES, strict=True):
        np.testing.assert_array_equal(array, wanted)
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_nothing_is_there_before_it_is_whole(tmp_path):
    folder = _get_folder(tmp_path)

    def iter_until_killed():
        yield [VALUES[0][:2]]
        assert not folder.exists()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_store(folder, shapes=[(4, 2, 3)], about={}, batches=iter_until_killed())
    assert list(folder.parent.iterdir()) == []


def test_a_store_of_before_is_read(tmp_path):
    """What version 1 of the format is, byte by byte: files that lie in caches stay readable."""
    folder = _get_folder(tmp_path)
    folder.mkdir()
    np.save(folder / "features_0.npy", VALUES[1])
    digest = hashlib.sha256((folder / "features_0.npy").read_bytes()).hexdigest()
    manifest = {
        "format": "sem_search features 1",
        "key": KEY,
        "n_tiles": 4,
        "written_at": "2026-01-02T03:04:05+00:00",
        "about": {"backbone": "tiny", "convolution": "conv_2", "precision": "float32"},
        "arrays": [{"file": "features_0.npy", "shape": [4, 1], "sha256": digest}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    np.testing.assert_array_equal(open_store(folder)[0], VALUES[1])
    content = (folder / "features_0.npy").read_bytes(), json.loads((folder / "manifest.json").read_text())
    remove_store(folder)
    write_store(folder, shapes=[(4, 1)], about=manifest["about"], batches=iter([[VALUES[1]]]))
    written = (folder / "features_0.npy").read_bytes(), json.loads((folder / "manifest.json").read_text())
    assert written[0] == content[0]
    assert written[1] == content[1] | {"written_at": written[1]["written_at"]}


def test_too_few_tiles_are_no_store(tmp_path):
    folder = _get_folder(tmp_path)
    with pytest.raises(StoreError, match="4 tiles came where 5 were announced"):
        _write(folder, n_tiles=5)
    assert list(folder.parent.iterdir()) == []


def test_what_a_dead_process_left_is_written_over(tmp_path):
    folder = _get_folder(tmp_path)
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir()
    (partial / "features_0.npy").write_bytes(b"half")
    np.testing.assert_array_equal(open_store(_write(folder))[0], VALUES[0])
    assert not partial.exists()


class _FullDisk(io.BytesIO):
    """A file on a disk that fills up after the header."""

    def write(self, data: bytes) -> int:
        if self.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_full_disk_is_an_error_in_words_and_leaves_nothing(tmp_path, monkeypatch):
    folder = _get_folder(tmp_path)
    monkeypatch.setattr(Path, "open", lambda _path, _mode: _FullDisk())
    with pytest.raises(StoreError, match=r"could not be written: No space left on device\. Make room") as raised:
        _write(folder)
    assert "SEM_SEARCH_CACHE" in str(raised.value)
    assert list(folder.parent.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_computed(tmp_path):
    def compute():
        pytest.fail("it must not begin")
        yield

    with pytest.raises(StoreError, match=r"The features need 4000\.00 GB, .* GB left\. Make room"):
        write_store(_get_folder(tmp_path), shapes=[(10**9, 1000)], about={}, batches=compute())


def test_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    folder = get_store_folder(tmp_path, KEY)
    folder.parent.write_text("a file, no folder")
    with pytest.raises(StoreError, match="could not be written: Not a directory"):
        _write(folder)


def _flip_a_bit(folder: Path) -> None:
    file = folder / "features_0.npy"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def _cut_off(folder: Path) -> None:
    file = folder / "features_1.npy"
    file.write_bytes(file.read_bytes()[:-4])


def _lose_an_array(folder: Path) -> None:
    (folder / "features_1.npy").unlink()


def _lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _tear_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": "sem_sea')


def _change_the_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def _take_anothers_manifest(folder: Path) -> None:
    _change_the_manifest(folder, key="another")


def _take_a_later_format(folder: Path) -> None:
    _change_the_manifest(folder, format="sem_search features 99")


def _put_in_place_of_an_array(folder: Path, content: bytes) -> None:
    """Put something else in place of an array, with the hash that goes with it: what no accident does."""
    (folder / "features_0.npy").write_bytes(content)
    arrays = json.loads((folder / "manifest.json").read_text())["arrays"]
    arrays[0]["sha256"] = hashlib.sha256(content).hexdigest()
    _change_the_manifest(folder, arrays=arrays)


def _put_objects_in_place_of_an_array(folder: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"an": "object"}]), allow_pickle=True)
    _put_in_place_of_an_array(folder, buffer.getvalue())


def _put_a_pickle_in_place_of_an_array(folder: Path) -> None:
    _put_in_place_of_an_array(folder, pickle.dumps({"an": "object"}))


def _put_another_array_in_its_place(folder: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, np.float32))
    _put_in_place_of_an_array(folder, buffer.getvalue())


def _name_a_file_elsewhere(folder: Path) -> None:
    secret = folder.parent / "secret.npy"
    np.save(secret, np.zeros(3, np.float32))
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    _change_the_manifest(folder, arrays=[{"file": "../secret.npy", "sha256": digest, "shape": [3]}])


def _name_nothing(folder: Path) -> None:
    _change_the_manifest(folder, arrays=["features_0.npy"])


def _tell_no_arrays(folder: Path) -> None:
    _change_the_manifest(folder, arrays={})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_a_bit, r"features_0\.npy: it has changed since it was written"),
        (_cut_off, r"features_1\.npy: it has changed since it was written"),
        (_lose_an_array, r"features_1\.npy: it cannot be read"),
        (_lose_the_manifest, "its manifest cannot be read"),
        (_tear_the_manifest, "its manifest is not one of a feature store"),
        (_take_anothers_manifest, "its manifest is that of another store"),
        (_take_a_later_format, "its manifest is not one of a feature store"),
        (_put_objects_in_place_of_an_array, r"cannot be read \(Array can't be memory-mapped"),
        (_put_a_pickle_in_place_of_an_array, r"features_0\.npy: it cannot be read"),
        (_put_another_array_in_its_place, r"features_0\.npy: its shape is not the manifest's"),
        (_name_a_file_elsewhere, "its manifest is not one of a feature store"),
        (_name_nothing, "its manifest is not one of a feature store"),
        (_tell_no_arrays, "its manifest is not one of a feature store"),
    ],
)
def test_damage_is_noticed(damage, message, tmp_path):
    folder = _write(_get_folder(tmp_path))
    damage(folder)
    with pytest.raises(DamagedStoreError, match=message):
        open_store(folder)


def test_summaries_tell_what_is_there_and_pass_over_what_is_no_store(tmp_path):
    folder = _write(_get_folder(tmp_path))
    (folder.parent / "notes").mkdir()
    (folder.parent / ("f" * 32)).mkdir()
    (folder.parent / "readme.txt").write_text("mine")
    (summary,) = list_stores(tmp_path)
    assert (summary.folder, summary.backbone, summary.n_tiles) == (folder, "tiny", 4)
    assert summary.n_bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert str(summary).startswith(f"{KEY}  tiny  4 tiles  0.00 GB  written 20")


def test_only_folders_that_hold_nothing_but_a_store_are_removed(tmp_path):
    whole = _write(_get_folder(tmp_path))
    mixed = _write(_get_folder(tmp_path, "a" * 32))
    (mixed / "thesis.docx").write_text("three years")
    partial = whole.with_name("b" * 32 + ".partial")
    partial.mkdir()
    whole.with_name("notes").mkdir()
    linked = tmp_path / "linked"
    linked.mkdir()
    whole.with_name("c" * 32).symlink_to(linked)
    assert clear_stores(tmp_path) == 1, "the whole one; partial ones are not counted"
    assert not whole.exists() and not partial.exists()
    assert (mixed / "thesis.docx").read_text() == "three years"
    assert linked.is_dir()


def test_remove_store_leaves_what_is_not_a_stores(tmp_path):
    folder = _write(_get_folder(tmp_path))
    (folder / "thesis.docx").write_text("three years")
    with pytest.raises(OSError, match="not empty"):
        remove_store(folder)
    assert [file.name for file in folder.iterdir()] == ["thesis.docx"]


def test_a_cache_that_does_not_exist_holds_nothing(tmp_path):
    assert list_stores(tmp_path / "none") == ()
    assert clear_stores(tmp_path / "none") == 0

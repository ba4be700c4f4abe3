"""What is kept or given is data, never code; nothing leads out of its folder; no password is written down."""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sem_search
from sem_search.deployment.package.calibration_record import read_calibration
from sem_search.deployment.package.record import unpack_out_of_fold
from sem_search.errors import SemSearchError, StoreError, WeightsError
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.records import Cell
from sem_search.search.folds.store import FoldStore
from sem_search.secrets import mask_secrets
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.weights.files import read_weights_into

PACKAGE = Path(sem_search.__file__).parent
CELL = Cell(learning_rate=0.01, batch_size=16)

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "system",
    "popen",
    "unpack_archive",
    "extractall",
    "unsafe_load",
}


def iter_trees() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def get_called_name(call: ast.Call) -> str:
    called = call.func
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def test_nothing_in_the_package_unpickles_or_runs_what_it_reads() -> None:
    found = []
    for name, tree in iter_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [(name, alias.name) for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
                found.append((name, str(node.module)))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                is_method = isinstance(node.func, ast.Attribute) and get_called_name(node) == "compile"  # of `re`
                if get_called_name(node) in FORBIDDEN_CALLS and not is_method:
                    found.append((name, get_called_name(node)))
    assert found == []


def test_every_array_and_model_is_loaded_without_pickle() -> None:
    n_loads = 0
    for name, tree in iter_trees():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            source = ast.unparse(call)
            if source.startswith(("np.load(", "numpy.load(")):
                assert "allow_pickle=False" in source, f"{name}: {source}"
                n_loads += 1
            if re.match(r"keras\.(saving|models)\.load_model\(", source):
                assert "safe_mode=True" in source, f"{name}: {source}"
                n_loads += 1
            assert not source.startswith("yaml."), f"{name}: YAML is MLflow's to read"
            assert "allow_pickle=True" not in source, name
    assert n_loads >= 5, "the test has found what it looks for"


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that no test may bring about, and that unpickling the bomb does."""
    file = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(file)))
    assert file.exists(), "the bomb works"
    file.unlink()
    yield file
    assert not file.exists(), "what was read was run"


def build_object_array(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(marker)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def build_object_archive(marker: Path, *names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", build_object_array(marker))
    return buffer.getvalue()


def test_a_finished_fold_is_never_unpickled_even_with_its_hash(tmp_path: Path, marker: Path) -> None:
    store = FoldStore(folder=tmp_path)
    path = tmp_path / CELL.name / "fold_0.bin"
    path.parent.mkdir()
    contents = [pickle.dumps(Bomb(marker)), build_object_array(marker), build_object_archive(marker, "facts")]
    for content in contents:
        path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        assert store.read(cell=CELL, fold=0) is None
        assert store.is_damaged(cell=CELL, fold=0)


def test_a_model_s_answers_and_calibration_are_never_unpickled(tmp_path: Path, marker: Path) -> None:
    names = ("facts", "about", "meta", "classes", "temperature")
    for content in (pickle.dumps(Bomb(marker)), build_object_array(marker), build_object_archive(marker, *names)):
        with pytest.raises((ValueError, KeyError, TypeError)):
            unpack_out_of_fold(content)  # whoever calls it turns these into a StoreError
        (tmp_path / "calibration.npz").write_bytes(content)
        with pytest.raises(SemSearchError):
            read_calibration(tmp_path / "calibration.npz")


def test_tables_in_json_are_never_unpickled(tmp_path: Path, marker: Path) -> None:
    text = pickle.dumps(Bomb(marker), protocol=0).decode("latin-1")
    for content in (text, json.dumps({"py/reduce": [{"py/function": "os.system"}, ["exit 1"]]})):
        with pytest.raises(StoreError):
            FoldTable.from_json(content)
        with pytest.raises(StoreError):
            Catalogue.from_json(content, root=tmp_path)


def test_a_picture_is_never_unpickled(tmp_path: Path, marker: Path) -> None:
    for suffix in ("png", "tif", "bmp", "jpg"):
        (tmp_path / f"a.{suffix}").write_bytes(pickle.dumps(Bomb(marker)))
        with pytest.raises(SemSearchError, match="is not an image of a known format"):
            read_micrograph(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_weights_are_never_unpickled(tmp_path: Path, marker: Path, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    for content in (pickle.dumps(Bomb(marker)), build_object_archive(marker, "model")):
        file.write_bytes(content)
        with pytest.raises(WeightsError):
            read_weights_into(get_backbone("tiny").build(tile_px=32), file=file)


def test_code_in_a_saved_model_is_not_run(tmp_path: Path, marker: Path) -> None:
    """A Lambda layer holds marshalled code: the known way to make a `.keras` file run something."""
    import keras

    place = str(marker)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: (open(place, "w"), x)[1])])  # noqa: PTH123, SIM115
    marker.unlink()  # building the model has run the code here; loading it must not
    model.save(tmp_path / "trojan.keras")
    marker.unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="not a Keras model that can be loaded safely"):
        read_weights_into(get_backbone("tiny").build(tile_px=32), file=tmp_path / "trojan.keras")


def test_a_saved_model_writes_nothing_outside(tmp_path: Path) -> None:
    file = tmp_path / "in" / "climbing.keras"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../escaped.txt", "x")
        archive.writestr("/tmp/../escaped.txt", "x")
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")
    with pytest.raises(WeightsError):
        read_weights_into(get_backbone("tiny").build(tile_px=32), file=file)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["climbing.keras"]


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@db:5432/optuna",
        "postgresql+psycopg://me:hunter2@db/optuna?sslmode=require",
        "mysql://me:hun%40ter2hunter2@db/x",
        "https://me:hunter2@tracking.example.org",
        "password=hunter2",
        "postgresql://db/optuna?user=me&password=hunter2",
        "could not connect: host=db user=me password='hunter2'",
        "token=hunter2",
    ],
)
def test_passwords_are_masked_wherever_they_stand(text: str) -> None:
    masked = mask_secrets(f"x {text} y")
    assert "hunter2" not in masked
    assert masked.startswith("x ")
    assert masked.endswith(" y")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_nothing_is_made_for_everyone_to_write(tmp_path: Path) -> None:
    store = FoldStore(folder=tmp_path / "studies")
    (tmp_path / "studies").mkdir()
    from tests.search.folds.test_store import make_finished_fold

    store.write(make_finished_fold(0), cell=CELL)
    files = [path for path in (tmp_path / "studies").rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_mode & 0o022 == 0 for path in files)

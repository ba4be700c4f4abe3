"""The name and the fingerprint of a search, and the folder that belongs to them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.micrographs.folds import FoldTable
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.search.prepare.fingerprint import check_study_name, compute_fingerprint, name_study, read_computation
from sem_search.search.prepare.study_folder import claim_study_folder, get_study_folder, lock_stores
from sem_search.search.trials.study import check_fingerprint, open_study
from sem_search.settings import INCOMPARABLE
from sem_search.transfer.engine import Engine


def change_settings(prepared, **changes: Any):
    return dataclasses.replace(prepared, settings=prepared.settings.model_copy(update=changes))


def change_data(prepared, **changes: Any):
    return dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, **changes))


def change_weights(prepared, **changes: Any):
    weights = dataclasses.replace(prepared.network.weights, **changes)
    return dataclasses.replace(prepared, network=dataclasses.replace(prepared.network, weights=weights))


def fingerprint(prepared) -> dict[str, Any]:
    return compute_fingerprint(prepared.settings, data=prepared.data, network=prepared.network)


def test_a_study_whose_every_cell_was_trained_again_is_another_one(prepared) -> None:
    """Older studies have `refit: true` for that."""
    assert "refit" not in fingerprint(prepared)
    again = fingerprint(change_settings(prepared, refit=True))
    assert again["refit"] == "winner"
    with pytest.raises(StudyMismatchError, match="refit was True and is now 'winner'"):
        check_fingerprint(name="a study", stored={**again, "refit": True}, wanted=again)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile_px", 32),
        ("stride_px", 24),
        ("tiles_per_image", 2),
        ("folds", 4),
        ("learning_rates", (0.1,)),
        ("batch_sizes", (4,)),
        ("epochs", 4),
        ("patience", 1),
        ("momentum", 0.5),
        ("hidden_units", 7),
        ("dropout", 0.1),
        ("seed", 1),
        ("select_on", "test"),
        ("pruner", "median"),
        ("sampler", "random"),
    ],
)
def test_a_setting_that_changes_results_changes_the_fingerprint(prepared, name: str, value: object) -> None:
    assert name in INCOMPARABLE
    before, after = fingerprint(prepared), fingerprint(change_settings(prepared, **{name: value}))
    assert {key for key in {*before, *after} if before.get(key) != after.get(key)} == {name}


def test_a_study_of_all_tiles_has_the_name_that_it_had_before_there_was_a_choice(prepared) -> None:
    assert prepared.settings.tiles_per_image is None
    assert "tiles_per_image" not in fingerprint(prepared)


@pytest.mark.parametrize(
    ("name", "value"), [("trials", 2), ("timeout", 5.0), ("study", "x"), ("model_name", "x"), ("storage", "sqlite://")]
)
def test_a_setting_that_changes_no_result_does_not(prepared, name: str, value: object) -> None:
    assert fingerprint(change_settings(prepared, **{name: value})) == fingerprint(prepared)


def test_data_folds_and_weights_are_held_by_their_hashes(prepared) -> None:
    records = prepared.data.catalogue.records
    fewer = dataclasses.replace(prepared.data.catalogue, records=records[1:])
    others = {
        "data": change_data(prepared, catalogue=fewer),
        "fold_table": change_data(prepared, folds=dataclasses.replace(prepared.data.folds, seed=9)),
        "weights": change_weights(prepared, sha256="0" * 64),
    }
    before = fingerprint(prepared)
    for key, other in others.items():
        assert {name for name, value in fingerprint(other).items() if value != before[name]} == {key}
    moved = dataclasses.replace(prepared.data.catalogue, root=Path("elsewhere"))
    assert fingerprint(change_data(prepared, catalogue=moved)) == before, "the same data in another place"


def test_the_engine_is_in_the_fingerprint_where_it_is_not_that_of_older_studies(prepared) -> None:
    def change_engine(engine: Engine) -> dict[str, Any]:
        cut = dataclasses.replace(prepared.network.cut, engine=engine)
        return fingerprint(dataclasses.replace(prepared, network=dataclasses.replace(prepared.network, cut=cut)))

    before, after = change_engine("tensorflow"), change_engine("onnxruntime")
    assert "engine" not in before
    assert after == before | {"engine": "onnxruntime"}
    assert read_computation(before) == {"engine": "tensorflow", "precision": "float32"}
    assert read_computation(after) == {"engine": "onnxruntime", "precision": "float32"}
    assert read_computation({}) == {"engine": "tensorflow"}, "the oldest have no precision"


def test_a_fingerprint_survives_json(prepared) -> None:
    assert json.loads(json.dumps(fingerprint(prepared))) == fingerprint(prepared)


def test_the_same_search_gets_the_same_name_and_another_gets_another(prepared) -> None:
    def name(search) -> str:
        return name_study(search.settings, fingerprint=fingerprint(search))

    assert name(prepared) == name(prepared)
    assert name(prepared).startswith("tiny-standard-")
    assert name(change_settings(prepared, epochs=4)) != name(prepared)
    assert name(change_settings(prepared, study="mine")) == "mine"


@pytest.mark.parametrize(
    "name",
    ["", "  ", "a/b", "a\\b", "..", ".hidden", "a:b", "what?", "a*", "<a>", "a|b", 'a"b', "a\nb", "a" * 201, "a\0"],
)
def test_names_that_are_no_folders_are_refused(name: str) -> None:
    with pytest.raises(StudyMismatchError, match=r"cannot be the name of a folder: use letters"):
        check_study_name(name)


@pytest.mark.parametrize("name", ["a", "vgg16-quick-0a1b", "lots of July", "乳糖", "v1.2"])
def test_names_that_are_folders_pass(name: str) -> None:
    check_study_name(name)


def claim(search, **changes: Any):
    search = change_settings(search, **changes)
    return claim_study_folder(search.settings, name="s", fingerprint=fingerprint(search), folds=search.data.folds)


def test_the_folder_is_written_once(prepared) -> None:
    assert claim(prepared) == ()
    folder = get_study_folder(prepared.settings, name="s")
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert claim(prepared) == ()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps
    assert FoldTable.from_json((folder / "folds.json").read_text(encoding="utf-8")) == prepared.data.folds


def test_the_folder_of_another_search_is_refused_and_left_as_it_was(prepared) -> None:
    claim(prepared)
    folder = get_study_folder(prepared.settings, name="s")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StudyMismatchError, match=r"'s' exists.*epochs was 3 and is now 5"):
        claim(prepared, epochs=5)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def flip(path: Path, *, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("at", [0, 30, -2, -40])
def test_a_flipped_bit_in_the_fold_table_is_mended(prepared, at: int) -> None:
    claim(prepared)
    path = get_study_folder(prepared.settings, name="s") / "folds.json"
    flip(path, at=at)
    (warning,) = claim(prepared)
    assert "folds.json was damaged or lost" in warning
    assert FoldTable.from_json(path.read_text(encoding="utf-8")) == prepared.data.folds
    assert claim(prepared) == ()


def test_a_lost_fold_table_is_written_again(prepared) -> None:
    claim(prepared)
    path = get_study_folder(prepared.settings, name="s") / "folds.json"
    path.unlink()
    assert len(claim(prepared)) == 1
    assert path.exists()


def list_positions(prepared) -> list[int]:
    claim(prepared)
    content = (get_study_folder(prepared.settings, name="s") / "study.json").read_bytes()
    return [0, content.index(b"epochs") + 9, content.index(b"seed"), len(content) - 10, len(content) - 1]


@pytest.mark.parametrize("place", range(5))
def test_a_flipped_bit_in_the_statement_is_mended_where_the_database_vouches(
    prepared, place: int, tmp_path: Path
) -> None:
    prepared = change_settings(prepared, storage=f"sqlite:///{tmp_path}/own.db")
    at = list_positions(prepared)[place]
    open_study(prepared.settings, name="s", fingerprint=fingerprint(prepared))
    path = get_study_folder(prepared.settings, name="s") / "study.json"
    before = path.read_bytes()
    flip(path, at=at)
    (warning,) = claim(prepared)
    assert "study.json was damaged" in warning
    assert path.read_bytes() == before


def test_a_damaged_statement_that_nobody_vouches_for_is_refused(prepared, tmp_path: Path) -> None:
    claim(prepared)
    path = get_study_folder(prepared.settings, name="s") / "study.json"
    path.write_bytes(b"{")
    with pytest.raises(StudyMismatchError, match=r"study\.json is damaged, and the storage holds no study 's'"):
        claim(prepared, storage=f"sqlite:///{tmp_path}/none.db")
    assert path.read_bytes() == b"{"
    assert not (tmp_path / "none.db").exists(), "a look makes no database"


def test_a_damaged_statement_of_another_search_is_refused(prepared, tmp_path: Path) -> None:
    prepared = change_settings(prepared, storage=f"sqlite:///{tmp_path}/own.db")
    claim(prepared)
    open_study(prepared.settings, name="s", fingerprint=fingerprint(prepared))
    (get_study_folder(prepared.settings, name="s") / "study.json").write_bytes(b"")
    with pytest.raises(StudyMismatchError, match="epochs was 3 and is now 5"):
        claim(prepared, epochs=5)


def test_a_statement_of_before_the_seal_is_taken(prepared) -> None:
    claim(prepared)
    path = get_study_folder(prepared.settings, name="s") / "study.json"
    path.write_text(json.dumps(fingerprint(prepared)), encoding="utf-8")
    assert claim(prepared) == ()
    with pytest.raises(StudyMismatchError, match="epochs was 3 and is now 5"):
        claim(prepared, epochs=5)


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(prepared, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        SettingsError, match=r"study_folder='.*file/in': the folder .* cannot be used \(Not a directory\)"
    ):
        claim(prepared, study_folder=str(tmp_path / "file" / "in"))
    with pytest.raises(SettingsError, match="cannot be used"):
        lock_stores(change_settings(prepared, study_folder=str(tmp_path / "file" / "in")).settings)


def test_one_search_at_a_time_makes_the_databases(prepared) -> None:
    with lock_stores(prepared.settings), pytest.raises(Timeout):
        lock_stores(prepared.settings).acquire(timeout=0)
    lock_stores(prepared.settings).acquire(timeout=0).lock.release()


def test_everything_that_fell_back_is_a_warning(prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = dataclasses.replace(prepared.data.catalogue, warnings=("left out a.png",))
    search = change_weights(change_data(prepared, catalogue=catalogue), warnings=("random weights",))
    views = tuple(dataclasses.replace(prepared.features, warnings=(f"store {view} was damaged",)) for view in range(2))
    monkeypatch.setattr(prepare_room, "compute_views", lambda *_, **__: views)
    assert search.warnings == ("left out a.png", "random weights", "store 0 was damaged", "store 1 was damaged")


def test_folds_are_kept_below_the_study(prepared) -> None:
    assert prepared.store.folder == Path(prepared.settings.study_folder) / "a study"

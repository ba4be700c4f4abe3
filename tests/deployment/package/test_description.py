import json
from pathlib import Path

import pytest

from sem_search.deployment.package.description import (
    DESCRIPTION_FILE,
    ClassifierDescription,
    compute_file_sha256,
    read_description,
)
from sem_search.errors import StoreError
from sem_search.micrographs.tiles import TileGrid

DESCRIPTION = ClassifierDescription(
    class_names=("a", "ß"),
    backbone="tiny",
    convolution="conv_2",
    n_heads=5,
    tile_px=32,
    stride_px=16,
    tiles_per_image=2,
    tiles_seed=3,
    crop_bottom_px=8,
    augment="dihedral",
    max_megapixels=2.0,
    pixel_sizes_nm={"a": (1.0, 2.5)},
    settings={"learning_rate": 0.01},
    hashes={"data_sha256": "d"},
    sem_search_version="0.1.0",
    code_sha256="c",
    files={},
)


def write(folder: Path, *, content: bytes = b"weights") -> ClassifierDescription:
    (folder / "trunk.keras").write_bytes(content)
    values = json.loads(DESCRIPTION.to_json()) | {"files": {"trunk.keras": compute_file_sha256(folder / "trunk.keras")}}
    (folder / DESCRIPTION_FILE).write_text(json.dumps(values))
    return ClassifierDescription.from_json(json.dumps(values))


def test_json_round_trip() -> None:
    assert ClassifierDescription.from_json(DESCRIPTION.to_json()) == DESCRIPTION


def test_a_model_from_before_there_were_views_is_answered_for_as_it_was() -> None:
    values = json.loads(DESCRIPTION.to_json()) | {"format_version": 1}
    del values["augment"]
    assert ClassifierDescription.from_json(json.dumps(values)).augment == "none"


def test_a_model_from_before_there_was_a_choice_of_tiles_answers_by_all() -> None:
    values = json.loads(DESCRIPTION.to_json()) | {"format_version": 1}
    del values["tiles_per_image"], values["tiles_seed"]
    grid = ClassifierDescription.from_json(json.dumps(values)).grid
    assert list(grid.iter_corners(32, 64)) == [(0, 0), (0, 16), (0, 32)]


def test_views_that_are_not_known_are_refused() -> None:
    values = json.loads(DESCRIPTION.to_json()) | {"augment": "mirrored"}
    with pytest.raises(StoreError, match=r"model\.json is damaged"):
        ClassifierDescription.from_json(json.dumps(values))


def test_grid() -> None:
    assert DESCRIPTION.grid == TileGrid(size_px=32, stride_px=16, per_image=2, seed=3)


def test_read_description_of_whole_folder(tmp_path: Path) -> None:
    assert write(tmp_path) == read_description(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"format_version": 1}', '{"format_version": 99, "class_names": []}']
)
def test_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / DESCRIPTION_FILE).write_text(text)
    with pytest.raises(StoreError, match=r"model\.json (is damaged|has format 99)"):
        read_description(tmp_path)


def test_missing_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no model\.json"):
        read_description(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "trunk.keras").unlink()
    with pytest.raises(StoreError, match=r"trunk\.keras is missing"):
        read_description(tmp_path)


def test_one_changed_byte_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "trunk.keras").write_bytes(b"weighty")
    with pytest.raises(StoreError, match=r"damaged: trunk\.keras"):
        read_description(tmp_path)

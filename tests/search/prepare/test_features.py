"""The features of each view: a store of its own, of the turned tiles, and known again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sem_search.micrographs.tiles import iter_image_tiles
from sem_search.places import CACHE_VARIABLE
from sem_search.search.cluster.feature_shards import FeatureShards
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.prepare.data import build_study_tiles
from sem_search.search.prepare.features import compute_views, get_content_key, get_feature_key, read_shard_tiles
from sem_search.transfer.views import VIEWS, turn_tiles

N_VIEWS = VIEWS["dihedral"]


def ask(settings, **changes: str):
    return settings.model_copy(update={"augment": "dihedral"} | changes)


def test_each_view_holds_the_trunk_s_outputs_for_the_turned_tiles(settings, data, network, features) -> None:
    views = compute_views(ask(settings), data=data, network=network)
    assert len({view.folder for view in views}) == len(views) == N_VIEWS
    assert views[0].folder == features.folder, "view 0 is known from a study without other views"
    tiles = np.concatenate([tiles for _, tiles in iter_image_tiles(data.catalogue, grid=data.grid)])
    for number, view in enumerate(views):
        expected = np.asarray(network.cut.trunk(network.backbone.preprocess(turn_tiles(tiles, view=number))))
        np.testing.assert_allclose(view.arrays[0], expected, atol=1e-5)


def test_without_other_views_there_is_the_store_of_the_tiles(settings, data, network, features) -> None:
    (view,) = compute_views(ask(settings, augment="none"), data=data, network=network)
    assert view.folder == features.folder


def test_some_tiles_are_a_store_of_their_own_and_shards_hold_the_same(settings, data, network, features) -> None:
    grid = dataclasses.replace(data.grid, per_image=3)
    some = dataclasses.replace(data, grid=grid, tiles=build_study_tiles(data.catalogue, grid=grid))
    (view,) = compute_views(ask(settings, augment="none"), data=some, network=network)
    expected = np.concatenate([tiles for _, tiles in iter_image_tiles(data.catalogue, grid=grid)])
    assert len(view.arrays[0]) == len(expected) == 45
    np.testing.assert_array_equal(np.concatenate([read_shard_tiles(some, index=index) for index in (0, 1)]), expected)
    other = dataclasses.replace(some, grid=dataclasses.replace(grid, seed=1))
    keys = {get_content_key(one, network=network, view=view) for one in (data, some, other) for view in (0, 1)}
    assert len(keys) == 6


def test_progress_counts_what_is_missing_of_all_views_in_one_line(
    settings, data, network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    n_tiles = data.tiles.n_tiles
    for augment, n_views, shown in (
        ("none", 1, f"Features of {n_tiles} tiles: "),
        ("dihedral", N_VIEWS - 1, f"Features of {n_tiles} tiles in {N_VIEWS - 1} views: "),
    ):
        compute_views(ask(settings, augment=augment), data=data, network=network)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{shown}{n_views * n_tiles} of {n_views * n_tiles} tiles in ")
    compute_views(ask(settings), data=data, network=network)
    assert capsys.readouterr().err == ""


def test_a_machine_with_an_empty_cache_takes_every_view_from_the_shared_place(
    settings, data, network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedStore(url=str(tmp_path / "shared"))
    own = compute_views(ask(settings, shared=shared.url), data=data, network=network)
    for view in range(N_VIEWS):
        key = get_feature_key(data, network=network, view=view)
        assert FeatureShards(shared=shared, key=key, n_tiles=data.tiles.n_tiles).list_missing() == []
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    monkeypatch.setattr("sem_search.search.prepare.features.read_shard_tiles", lambda *_, **__: pytest.fail("again"))
    taken = compute_views(ask(settings, shared=shared.url), data=data, network=network)
    for view, other in zip(taken, own, strict=True):
        assert view.folder.is_relative_to(tmp_path / "empty")
        np.testing.assert_array_equal(view.arrays[0], other.arrays[0])


def test_other_machines_are_asked_once_for_all_views(settings, data, network, tmp_path: Path) -> None:
    shared = SharedStore(url=str(tmp_path / "shared"))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
        compute_views(
            ask(settings, shared=shared.url), data=data, network=network, elsewhere=lambda: asked.append("asked")
        )
    assert asked == ["asked"]

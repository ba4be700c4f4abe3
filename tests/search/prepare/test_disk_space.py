"""The disk that features take: told beforehand, as much as they take afterwards, refused where it is not there."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from sem_search.errors import SettingsError
from sem_search.micrographs.tiles import TileGrid
from sem_search.places import CACHE_VARIABLE
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.search.prepare.disk_space import check_disk_space
from sem_search.search.prepare.features import compute_views
from sem_search.transfer.features import compute_n_bytes

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Give the disk of an empty cache so many free bytes."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    def give(n_bytes: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 * n_bytes, 9 * n_bytes, n_bytes))

    return give


@pytest.mark.parametrize(("augment", "n_views"), [("none", 1), ("dihedral", 8)])
def test_what_is_told_is_what_lies_on_the_disk(
    settings, data, network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str, n_views: int
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    compute_views(settings.model_copy(update={"augment": augment}), data=data, network=network)
    lying = sum(file.stat().st_size for file in tmp_path.rglob("features_*.npy"))
    assert lying == n_views * compute_n_bytes(network.cut, n_tiles=data.tiles.n_tiles)
    manifests = [file.stat().st_size for file in tmp_path.rglob("manifest.json")]
    assert len(manifests) == n_views
    assert max(manifests) < 1024


def test_little_is_told_in_one_sentence(data: PreparedData, network, set_free, tmp_path: Path) -> None:
    set_free(10**12)
    assert check_disk_space(data=data, network=network, n_views=1) == (
        f"The features of 60 tiles take 276.6 kB of disk; 1.0 TB are free in {tmp_path}."
    )


def test_much_is_told_with_what_takes_less(data: PreparedData, network, set_free) -> None:
    needed = 8 * compute_n_bytes(network.cut, n_tiles=60)
    set_free(needed)
    text = check_disk_space(data=data, network=network, n_views=8)
    assert text.startswith("The features of 60 tiles in 8 views take 2.2 MB of disk; 2.2 MB are free in ")
    assert text.endswith(". Less: augment=none (276.6 kB); tiles_per_image=1 (554.0 kB)."), "two of four: over half"


@pytest.mark.parametrize(
    ("n_views", "share", "advice"),
    [
        (8, 0.9, "Give augment=none (276.6 kB); tiles_per_image=3 (1.7 MB); make room"),
        (8, 0.6, "Give augment=none (276.6 kB); tiles_per_image=2 (1.1 MB); make room"),
        (8, 0.2, "Give augment=none (276.6 kB); make room"),
        (8, 0.01, "Make room"),
        (1, 0.9, "Give tiles_per_image=3 (207.5 kB); make room"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(
    data: PreparedData, network, set_free, n_views: int, share: float, advice: str
) -> None:
    set_free(int(share * n_views * compute_n_bytes(network.cut, n_tiles=60)))
    with pytest.raises(SettingsError) as refused:
        check_disk_space(data=data, network=network, n_views=n_views)
    assert f". {advice}" in str(refused.value)
    assert str(refused.value).endswith(f"or set {CACHE_VARIABLE} to a folder that can hold them.")


def test_what_was_advised_fits(settings, data: PreparedData, network, set_free) -> None:
    free = int(0.6 * compute_n_bytes(network.cut, n_tiles=60))
    set_free(free)
    with pytest.raises(SettingsError, match="Give tiles_per_image=2 "):
        check_disk_space(data=data, network=network, n_views=1)
    fewer = prepare_data(settings.model_copy(update={"tiles_per_image": 2}))
    assert fewer.grid == TileGrid(size_px=48, stride_px=48, per_image=2)
    assert fewer.tiles.n_tiles == 30
    check_disk_space(data=fewer, network=network, n_views=1)


def test_nothing_is_computed_where_the_views_do_not_all_fit(
    settings, data: PreparedData, network, set_free, tmp_path: Path
) -> None:
    set_free(7 * compute_n_bytes(network.cut, n_tiles=60))
    with pytest.raises(SettingsError, match="in 8 views take"):
        compute_views(settings.model_copy(update={"augment": "dihedral"}), data=data, network=network)
    assert not list(tmp_path.rglob("*.npy"))

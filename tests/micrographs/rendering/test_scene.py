from dataclasses import replace

import numpy as np
import pytest

from sem_search.micrographs.rendering.exact import Draws
from sem_search.micrographs.rendering.materials import MATERIALS, Material
from sem_search.micrographs.rendering.scene import Scene, compute_scene

ROUND = Material(name="round", width_px=20.0, size_spread=0.2, aspect=1.1, fines=0.0, cover=0.5)


def _compute(material: Material, seed: int = 0) -> Scene:
    return compute_scene(material, height_px=160, width_px=200, draws=Draws(seed))


@pytest.mark.parametrize("cover", [0.3, 0.7])
def test_particles_cover_the_share_asked_for(cover: float) -> None:
    shares = [_compute(replace(ROUND, cover=cover), seed).is_covered.mean() for seed in range(6)]
    assert np.mean(shares) == pytest.approx(cover, abs=0.08)


def test_particles_stand_above_the_tape_and_give_more_electrons() -> None:
    scene = _compute(ROUND)
    assert scene.heights_px[scene.is_covered].min() > 0.0 > scene.heights_px[~scene.is_covered].max()
    assert scene.yields[scene.is_covered].min() > scene.yields[~scene.is_covered].max()


def test_particles_lie_upon_one_another() -> None:
    assert _compute(replace(ROUND, cover=0.9)).heights_px.max() > 1.8 * 20.0 * ROUND.thickness


@pytest.mark.parametrize("fines", [2.0, 8.0])
def test_fines_stick_to_particles_rather_than_tape(fines: float) -> None:
    bare, strewn = _compute(ROUND), _compute(replace(ROUND, fines=fines))
    is_changed = strewn.heights_px > bare.heights_px
    assert np.array_equal(bare.is_covered, strewn.is_covered)
    assert is_changed[bare.is_covered].mean() > 1.5 * is_changed[~bare.is_covered].mean()
    assert is_changed.mean() > 0.005 * fines


def test_larger_particles_are_fewer() -> None:
    def count_edges(material: Material) -> int:
        return int(np.count_nonzero(np.diff(_compute(material).is_covered.astype(np.int8), axis=1)))

    assert count_edges(replace(ROUND, width_px=40.0)) < 0.75 * count_edges(ROUND)


@pytest.mark.parametrize("material", MATERIALS, ids=lambda material: material.name)
def test_small_pictures_work(material: Material) -> None:
    scene = compute_scene(material, height_px=48, width_px=64, draws=Draws(1))
    assert scene.heights_px.shape == (48, 64) and np.isfinite(scene.heights_px).all()
    assert scene.heights_px.dtype == scene.yields.dtype == np.float32


def test_scattering_ends_although_nothing_can_be_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sem_search.micrographs.rendering.scene._MAX_PARTICLES", 20)
    assert _compute(replace(ROUND, width_px=0.01)).is_covered.mean() < 0.01

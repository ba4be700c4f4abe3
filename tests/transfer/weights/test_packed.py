"""Shipped weights unpack to the same values everywhere, and a damaged file is never loaded."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from pretraining.packed_weights import add_scores, pack_array, write_particle_weights
from sem_search.errors import WeightsError
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.weights import packed as particle_weights
from sem_search.transfer.weights.packed import has_particle_weights, load_particle_weights, read_card, unpack_array


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Weights of the tiny backbone, shipped in an own folder."""
    monkeypatch.setattr(particle_weights, "PARTICLES_FOLDER", tmp_path)
    return write_particle_weights(build(), name="tiny", card={"seed": 7}, folder=tmp_path)


def build() -> keras.Model:
    return get_backbone("tiny").build(tile_px=48)


@pytest.mark.parametrize("shape", [(5,), (3, 3, 4, 8), (3, 3, 16, 1), (1, 1, 64, 32)])
def test_packing_keeps_each_channel_to_half_a_level(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    unpacked = unpack_array(pack_array(array))
    assert unpacked.dtype == np.float32
    axis = array.ndim - 1 if shape[-1] > 1 else array.ndim - 2
    others = tuple(k for k in range(array.ndim) if k != axis)
    largest = np.abs(array).max(axis=others, keepdims=True) if array.ndim > 1 else 0.0
    assert (np.abs(unpacked - array) <= largest / 254 * 1.0001).all()
    np.testing.assert_array_equal(unpack_array(pack_array(unpacked)), unpacked)


def test_a_channel_of_zeros_stays_one() -> None:
    np.testing.assert_array_equal(unpack_array(pack_array(np.zeros((3, 3, 2, 2), np.float32))), 0)


def test_what_was_written_is_loaded(shipped: Path) -> None:
    source, first, second = build(), build(), build()
    file = write_particle_weights(source, name="tiny", card={"seed": 7}, folder=shipped.parent)
    assert file == shipped
    for model in (first, second):
        load_particle_weights(model, name="tiny")
    for before, one, other in zip(source.get_weights(), first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, unpack_array(pack_array(before)))
        np.testing.assert_array_equal(one, other)
    assert read_card(shipped.with_suffix(".json"))["seed"] == 7
    assert (has_particle_weights("tiny"), has_particle_weights("vgg19")) == (True, False)


def test_a_card_keeps_the_scores_of_each_set_of_pictures(shipped: Path) -> None:
    before = read_card(shipped.with_suffix(".json"))
    for data, f in (("demo", 0.5), ("cells", 0.6), ("demo", 0.7)):
        add_scores("tiny", data=data, scores={"probe_f": f})
    add_scores("tiny", data="cells", scores={"search_test_f": 0.8})
    scores = {"demo": {"probe_f": 0.7}, "cells": {"probe_f": 0.6, "search_test_f": 0.8}}
    assert read_card(shipped.with_suffix(".json")) == {**before, "scores": scores}
    load_particle_weights(build(), name="tiny")


def test_a_flipped_bit_is_refused(shipped: Path) -> None:
    content = bytearray(shipped.read_bytes())
    content[len(content) // 2] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(WeightsError, match=r"tiny\.npz is damaged: its SHA-256 is .*, its card says"):
        load_particle_weights(build(), name="tiny")


def test_lost_weights_are_refused_in_a_sentence(shipped: Path) -> None:
    shipped.unlink()
    with pytest.raises(WeightsError, match=r"tiny\.npz cannot be read \(FileNotFoundError\)"):
        load_particle_weights(build(), name="tiny")


def test_a_missing_card_is_refused(shipped: Path) -> None:
    shipped.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"tiny\.json cannot be read \(FileNotFoundError\)"):
        load_particle_weights(build(), name="tiny")


def test_weights_of_another_network_are_refused(shipped: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not fit 'other': it holds 4 arrays, the network 2"):
        load_particle_weights(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other"), name="tiny")


def test_arrays_of_another_shape_are_refused(shipped: Path) -> None:
    wider = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(2)], name="other")
    with pytest.raises(WeightsError, match=r"does not fit 'other': it holds \(.*\) where the network has \(4, 2\)"):
        load_particle_weights(wider, name="tiny")


def test_a_damaged_card_is_refused(shipped: Path) -> None:
    shipped.with_suffix(".json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"tiny\.json cannot be read \(JSONDecodeError\)"):
        load_particle_weights(build(), name="tiny")


def test_a_pickle_is_not_opened(shipped: Path) -> None:
    np.savez(shipped, **{"0000.values": np.array([{"a": 1}], dtype=object)})
    digest = particle_weights.hashlib.sha256(shipped.read_bytes()).hexdigest()
    shipped.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    with pytest.raises(WeightsError, match=r"cannot be read \(ValueError\)"):
        load_particle_weights(build(), name="tiny")

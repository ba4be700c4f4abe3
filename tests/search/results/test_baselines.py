"""Simple classifiers on a study's folds: out of fold, computed once, and there for few images and odd classes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sem_search.evaluation.baselines import NAMES, Baseline
from sem_search.evaluation.metadata_model import Value
from sem_search.records import TileSplits, TileTable
from sem_search.search.results import baselines as computing
from sem_search.search.results.baselines import compute_baselines, get_baselines, read_baselines

Labels = Sequence[int]
TILES_PER_IMAGE = 3


def build_tiles(labels: Labels) -> TileTable:
    ids = tuple(f"image{number:02}" for number in range(len(labels)))
    return TileTable(
        class_names=tuple("abcd"[: max(labels) + 1]),
        image_ids=ids,
        label_of_image=np.array(labels),
        group_of_image=ids,
        image_of_tile=np.repeat(np.arange(len(labels)), TILES_PER_IMAGE),
    )


def split(tiles: TileTable, parts: Sequence[int]) -> list[TileSplits]:
    """Return the folds that test part f, validate part f + 1 and train on the rest."""
    part = np.asarray(parts)[tiles.image_of_tile]
    n_folds = max(parts) + 1
    return [
        TileSplits(
            number=fold,
            training=np.flatnonzero((part != fold) & (part != (fold + 1) % n_folds)),
            validation=np.flatnonzero(part == (fold + 1) % n_folds),
            test=np.flatnonzero(part == fold),
        )
        for fold in range(n_folds)
    ]


def draw_features(tiles: TileTable, *, labels: Labels | None = None, distance: float = 8.0) -> np.ndarray:
    """Return features in which the classes lie apart."""
    truth = tiles.label_of_tile if labels is None else np.asarray(labels)[tiles.image_of_tile]
    return distance * np.eye(4)[truth] + np.random.default_rng(0).normal(size=(tiles.n_tiles, 4))


def compute(
    tiles: TileTable,
    folds: Sequence[TileSplits],
    *,
    pooled: np.ndarray,
    metadata: dict[str, list[Value]] | None = None,
) -> dict[str, Baseline]:
    found = compute_baselines(tiles, folds=folds, pooled=pooled, metadata=metadata or {}, class_weight="none", seed=0)
    assert tuple(one.name for one in found) == NAMES
    return {one.name: one for one in found}


LABELS = [0, 1, 2] * 6
PARTS = np.repeat(range(3), 6).tolist()


def get_answers(baseline: Baseline) -> np.ndarray:
    assert baseline.answers is not None
    return baseline.answers.answer_of_row


def test_what_the_features_show_is_learnt_and_metadata_by_what_differs() -> None:
    tiles = build_tiles(LABELS)
    folds = split(tiles, PARTS)
    session: list[Value] = [f"day {label % 2}" for label in LABELS]
    found = compute(tiles, folds, pooled=draw_features(tiles), metadata={"session": session, "bits": [8.0] * 18})
    for name in ("logistic_training", "logistic_all"):
        assert get_answers(found[name]).tolist() == LABELS
    assert (get_answers(found["metadata"]) == 1).tolist() == [label == 1 for label in LABELS]
    assert found["metadata"].answers is not None
    assert set(found["metadata"].answers.tile_counts.max(axis=1)) == {TILES_PER_IMAGE}, "tiles of one image alike"


@pytest.mark.parametrize(("name", "n_learnt_from"), [("logistic_training", 1), ("logistic_all", 2)])
def test_each_learns_from_its_own_splits(monkeypatch: pytest.MonkeyPatch, name: str, n_learnt_from: int) -> None:
    tiles = build_tiles(LABELS)
    folds = split(tiles, PARTS)
    seen: list[np.ndarray] = []
    fit = computing.fit_linear

    def watch(features: np.ndarray, **arguments: object):
        seen.append(features[:, 0])
        return fit(features, **arguments)

    monkeypatch.setattr(computing, "fit_linear", watch)
    pooled = draw_features(tiles)
    compute(tiles, folds, pooled=pooled)
    own = seen[:3] if name == "logistic_training" else seen[3:]
    for fold, values in zip(folds, own, strict=True):
        splits = (fold.training, fold.validation)[:n_learnt_from]
        assert sorted(values) == sorted(pooled[np.concatenate(splits), 0])


def test_the_labels_of_the_test_images_change_no_answer_to_them() -> None:
    """Whatever the test images of a fold are called, they are answered alike: nothing fitted has seen their labels."""
    tiles = build_tiles(LABELS)
    folds = split(tiles, PARTS)
    pooled = draw_features(tiles, distance=1.0)
    metadata: dict[str, list[Value]] = {"noise": list(np.random.default_rng(1).normal(size=18) + LABELS)}
    before = compute(tiles, folds, pooled=pooled, metadata=metadata)
    for place in range(3):
        tested = np.asarray(PARTS) == place
        labels = np.where(tested, (tiles.label_of_image + 1) % 3, tiles.label_of_image)
        after = compute(replace(tiles, label_of_image=labels), folds, pooled=pooled, metadata=metadata)
        for name in NAMES:
            one, two = before[name].answers, after[name].answers
            assert one is not None and two is not None
            rows = one.fold_of_row == place
            assert np.array_equal(one.tile_counts[rows], two.tile_counts[rows])
            assert np.array_equal(one.answer_of_row[rows], two.answer_of_row[rows])


def test_the_largest_class_is_that_of_the_training_images_of_each_fold_and_of_equals_the_first() -> None:
    labels = [0, 1, 1, 0, 0, 1]
    tiles = build_tiles(labels)
    folds = split(tiles, [0, 0, 1, 1, 2, 2])
    answers = get_answers(compute(tiles, folds, pooled=draw_features(tiles))["largest_class"])
    assert answers.tolist() == [0] * 6, "training images 0 1 each: a tie"
    larger = build_tiles([0, 1, 1, 1, 0, 1])
    answers = get_answers(compute(larger, folds, pooled=draw_features(larger))["largest_class"])
    assert answers.tolist() == [0, 0, 0, 0, 1, 1], "0 1, then 0 1, then 1 1 trained"


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1] * 3,  # two classes, each with one image in every part
        [0, 1, 2] * 3,  # one group of each class to train on
        [0, 1, 0, 1, 0, 1, 0, 1, 2],  # a class that two of three folds cannot learn
    ],
)
def test_few_images_are_enough(labels: Labels) -> None:
    tiles = build_tiles(labels)
    n_parts = 3
    parts = (np.arange(len(labels)) * n_parts // len(labels)).tolist()
    found = compute(tiles, split(tiles, parts), pooled=draw_features(tiles))
    for name in ("largest_class", "logistic_training", "logistic_all"):
        assert len(get_answers(found[name])) == len(labels)
    if labels[-1] != 2 or labels[2] == 2:
        assert get_answers(found["logistic_all"]).tolist() == list(labels)


def test_one_image_to_a_part_is_answered() -> None:
    tiles = build_tiles([0, 1, 0])
    found = compute(tiles, split(tiles, [0, 1, 2]), pooled=draw_features(tiles))
    assert get_answers(found["largest_class"]).tolist() == [0, 0, 1]
    assert found["logistic_training"].reason == computing.ONE_CLASS
    assert found["logistic_all"].reason == computing.ONE_CLASS, "0 and 0 are left where 1 is tested"


def test_what_cannot_be_fitted_has_a_reason() -> None:
    tiles = build_tiles(LABELS)
    pooled = draw_features(tiles)
    pooled[4, 2] = np.nan
    found = compute(tiles, split(tiles, PARTS), pooled=pooled, metadata={"detector": ["ETD"] * 18})
    assert {name: one.reason for name, one in found.items()} == {
        "largest_class": None,
        "metadata": computing.ALIKE,
        "logistic_training": computing.NOT_FINITE,
        "logistic_all": computing.NOT_FINITE,
    }
    assert [one.answers is None for one in found.values()] == [False, True, True, True]


@pytest.fixture
def never_again(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets nothing be computed any more."""
    return lambda: monkeypatch.setattr(computing, "compute_baselines", lambda *_, **__: pytest.fail("computed again"))


def test_they_are_computed_once_and_read_as_they_were(prepared, never_again: Callable[[], None]) -> None:
    assert read_baselines(prepared.settings, name=prepared.name) is None, "a study of before"
    first = get_baselines(prepared)
    never_again()
    again = get_baselines(prepared)
    assert [(one.name, one.reason) for one in again] == [(one.name, one.reason) for one in first]
    for one, two in zip(first, again, strict=True):
        if one.answers is None or two.answers is None:
            assert one.answers is two.answers
            continue
        assert one.answers.n_classes == two.answers.n_classes
        for name in computing.ARRAYS:
            assert np.array_equal(getattr(one.answers, name), getattr(two.answers, name))


@pytest.mark.parametrize("damage", [b"", b"x", b"flipped"])
def test_a_damaged_file_is_computed_again(prepared, damage: bytes) -> None:
    first = get_baselines(prepared)
    file = Path(prepared.settings.study_folder) / prepared.name / computing.BASELINES
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:] if damage == b"flipped" else damage)
    assert read_baselines(prepared.settings, name=prepared.name) is None
    assert [one.name for one in get_baselines(prepared)] == [one.name for one in first]
    assert file.read_bytes() == whole


def test_those_of_another_version_are_computed_again(prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    get_baselines(prepared)
    monkeypatch.setattr(computing, "NAMES", (*NAMES, "another"))
    assert read_baselines(prepared.settings, name=prepared.name) is None

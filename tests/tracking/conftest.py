"""Small studies with known answers: no picture is read, no network is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.baselines import NAMES, Baseline, ComparedBaseline, compare_baselines
from sem_search.records import (
    Cell,
    FloatMatrix,
    FoldOutcome,
    IntVector,
    StudyOutcome,
    TileTable,
    TrainingCurves,
    TrialOutcome,
    TrialState,
)
from sem_search.tracking.entries.context import ExampleImage, HeatMapPicture, HeatMapSheet, StudyContext, TilingExample
from sem_search.tracking.entries.trust import StudyTrust, compute_trust
from sem_search.tracking.entries.types import FigureArtifact, Picture

N_FOLDS = 3
TILES_PER_IMAGE = 4
CELLS = (
    Cell(learning_rate=1e-2, batch_size=16),
    Cell(learning_rate=1e-2, batch_size=48),
    Cell(learning_rate=1e-3, batch_size=16),
    Cell(learning_rate=1e-3, batch_size=48),
)


@dataclass(frozen=True, kw_only=True)
class FakeFold:
    """The images in each split, as `micrographs.folds` draws them."""

    number: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def build_tiles(class_names: Sequence[str] = ("fine", "rough"), *, n_images: int = 3) -> TileTable:
    names = tuple(sorted(class_names))
    ids = tuple(f"{name}/{image:02d}.png" for name in names for image in range(n_images))
    labels = np.repeat(np.arange(len(names)), n_images)
    return TileTable(
        class_names=names,
        image_ids=ids,
        label_of_image=labels,
        group_of_image=ids,
        image_of_tile=np.repeat(np.arange(len(ids)), TILES_PER_IMAGE),
    )


def build_folds(tiles: TileTable, *, n_folds: int = N_FOLDS) -> tuple[FakeFold, ...]:
    n_images = len(tiles.image_ids) // len(tiles.class_names)
    part = np.arange(len(tiles.image_ids)) % n_images % n_folds
    ids = np.array(tiles.image_ids)
    folds = []
    for fold in range(n_folds):
        test, validation = part == fold, part == (fold + 1) % n_folds
        folds.append(
            FakeFold(
                number=fold,
                training=tuple(ids[~test & ~validation].tolist()),
                validation=tuple(ids[validation].tolist()),
                test=tuple(ids[test].tolist()),
            )
        )
    return tuple(folds)


def build_probabilities(labels: IntVector, *, n_classes: int, skill: float, rng: np.random.Generator) -> FloatMatrix:
    logits = rng.normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += skill
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def build_fold_outcome(
    tiles: TileTable, *, fold: FakeFold, skill: float = 2.0, seed: int = 0, n_epochs: int = 6
) -> FoldOutcome:
    rng = np.random.default_rng([seed, fold.number])
    n_classes = len(tiles.class_names)
    validation, test = tiles.get_tiles_of(fold.validation), tiles.get_tiles_of(fold.test)
    decay = np.exp(-np.arange(n_epochs) / max(n_epochs / 3, 1))
    noise = rng.normal(scale=0.02, size=n_epochs)
    return FoldOutcome(
        fold=fold.number,
        validation_tiles=validation,
        validation_probabilities=build_probabilities(
            tiles.label_of_tile[validation], n_classes=n_classes, skill=skill, rng=rng
        ),
        test_tiles=test,
        test_probabilities=build_probabilities(tiles.label_of_tile[test], n_classes=n_classes, skill=skill, rng=rng),
        curves=TrainingCurves(
            training_loss=0.05 + np.log(n_classes) * decay,
            training_accuracy=1 - 0.6 * decay,
            validation_loss=0.2 + np.log(n_classes) * decay + np.abs(noise),
            validation_accuracy=0.9 - 0.6 * decay + noise,
        ),
        best_epoch=n_epochs - 2 if n_epochs > 1 else 0,
        is_diverged=False,
        training_s=1.5,
    )


def build_trial(
    tiles: TileTable,
    *,
    number: int = 0,
    cell: Cell = CELLS[0],
    state: TrialState = "complete",
    n_finished: int | None = None,
    n_folds: int = N_FOLDS,
    skill: float = 2.0,
    n_epochs: int = 6,
) -> TrialOutcome:
    folds = build_folds(tiles, n_folds=n_folds)[:n_finished]
    return TrialOutcome(
        number=number,
        cell=cell,
        state=state,
        folds=tuple(
            build_fold_outcome(tiles, fold=fold, skill=skill, seed=number, n_epochs=n_epochs) for fold in folds
        ),
        run_id=f"run{number}",
        message=None if state == "complete" else f"{state} for a reason",
    )


def build_study(tiles: TileTable | None = None) -> StudyOutcome:
    """Four cells asked for: one complete, the winner complete, one pruned after a fold, one never tried."""
    table = tiles or build_tiles()
    return StudyOutcome(
        name="little study",
        backbone="tiny",
        select_on="validation",
        tiles=table,
        trials=(
            build_trial(table, number=0, cell=CELLS[0], skill=1.0),
            build_trial(table, number=1, cell=CELLS[1], skill=3.0),
            build_trial(table, number=2, cell=CELLS[2], state="pruned", n_finished=1, skill=0.0),
        ),
        winner_number=1,
    )


def build_sheet(tiles: TileTable, *, size_px: int = 32) -> HeatMapSheet:
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:size_px, 0:size_px] / size_px
    pictures = []
    for place, name in enumerate(tiles.class_names):
        pixels = 0.5 + 0.25 * np.sin((6 + place) * rows) * np.cos(7 * columns) + rng.normal(0, 0.05, (size_px, size_px))
        is_zero = place == 1
        heat_map = np.zeros((7, 7)) if is_zero else rng.random((7, 7)) ** 3
        other = tiles.class_names[(place + 1) % len(tiles.class_names)]
        pictures.append(
            HeatMapPicture(
                image_id=tiles.image_ids[place * len(tiles.image_ids) // len(tiles.class_names)],
                tile=place,
                fold=0,
                true_label=name,
                predicted_label=other if place == 2 else name,
                explained_label=other if place == 2 else name,
                probability=0.87,
                pixels=np.clip(pixels, 0, 1).astype(np.float32),
                heat_map=heat_map.astype(np.float32),
                is_zero=is_zero,
            )
        )
    return HeatMapSheet(convolution="conv_last", pictures=tuple(pictures))


def build_baselines(study: StudyOutcome, *, skill: float = 1.0) -> tuple[ComparedBaseline, ...]:
    """Four trials of this skill stand for the baselines; there are no metadata."""
    n_folds = len(study.winner.folds)
    trials = [build_trial(study.tiles, number=50 + n, skill=skill, n_folds=n_folds) for n in range(len(NAMES))]
    baselines = [
        Baseline(name="metadata", reason="no attribute differs between the images")
        if name == "metadata"
        else Baseline(name=name, answers=tabulate_answers(trial, tiles=study.tiles, split="test"))
        for name, trial in zip(NAMES, trials, strict=True)
    ]
    return compare_baselines(baselines, winner=study.winner, tiles=study.tiles)


def build_context(study: StudyOutcome, *, n_folds: int = N_FOLDS) -> StudyContext:
    tiles = study.tiles
    sheet = build_sheet(tiles)
    examples = tuple(
        ExampleImage(
            image_id=picture.image_id,
            label=picture.true_label,
            pixels=picture.pixels,
            width_px=100,
            height_px=80,
            pixel_size_nm=12.5 if place else None,
        )
        for place, picture in enumerate(sheet.pictures)
    )
    return StudyContext(
        data="a folder",
        cells=CELLS,
        examples=examples,
        tiling=TilingExample(image=examples[0], tile_px=40, corners_px=((0, 0), (0, 40), (40, 0), (40, 40))),
        folds=tuple(vars(fold) for fold in build_folds(tiles, n_folds=n_folds)),
        heat_maps=sheet,
        baselines=build_baselines(study),
        findings=("Class fine was imaged on a single day.",),
        warnings=("2 files were skipped.",),
        settings={"epochs": 6, "storage": "postgresql://user:hunter2@host/db", "timeout": None},
        versions={"python": "3.11.7"},
        hashes={"data": "ab" * 32},
        model_uri="models:/sem-search-tiny@champion",
        run_id="study-run",
        tracking_uri="sqlite:///mlflow.db",
    )


@pytest.fixture(scope="session")
def tiles() -> TileTable:
    return build_tiles()


@pytest.fixture(scope="session")
def study() -> StudyOutcome:
    return build_study()


@pytest.fixture(scope="session")
def linear_study(study: StudyOutcome) -> StudyOutcome:
    """The same study with a linear head, which wins; its curves have one epoch."""
    linear = build_trial(study.tiles, number=3, cell=Cell(head="linear"), skill=6.0, n_epochs=1)
    return replace(study, trials=(*study.trials, linear), winner_number=linear.number)


@pytest.fixture(scope="session")
def context(study: StudyOutcome) -> StudyContext:
    return build_context(study)


@pytest.fixture(scope="session")
def trust(study: StudyOutcome) -> StudyTrust:
    return compute_trust(study)


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds; most tests of pages ask for the words alone."""
    monkeypatch.setattr(FigureArtifact, "picture", Picture(content=b"", width_in=1.0, media_type="image/png"))


@pytest.fixture(scope="session")
def make_tiles() -> Callable[..., TileTable]:
    return build_tiles


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., TrialOutcome]:
    return build_trial


@pytest.fixture(scope="session")
def make_study() -> Callable[..., StudyOutcome]:
    return build_study


@pytest.fixture(scope="session")
def make_context() -> Callable[..., StudyContext]:
    return build_context


@pytest.fixture(scope="session")
def make_baselines() -> Callable[..., tuple[ComparedBaseline, ...]]:
    return build_baselines

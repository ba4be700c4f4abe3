"""A finished trial as a servable model: its fold heads over the shared trunk, and the record that travels with it.

The record is the model's card, its data's catalogue and folds, and its out-of-fold answers.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sem_search.deployment.package.calibration_record import fit_calibration
from sem_search.deployment.package.card import CardClass, CardConfusion, CardFold, CardScore, ModelCard
from sem_search.deployment.package.description import ClassifierDescription
from sem_search.deployment.package.record import ModelRecord, OutOfFold
from sem_search.deployment.package.writing import ClassifierParts, log_classifier
from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.evaluation.resampling import build_strata
from sem_search.records import Cell, FinishedFold, Split, TileTable, TrialOutcome
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.results.outcome import read_finished_folds
from sem_search.search.results.run_description import (
    describe_datasets,
    describe_hashes,
    describe_trial_params,
    describe_used,
    describe_versions,
)
from sem_search.secrets import mask_secrets
from sem_search.tracking.entries.run_contents import iter_refit_entries
from sem_search.tracking.entries.tables import SPLITS, UNITS, Unit, compute_class_rows, compute_confusion_table
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.models import ModelLink
from sem_search.tracking.mlflow.names import TAG_REFIT
from sem_search.tracking.mlflow.runs import get_tags

NOT_OF_THE_MODEL = {
    "data",
    "weights",
    "storage",
    "study_folder",
    "outage_wait",
    "cluster",
    "shared",
    "model_name",
    "promote_margin",
    "promote_confidence",
    "threads",
}
"""Settings that belong to the machine or to the registry: paths, the storage's URL, the rules for the champion."""

SCORE_NAMES: Mapping[tuple[Unit, str], str] = {
    ("tiles", "f_measure"): "macro F-measure, mean over the folds",
    ("tiles", "tile_accuracy"): "accuracy",
    ("images", "image_f_measure"): "macro F-measure",
    ("images", "image_accuracy"): "accuracy",
}

_PLACE = re.compile(r"(?<![\w:/.~])(?:[A-Za-z]:\\|/)(?:[^\s\\/:,;]+[\\/])*([^\s\\/:,;]+)")
"""An absolute path that is no part of a URL, and its last name."""


def log_trial_model(
    prepared: PreparedSearch, *, outcome: TrialOutcome, finished_folds: tuple[FinishedFold, ...], run_id: str
) -> str:
    """Log what would be served if this trial won, and return the model's id.

    What the model cannot do as it should is a tag on the run.

    Args:
        prepared: Of the search.
        outcome: Of the complete trial.
        finished_folds: All folds of the trial, in order.
        run_id: Of the trial's run.
    """
    grid, reading = prepared.data.grid, prepared.data.catalogue.reading
    parts = ClassifierParts(
        trunk=prepared.network.cut.trunk,
        head=prepared.trainer.head,
        head_weights=[fold.head_weights for fold in finished_folds],
        description=ClassifierDescription(
            class_names=prepared.data.tiles.class_names,
            backbone=prepared.network.backbone.name,
            convolution=prepared.network.cut.convolution,
            n_heads=len(finished_folds),
            tile_px=grid.size_px,
            stride_px=grid.stride_px,
            tiles_per_image=grid.per_image,
            tiles_seed=grid.seed,
            crop_bottom_px=reading.crop_bottom_px,
            pixel_size_nm=reading.pixel_size_nm,
            augment=prepared.settings.augment,
            max_megapixels=reading.max_megapixels,
            pixel_sizes_nm=gather_pixel_sizes(prepared),
            settings={**describe_model_settings(prepared, outcome=outcome), **outcome.cell.params},
            hashes=describe_hashes(prepared),
        ),
        calibration=fit_calibration(outcome, tiles=prepared.data.tiles, novelty=prepared.novelty),
    )
    logged = log_classifier(
        parts,
        run_id=run_id,
        name=name_model(prepared.network.backbone.name, cell=outcome.cell, is_refit=outcome.is_refit),
        record=build_record(prepared, outcome=outcome),
        params={
            name: mask_secrets(str(value)) for name, value in describe_trial_params(prepared, cell=outcome.cell).items()
        },
    )
    if logged.warnings:
        log_entries([Tags(values={"sem_search.model_warnings": "\n".join(logged.warnings)})], run_id=run_id)
    return logged.model_id


def log_refit(prepared: PreparedSearch, *, winner: TrialOutcome) -> None:
    """Log the winner with the heads that were trained again to its run: its model and their test scores, once.

    Args:
        prepared: Of the search.
        winner: As it is served; without `refit` nothing is logged.
    """
    run_id = winner.run_id
    if not winner.is_refit or run_id is None or TAG_REFIT in get_tags(run_id):
        return
    folds = read_finished_folds(prepared, trial=winner)
    model_id = log_trial_model(prepared, outcome=winner, finished_folds=folds, run_id=run_id)
    link = ModelLink(model_id=model_id, datasets=describe_datasets(prepared))
    log_entries(iter_refit_entries(winner, tiles=prepared.data.tiles), run_id=run_id, link=link)


def name_model(backbone: str, *, cell: Cell, is_refit: bool = False) -> str:
    """Return what a trial's model is called, in characters that MLflow takes: `vgg16-lr1e-02-bs16`.

    Args:
        backbone: Its backbone.
        cell: Its cell.
        is_refit: Whether its heads were trained again; the name then ends in `-refit`.
    """
    return f"{backbone}-{cell.name}{'-refit' * is_refit}".translate(str.maketrans("_.", "--"))


def build_record(prepared: PreparedSearch, *, outcome: TrialOutcome) -> ModelRecord:
    """Return the record of a complete trial."""
    return ModelRecord(
        card=build_card(prepared, outcome=outcome),
        catalogue=prepared.data.catalogue,
        folds=prepared.data.folds,
        out_of_fold=OutOfFold(trial=outcome, tiles=prepared.data.tiles),
    )


def build_card(prepared: PreparedSearch, *, outcome: TrialOutcome) -> ModelCard:
    """Return the model card of a complete trial; it names no place of this machine."""
    settings, tiles = prepared.settings, prepared.data.tiles
    return ModelCard(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        data=Path(settings.data).name or settings.data,
        study=prepared.name,
        run_id=outcome.run_id or "",
        backbone=settings.backbone,
        weights_used=prepared.network.weights.used,
        select_on=settings.select_on,
        head=outcome.cell.head,
        learning_rate=outcome.cell.learning_rate,
        batch_size=outcome.cell.batch_size,
        n_cells=settings.trials or settings.n_cells,
        classes=_list_classes(prepared),
        folds=tuple(
            CardFold(
                number=fold.number,
                n_training=len(fold.training),
                n_validation=len(fold.validation),
                n_test=len(fold.test),
            )
            for fold in prepared.data.folds.folds
        ),
        scores=tuple(score for split in SPLITS for score in _list_scores(outcome, tiles=tiles, split=split)),
        confusions=_list_confusions(outcome, tiles=tiles),
        settings=describe_model_settings(prepared, outcome=outcome),
        hashes=describe_hashes(prepared),
        versions=describe_versions(),
        warnings=tuple(map(hide_places, _list_warnings(prepared, outcome=outcome))),
        findings=tuple(
            hide_places(finding.message) for finding in prepared.data.findings if finding.severity != "note"
        ),
    )


def describe_model_settings(prepared: PreparedSearch, *, outcome: TrialOutcome) -> dict[str, Any]:
    """Return the settings that made the model as they were used, as JSON values by name; `refit` of a winner alone.

    Args:
        prepared: Of the search.
        outcome: Of the trial whose model it is.
    """
    understood, used = prepared.settings.model_dump(mode="json", exclude=NOT_OF_THE_MODEL), describe_used(prepared)
    names = {
        "stride_px": "stride_px",
        "crop_bottom_px": "crop_bottom_px",
        "pixel_size_nm": "pixel_size_nm",
        "study": "study",
        "engine": "engine_used",
        "precision": "precision_used",
    }
    return understood | {name: used[source] for name, source in names.items()} | {"refit": outcome.is_refit}


def gather_pixel_sizes(prepared: PreparedSearch) -> Mapping[str, tuple[float, ...]]:
    """Return the distinct pixel sizes of each class, in nm, ascending, where files give them."""
    sizes: defaultdict[str, set[float]] = defaultdict(set)
    for record in prepared.data.catalogue.records:
        if record.pixel_size_nm is not None:
            sizes[record.label].add(record.pixel_size_nm)
    return {label: tuple(sorted(values)) for label, values in sizes.items()}


def hide_places(text: str) -> str:
    """Return the text with the last name alone of each absolute path: where it lay is this machine's affair."""
    return _PLACE.sub(r"\1", text)


def _list_warnings(prepared: PreparedSearch, *, outcome: TrialOutcome) -> list[str]:
    obstacle = _find_obstacle(outcome, tiles=prepared.data.tiles)
    warnings = [*prepared.data.catalogue.warnings, *prepared.network.warnings]
    return warnings if obstacle is None else [*warnings, obstacle]


def _list_classes(prepared: PreparedSearch) -> tuple[CardClass, ...]:
    sizes = gather_pixel_sizes(prepared)
    return tuple(
        CardClass(
            name=row.label,
            n_images=row.n_images,
            n_groups=row.n_groups,
            n_tiles=row.n_tiles,
            pixel_sizes_nm=sizes.get(row.label, ()),
        )
        for row in compute_class_rows(prepared.data.tiles)
    )


def _list_scores(outcome: TrialOutcome, *, tiles: TileTable, split: Split) -> list[CardScore]:
    """Return the headline figures of one split, with their intervals where the images allow any."""
    if _find_obstacle(outcome, tiles=tiles) is None:
        intervals = compute_intervals(tabulate_answers(outcome, tiles=tiles, split=split))
        return [
            CardScore(split=split, unit=unit, name=name, value=figure.value, low=figure.low, high=figure.high)
            for (unit, key), name in SCORE_NAMES.items()
            for figure in [getattr(intervals, key)]
        ]
    scores = compute_split_scores(outcome, tiles=tiles, split=split)
    return [
        CardScore(split=split, unit=unit, name=name, value=getattr(scores, key), low=None, high=None)
        for (unit, key), name in SCORE_NAMES.items()
    ]


def _find_obstacle(outcome: TrialOutcome, *, tiles: TileTable) -> str | None:
    """Return why no interval can be given, None if one can: groups of several classes may leave a class with one."""
    try:
        for split in SPLITS:
            build_strata(tabulate_answers(outcome, tiles=tiles, split=split))
    except ValueError as error:
        return f"no intervals: {error}"
    return None


def _list_confusions(outcome: TrialOutcome, *, tiles: TileTable) -> tuple[CardConfusion, ...]:
    """Return the confusion matrices of the test split, by image first: that is what is served."""
    tables = [compute_confusion_table(outcome, tiles=tiles, unit=unit) for unit in reversed(UNITS)]
    return tuple(
        CardConfusion(split="test", unit=table.unit, counts=tuple(map(tuple, table.counts.tolist())))
        for table in tables
    )

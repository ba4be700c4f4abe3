"""A finished trial as a servable model: its fold heads over the shared trunk, logged into the trial's run."""

from sem_search.deployment.package.calibration_record import fit_calibration
from sem_search.deployment.package.writing import MODEL_NAME, ClassifierParts, post_classifier
from sem_search.records import FinishedFold, TrialOutcome
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.results.model_record import build_record, describe_model_settings, gather_pixel_sizes
from sem_search.search.results.run_description import describe_hashes
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.log import log_entries
from sem_search.transfer.heads.training import HeadTrainer

MODEL_PATH = MODEL_NAME
"""Artifact path of the model in a trial's run."""


def log_trial_model(
    prepared: PreparedSearch,
    *,
    outcome: TrialOutcome,
    trainer: HeadTrainer,
    finished_folds: tuple[FinishedFold, ...],
    run_id: str,
) -> None:
    """Log what would be served if this trial won; what the model cannot do as it should is a tag on the run."""
    parts = ClassifierParts(
        trunk=prepared.network.cut.trunk,
        head=trainer.head,
        head_weights=[kept.head_weights for kept in finished_folds],
        convolution=prepared.network.cut.convolution,
        backbone=prepared.network.backbone.name,
        class_names=prepared.data.tiles.class_names,
        grid=prepared.data.grid,
        crop_bottom_px=prepared.data.catalogue.reading.crop_bottom_px,
        max_megapixels=prepared.data.catalogue.reading.max_megapixels,
        pixel_sizes_nm=gather_pixel_sizes(prepared),
        settings={
            **describe_model_settings(prepared.settings),
            "learning_rate": outcome.cell.learning_rate,
            "batch_size": outcome.cell.batch_size,
        },
        hashes=describe_hashes(prepared),
        calibration=fit_calibration(outcome, tiles=prepared.data.tiles, novelty=prepared.novelty),
    )
    warnings = post_classifier(parts, run_id=run_id, record=build_record(prepared, outcome=outcome))
    if warnings:
        log_entries([Tags(values={"sem_search.model_warnings": "\n".join(warnings)})], run_id=run_id)

"""A finished trial as a servable model: its fold heads over the shared trunk, logged into the trial's run."""

from collections import defaultdict

from sem_search.deployment.packaging import MODEL_NAME, ClassifierParts, log_classifier
from sem_search.evaluation.outcomes import Cell
from sem_search.search.describing import describe_hashes
from sem_search.search.fold_store import KeptFold
from sem_search.search.prepared import PreparedSearch
from sem_search.tracking.loggable import Tags
from sem_search.tracking.mlflow_log import log_entries
from sem_search.transfer.training import HeadTrainer

MODEL_PATH = MODEL_NAME
"""Artifact path of the model in a trial's run."""


def log_trial_model(
    prepared: PreparedSearch, *, cell: Cell, trainer: HeadTrainer, kept_folds: tuple[KeptFold, ...], run_id: str
) -> None:
    """Log what would be served if this trial won; what the model cannot do as it should is a tag on the run."""
    settings = prepared.settings
    parts = ClassifierParts(
        trunk=prepared.network.cut.trunk,
        head=trainer.head,
        head_weights=[kept.head_weights for kept in kept_folds],
        convolution=prepared.network.cut.convolution,
        backbone=prepared.network.backbone.name,
        class_names=prepared.data.tiles.class_names,
        grid=prepared.data.grid,
        crop_bottom_px=prepared.data.crop_bottom_px,
        max_megapixels=settings.max_megapixels,
        pixel_sizes_nm=_gather_pixel_sizes(prepared),
        # Paths and the storage's URL belong to this machine, not to the model.
        settings={
            **settings.model_dump(mode="json", exclude={"data", "weights", "storage", "study_folder"}),
            "learning_rate": cell.learning_rate,
            "batch_size": cell.batch_size,
        },
        hashes=describe_hashes(prepared),
    )
    logged = log_classifier(parts, run_id=run_id)
    if logged.warnings:
        log_entries([Tags(values={"sem_search.model_warnings": "\n".join(logged.warnings)})], run_id=run_id)


def _gather_pixel_sizes(prepared: PreparedSearch) -> dict[str, list[float]]:
    """Return the distinct pixel sizes of each class, in nm, where files tell them."""
    sizes: defaultdict[str, set[float]] = defaultdict(set)
    for record in prepared.data.catalogue.records:
        if record.pixel_size_nm is not None:
            sizes[record.label].add(record.pixel_size_nm)
    return {label: sorted(values) for label, values in sizes.items()}

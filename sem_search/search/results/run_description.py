"""The description that a study's run has before its first trial: settings, hashes, versions, data, warnings."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import sem_search
from sem_search.records import Cell
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.settings import SearchSettings
from sem_search.terminal import protect_cell
from sem_search.tracking.entries.types import JsonArtifact, Params, Scalar, Tags, TextArtifact
from sem_search.tracking.mlflow.datasets import Datasets, build_datasets, log_datasets
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import get_params
from sem_search.transfer.trunk import name_processor
from sem_search.words import count, write_list

NO_PARAMS = (
    "learning_rates",
    "batch_sizes",
    "storage",
    "study_folder",
    "outage_wait",
    "cluster",
    "shared",
    "study",
    "model_name",
    "promote_margin",
    "promote_confidence",
    "trials",
    "timeout",
)
"""Settings that are written in another form, or that say how far a search went and nothing about a trial."""

SHARED_PARAMS = ("study", "data", "preset", "backbone", "weights_used", "select_on", "epochs", "seed")
"""What a trial's run has beside its cell: MLflow prints every parameter above each picture that it compares."""

STUDY_PARAMS = (
    *SHARED_PARAMS,
    "heads",
    "learning_rates",
    "batch_sizes",
    "schedule",
    "augment",
    "class_weight",
    "refit",
    "engine_used",
    "folds",
    "n_classes",
    "n_images",
    "n_tiles",
)
"""What a study's run has; all else stands in `study/settings.json`."""

LIBRARIES = ("tensorflow", "keras", "onnxruntime", "optuna", "mlflow", "numpy", "scikit-learn", "pillow", "tifffile")


def log_study_start(prepared: PreparedSearch, *, versions: Mapping[str, str], run_id: str) -> None:
    """Log what the study is, so that a search that is still running can already be understood in the UI.

    Args:
        prepared: The search.
        versions: Of this program and its libraries when a cell was last trained.
        run_id: Of the study's run.
    """
    params = {name: value for name, value in describe_params(prepared).items() if name in STUDY_PARAMS}
    frame = prepared.data.catalogue.table
    log_entries(
        [
            Params(values=_resolve_names(params, taken=get_params(run_id))),
            Tags(values=describe_tags(prepared)),
            describe_settings(prepared.settings, used=describe_used(prepared)),
            JsonArtifact(path="study/fingerprint.json", content=dict(prepared.fingerprint)),
            JsonArtifact(path="study/versions.json", content=dict(versions)),
            TextArtifact(path="data/catalogue.csv", text=frame.map(protect_cell).to_csv(index=False)),
        ],
        run_id=run_id,
    )
    log_datasets(describe_datasets(prepared), run_id=run_id)


def describe_settings(settings: SearchSettings, *, used: Mapping[str, Scalar] | None = None) -> JsonArtifact:
    """Return every setting as it was understood, and what was used in place of some, as a file of the study's run.

    Args:
        settings: Of the search.
        used: See `describe_used`; None before the data and the network are prepared.
    """
    understood = settings.without_passwords.model_dump(mode="json")
    return JsonArtifact(path="study/settings.json", content={"understood": understood, "used": dict(used or {})})


def describe_params(prepared: PreparedSearch) -> dict[str, Scalar]:
    """Return the settings as they were understood, and what was really used, by parameter name."""
    settings = prepared.settings
    params: dict[str, Scalar] = {}
    for name, value in settings.model_dump(exclude=set(NO_PARAMS)).items():
        params[name] = write_list(value) if isinstance(value, tuple) else value
    return params | {
        "learning_rates": ",".join(f"{rate:g}" for rate in settings.learning_rates),
        "batch_sizes": ",".join(str(size) for size in settings.batch_sizes),
        **describe_used(prepared),
    }


def describe_trial_params(prepared: PreparedSearch, *, cell: Cell) -> dict[str, Scalar]:
    """Return the parameters of a trial's run: its cell, and a few that tell studies apart."""
    shared = {name: value for name, value in describe_params(prepared).items() if name in SHARED_PARAMS}
    return {**cell.params, **shared}


def describe_datasets(prepared: PreparedSearch) -> Datasets:
    """Return the study's data as MLflow names them, by role."""
    catalogue = prepared.data.catalogue
    return build_datasets(
        catalogue.table,
        name=Path(prepared.settings.data).name or prepared.settings.data,
        digest=catalogue.digest,
        source=str(catalogue.root),
    )


def describe_used(prepared: PreparedSearch) -> dict[str, Scalar]:
    """Return what was used where a setting leaves it open, and the size of the data."""
    return {
        "stride_px": prepared.settings.resolved_stride_px,
        "crop_bottom_px": prepared.data.catalogue.reading.crop_bottom_px,
        "pixel_size_nm": prepared.data.catalogue.reading.pixel_size_nm,
        "weights_used": prepared.network.weights.used,
        "engine_used": prepared.network.computation.engine,
        "precision_used": prepared.network.computation.precision,
        "study": prepared.name,
        "n_classes": len(prepared.data.tiles.class_names),
        "n_images": len(prepared.data.tiles.image_ids),
        "n_tiles": prepared.data.tiles.n_tiles,
    }


def describe_tags(prepared: PreparedSearch) -> dict[str, str]:
    """Return what leads from a result back to its data, weights and code, and what fell back on the way."""
    tags = describe_hashes(prepared) | {
        "sem_search.version": sem_search.__version__,
        "sem_search.git_commit": _read_git_commit(),
    }
    if prepared.warnings:
        tags["sem_search.warnings"] = "\n".join(prepared.warnings)
    if prepared.data.catalogue.skipped:
        tags["sem_search.skipped_files"] = str(len(prepared.data.catalogue.skipped))
    for finding in prepared.data.findings:
        if finding.severity != "note":
            name = f"sem_search.finding.{finding.kind}"
            tags[name] = f"{tags[name]}\n{finding.message}" if name in tags else finding.message
    return tags


def describe_hashes(prepared: PreparedSearch) -> dict[str, str]:
    """Return the hashes of data, folds and weights."""
    return {
        "sem_search.data_sha256": prepared.data.catalogue.digest,
        "sem_search.folds_sha256": prepared.data.folds.digest,
        "sem_search.weights_sha256": prepared.network.weights.sha256,
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries that make the numbers."""
    versions = {"python": platform.python_version(), "sem_search": sem_search.__version__}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def describe_machine() -> str:
    """Return processor and cores of this machine: `AMD EPYC 7B13, 2 cores`."""
    return f"{name_processor()}, {count(os.cpu_count() or 1, 'core')}"


def _resolve_names(params: Mapping[str, Scalar], *, taken: Mapping[str, str]) -> dict[str, Scalar]:
    """Rename what `mlflow run` has logged already as it was asked for: `epochs` = auto, `epochs_used` = 100.

    A run that goes on keeps what it holds, since MLflow changes no parameter: study/settings.json has the last ones.
    """
    changed = {name: value for name, value in params.items() if taken.get(name) != str(value)}
    renamed = {(f"{name}_used" if name in taken else name): value for name, value in changed.items()}
    return {name: value for name, value in renamed.items() if name not in taken}


def _read_git_commit() -> str:
    """Return the commit of the program, or why it is not known."""
    folder = Path(sem_search.__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - found on PATH, like every git hook does
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
    return done.stdout.strip()

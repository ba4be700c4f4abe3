"""How an artifact becomes a file: UTF-8 text, JSON, CSV, Parquet or a picture. Secrets in texts are masked."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import assert_never

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from sem_search.errors import StoreError
from sem_search.secrets import mask_secrets
from sem_search.terminal import protect_cell
from sem_search.tracking.entries.types import (
    Artifact,
    Entry,
    FigureArtifact,
    FrameArtifact,
    JsonArtifact,
    PictureArtifact,
    TableArtifact,
    TextArtifact,
)
from sem_search.tracking.mlflow.availability import get_tracking_uri


def write_artifact(artifact: Artifact, *, target: Path) -> None:
    """Write one artifact to a file; folders that are not there are made.

    Raises:
        ValueError: A JSON artifact holds NaN or infinity, which JSON has no word for.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    match artifact:
        case FigureArtifact() | PictureArtifact():
            target.write_bytes(artifact.picture.content)
        case TextArtifact():
            _write_text(artifact.text, target=target)
        case JsonArtifact():
            text = json.dumps(artifact.content, ensure_ascii=False, indent=1, allow_nan=False)
            _write_text(text + "\n", target=target)
        case TableArtifact():
            _write_text(_format_csv(artifact), target=target)
        case FrameArtifact():
            _mask(artifact.frame).to_parquet(target, compression="zstd", index=False)
        case _:
            assert_never(artifact)


def write_artifacts(entries: Iterable[Entry], *, folder: Path) -> None:
    """Write the files among the entries below a folder."""
    for entry in entries:
        if isinstance(entry, Artifact):
            write_artifact(entry, target=folder / entry.path)


def read_text_artifact(*, run_id: str, path: str) -> str:
    """Return a text that was logged to a run.

    Raises:
        StoreError: The tracking store does not give it.
    """
    return read_artifact(run_id=run_id, path=path).decode("utf-8")


def read_artifact(*, run_id: str, path: str) -> bytes:
    """Return a file that was logged to a run.

    Raises:
        StoreError: The tracking store does not give it.
    """
    try:
        with TemporaryDirectory(prefix="sem_search_") as folder:
            return Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{path}", dst_path=folder)).read_bytes()
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"{path} of run {run_id} cannot be had from {get_tracking_uri()}: "
            f"{mask_secrets(str(error))} Set MLFLOW_TRACKING_URI to the store of the search."
        ) from None  # its URL may hold a password


def _write_text(text: str, *, target: Path) -> None:
    """Write text without secrets, with the same line ends on every system."""
    target.write_bytes(mask_secrets(text).encode("utf-8"))


def _mask(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table without secrets; each text, which may stand in many rows, is looked at once."""
    masked = frame.copy(deep=False)
    for name in frame.select_dtypes(exclude="number"):
        masked[name] = frame[name].map({text: mask_secrets(text) for text in set(frame[name])})
    return masked


def _format_csv(artifact: TableArtifact) -> str:
    """Return CSV with a header; None is an empty field, and no text is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([protect_cell(value) for value in row] for row in (artifact.columns, *artifact.rows))
    return text.getvalue()

"""Whole micrographs classified with a registered model (being written: signatures first)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal


def predict_images(
    images: Sequence[Path],
    *,
    model_uri: str,
    output: Path | None = None,
    output_format: Literal["csv", "json"] = "csv",
    explain_folder: Path | None = None,
) -> int:
    """Classify files and folders; return the exit code: 0, or 2 if an image could not be read."""
    raise NotImplementedError

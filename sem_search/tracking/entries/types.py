"""What can be logged, as plain records that know no tracking server.

The generators of this folder yield these, `tracking/mlflow` writes them: *what* is logged is tested without a server.
An artifact whose path some store refuses cannot be made.
"""

import base64
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Scalar = str | int | float | bool | None
"""What stands in a parameter or in one field of a table."""

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".tif": "image/tiff",
}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")
"""Letters, digits and marks that every tracking store, database and file system takes."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """Settings of a run; MLflow lets none be changed once it is written."""

    values: Mapping[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One finite number; `step` is the fold or the epoch, 0 for a figure of the whole run."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Numbers that belong together and are written in one call."""

    points: tuple[MetricPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Words about a run; unlike parameters they may be written again."""

    values: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Artifact:
    """A file of the run, at a relative path with forward slashes."""

    path: str

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.path) or {".", ".."} & set(self.path.split("/")):
            raise ValueError(f"{self.path!r} is no artifact path: letters, digits, '_', '-', '.' and '/' only.")


@dataclass(frozen=True, kw_only=True)
class JsonArtifact(_Artifact):
    """Lists, mappings, text and finite numbers, written as JSON."""

    content: Any


@dataclass(frozen=True, kw_only=True)
class TextArtifact(_Artifact):
    """Text as it is: a traceback, an HTML page, Optuna's plots."""

    text: str


@dataclass(frozen=True, kw_only=True)
class TableArtifact(_Artifact):
    """Rows under named columns, written as CSV."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.path}: a row of {len(row)} fields under {len(self.columns)} columns.")


@dataclass(frozen=True, kw_only=True)
class EvaluationTable(TableArtifact):
    """Rows that MLflow's evaluation view compares across runs, written as its JSON: the path ends in `.json`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameArtifact(_Artifact):
    """A table of very many rows, written as Parquet: the path ends in `.parquet`."""

    frame: "pd.DataFrame"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn figure as a file."""

    content: bytes
    width_in: float
    media_type: str

    @property
    def data_uri(self) -> str:
        """The file as an address, so that a page can hold it."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True, kw_only=True)
class FigureArtifact(_Artifact):
    """A figure, drawn when it is first asked for and not before; the path ends as `MEDIA_TYPES` has it."""

    draw: Callable[[], "Figure"]

    @cached_property
    def picture(self) -> Picture:
        """The figure as a file; drawn once, though it is logged and stands in a page as well."""
        from sem_search.tracking.figures.style import render_figure

        figure, suffix = self.draw(), PurePosixPath(self.path).suffix
        content = render_figure(figure, suffix=suffix)
        return Picture(content=content, width_in=round(figure.get_figwidth(), 2), media_type=MEDIA_TYPES[suffix])


@dataclass(frozen=True, kw_only=True)
class PictureArtifact(_Artifact):
    """A picture that is a file already; the path ends as its media type asks."""

    picture: Picture


@dataclass(frozen=True, kw_only=True)
class ChartImage:
    """A figure under a key: MLflow's charts show the figures that several runs have under one key side by side."""

    key: str
    draw: Callable[[], "Figure"]

    @property
    def artifact(self) -> FigureArtifact:
        """The figure as a file."""
        return FigureArtifact(path=f"{self.key}.png", draw=self.draw)


Artifact = JsonArtifact | TextArtifact | TableArtifact | FrameArtifact | FigureArtifact | PictureArtifact
Entry = Params | Metrics | Tags | ChartImage | Artifact


def pair_figure(path: str, *, draw: Callable[[], "Figure"], content: Any) -> tuple[FigureArtifact, JsonArtifact]:
    """Return a figure and the numbers behind it, as two files that differ in their suffix alone.

    Args:
        path: Of the figure.
        draw: Draws it.
        content: The numbers, fit for JSON.
    """
    numbers = JsonArtifact(path=str(PurePosixPath(path).with_suffix(".json")), content=content)
    return FigureArtifact(path=path, draw=draw), numbers


def iter_finite_metrics(values: Iterable[tuple[str, float, int]], *, source: str) -> Iterator[Metrics | Tags]:
    """Yield the finite numbers as one `Metrics`, and a tag that counts the others, if there are any.

    MLflow stores infinity as 1.8e308 and NaN as 0 with a mark that its charts do not show, so neither is handed on.

    Args:
        values: Metric name, value and step of each number.
        source: What the numbers come from, for the tag `sem_search.not_finite.<source>`.
    """
    points: list[MetricPoint] = []
    left_out: Counter[str] = Counter()
    for key, value, step in values:
        if math.isfinite(value):
            points.append(MetricPoint(key=key, value=float(value), step=step))
        else:
            left_out[key] += 1
    if points:
        yield Metrics(points=tuple(points))
    if left_out:
        counts = ", ".join(f"{key}: {count}" for key, count in left_out.items())
        yield Tags(values={f"sem_search.not_finite.{source}": counts})

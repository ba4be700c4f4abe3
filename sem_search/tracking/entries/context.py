"""What the figures and the report need beside a `StudyOutcome`: plain arrays and words, filled in by the search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sem_search.evaluation.baselines import ComparedBaseline
from sem_search.records import Cell
from sem_search.tracking.entries.mistakes import Answer, AnsweredTile
from sem_search.tracking.entries.types import Picture, Scalar

GreyImage = NDArray[np.float32]
"""Grey levels in [0, 1], shape (height_px, width_px)."""


@dataclass(frozen=True, kw_only=True)
class ExampleImage:
    """One original to show; `pixels` may be a reduced copy of the same field of view."""

    image_id: str
    label: str
    pixels: GreyImage
    width_px: int
    """Width of the original, data bar removed."""
    height_px: int
    """Height of the original, data bar removed."""
    pixel_size_nm: float | None = None
    """Of the original; None where the file does not state it: then there is no scale bar."""


@dataclass(frozen=True, kw_only=True)
class TilingExample:
    """How one original is cut into tiles."""

    image: ExampleImage
    tile_px: int
    corners_px: tuple[tuple[int, int], ...]
    """Top and left of each tile in the original, in the order of cutting."""


@dataclass(frozen=True, kw_only=True)
class HeatMapPicture:
    """One test tile, and where the network looked when it classified it."""

    image_id: str
    tile: int
    """Index of the tile in the study's tile table."""
    fold: int
    """The fold whose test set holds the tile, and whose head classified it."""
    true_label: str
    predicted_label: str
    explained_label: str
    """The class whose logit the heat map explains."""
    probability: float
    """Of the predicted class."""
    pixels: GreyImage
    """The tile, shape (tile_px, tile_px)."""
    heat_map: NDArray[np.float32]
    """In [0, 1], shape (height, width) at any resolution: it is stretched over the tile when drawn."""
    is_zero: bool
    """Nothing in the tile raises the score of the class: the map is zero throughout."""


@dataclass(frozen=True, kw_only=True)
class HeatMapSheet:
    """Grad-CAM of one trial: test tiles only, every class at least once."""

    convolution: str
    """Name of the convolution layer that is explained."""
    pictures: tuple[HeatMapPicture, ...]


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """A test image of the winner, and where the network looked for the true class and for the other one."""

    answer: Answer
    picture: Picture
    """The image, reduced, its contrast stretched."""
    true_heat: Picture
    """The same under the Grad-CAM of the true class."""
    other_heat: Picture
    """The same under the Grad-CAM of the other class, on the same scale."""
    is_partly_unseen: bool
    """No tile covers a part of it."""


@dataclass(frozen=True, kw_only=True)
class ShownTile:
    """A test tile of the winner."""

    answer: AnsweredTile
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class MistakeGallery:
    """What the winner classified wrongly, in pictures."""

    images: tuple[ShownImage, ...]
    """The surest mistakes first; where no image is wrong, the least sure ones."""
    tiles: tuple[ShownTile, ...]
    """Those of the highest log loss, the highest first."""
    n_wrong: int
    """Of all test images, whether they are shown or not."""
    n_tested: int


@dataclass(frozen=True, kw_only=True)
class StudyContext:
    """All that the figures and the report of a study show beyond its predictions."""

    data: str
    """What was classified: the folder or CSV, as the user named it."""
    cells: tuple[Cell, ...]
    """Every cell that was asked for, so that cells without a result can be shown as missing."""
    examples: tuple[ExampleImage, ...]
    """At least one per class: the paper's Figure 2."""
    tiling: TilingExample
    folds: Sequence[Mapping[str, Sequence[str]]]
    """Of each fold in order: image ids by split, `training`, `validation` and `test`."""
    heat_maps: HeatMapSheet | None = None
    """Of the winner; without them there is no Figure 6."""
    mistakes: MistakeGallery | None = None
    """Of the winner."""
    baselines: tuple[ComparedBaseline, ...] = ()
    """Simple classifiers beside the winner; none in a report of an older version."""
    findings: tuple[str, ...] = ()
    """What inspection found in the data, one sentence each."""
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What inspection found in single images, in a few words each, by image id."""
    confounds: tuple[str, ...] = ()
    """Kinds of those findings that warn of a confound: how an image was taken gives its class away."""
    unstated: tuple[str, ...] = ()
    """What is not known of how every image was taken: `session`, `detector` ..."""
    has_common_pixel_size: bool = False
    """Whether all images could be brought to the pixel size of the coarsest one."""
    audit_light: str | None = None
    """What the latest whole audit of this study came to: good, unclear or bad; None without one."""
    learning_curve: str | None = None
    """What the latest learning curve of this study came to, in words; None without one."""
    warnings: tuple[str, ...] = ()
    """What was left out or replaced, one sentence each."""
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python, this package and the libraries."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Of data, weights and folds."""
    began: datetime | None = None
    """When the first trial began, by the clock of its machine."""
    ended: datetime | None = None
    """When the last trial ended."""
    machine: str | None = None
    """On which the search ended: processor and cores."""
    model_uri: str | None = None
    """`models:/name@alias` under which the winner can be served; None where it was not registered."""
    run_id: str | None = None
    """MLflow's run of the study."""
    command: str = "scripts/sem-search"
    """What starts this program where the report was made."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """What else than the data the search was given, by setting, so that its command can be written again."""
    tracking_uri: str | None = None
    """The store that holds it; passwords are masked."""

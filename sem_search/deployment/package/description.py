"""What a served classifier is: `model.json`, the one file beside the weights that the server reads.

It names the files that a server reads with their hashes, so that damaged weights are refused instead of served (code
and all other files are compared by `registry.contents`), and states where the model comes from, so that an answer
can be traced to data, weights and settings.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, with_config

from sem_search.errors import StoreError
from sem_search.micrographs.reading.options import DEFAULT_MAX_MEGAPIXELS, ReadingOptions
from sem_search.micrographs.tiles import TileGrid

DESCRIPTION_FILE = "model.json"
FORMAT_VERSION = 4
"""Raised when a reader of before could misunderstand the folder. 2: a tile may be answered for in several views, and
some tiles of an image may be left out. 3: the networks are ONNX graphs. 4: images may be brought to one pixel size."""

EXACT = ConfigDict(extra="forbid")
"""A record with a field that is not known is refused: it may say what this reader would miss."""

Content = TypeVar("Content")


@with_config(EXACT)
@dataclass(frozen=True, kw_only=True)
class ClassifierDescription:
    """Everything about a served classifier but its weights."""

    class_names: tuple[str, ...]
    """In the order of the probabilities."""
    backbone: str
    convolution: str
    """Name of the last convolution layer, where Grad-CAM looks."""
    n_heads: int
    tile_px: int
    stride_px: int
    tiles_per_image: int | None = None
    """Most tiles of an image that are answered for, as in training; None: all."""
    tiles_seed: int = 0
    """Which tiles these are, see `TileGrid`."""
    crop_bottom_px: int
    """Data bar of files that do not state their scan height, as in training."""
    pixel_size_nm: float | None = None
    """To which every image is brought before it is cut, as in training; None: images stay as they are."""
    augment: Literal["none", "dihedral"] = "none"
    """Which views of a tile are answered for, a name of `VIEWS`; models from before there were views know one."""
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    pixel_sizes_nm: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Class name -> distinct pixel sizes of its training images, ascending; without classes whose files state none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Learning rate, batch size, seed and whatever else the search set."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """What leads back: data, folds and weights by name."""
    sem_search_version: str = ""
    code_sha256: str = ""
    """Of the code that was stored with the model, see `package.code`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File of the model folder -> sha256 of its content."""

    @property
    def reading(self) -> ReadingOptions:
        """How files are read."""
        return ReadingOptions(
            crop_bottom_px=self.crop_bottom_px, max_megapixels=self.max_megapixels, pixel_size_nm=self.pixel_size_nm
        )

    @property
    def grid(self) -> TileGrid:
        """How images are cut."""
        return TileGrid(
            size_px=self.tile_px, stride_px=self.stride_px, per_image=self.tiles_per_image, seed=self.tiles_seed
        )

    def to_json(self) -> str:
        """Return the content of `model.json`."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ClassifierDescription":
        """Read the content of `model.json`.

        Raises:
            StoreError: It is not the description of a classifier, or of a later format.
        """
        build = TypeAdapter(cls).validate_python
        what = f"{DESCRIPTION_FILE} is damaged: it does not hold the description of a model."
        return read_format(text, name=DESCRIPTION_FILE, last=FORMAT_VERSION, damage=what, build=build)


def read_description(folder: Path) -> ClassifierDescription:
    """Read `model.json` and check every file it names.

    Raises:
        StoreError: A file is missing or its content is not what was written; the message names it.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise StoreError(f"The model has no {DESCRIPTION_FILE}: it was not made by sem_search, or is incomplete.")
    description = ClassifierDescription.from_json(path.read_text(encoding="utf-8"))
    for name, stated in description.files.items():
        if not (folder / name).is_file():
            raise StoreError(f"The model is incomplete: {name} is missing. Register it anew from its run.")
        if compute_file_sha256(folder / name) != stated:
            raise StoreError(
                f"The model is damaged: {name} is not the file that was logged (its sha256 differs). "
                "Register it anew from its run."
            )
    return description


def read_format(text: str, *, name: str, last: int, damage: str, build: Callable[[dict[str, Any]], Content]) -> Content:
    """Return what `build` makes of the values in one of a model's JSON files.

    Raises:
        StoreError: The file holds something else, with the message `damage`, or its format is later than `last`.
    """
    try:
        values = json.loads(text)
        version = values.pop("format_version")
        if version in range(1, last + 1):
            return build(values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StoreError(damage) from error
    raise StoreError(
        f"{name} has format {version}, and this sem_search reads formats up to {last}: use the version of sem_search "
        "that made the model."
    )


def compute_file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

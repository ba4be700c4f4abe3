"""What a search was asked to do, checked once, before anything is computed.

A setting comes from the command line, else from the preset, else from the default here. All are checked together, so
that settings which contradict each other, or would have no effect, are refused by name instead of being half obeyed.
"""

import difflib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from sem_search.errors import SettingsError
from sem_search.heads import Head
from sem_search.micrographs.inspection.finding import ALLOWABLE_ERRORS
from sem_search.micrographs.reading.options import COMMON, PixelSize
from sem_search.secrets import mask_url
from sem_search.transfer.names import BACKBONE_NAMES, OFFERED_BACKBONES
from sem_search.words import read_list, write_list

CLUSTER_ADDRESS = re.compile(r"(tcp|tls|ws|wss)://[^\s/@]+:\d+")
"""Addresses of a Dask scheduler; `tls` is the one for networks with strangers in them."""

AUTO = "auto"
"""The word that stands for "not given" where a value must be written, as in MLproject's defaults."""

DEFAULT_PROMOTE_MARGIN = 0.0
"""F-measure by which a new winner must beat the champion: any real improvement counts."""

DEFAULT_PROMOTE_CONFIDENCE = 0.95
"""How sure that must be: of twenty new winners that are no better, about one becomes champion."""

DEMO = "demo"
"""The `data` that stands for the demonstration set."""

PAPER_LEARNING_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
PAPER_BATCH_SIZES = (16, 32, 48, 64)

AS_THE_PAPER: Mapping[str, Any] = MappingProxyType(
    {
        "heads": ("finetune",),
        "schedule": "constant",
        "augment": "none",
        "class_weight": "none",
        "refit": False,
        "tiles_per_image": None,
        "pixel_size_nm": None,
        "engine": "tensorflow",
    }
)
"""Settings that the paper does not have. A study from before they were settings was made with these values, and they do
not count in its fingerprint."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The defaults below: the paper's grid and the linear head, with pruning, chosen on validation tiles.
    "standard": {},
    # Iwata, Hayashi et al. 2022, as printed: every cell, every fold, every epoch, chosen on the test tiles.
    "paper": {
        "pruner": "none",
        "patience": 0,
        "epochs": 100,
        "select_on": "test",
        "folds": 5,
        "tile_px": 224,
        "precision": "float32",
        **AS_THE_PAPER,
    },
    # A first look within minutes: the learning rates of the paper's two winners, its smallest and its best batch.
    "quick": {"learning_rates": (1e-2, 1e-3), "batch_sizes": (16, 48), "epochs": 10, "augment": "none"},
}


def _split_commas(value: object) -> object:
    """Turn `"1e-2, 1e-3"` into its parts; leave anything else as it is."""
    return read_list(value) if isinstance(value, str) else value


def _read_pixel_size(value: object) -> object:
    """Return a number of nm or `common`; anything else is refused here, in one sentence instead of one for each."""
    if value is None or value == COMMON:
        return value
    try:
        size_nm = float(str(value))
    except ValueError:
        size_nm = math.nan
    if not 0 < size_nm < math.inf:
        raise ValueError(f"give the width of a pixel in nm, above 0, or {COMMON}: that of the coarsest image")
    return size_nm


FloatList = Annotated[tuple[float, ...], BeforeValidator(_split_commas)]
IntList = Annotated[tuple[int, ...], BeforeValidator(_split_commas)]
WordList = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
HeadList = Annotated[tuple[Head, ...], BeforeValidator(_split_commas), AfterValidator(lambda heads: _sort_heads(heads))]


class SearchSettings(BaseModel):
    """Every setting of a search.

    The one source of names, defaults and descriptions: the command line's help is made from it, and `scripts/options`
    writes them into MLproject and the README.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    data: str = Field(DEMO, description="Folder with one sub-folder per class, a CSV, or demo.")
    backbone: str = Field("vgg16", description=f"Network to transfer from: {', '.join(OFFERED_BACKBONES)}.")
    preset: Literal["standard", "paper", "quick"] = Field(
        "standard",
        description="standard; paper: the paper's protocol in full; quick: a first look (quick for data=demo).",
    )
    weights: str = Field(
        "auto",
        description="imagenet, particles (shipped), random, a file (.weights.h5, .h5, .keras, .npz), or auto.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the frozen part: float32, bfloat16, or auto: bfloat16 where it is 1.25 times as fast here.",
    )
    engine: Literal["auto", "onnxruntime", "tensorflow"] = Field(
        "auto",
        description="Of the frozen part: onnxruntime, tensorflow, or auto: what is measured to be faster here.",
    )
    exclude: WordList = Field((), description="Classes to leave out, by commas; a name that holds a comma in quotes.")
    skip_unreadable: bool = Field(False, description="Go on without files that cannot be read, and tag the run.")
    allow_outside: bool = Field(
        False,
        description="Let a CSV name pictures that do not lie below its own folder; only for a CSV that you trust.",
    )
    overlaps: Literal["group", "report", "ignore"] = Field(
        "group",
        description="Images of the same place: group keeps them in one split, report names them, ignore does not look.",
    )
    allow_errors: WordList = Field(
        (),
        description="Errors of the inspection to go on with, by commas: label_conflict (one picture under two labels).",
    )
    crop_bottom_px: int = Field(0, ge=0, description="Height of the data bar in px, where the file does not give it.")
    max_megapixels: float = Field(100.0, gt=0, description="Larger pictures are refused before they are decoded.")
    pixel_size_nm: Annotated[PixelSize, BeforeValidator(_read_pixel_size)] = Field(
        None,
        description=f"Bring all images to one pixel size: nm, or {COMMON}: the coarsest image's; by default not.",
    )
    tile_px: int = Field(224, ge=32, le=1024, description="Side of a tile in px.")
    stride_px: int | None = Field(None, ge=1, description="Step between tiles in px; by default the tile's side.")
    tiles_per_image: int | None = Field(
        None, ge=1, description="Most tiles of an image, spread evenly over it; by default all."
    )
    folds: int = Field(
        5, ge=3, description="Number of cross-validation folds over whole images; each image is tested once."
    )
    heads: HeadList = Field(
        ("linear", "finetune"),
        min_length=1,
        description=(
            "By commas: linear (logistic regression), finetune, linear_init (fine-tuning that starts from linear)."
        ),
    )
    learning_rates: FloatList = Field(PAPER_LEARNING_RATES, min_length=1, description="Learning rates, by commas.")
    batch_sizes: IntList = Field(PAPER_BATCH_SIZES, min_length=1, description="Batch sizes, by commas.")
    sampler: Literal["grid", "tpe", "random"] = Field(
        "grid", description="grid visits every cell once; tpe and random are for large grids."
    )
    trials: int | None = Field(None, ge=1, description="Number of trials; by default one per cell.")
    timeout: float | None = Field(None, gt=0, description="Seconds after which no further trial is begun.")
    pruner: Annotated[
        Literal["none", "median", "wilcoxon", "extrapolation"],
        BeforeValidator(lambda value: "extrapolation" if value == "race" else value),  # as older studies call it
    ] = Field(
        "extrapolation",
        description="What ends poor cells: extrapolation (between and within folds), wilcoxon, median (between), none.",
    )
    epochs: int = Field(30, ge=1, description="Most epochs per fold.")
    patience: int = Field(
        0, ge=0, description="Epochs without a better validation loss before a fold is stopped; 0: never."
    )
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="The learning rate within a fold: linear: it falls evenly towards 0; constant."
    )
    augment: Literal["none", "dihedral"] = Field(
        "dihedral",
        description="dihedral: learn from the eight turns and mirrorings of each tile, and answer by all; none.",
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="balanced: each class weighs the same in training, however many tiles it has; none."
    )
    refit: bool = Field(
        True,
        description="Train the winner again on training and validation images, with a falling rate, and serve that.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    hidden_units: int = Field(256, ge=1, description="Units of the new hidden layer.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout after the hidden layer.")
    select_on: Literal["validation", "test"] = Field(
        "validation", description="Tiles whose mean F-measure is the objective: validation, or test as in the paper."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of every random choice.")
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Processor threads; by default all."
    )
    study: str | None = Field(None, description="Name of the study; by default derived from data and settings.")
    storage: str = Field("sqlite:///optuna.db", description="Optuna storage URL.")
    study_folder: str = Field("studies", description="Folder of the finished folds of every study.")
    outage_wait: float = Field(
        600.0, ge=0, description="Seconds to wait for a database or tracking server that is away."
    )
    cluster: str | None = Field(
        None, description="Dask scheduler whose workers train, such as tcp://host:8786; needs shared."
    )
    shared: str | None = Field(None, description="Folder or fsspec URL that every machine of the search reaches.")
    model_name: str | None = Field(None, description="Registered model; by default sem-search-<backbone>.")
    promote_margin: float = Field(
        DEFAULT_PROMOTE_MARGIN,
        ge=0,
        lt=1,
        description="F-measure over test tiles by which a winner must beat the champion to take its place.",
    )
    promote_confidence: float = Field(
        DEFAULT_PROMOTE_CONFIDENCE,
        gt=0.5,
        lt=1,
        description="How sure that must be, over the images, above 0.5 and below 1.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for problem in _find_contradictions(self):
            raise ValueError(problem)
        return self

    @property
    def resolved_stride_px(self) -> int:
        """Step between tiles in px."""
        return self.stride_px or self.tile_px

    @property
    def resolved_model_name(self) -> str:
        """Name of the registered model."""
        return self.model_name or f"sem-search-{self.backbone.replace('_', '-')}"

    @property
    def without_passwords(self) -> Self:
        """The same settings as they may be stored and shown."""
        urls = {"storage": self.storage, "shared": self.shared}
        return self.model_copy(update={name: url and mask_url(url) for name, url in urls.items()})

    @property
    def n_cells(self) -> int:
        """Number of cells: the linear head, and every combination of learning rate and batch size for each other."""
        n_trained = sum(head != "linear" for head in self.heads)
        return n_trained * len(self.learning_rates) * len(self.batch_sizes) + ("linear" in self.heads)


NO_ARGUMENTS = ("data", "study", "threads", "storage", "study_folder", "outage_wait", "cluster", "shared")
"""Settings that say where and under which name a search runs, and nothing about what it finds."""


def list_arguments(settings: SearchSettings) -> dict[str, str]:
    """Return what a search must be given beside its data to be the same search, by setting, as the command takes it."""
    common = {"data": settings.data, "preset": settings.preset, "backbone": settings.backbone}
    usual = build_settings(common).model_dump(exclude=set(NO_ARGUMENTS))
    chosen = settings.model_dump(exclude=set(NO_ARGUMENTS))
    return {
        name: write_value(value)
        for name, value in chosen.items()
        if value is not None and (name in common or value != usual[name])
    }


def read_stored_settings(text: str) -> SearchSettings:
    """Return settings from JSON, as a study keeps them; older studies lack those of `AS_THE_PAPER`."""
    return SearchSettings.model_validate({**AS_THE_PAPER, **json.loads(text)})


def format_default(field: FieldInfo) -> str:
    """Return a setting's default as it is written on the command line; empty where it has none of its own."""
    default = field.default
    return "" if field.default_factory is not None or default is None or default == () else write_value(default)


def write_value(value: object) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, tuple):
        return write_list(write_value(part) for part in value)
    if isinstance(value, float):
        return f"{value:.12g}" if float(f"{value:.12g}") == value else str(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


PLAIN_WORDS: Mapping[str, str] = {
    "Input should be greater than or equal to": "it must be at least",
    "Input should be less than or equal to": "it must be at most",
    "Input should be": "it must be",
}
"""What pydantic says -> what we say."""

INCOMPARABLE = (
    "backbone",
    "tile_px",
    "stride_px",
    "tiles_per_image",
    "pixel_size_nm",
    "crop_bottom_px",
    "folds",
    "learning_rates",
    "batch_sizes",
    "heads",
    "sampler",
    "pruner",
    "epochs",
    "patience",
    "schedule",
    "momentum",
    "hidden_units",
    "dropout",
    "augment",
    "class_weight",
    "refit",
    "select_on",
    "seed",
)
"""Settings that a resumed study may not change: results before and after would not be comparable.

The data, the weights and the folds are held by their hashes instead of by the words that asked for them.
"""


def build_settings(given: Mapping[str, Any]) -> SearchSettings:
    """Return the settings of a search.

    Args:
        given: What the user set, by name. `None` and `"auto"` stand for "not given"
            (but for `weights`, where `auto` is a value of its own).

    Raises:
        SettingsError: Unknown names, values out of range, or contradictions; each is named.
    """
    chosen = _drop_unset(given)
    # Unless another is asked for, the demonstration set is for a quick look.
    preset = chosen.get("preset") or ("quick" if chosen.get("data", DEMO) == DEMO else "standard")
    if preset not in PRESETS:
        raise SettingsError(f"preset={preset!r} is not known; choose one of: {', '.join(PRESETS)}.")
    values = {**PRESETS[preset], **chosen, "preset": preset}
    try:
        return SearchSettings(**values)
    except ValidationError as error:
        raise SettingsError(_describe(error)) from error


def build_paper_settings(given: Mapping[str, Any], *, backbones: Sequence[str]) -> tuple[SearchSettings, ...]:
    """Return the settings of one search for each backbone, alike in all else; the preset is `paper` if none is given.

    Args:
        given: As `build_settings` takes it; a study's name gets the backbone's behind it.
        backbones: One or more, each once.

    Raises:
        SettingsError: As `build_settings`, or the backbones are none or repeated.
    """
    if not backbones or _has_twice(backbones):
        raise SettingsError(f"backbones={write_list(backbones)!r}: name one or more, each once, by commas.")
    chosen = {"preset": "paper", **_drop_unset(given)}
    study = chosen.pop("study", None)
    return tuple(
        build_settings({**chosen, "backbone": backbone, "study": None if study is None else f"{study}-{backbone}"})
        for backbone in backbones
    )


def _drop_unset(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None and (value != AUTO or name == "weights")}


def _find_contradictions(settings: SearchSettings) -> list[str]:
    n_cells = settings.n_cells
    rates, sizes = write_value(settings.learning_rates), write_value(settings.batch_sizes)
    unknown = [kind for kind in settings.allow_errors if kind not in ALLOWABLE_ERRORS]
    checks = {
        f"data={settings.data!r} names nothing: give a folder with one sub-folder per class, a CSV, or {DEMO}": (
            not settings.data.strip()
        ),
        f"allow_errors={write_list(settings.allow_errors)}: {write_list(unknown)} cannot be allowed; "
        f"what can is {write_list(ALLOWABLE_ERRORS)}": bool(unknown),
        f"backbone={settings.backbone!r} is not known; choose one of: {', '.join(OFFERED_BACKBONES)}": (
            settings.backbone not in BACKBONE_NAMES
        ),
        f"learning_rates={rates}: every learning rate must be above 0 and at most 10": any(
            not 0 < rate <= 10 for rate in settings.learning_rates
        ),
        f"batch_sizes={sizes}: every batch size must be at least 1": any(size < 1 for size in settings.batch_sizes),
        f"learning_rates={rates} names a value twice": _has_twice(settings.learning_rates),
        f"batch_sizes={sizes} names a value twice": _has_twice(settings.batch_sizes),
        f"heads={write_list(settings.heads)} names a value twice": _has_twice(settings.heads),
        f"patience={settings.patience} would have no effect with epochs={settings.epochs}: "
        "give fewer epochs of patience, or patience=0 for a fixed length": settings.patience >= settings.epochs,
        f"trials={settings.trials} is more than the {n_cells} cells that sampler=grid visits once each: "
        "leave trials out, or widen heads, learning_rates or batch_sizes": (
            settings.sampler == "grid" and (settings.trials or 0) > n_cells
        ),
        f"sampler={settings.sampler} has nothing to draw with heads=linear, which is one cell: "
        "give sampler=grid, or other heads as well": settings.sampler != "grid" and settings.heads == ("linear",),
        "refit=true contradicts select_on=test: heads that have learnt from the validation images leave none that "
        "chose nothing; give refit=false, or select_on=validation": settings.refit and settings.select_on == "test",
        f"model_name={settings.model_name!r} cannot be the name of a registered model: "
        "it must not be blank, nor hold '/', ':' or '\"'": (
            settings.model_name is not None
            and (not settings.model_name.strip() or set(settings.model_name) & set('/:"'))
        ),
        f"crop_bottom_px={settings.crop_bottom_px} contradicts data=demo, whose data bar is known": (
            settings.data == DEMO and settings.crop_bottom_px > 0
        ),
    }
    return [sentence for sentence, is_wrong in (checks | _check_places(settings)).items() if is_wrong]


def _check_places(settings: SearchSettings) -> dict[str, bool]:
    shown = settings.cluster and mask_url(settings.cluster)
    return {
        "engine=onnxruntime contradicts precision=bfloat16, which only engine=tensorflow has: leave one of them out": (
            settings.engine == "onnxruntime" and settings.precision == "bfloat16"
        ),
        f"cluster={shown} needs shared=FOLDER_OR_URL, a place that every worker of it reaches": (
            settings.cluster is not None and settings.shared is None
        ),
        f"cluster={shown!r} is no address of a Dask scheduler, such as tcp://host:8786": (
            settings.cluster is not None and not CLUSTER_ADDRESS.fullmatch(settings.cluster)
        ),
    }


def _sort_heads(heads: tuple[Head, ...]) -> tuple[Head, ...]:
    """Return heads in one order, so that the same heads are the same search."""
    return tuple(sorted(heads, key=get_args(Head).index))


def _has_twice(values: Sequence[object]) -> bool:
    return len(set(values)) < len(values)


def _describe(error: ValidationError) -> str:
    """Return pydantic's findings as sentences that name setting, value and what is allowed."""
    sentences = []
    in_lists = {finding["loc"][0] for finding in error.errors() if len(finding["loc"]) > 1}
    for finding in error.errors():
        name = str(finding["loc"][0]) if finding["loc"] else ""
        text = finding["msg"].removeprefix("Value error, ")
        for library_words, words in PLAIN_WORDS.items():
            text = text.replace(library_words, words)
        if finding["type"] == "too_short":  # also said of a list all of whose values are wrong
            if name not in in_lists:
                sentences.append(f"{name}: give at least one value")
            continue
        if finding["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, SearchSettings.model_fields, n=1)
            text = "there is no such setting" + "".join(f"; did you mean {one}?" for one in near)
        if name in in_lists:
            text += ", and several are separated by commas"
        sentences.append(f"{name}={finding['input']!r}: {text}" if name else text)
    text = "; ".join(sentences)
    return text if text.endswith("?") else f"{text}."

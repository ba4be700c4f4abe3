"""What the command line says of each setting.

Kept apart from `settings`, which checks them: a library that checks takes longer to load than help may take to appear.
A test holds names and defaults here to those there.
"""

from dataclasses import dataclass

from sem_search.transfer.names import BACKBONE_NAMES

AUTO = "auto"
"""The word that stands for "not given" where a value must be written, as in MLproject's defaults."""

DEFAULT_PROMOTE_MARGIN = 0.0
"""F-measure by which a newcomer must beat the champion: any real improvement counts."""

DEFAULT_PROMOTE_CONFIDENCE = 0.95
"""How sure that must be: of twenty newcomers that are no better, about one takes the champion's place."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting as the help shows it."""

    name: str
    description: str
    default: str = ""
    """As it is written on the command line; empty where there is none, or where the description tells it."""
    is_switch: bool = False
    """Whether the bare word, without a value, means true."""


OPTIONS = (
    Option(name="data", description="Folder with one sub-folder per class, a CSV, or 'demo'.", default="demo"),
    Option(name="backbone", description=f"Network to transfer from: {', '.join(BACKBONE_NAMES)}.", default="vgg16"),
    Option(
        name="preset",
        description="standard, paper (the paper's protocol in full) or quick (a first look).",
        default="standard",
    ),
    Option(
        name="weights",
        description="imagenet, particles, random, a weights file, or auto: the best that can be had.",
        default="auto",
    ),
    Option(
        name="precision",
        description="Of the frozen part: float32, bfloat16, or auto: bfloat16 where this processor is faster with it.",
        default="auto",
    ),
    Option(name="exclude", description="Classes to leave out, by commas; a name that holds a comma in quotes."),
    Option(
        name="skip_unreadable",
        description="Go on without files that cannot be read, and tag the run.",
        default="false",
        is_switch=True,
    ),
    Option(
        name="allow_outside",
        description="Let a CSV name pictures that do not lie below its own folder; only for a CSV that you trust.",
        default="false",
        is_switch=True,
    ),
    Option(
        name="overlaps",
        description="Images that show the same place: group them, only report them, or ignore: do not look for them.",
        default="group",
    ),
    Option(name="allow_errors", description="Errors of the inspection to go on with, by commas: label_conflict."),
    Option(
        name="crop_bottom_px", description="Height of the data bar in px, where the file does not tell it.", default="0"
    ),
    Option(name="max_megapixels", description="Larger pictures are refused before they are decoded.", default="100.0"),
    Option(name="tile_px", description="Side of a tile in px.", default="224"),
    Option(name="stride_px", description="Step between tiles in px; default: the tile side."),
    Option(name="folds", description="Number of folds; each image is tested once.", default="5"),
    Option(name="learning_rates", description="Learning rates, by commas.", default="0.1,0.01,0.001,0.0001,1e-05"),
    Option(name="batch_sizes", description="Batch sizes, by commas.", default="16,32,48,64"),
    Option(name="sampler", description="grid visits every cell once; tpe; random.", default="grid"),
    Option(name="trials", description="Number of trials; default: one per cell."),
    Option(name="timeout", description="Seconds after which no further trial is begun."),
    Option(
        name="pruner", description="How hopeless cells are ended early: race, wilcoxon, median or none.", default="race"
    ),
    Option(name="epochs", description="Most epochs per fold.", default="100"),
    Option(
        name="patience", description="Epochs without a better validation loss before stopping; 0: never.", default="10"
    ),
    Option(name="momentum", description="Momentum of SGD.", default="0.9"),
    Option(name="hidden_units", description="Units of the new hidden layer.", default="256"),
    Option(name="dropout", description="Dropout after the hidden layer.", default="0.5"),
    Option(
        name="select_on",
        description="Tiles whose mean F-measure is the objective; test repeats the paper.",
        default="validation",
    ),
    Option(name="seed", description="Seed of every random choice.", default="0"),
    Option(name="threads", description="Processor threads; default: all."),
    Option(name="study", description="Name of the study; default: derived from data and settings."),
    Option(name="storage", description="Optuna storage URL.", default="sqlite:///optuna.db"),
    Option(name="study_folder", description="Folder that keeps the finished folds of every study.", default="studies"),
    Option(
        name="outage_wait",
        description="Seconds to wait for a database or tracking server that is away.",
        default="600.0",
    ),
    Option(name="cluster", description="Dask scheduler whose workers train, such as tcp://host:8786; needs shared."),
    Option(name="shared", description="Folder or fsspec URL that every machine of the search reaches."),
    Option(name="model_name", description="Registered model; default: sem-search-<backbone>."),
    Option(
        name="promote_margin",
        description="F-measure over test tiles by which a winner must beat the champion to take its place.",
        default=str(DEFAULT_PROMOTE_MARGIN),
    ),
    Option(
        name="promote_confidence",
        description="How sure that must be, over the images, above 0.5 and below 1.",
        default=str(DEFAULT_PROMOTE_CONFIDENCE),
    ),
)
"""Every setting, in the order in which the help lists them."""

"""A model for programs that are not Python: two ONNX graphs, their numbers as JSON, and a page on how to use them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from sem_search.deployment.classifier.classifier import MicrographClassifier
from sem_search.deployment.package.description import read_description
from sem_search.deployment.package.reading import HEADS_GRAPH, TRUNK_GRAPH, read_classifier, read_graphs
from sem_search.errors import SettingsError
from sem_search.evaluation.metrics import PROBABILITY_FLOOR
from sem_search.micrographs.reading.micrograph import encode_png, read_micrograph
from sem_search.micrographs.reading.pixel_size import MAX_ENLARGEMENT, SAME_SIZE
from sem_search.transfer.engine import OnnxFunction
from sem_search.transfer.views import VIEWS

FACTS_FILE = "preprocessing.json"
PAGE_FILE = "README.md"
EXAMPLE_PICTURE = "example.png"
EXAMPLE_ANSWER = "example.json"

EXAMPLE_TILES = 2
"""Rows and columns of tiles of the example, and a rest that fills none."""


def export_model(model_folder: Path, *, folder: Path, source: str) -> tuple[str, ...]:
    """Write a model's export into a new or empty folder; return the names of its files.

    Args:
        model_folder: As `package.writing.write_model_folder` wrote it.
        folder: Where to write.
        source: What the page calls the model, as `sem-search-vgg16 version 3`.

    Raises:
        SettingsError: There is something in the folder, or it cannot be written.
        StoreError: The model is incomplete or damaged.
    """
    _make_empty(folder)
    graphs = read_graphs(model_folder, description=read_description(model_folder))
    classifier = read_classifier(model_folder, graphs=graphs)
    facts = _gather_facts(classifier)
    picture = _draw_example(facts["tile_px"], crop_bottom_px=facts["crop_bottom_px"])
    reading = replace(classifier.description.reading, pixel_size_nm=None)  # it has the right one already
    micrograph = read_micrograph(encode_png(picture), name=EXAMPLE_PICTURE, reading=reading)
    (answer,) = classifier.classify([micrograph.pixels])
    page = Environment(
        loader=PackageLoader("sem_search.deployment.package"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - a page of Markdown, read as text
        keep_trailing_newline=True,
    ).get_template("export.md")
    text = page.render(
        source=source,
        version=classifier.description.sem_search_version,
        class_names=classifier.description.class_names,
        n_heads=classifier.description.n_heads,
        crossing=OnnxFunction(graphs[1], n_threads=1).inputs,
        facts=facts,
        same_size_percent=round(100 * (SAME_SIZE - 1)),
        max_enlargement=MAX_ENLARGEMENT,
    )
    probabilities = dict(zip(classifier.description.class_names, answer.probabilities.tolist(), strict=True))
    contents = {
        TRUNK_GRAPH: graphs[0],
        HEADS_GRAPH: graphs[1],
        FACTS_FILE: _to_json(facts),
        EXAMPLE_PICTURE: encode_png(picture),
        EXAMPLE_ANSWER: _to_json({"n_tiles": len(answer.corners), "probabilities": probabilities}),
        PAGE_FILE: text.encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return tuple(contents)


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"{str(folder)!r} cannot be written: {error.strerror or error}. Name a folder.") from error
    if not is_empty:
        raise SettingsError(f"{str(folder)!r} is not empty: name a new folder for the export.")


def _gather_facts(classifier: MicrographClassifier) -> dict[str, Any]:
    description, calibration = classifier.description, classifier.calibration
    return {
        "class_names": list(description.class_names),
        "tile_px": description.tile_px,
        "stride_px": description.stride_px,
        "tiles_per_image": description.tiles_per_image,
        "crop_bottom_px": description.crop_bottom_px,
        "pixel_size_nm": description.pixel_size_nm,
        "n_views": VIEWS[description.augment],
        "temperature": 1.0 if calibration is None else calibration.temperature,
        "probability_floor": PROBABILITY_FLOOR,
        "pixel_sizes_nm": {name: list(sizes) for name, sizes in description.pixel_sizes_nm.items()},
        "hashes": dict(description.hashes),
    }


def _draw_example(tile_px: int, *, crop_bottom_px: int) -> Any:
    """Return a picture of bright discs of several sizes on dark ground; it is of no material."""
    side = EXAMPLE_TILES * tile_px + tile_px // 3
    rows, columns = np.mgrid[: side + crop_bottom_px, :side]
    step = max(8, tile_px // 4)
    radius = step // 6 + (columns // step) % 4 * step // 12
    is_disc = (rows % step - step // 2) ** 2 + (columns % step - step // 2) ** 2 < radius**2
    return np.where(is_disc, 200, 60 + rows * 40 // len(rows)).astype(np.uint8)


def _to_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()

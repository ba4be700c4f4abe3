"""How often known images are called unknown, and strangers known, where classes are varied and images are small.

Models know a few classes of a few images; asked are other images of these classes, and images of sets they do not know,
all cut down to so many tiles. Two kinds of models are made of the rendered materials: seven materials (two more are
strangers that resemble them), and the same with three of the seven in one class. Two more are made of the user's sets:
five sets as classes, and four with one more class of three sets. Which ones they are is drawn anew for each model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.strangers import iter_photographs
from sem_search.evaluation.novelty import UNKNOWN_ABOVE, fit_novelty, score_novelty
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.tiles import TileGrid, cut_tiles
from sem_search.places import get_cache_folder
from sem_search.records import FloatMatrix
from sem_search.search.prepare.network import render_calibration_tiles
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import cut_network
from sem_search.transfer.features import average_channels
from sem_search.transfer.trunk import compile_trunk
from sem_search.transfer.weights.choice import build_weighted_backbone

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
TILE_COUNTS = (1, 2, 4, 9, 20)
N_PARTS = 5
BATCH_TILES = 20
N_STRANGERS = 25
"""Of each set at most, and so many are asked of each class that is known."""

N_MATERIALS, N_KNOWN_SETS, N_MIXED = 7, 5, 3
SMALL_TILES = 2
"""Sets whose images have fewer tiles are strangers only."""

Images = list[FloatMatrix]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one model knows, and what it is asked."""

    classes: tuple[Images, ...]
    """Images that the model is made of; the first class may be a mixture."""
    known: tuple[Images, ...]
    """Other images of these classes."""
    near: tuple[Images, ...]
    """Strangers that resemble what is known."""
    strangers: Mapping[str, Images]


def measure_known_images(
    *, backbone: str, weights: str, sets: Path | None, images_per_class: int, n_models: int
) -> dict[str, float]:
    """Return the shares called wrongly, by kind of model and number of tiles, mean over models.

    Args:
        backbone: Its name.
        weights: As in a search.
        sets: A folder with a folder of micrographs for each set, data bars removed.
        images_per_class: How many images of a class a model knows.
        n_models: Of each kind.
    """
    embed = Embedding(backbone, weights=weights)
    rendered = {
        folder.name: embed.read(folder, crop_px=DEMO_SIZES["paper"].bar_height_px)
        for folder in sorted(_render().iterdir())
        if folder.is_dir()
    }
    folders = sorted(folder for folder in sets.iterdir() if folder.is_dir()) if sets is not None else []
    others = {folder.name: embed.read(folder) for folder in folders}
    strangers = {"photographs": embed.embed(iter_photographs())}
    figures: dict[str, float] = {}
    for kind in ("materials", "materials_varied", "sets", "sets_varied"):
        if kind.startswith("sets") and len(_name_micrographs(others)) < N_KNOWN_SETS - 1 + N_MIXED:
            continue
        found: dict[str, list[float]] = {}
        for number in range(n_models):
            rng = np.random.default_rng([number, len(kind)])
            case = _draw_case(
                kind, rendered=rendered, others=others, strangers=strangers, n_images=images_per_class, rng=rng
            )
            for name, share in _ask(case, is_mixed="varied" in kind, rng=rng):
                found.setdefault(name, []).append(share)
        figures |= {f"{kind}.{name}": float(np.mean(shares)) for name, shares in found.items()}
    return figures


class Embedding:
    """From pictures to pooled trunk features of at most 5 x 4 tiles from the middle."""

    def __init__(self, backbone: str, *, weights: str) -> None:
        kind = get_backbone(backbone)
        model, _ = build_weighted_backbone(
            kind, weights=weights, tile_px=224, seed=0, calibration_tiles=render_calibration_tiles(224)
        )
        self._run = compile_trunk(cut_network(model), backbone=kind, batch_size=BATCH_TILES)

    def read(self, folder: Path, *, crop_px: int = 0) -> Images:
        """Return the tiles of each picture below a folder as the network sees them."""
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        return self.embed(
            read_micrograph(path, reading=ReadingOptions(crop_bottom_px=crop_px)).pixels for path in paths
        )

    def embed(self, pictures: Iterable[FloatImage]) -> Images:
        """Return the tiles of each picture as the network sees them."""
        tiles = [cut_tiles(_cut_middle(pixels), grid=TileGrid()) for pixels in pictures]
        ends = np.cumsum([len(some) for some in tiles])
        padded = np.concatenate([*tiles, np.zeros((-ends[-1] % BATCH_TILES, 224, 224), dtype=np.float32)])
        batches = [self._run(padded[i : i + BATCH_TILES]) for i in range(0, len(padded), BATCH_TILES)]
        embedded = np.concatenate([average_channels(batch).numpy() for batch in batches]).astype(np.float64)
        return np.split(embedded[: ends[-1]], ends[:-1])


def _cut_middle(pixels: FloatImage) -> FloatImage:
    top, left = (max(0, side - n * 224) // 2 for side, n in zip(pixels.shape, (4, 5), strict=True))
    return np.ascontiguousarray(pixels[top : top + 896, left : left + 1120])


def _render() -> Path:
    return write_demo_data(get_cache_folder() / "demo" / "known-images", size="paper", seed=0)


def _name_micrographs(others: Mapping[str, Images]) -> list[str]:
    """Return the sets that can be a class."""
    return sorted(
        name
        for name, images in others.items()
        if len(images) > N_PARTS and np.median([len(image) for image in images]) > SMALL_TILES
    )


def _draw_case(
    kind: str,
    *,
    rendered: Mapping[str, Images],
    others: Mapping[str, Images],
    strangers: Mapping[str, Images],
    n_images: int,
    rng: np.random.Generator,
) -> Case:
    if kind.startswith("materials"):
        names = rng.permutation(sorted(rendered)).tolist()
        near, pool, n_classes = names[:2], names[2 : 2 + N_MATERIALS], N_MATERIALS
    else:
        near = []
        pool, n_classes = rng.permutation(_name_micrographs(others)).tolist(), N_KNOWN_SETS
        strangers = {**strangers, "rendered": [image for images in rendered.values() for image in images]}
    everything = {**rendered, **others}
    shuffled = {name: [everything[name][i] for i in rng.permutation(len(everything[name]))] for name in everything}
    groups = [[name] for name in pool]
    if "varied" in kind:
        n_single = n_classes - (N_MIXED if kind.startswith("materials") else 1)
        groups = [pool[:N_MIXED], *([name] for name in pool[N_MIXED : N_MIXED + n_single])]
    groups = groups[:n_classes]
    used = {name for group in groups for name in group}
    strangers = {**strangers, **{name: images for name, images in others.items() if name not in used}}
    classes, known = [], []
    for group in groups:
        n_each = -(-n_images // len(group))
        classes.append([image for name in group for image in shuffled[name][:n_each]][:n_images])
        known.append([image for name in group for image in shuffled[name][n_each:][:N_STRANGERS]])
    drawn = {
        name: [images[i] for i in rng.permutation(len(images))[:N_STRANGERS]] for name, images in strangers.items()
    }
    return Case(
        classes=tuple(classes), known=tuple(known), near=tuple(shuffled[name] for name in near), strangers=drawn
    )


def _ask(case: Case, *, is_mixed: bool, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield the shares called wrongly, with their names."""
    images = [image for known in case.classes for image in known]
    sizes = [len(known) for known in case.classes]
    model = fit_novelty(
        np.concatenate(images),
        image_of_tile=np.repeat(np.arange(len(images)), [len(image) for image in images]),
        label_of_image=np.repeat(np.arange(len(sizes)), sizes),
        part_of_image=np.concatenate([np.arange(size) % N_PARTS for size in sizes]),
    )

    def find_unknown(asked: Sequence[FloatMatrix], n_tiles: int) -> float:
        cut = [_cut_down(image, n_tiles=n_tiles, rng=rng) for image in asked]
        number = np.repeat(np.arange(len(cut)), [len(image) for image in cut])
        return float((score_novelty(model, np.concatenate(cut), image_of_tile=number)[1] > UNKNOWN_ABOVE).mean())

    for n_tiles in TILE_COUNTS:
        false_unknown = [find_unknown(known, n_tiles) for known in case.known if known]
        yield f"{n_tiles}_tiles.false_unknown", float(np.mean(false_unknown))
        yield f"{n_tiles}_tiles.false_unknown.worst_class", max(false_unknown)
        if is_mixed:
            yield f"{n_tiles}_tiles.false_unknown.varied_class", false_unknown[0]
        false_known = {name: 1 - find_unknown(asked, n_tiles) for name, asked in case.strangers.items()}
        yield f"{n_tiles}_tiles.false_known", float(np.mean(list(false_known.values())))
        for name, share in false_known.items():
            yield f"{n_tiles}_tiles.false_known.{name}", share
        if case.near:
            yield f"{n_tiles}_tiles.false_known.near", float(np.mean([1 - find_unknown(a, n_tiles) for a in case.near]))


def _cut_down(image: FloatMatrix, *, n_tiles: int, rng: np.random.Generator) -> FloatMatrix:
    """Return a run of so many tiles, or the whole image if it has no more."""
    start = int(rng.integers(0, max(len(image) - n_tiles, 0) + 1))
    return image[start : start + n_tiles]

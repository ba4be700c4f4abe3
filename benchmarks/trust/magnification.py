"""Does a network still tell magnifications apart when all images are brought to one pixel size?

Two classes of rendered powder, the first imaged at half the pixel size of the second. Where the material is the same in
both, nothing but the magnification tells them apart, and a score above 1/2 is its doing.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.trust.rendered_lots import TILE_PX, build_network
from benchmarks.trust.tables import Table
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.one_pixel_size import settle_pixel_size
from sem_search.micrographs.reading.micrograph import encode_tiff
from sem_search.micrographs.reading.options import COMMON, ReadingOptions
from sem_search.micrographs.reading.pixel_size import average_areas
from sem_search.micrographs.rendering.electrons import DEFAULT_CAMERA, compute_exposure, compute_signal
from sem_search.micrographs.rendering.exact import Draws, FloatArray
from sem_search.micrographs.rendering.materials import MATERIALS, Material
from sem_search.micrographs.rendering.scene import compute_scene
from sem_search.micrographs.tiles import FloatTiles, TileGrid, iter_image_tiles
from sem_search.records import FloatMatrix
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.seeds import derive_seed
from sem_search.transfer.features import embed_stored_features, get_features
from sem_search.transfer.runtime import configure_tensorflow

SIDE_PX = 512
FINE_NM, COARSE_NM = 250.0, 500.0
POOL_SIZE, N_IMAGES, N_FOLDS = 60, 20, 5
"""Images of each class that are rendered, that one study has, and its folds."""

GRID = TileGrid(size_px=TILE_PX, stride_px=TILE_PX, per_image=4)
"""As many tiles of each image, however large it is."""

MATERIAL = {material.name: material for material in MATERIALS}


@dataclass(frozen=True, kw_only=True)
class World:
    """What differs between two classes beside the magnification."""

    fine: Material
    coarse: Material
    is_exposed_at_own_pixels: bool
    """Whether blur and noise belong to the pixels of each magnification, as with a real instrument, so that an average
    over pixels has less of both; otherwise each image is exposed at fine pixels, and nothing but the size differs."""


USUAL = MATERIAL["cellulose-irregular"]

WORLDS: Mapping[str, World] = {
    "one material, one sharpness and noise": World(fine=USUAL, coarse=USUAL, is_exposed_at_own_pixels=False),
    "one material, sharpness and noise of its own pixels": World(
        fine=USUAL, coarse=USUAL, is_exposed_at_own_pixels=True
    ),
    "two materials, sharpness and noise of their own pixels": World(
        fine=USUAL, coarse=MATERIAL["lactose-medium"], is_exposed_at_own_pixels=True
    ),
}


def render_levels(world: World, *, is_coarse: bool, seed: int, side_px: int = SIDE_PX) -> FloatArray:
    """Return one image, grey in [0, 1], `side_px` wide, or half of that where it is coarse."""
    material = world.coarse if is_coarse else world.fine
    scene = compute_scene(material, height_px=side_px, width_px=side_px, draws=Draws(derive_seed(seed, "scene")))
    draws = Draws(derive_seed(seed, "exposure"))
    signal = compute_signal(scene, draws=draws)
    factor = COARSE_NM / FINE_NM
    if not is_coarse:
        return compute_exposure(signal, camera=DEFAULT_CAMERA, draws=draws)
    if world.is_exposed_at_own_pixels:
        return compute_exposure(average_areas(signal, factor=factor), camera=DEFAULT_CAMERA, draws=draws)
    return average_areas(compute_exposure(signal, camera=DEFAULT_CAMERA, draws=draws), factor=factor)


def write_images(world: World, *, folder: Path, n_images: int, side_px: int = SIDE_PX) -> None:
    """Write so many images of each class, with their pixel sizes, below `coarse` and `fine`."""
    for name, pixel_nm in (("coarse", COARSE_NM), ("fine", FINE_NM)):
        (folder / name).mkdir(parents=True)
        for number in range(n_images):
            grey = render_levels(world, is_coarse=name == "coarse", seed=derive_seed(0, name, number), side_px=side_px)
            content = encode_tiff(np.rint(255 * grey).astype(np.uint8), pixel_nm=pixel_nm)
            (folder / name / f"{number:03}.tif").write_bytes(content)


def score_features(features: FloatMatrix, *, labels: FloatMatrix) -> float:
    """Return the macro F-measure of logistic regression over tiles, in folds over whole images.

    Args:
        features: Of each tile, shape (n_images, n_tiles, n_features).
        labels: Of each image, shape (n_images,).
    """
    n_images, n_tiles, _ = features.shape
    of_tile = np.repeat(labels, n_tiles)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    folds = StratifiedGroupKFold(n_splits=N_FOLDS)
    rows = features.reshape(n_images * n_tiles, -1)
    predicted = cross_val_predict(model, rows, of_tile, groups=np.repeat(np.arange(n_images), n_tiles), cv=folds)
    return float(f1_score(of_tile, predicted, average="macro"))


def embed_catalogue(catalogue: Catalogue, *, network: PreparedNetwork) -> FloatMatrix:
    """Return what the network says of the tiles, shape (n_images, n_tiles, n_features)."""

    def iter_tiles() -> Iterator[FloatTiles]:
        return (tiles for _, tiles in iter_image_tiles(catalogue, grid=GRID))

    with tempfile.TemporaryDirectory() as folder:
        store = get_features(
            network.cut,
            tiles=iter_tiles,
            n_tiles=len(catalogue.records) * int(GRID.per_image or 0),
            backbone=network.backbone,
            content_key=f"{catalogue.digest} {catalogue.reading.pixel_size_nm}",
            cache_folder=Path(folder),
        )
        return embed_stored_features(store.arrays).reshape(len(catalogue.records), int(GRID.per_image or 0), -1)


def measure_world(world: World, *, network: PreparedNetwork, n_studies: int) -> list[float]:
    """Return the mean F-measure of studies without and with one pixel size."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(world, folder=Path(folder), n_images=POOL_SIZE)
        catalogue = read_catalogue(Path(folder), reading=ReadingOptions(min_side_px=TILE_PX))
        _, wanted_nm = settle_pixel_size(catalogue, asked=COMMON, tile_px=TILE_PX)
        return [
            _draw_studies(embed_catalogue(catalogue.at_pixel_size(size), network=network), n_studies=n_studies)
            for size in (None, wanted_nm)
        ]


def _draw_studies(features: FloatMatrix, *, n_studies: int) -> float:
    """Return the mean score of studies, each with some images of either half of the features."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], N_IMAGES)
    scores = []
    for _ in range(n_studies):
        drawn = [rng.permutation(POOL_SIZE)[:N_IMAGES] + begin for begin in (0, POOL_SIZE)]
        scores.append(score_features(features[np.concatenate(drawn)], labels=labels))
    return float(np.mean(scores))


def print_tables(*, n_studies: int, weights: str = "auto") -> None:
    """Print how well two magnifications are told apart, as they are and brought to one pixel size."""
    configure_tensorflow(threads=1, seed=0)
    network = build_network("mobilenet_v2", weights=weights)
    rows = [[name, *measure_world(world, network=network, n_studies=n_studies)] for name, world in WORLDS.items()]
    columns = ["fine and coarse images show", "F as they are", f"F with pixel_size_nm={COMMON}"]
    Table(title=f"F-measure over tiles, MobileNetV2, weights {network.weights.used}", columns=columns, rows=rows).show()

"""The one fixture that makes every test cheap: three materials of 96-px pictures that a tiny network tells apart."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sem_search.places import CACHE_VARIABLE

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Whoever runs the tests in a script's background has Ctrl-C ignored; so would every search that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_TILE_PX = 48
TINY_IMAGES_PER_CLASS = 5


def draw_texture(material: str, *, seed: int, side_px: int = 96) -> np.ndarray:
    """Return stripes, grains or blobs with noise, shape (side_px, side_px), uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side_px, :side_px]
    phase = rng.uniform(0, 2 * np.pi)
    pattern = {
        "blobs": np.sin(rows / 9 + phase) * np.sin(columns / 9 + phase),
        "grains": rng.normal(size=(side_px, side_px)),
        "stripes": np.sin(columns / 2.5 + phase),
    }[material]
    grey = 128 + 50 * pattern + rng.normal(scale=12, size=pattern.shape)
    return np.clip(grey, 0, 255).astype(np.uint8)


def write_tiny_folder(folder: Path, *, n_images: int = TINY_IMAGES_PER_CLASS, seed: int = 0) -> Path:
    """Write one sub-folder per material with PNG pictures."""
    for index, material in enumerate(("blobs", "grains", "stripes")):
        (folder / material).mkdir(parents=True)
        for number in range(n_images):
            picture = draw_texture(material, seed=seed + 1000 * index + number)
            Image.fromarray(picture).save(folder / material / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three materials, five pictures of 96 x 96 px each; not to be changed."""
    return write_tiny_folder(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def make_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Gives a folder an empty MLflow database and returns its URI; a copy, since making one anew takes seconds."""
    import mlflow

    template = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{template}").search_experiments()

    def copy_to(folder: Path) -> str:
        shutil.copyfile(template, folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return copy_to


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The one cache folder of the session: of two, the one that is set last would be everybody's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder

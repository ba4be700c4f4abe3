import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from sem_search.micrographs.rendering.exact import Draws
from sem_search.micrographs.rendering.pngfile import compute_png


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (255, 256), (300, 500)], ids=str)
def test_pillow_reads_the_same_picture(shape: tuple[int, int]) -> None:
    image = (Draws(0).uniforms(*shape) * 256).astype(np.uint8)
    with Image.open(io.BytesIO(compute_png(image, text={"Comment": "rendered"}))) as read:
        assert read.mode == "L" and read.format == "PNG"
        assert np.array_equal(np.asarray(read), image)
        assert read.info["Comment"] == "rendered"


def test_bytes_never_change() -> None:
    image = np.arange(70_000, dtype=np.uint32).astype(np.uint8).reshape(200, 350)
    digest = hashlib.sha256(compute_png(image, text={"Software": "x"})).hexdigest()
    assert digest == "f3783f458de552ed69a76559e07536163d85201aaadfa04edb12eacfe4f454b4"

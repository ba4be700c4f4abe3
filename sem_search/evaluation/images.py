"""From answers per tile to one answer per image.

The tiles of an image are combined by the mean of their log probabilities (the normalised geometric mean of the
answers; Kittler et al., IEEE Trans. Pattern Anal. Mach. Intell. 20 (1998) 226, product rule): tiles that are sure
count more than tiles that hesitate. The served classifier combines with the same function, so that what was measured
is what is served.
"""

import numpy as np

from sem_search.records import FloatMatrix, IntVector

PROBABILITY_FLOOR = 1e-7
"""Least probability that is told from zero: the step of a float32 just below one (2**-24). Without it a single tile
that answers exactly 0 would forbid a class, whatever the other tiles of the image say."""


def combine_tiles(probabilities: FloatMatrix, *, image_of_tile: IntVector) -> tuple[IntVector, FloatMatrix]:
    """Return the images that these tiles belong to, and the answer for each.

    Args:
        probabilities: One row per tile, shape (n_tiles, n_classes), rows sum to one.
        image_of_tile: Which image each tile was cut from, shape (n_tiles,).

    Returns:
        The image indices, ascending, shape (n_images,), and their probabilities, shape (n_images, n_classes), rows
        sum to one. An image with a tile that answers NaN has NaN throughout.

    Raises:
        ValueError: There is not one image index per tile.
    """
    if probabilities.ndim != 2 or len(image_of_tile) != len(probabilities):
        raise ValueError(f"{len(image_of_tile)} image indices do not match probabilities of {probabilities.shape}.")
    images, row_of_tile = np.unique(image_of_tile, return_inverse=True)
    sums = np.zeros((len(images), probabilities.shape[1]))
    np.add.at(sums, row_of_tile, np.log(np.maximum(probabilities, PROBABILITY_FLOOR)))
    means = sums / np.bincount(row_of_tile, minlength=len(images))[:, None]
    scaled = np.exp(means - means.max(axis=1, keepdims=True))
    return images.astype(np.int64), scaled / scaled.sum(axis=1, keepdims=True)

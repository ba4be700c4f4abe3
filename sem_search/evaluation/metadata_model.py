"""How well the class is predicted from how an image was taken, without the picture.

A random forest (Breiman, Mach. Learn. 45 (2001) 5) on metadata alone (pixel size, session, detector, mean grey, noise),
out of fold and scored as the network is. If it scores nearly as well as the network, the network may have learnt the
session instead of the material. A category becomes a column of its own, a missing value a category like any other; of
very many, the rarest share one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import OneHotEncoder

from sem_search.records import FloatMatrix, IntVector

Value = str | float | None
"""A category, a number, or missing."""

N_TREES = 100  # votes to 5 %, in a quarter of a second per fold on one core

MAX_CATEGORIES = 256
"""Columns of one attribute, the last for all rarer values: with a session for every few images there would be as many
columns as images. What so few images share hardly tells their class."""

MISSING = ""


def predict_from_metadata(
    columns: Mapping[str, Sequence[Value]],
    *,
    labels: IntVector,
    n_classes: int,
    part_of_image: IntVector,
    seed: int = 0,
) -> tuple[IntVector, tuple[str, ...]]:
    """Return the class of each image as a forest predicts it that grew on the other parts, and the attributes used.

    Without an attribute that differs between images, every image gets the commonest class.

    Args:
        columns: Attribute to its value for each image, each of length n_images.
        labels: True classes, shape (n_images,).
        n_classes: Number of classes.
        part_of_image: The fold that tests each image, shape (n_images,), two or more.
        seed: Of the trees.
    """
    numbers, categories, names = _split_columns(columns, n_images=len(labels))
    predicted = np.full(len(labels), np.bincount(labels, minlength=n_classes).argmax(), dtype=np.int64)
    for part in np.unique(part_of_image) if names else ():
        is_tested = part_of_image == part
        predicted[is_tested] = _predict(numbers, categories, labels=labels, is_tested=is_tested, seed=seed)
    return predicted, names


def _predict(
    numbers: FloatMatrix, categories: NDArray[np.str_], *, labels: IntVector, is_tested: NDArray[np.bool_], seed: int
) -> IntVector:
    """Return the class of each image tested, from a forest grown on all others."""
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False
    ).fit(categories[~is_tested])
    features = np.hstack([numbers, encoder.transform(categories)])
    forest = RandomForestClassifier(n_estimators=N_TREES, class_weight="balanced", random_state=seed)
    forest.fit(features[~is_tested], labels[~is_tested])
    predicted: IntVector = forest.predict(features[is_tested]).astype(np.int64)
    return predicted


def _split_columns(
    columns: Mapping[str, Sequence[Value]], *, n_images: int
) -> tuple[FloatMatrix, NDArray[np.str_], tuple[str, ...]]:
    """Return numbers (n_images, n_numbers) with NaN where missing, categories (n_images, n_categories), and names.

    A column with a single value is left out; one with a word in it holds categories.
    """
    numbers: list[list[float]] = []
    categories: list[list[str]] = [[MISSING] * n_images]  # an encoder without columns cannot be fitted
    names = []
    for name, values in columns.items():
        if len({_get_key(value) for value in values}) < 2:
            continue
        names.append(name)
        if any(isinstance(value, str) for value in values):
            categories.append([MISSING if value is None else str(value) for value in values])
        else:
            numbers.append([np.nan if value is None else float(value) for value in values])
    table = np.array(numbers, dtype=np.float64).reshape(-1, n_images).T
    return table, np.array(categories, dtype=np.str_).T, tuple(names)


def _get_key(value: Value) -> Value:
    """Return the value, None for NaN: missing values are equal."""
    return None if isinstance(value, float) and np.isnan(value) else value

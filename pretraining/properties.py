"""What the network learns to read off a picture: to which of eight classes of each property its powder belongs.

The classes are equally frequent among drawn powders, but that what is absent is the first alone, and the network
predicts how likely each is. A regression of the same numbers, tried before, has to give one number where a crop leaves
several open; and its features need only be linear in a few numbers.
"""

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pretraining.materials import describe_subject, draw_subject

N_BINS = 8

PROPERTIES = (
    "width_px",
    "size_spread",
    "aspect",
    "aspect_spread",
    "thickness",
    "boxiness",
    "flatness",
    "bend",
    "outline_roughness",
    "facets",
    "striation",
    "graininess",
    "grain_px",
    "needles",
    "fines",
    "fines_px",
    "cover",
    "blur_px",
    "electrons",
)
"""What is asked of each picture; `facets` is their depth, 0 without any."""

N_DRAWN = 20_000
"""Powders from which the bins are made."""

SEED = 0


def compute_bins(values: Mapping[str, float]) -> NDArray[np.int32]:
    """Return the bin of each property, shape (n_properties,), each from 0 to N_BINS - 1."""
    wanted = gather_properties(values)  # what is absent, 0, gets a bin of its own: the first
    found = [np.searchsorted(edges, value, side="left") for edges, value in zip(get_edges(), wanted, strict=True)]
    return np.array(found, dtype=np.int32)


def gather_properties(values: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the properties in their order, shape (n_properties,)."""
    facets = values["facet_depth"] if values["n_facets"] else 0.0
    known = {**values, "facets": facets}
    return np.array([known[name] for name in PROPERTIES])


@functools.cache
def get_edges() -> NDArray[np.float64]:
    """Return the inner edges of the bins, shape (n_properties, N_BINS - 1); 0 stands often where half have none."""
    rng = np.random.default_rng(SEED)
    drawn = np.array([gather_properties(describe_subject(draw_subject(rng))) for _ in range(N_DRAWN)])
    edges: NDArray[np.float64] = np.quantile(drawn, np.arange(1, N_BINS) / N_BINS, axis=0).T
    return edges

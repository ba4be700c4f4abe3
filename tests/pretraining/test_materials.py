"""Powders to learn from: far wider than the demonstration's ten, and none of them."""

from dataclasses import replace

import numpy as np

from pretraining.materials import describe_subject, draw_subject, resembles_demonstration
from pretraining.properties import N_BINS, PROPERTIES, compute_bins, gather_properties, get_edges
from sem_search.micrographs.rendering.materials import MATERIALS


def test_none_is_one_of_the_demonstrations() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_subject(rng).material for _ in range(2000)]
    assert not any(map(resembles_demonstration, drawn))
    assert all(map(resembles_demonstration, MATERIALS))
    assert not resembles_demonstration(replace(MATERIALS[0], width_px=2 * MATERIALS[0].width_px))


def test_the_ten_lie_well_within_what_is_drawn() -> None:
    rng = np.random.default_rng(2)
    values = [describe_subject(draw_subject(rng)) for _ in range(2000)]
    for material in MATERIALS:
        for name in ("width_px", "aspect", "size_spread", "graininess", "cover", "outline_roughness"):
            drawn = np.array([one[name] for one in values])
            assert drawn.min() < getattr(material, name) < drawn.max(), (material.name, name)


def test_bins_are_nearly_equally_likely_but_for_what_half_have_not() -> None:
    rng = np.random.default_rng(3)
    bins = np.array([compute_bins(describe_subject(draw_subject(rng))) for _ in range(2000)])
    assert bins.shape == (2000, len(PROPERTIES))
    assert (bins.min(), bins.max()) == (0, N_BINS - 1)
    shares = np.bincount(bins[:, PROPERTIES.index("width_px")], minlength=N_BINS) / 2000
    assert np.abs(shares - 1 / N_BINS).max() < 0.03
    bent = bins[:, PROPERTIES.index("bend")]
    assert 0.45 < (bent == 0).mean() < 0.55


def test_an_absent_facet_has_no_depth() -> None:
    values = describe_subject(draw_subject(np.random.default_rng(4))) | {"facet_depth": 0.7}
    place = PROPERTIES.index("facets")
    assert gather_properties(values | {"n_facets": 0.0})[place] == 0.0
    assert gather_properties(values | {"n_facets": 5.0})[place] == 0.7
    assert get_edges().shape == (len(PROPERTIES), N_BINS - 1)

"""Whether another study's network looks at the same places: a place that matters to both belongs to the material.

Both studies have the same images in the same folds; each tile is explained, in either, by the head that never saw it.
The finer maps are brought to the resolution of the coarser ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sem_search.audits.heat_maps.heat import Explainer, FloatMaps, HeadWeights, explain_unseen
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.heat_maps.agreement import HeatMapAgreement, bring_to_shape, compute_heat_map_agreement


@dataclass(frozen=True, kw_only=True)
class OtherMaps:
    """Where another network looks."""

    study: str
    backbone: str
    maps: FloatMaps
    """Of each tile, shape (n_tiles, height, width)."""


@dataclass(frozen=True, kw_only=True)
class OtherNetwork:
    """How far another network looks at the same places."""

    study: str
    backbone: str
    agreement: HeatMapAgreement

    @property
    def looks_alike(self) -> bool:
        """Whether the two agree more than maps of different images do."""
        return bool(self.agreement.rank_correlation.low > self.agreement.chance_rank_correlation)


def explain_study(subject: AuditSubject, *, head_weights: Mapping[int, HeadWeights]) -> OtherMaps:
    """Return where a study's network looks, each tile by the head that never saw it."""
    own_fold = subject.fold_of_image[subject.tiles.image_of_tile]
    maps = explain_unseen(Explainer(subject), head_weights=head_weights, own_fold=own_fold)
    return OtherMaps(study=subject.outcome.name, backbone=subject.backbone.name, maps=maps)


def compare_networks(maps: FloatMaps, *, other: OtherMaps, subject: AuditSubject) -> OtherNetwork:
    """Return how far maps of the subject's tiles, shape (n_tiles, height, width), agree with another network's.

    Args:
        maps: Of the study's own network.
        other: Of the other network, on the same tiles.
        subject: The study.
    """
    shape = min(maps.shape[1], other.maps.shape[1]), min(maps.shape[2], other.maps.shape[2])
    both = np.stack([bring_to_shape(some, shape=shape) for some in (maps, other.maps)])
    agreement = compute_heat_map_agreement(both, image_of_tile=subject.group_number_of_tile, seed=subject.seed)
    return OtherNetwork(study=other.study, backbone=other.backbone, agreement=agreement)

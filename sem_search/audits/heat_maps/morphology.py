"""What the network looks at: its heat maps compared with the particles, and with one another.

The paper asks which features of the particles the network uses and leaves it open. Here the particles of the test
images are found and measured, and the heat on each is correlated with its size, shape and roughness, against the heat
of other images. Before that, three checks say whether the maps mean anything: heads of different folds must agree, maps
of randomised weights must not look the same, and the score must fall when the hottest cells are deleted.

Each image is explained by the head that it tests, which never saw it; only for the agreement of folds also by the head
whose epochs it validates, the one other head that was not trained on it: that of the search, since with `refit` the
served ones have learnt from these images, too. The logit of the true class is explained. Images of one group are not
independent and count as one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from sem_search.audits.answer import ShownAsAnswer
from sem_search.audits.heat_maps.heat import (
    SHARES,
    Explainer,
    FloatMaps,
    HeadWeights,
    compute_mean_features,
    explain_unseen,
)
from sem_search.audits.heat_maps.morphology_answer import build_morphology_answer
from sem_search.audits.heat_maps.other_network import OtherMaps, OtherNetwork, compare_networks
from sem_search.audits.heat_maps.particle_table import ParticleTable, measure_images
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError
from sem_search.evaluation.heat_maps.agreement import (
    CurveScores,
    HeatMapAgreement,
    compare_curves,
    compute_heat_map_agreement,
)
from sem_search.evaluation.heat_maps.correlation import HeatCorrelation, correlate_heat
from sem_search.progress import Show
from sem_search.records import IntVector
from sem_search.seeds import derive_seed
from sem_search.tracking.report.answer_page import Answer

TRACED_PER_IMAGE = 3
"""Tiles of each image whose cells are deleted and inserted: 44 passes through the head for each."""


@dataclass(frozen=True, kw_only=True)
class MorphologyAudit(ShownAsAnswer):
    """What the heat maps are worth, and what they lie on."""

    study: str
    class_names: tuple[str, ...]
    folds: HeatMapAgreement
    """Between two heads that were not trained on a tile: that of the fold that tests it, and that of the fold that it
    validates, the latter trained on its training tiles alone."""
    new_layers: HeatMapAgreement
    """Between each map and that of the same head with its new layers randomised."""
    all_trained: HeatMapAgreement
    """The same with the last convolution randomised, too."""
    other: OtherNetwork | None
    """Another study's network, where one was named."""
    deletion: CurveScores
    insertion: CurveScores
    """Each against cells in random order."""
    correlations: tuple[HeatCorrelation, ...]
    of_class: Mapping[str, tuple[HeatCorrelation, ...]]
    """The same for the images of one class; empty where too few images have particles."""
    n_particles: int
    share_covered: float
    maps: FloatMaps
    """Of each tile by the head that never saw it, shape (n_tiles, height, width)."""
    particles: ParticleTable

    @property
    def depends_on_training(self) -> bool:
        """Whether randomised weights clearly look at other places than the heads of other folds do."""
        return bool(self.all_trained.rank_correlation.high < self.folds.rank_correlation.low)

    @property
    def folds_agree(self) -> bool:
        """Whether heads of two folds look at the same places more than any two maps do."""
        return bool(self.folds.rank_correlation.low > self.folds.chance_rank_correlation)

    @property
    def is_carried_by_heat(self) -> bool:
        """Whether the hot places matter more than others to the answer."""
        return bool(self.deletion.difference.high < 0 or self.insertion.difference.low > 0)

    def to_answer(self) -> Answer:
        """Return what was found."""
        return build_morphology_answer(self)


def audit_morphology(
    subject: AuditSubject,
    *,
    head_weights: Mapping[int, HeadWeights],
    searched_weights: Mapping[int, HeadWeights],
    show: Show,
    other: OtherMaps | None = None,
) -> MorphologyAudit:
    """Hold the winner's heat maps against themselves and against the particles of the test images.

    Args:
        subject: The study.
        head_weights: The winner's served head of each fold, by the fold's number.
        searched_weights: Those that the search trained, on training images alone; without `refit` the same.
        show: Called with each step.
        other: Where another network looks, on the same tiles.

    Raises:
        DataError: Too few images have particles to measure.
    """
    show("heat maps of all folds")
    explainer = Explainer(subject)
    own_fold = subject.fold_of_image[subject.tiles.image_of_tile]
    maps = explain_unseen(explainer, head_weights=head_weights, own_fold=own_fold)
    agree = partial(compute_heat_map_agreement, image_of_tile=subject.group_number_of_tile, seed=subject.seed)
    validated = explain_unseen(explainer, head_weights=searched_weights, own_fold=_find_validating_fold(subject))
    new_layers, all_trained = (
        explain_unseen(explainer, head_weights=weights, own_fold=own_fold)
        for weights in _iter_randomised(explainer, head_weights)
    )
    show("deletion and insertion")
    curves = _trace_all(explainer, subject=subject, head_weights=head_weights, own_fold=own_fold, maps=maps)
    show("particles")
    particles = measure_images(subject, shape=maps.shape[1:])
    return MorphologyAudit(
        study=subject.outcome.name,
        class_names=subject.tiles.class_names,
        folds=agree(np.stack([maps, validated])),
        new_layers=agree(np.stack([maps, new_layers])),
        all_trained=agree(np.stack([maps, all_trained])),
        other=None if other is None else compare_networks(maps, other=other, subject=subject),
        deletion=curves[0],
        insertion=curves[1],
        correlations=_correlate_all(subject, maps=maps, particles=particles),
        of_class=_correlate_classes(subject, maps=maps, particles=particles),
        n_particles=len(particles.image_of_particle),
        share_covered=float(particles.share_covered.mean()),
        maps=maps,
        particles=particles,
    )


def _iter_randomised(explainer: Explainer, head_weights: Mapping[int, HeadWeights]) -> Iterator[dict[int, HeadWeights]]:
    for with_convolution in (False, True):
        yield {
            fold: explainer.randomise(weights, with_convolution=with_convolution)
            for fold, weights in head_weights.items()
        }


def _find_validating_fold(subject: AuditSubject) -> IntVector:
    """Return the fold that each tile validates, shape (n_tiles,)."""
    number_of = {image_id: fold.number for fold in subject.folds.folds for image_id in fold.validation}
    of_image = np.array([number_of[image_id] for image_id in subject.tiles.image_ids], dtype=np.int64)
    found: IntVector = of_image[subject.tiles.image_of_tile]
    return found


def _trace_all(
    explainer: Explainer,
    *,
    subject: AuditSubject,
    head_weights: Mapping[int, HeadWeights],
    own_fold: IntVector,
    maps: FloatMaps,
) -> tuple[CurveScores, CurveScores]:
    """Return deletion and insertion in the order of the heat, against random order."""
    mean = compute_mean_features(subject)
    rng = np.random.default_rng(derive_seed(subject.seed, "audit", "curves"))
    chosen = _choose_traced(subject.tiles.image_of_tile, rng=rng)
    by_heat, by_chance, order = [], [], []
    for fold, weights in head_weights.items():
        members = chosen[own_fold[chosen] == fold]
        order.append(members)
        by_heat.append(explainer.trace(weights, members, order=maps[members], mean=mean))
        by_chance.append(explainer.trace(weights, members, order=rng.random(maps[members].shape), mean=mean))
    groups = subject.group_number_of_tile[np.concatenate(order)]
    heat, chance = (np.concatenate(curves, axis=1) for curves in (by_heat, by_chance))  # (2, n_tiles, n_steps)
    deletion, insertion = (
        compare_curves(one, other, shares=SHARES, image_of_tile=groups) for one, other in zip(heat, chance, strict=True)
    )
    return deletion, insertion


def _choose_traced(image_of_tile: IntVector, *, rng: np.random.Generator) -> IntVector:
    """Return some tiles of each image, ascending."""
    _, first = np.unique(image_of_tile, return_index=True)  # its tiles stand together
    chosen = [rng.permutation(tiles)[:TRACED_PER_IMAGE] for tiles in np.split(np.arange(len(image_of_tile)), first[1:])]
    return np.sort(np.concatenate(chosen))


def _correlate_all(subject: AuditSubject, *, maps: FloatMaps, particles: ParticleTable) -> tuple[HeatCorrelation, ...]:
    try:
        return _correlate(subject, maps=maps, particles=particles, tiles=np.arange(subject.tiles.n_tiles))
    except ValueError as error:
        raise DataError(
            f"The heat cannot be held against particles: {error} {len(particles.image_of_particle)} particles were "
            f"found in {len(particles.share_covered)} images; they must be brighter than their ground."
        ) from error


def _correlate_classes(
    subject: AuditSubject, *, maps: FloatMaps, particles: ParticleTable
) -> dict[str, tuple[HeatCorrelation, ...]]:
    """Return the correlations over the images of each class; none for a class with too few particles."""
    found: dict[str, tuple[HeatCorrelation, ...]] = {}
    for label, name in enumerate(subject.tiles.class_names):
        tiles = np.flatnonzero(subject.tiles.label_of_tile == label)
        try:
            found[name] = _correlate(subject, maps=maps, particles=particles, tiles=tiles)
        except ValueError:  # fewer than two images with particles: the text says that nothing can be said
            found[name] = ()
    return found


def _correlate(
    subject: AuditSubject, *, maps: FloatMaps, particles: ParticleTable, tiles: IntVector
) -> tuple[HeatCorrelation, ...]:
    return correlate_heat(
        maps[tiles],
        particle_maps=particles.particle_maps[tiles],
        measures=particles.measures,
        image_of_tile=subject.tiles.image_of_tile[tiles],
        group_of_image=subject.tiles.group_of_image,
        seed=subject.seed,
    )

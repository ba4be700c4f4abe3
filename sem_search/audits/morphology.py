"""What the network looks at: its heat maps held against the particles, and against themselves.

The paper asks which features of the particles the network uses and leaves it open. Here the particles of the test
images are found and measured, and the heat on each is correlated with its size, shape and roughness, against maps that
were exchanged between tiles. Before that, three checks say whether the maps mean anything: the heads of different folds
must agree, maps of randomised weights must not look the same, and the score must fall when the hottest cells go.

Test images only, each explained by the head that never saw it; the logit of the true class is explained.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.heat import SHARES, Curves, Explainer, FloatMaps, HeadWeights, compute_mean_features
from sem_search.audits.particles import MEASURES, Particles, find_particles
from sem_search.audits.retraining import Tell
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError
from sem_search.evaluation.agreement import (
    CurveScores,
    HeatCorrelation,
    HeatMapAgreement,
    compare_curves,
    compute_heat_map_agreement,
    correlate_heat,
)
from sem_search.evaluation.outcomes import FloatMatrix, FloatVector, IntVector
from sem_search.micrographs.reading import read_micrograph
from sem_search.micrographs.tiles import FloatTiles, TileGrid, cut_tiles
from sem_search.seeds import derive_seed
from sem_search.tracking.figures_audit import BarRow, TilePicture, draw_rows, draw_tiles
from sem_search.tracking.loggable import (
    Entry,
    FigureArtifact,
    JsonArtifact,
    Scalar,
    TableArtifact,
    TextArtifact,
    iter_finite_metrics,
)
from sem_search.tracking.names import make_safe_name
from sem_search.tracking.trust import list_interval
from sem_search.transfer.gradcam import resize_heat_maps

TRACED_PER_IMAGE = 3
"""Tiles of each image whose cells are deleted and inserted: 44 passes through the head for each."""

FINEST_PX = 4
"""Particles are counted on cells every so many pixels at most: a quarter of the way across the smallest."""

MAX_P_VALUE = 0.05
SHOWN = 12
CLOSED_BED = 0.8
"""Share of an image from which it shows no ground: bright parts of surfaces, not particles, were measured."""


@dataclass(frozen=True, kw_only=True)
class ParticleTable:
    """All particles of all images."""

    image_of_particle: IntVector
    """Shape (n_particles,)."""
    measures: dict[str, FloatVector]
    particle_maps: NDArray[np.int64]
    """0 on the ground, k + 1 on particle k of all, shape (n_tiles, m * height, m * width)."""
    share_covered: FloatVector
    """Of each image, shape (n_images,)."""
    example_pixels: FloatTiles
    """The first tile of each image shown, shape (n_shown, size_px, size_px)."""


@dataclass(frozen=True, kw_only=True)
class MorphologyAudit:
    """What the heat maps are worth, and what they lie on."""

    study: str
    class_names: tuple[str, ...]
    folds: HeatMapAgreement
    """Between the heads of all folds."""
    new_layers: HeatMapAgreement
    """Between each map and that of the same head with its new layers randomised."""
    all_trained: HeatMapAgreement
    """The same with the last convolution randomised, too."""
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
        """Whether randomised weights clearly look elsewhere than the heads of other folds do."""
        return bool(self.all_trained.rank_correlation.high < self.folds.rank_correlation.low)

    def to_text(self) -> str:
        """Return what was found, in plain words."""
        return "\n".join(
            [
                f"Where study {self.study} looks, on test images, each by the head that never saw it.",
                "",
                "Do the maps mean anything?",
                self._describe_agreement(),
                self._describe_randomised(),
                self._describe_curves(),
                "",
                "What does the heat lie on?",
                self._describe_bed(),
                *(_describe_correlation(entry) for entry in self.correlations),
                *self._describe_classes(),
            ]
        )

    def _describe_agreement(self) -> str:
        folds = self.folds
        return (
            f"Heads of different folds order the places of a tile alike to {folds.rank_correlation.to_text()} (rank "
            f"correlation; maps of different images: {folds.chance_rank_correlation:.3f}), and share "
            f"{100 * folds.top_overlap.value:.0f} % of the hottest tenth."
        )

    def _describe_randomised(self) -> str:
        verdict = (
            "the maps do depend on what was learnt."
            if self.depends_on_training
            else "the maps owe much to the picture's edges and the architecture: do not read them as what was learnt."
        )
        return (
            f"With the new layers randomised a map keeps {self.new_layers.rank_correlation.to_text()} of its order, "
            f"with the last convolution as well {self.all_trained.rank_correlation.to_text()}: {verdict}"
        )

    def _describe_curves(self) -> str:
        deletion, insertion = self.deletion.difference, self.insertion.difference
        verdict = (
            "the hot places carry the answer."
            if deletion.high < 0 or insertion.low > 0
            else "the hot places matter no more than others."
        )
        return (
            f"Deleting the hottest cells first lowers the probability of the true class by {-deletion.value:.3f} more "
            f"than random ones ({-deletion.high:.3f} to {-deletion.low:.3f}), inserting them first raises it by "
            f"{insertion.value:.3f} more ({insertion.low:.3f} to {insertion.high:.3f}), on average over the way: "
            f"{verdict}"
        )

    def _describe_bed(self) -> str:
        text = f"{self.n_particles} particles were found; they cover {100 * self.share_covered:.0f} % of the images."
        if self.share_covered > CLOSED_BED:
            text += " Hardly any ground is seen: what was measured are bright parts of surfaces, not whole particles."
        return text

    def _describe_classes(self) -> list[str]:
        lines = []
        for name, entries in self.of_class.items():
            found = [entry for entry in entries if entry.adjusted_p_value <= MAX_P_VALUE]
            what = "; ".join(f"{entry.measure} {entry.correlation.to_text()}" for entry in found)
            lines.append(f"{name}: {what or 'no measure goes with the heat beyond chance'}.")
        return lines


def audit_morphology(subject: AuditSubject, *, head_weights: Mapping[int, HeadWeights], tell: Tell) -> MorphologyAudit:
    """Hold the winner's heat maps against themselves and against the particles of the test images.

    Args:
        subject: The study.
        head_weights: The winner's head of each fold, by the fold's number.
        tell: Told what is being done.

    Raises:
        DataError: Too few images have particles to measure.
    """
    tell("heat maps of all folds")
    explainer = Explainer(subject)
    own_fold = subject.fold_of_image[subject.tiles.image_of_tile]
    tiles = np.arange(subject.tiles.n_tiles)
    folds = sorted(head_weights)
    of_folds = np.stack([explainer.explain(head_weights[fold], tiles) for fold in folds])
    maps = of_folds[np.searchsorted(folds, own_fold), tiles]
    randomised = [
        _explain_randomised(explainer, head_weights=head_weights, own_fold=own_fold, with_convolution=with_convolution)
        for with_convolution in (False, True)
    ]
    tell("deletion and insertion")
    curves = _trace_all(explainer, subject=subject, head_weights=head_weights, own_fold=own_fold, maps=maps)
    tell("particles")
    particles = measure_images(subject, shape=maps.shape[1:])
    agree = partial(compute_heat_map_agreement, image_of_tile=subject.tiles.image_of_tile, seed=subject.seed)
    return MorphologyAudit(
        study=subject.study,
        class_names=subject.tiles.class_names,
        folds=agree(of_folds),
        new_layers=agree(np.stack([maps, randomised[0]])),
        all_trained=agree(np.stack([maps, randomised[1]])),
        deletion=curves[0],
        insertion=curves[1],
        correlations=_correlate_all(subject, maps=maps, particles=particles),
        of_class=_correlate_classes(subject, maps=maps, particles=particles),
        n_particles=len(particles.image_of_particle),
        share_covered=float(particles.share_covered.mean()),
        maps=maps,
        particles=particles,
    )


def measure_images(subject: AuditSubject, *, shape: tuple[int, ...]) -> ParticleTable:
    """Return the particles of all images, counted on grids that fit heat maps of this shape (height, width).

    Raises:
        DataError: A tile's side is no multiple of the heat map's.
    """
    step = _choose_step(subject.grid, shape=shape)
    found: list[Particles] = []
    maps, examples, n_before = [], [], 0
    for record in subject.catalogue.records:
        pixels = read_micrograph(
            record.path, crop_bottom_px=subject.crop_bottom_px, max_megapixels=subject.max_megapixels
        ).pixels
        particles = find_particles(pixels)
        numbers = np.where(particles.labels > 0, particles.labels + n_before, 0)
        corners = subject.grid.iter_corners(*pixels.shape)
        size = subject.grid.size_px
        maps += [
            numbers[top : top + size, left : left + size][step // 2 :: step, step // 2 :: step] for top, left in corners
        ]
        examples.append(cut_tiles(pixels, grid=subject.grid)[0])
        n_before += particles.n_particles
        found.append(particles)
    return ParticleTable(
        image_of_particle=np.repeat(np.arange(len(found)), [particles.n_particles for particles in found]),
        measures={name: np.concatenate([particles.measures[name] for particles in found]) for name in MEASURES},
        particle_maps=np.stack(maps).astype(np.int64),
        share_covered=np.array([particles.share_covered for particles in found]),
        example_pixels=np.stack(examples),
    )


def iter_morphology_entries(audit: MorphologyAudit, *, subject: AuditSubject) -> Iterator[Entry]:
    """Yield what is logged: words, numbers, one row per particle, figures, metrics."""
    yield TextArtifact(path="morphology/morphology.txt", text=audit.to_text() + "\n")
    yield JsonArtifact(path="morphology/morphology.json", content=list_morphology(audit))
    yield build_particle_table(audit, subject=subject)
    rows = [
        BarRow(
            name=entry.measure,
            value=entry.correlation.value,
            low=entry.correlation.low,
            high=entry.correlation.high,
            is_marked=entry.adjusted_p_value <= MAX_P_VALUE,
        )
        for entry in audit.correlations
    ]
    draw = partial(
        draw_rows,
        rows,
        axis_label="Rank correlation of heat and measure within images, with 95 % interval",
        reference=0.0,
        reference_name="none; orange: beyond maps exchanged between tiles",
        limits=(-1.0, 1.0),
    )
    yield FigureArtifact(path="morphology/correlations.png", draw=draw)
    yield FigureArtifact(
        path="morphology/particles.jpg", draw=partial(draw_tiles, _list_pictures(audit, subject=subject), per_line=4)
    )
    numbers = [
        (f"morphology/{make_safe_name(entry.measure)}", entry.correlation.value, 0) for entry in audit.correlations
    ]
    numbers += [
        ("morphology/agreement_of_folds", audit.folds.rank_correlation.value, 0),
        ("morphology/agreement_with_randomised", audit.all_trained.rank_correlation.value, 0),
        ("morphology/deletion", audit.deletion.difference.value, 0),
        ("morphology/insertion", audit.insertion.difference.value, 0),
    ]
    yield from iter_finite_metrics(numbers, source="morphology")


def build_particle_table(audit: MorphologyAudit, *, subject: AuditSubject) -> TableArtifact:
    """Return one row per particle: its image and class, its measures in px, and in nm where the file tells."""
    table, records = audit.particles, subject.catalogue.records
    rows: list[tuple[Scalar, ...]] = []
    for place, image in enumerate(table.image_of_particle):
        record = records[image]
        values = [round(float(table.measures[name][place]), 5) for name in MEASURES]
        nm = None if record.pixel_size_nm is None else round(values[0] * record.pixel_size_nm, 3)
        rows.append((record.image_id, record.label, *values, nm))
    columns = ("image_id", "class", "equivalent diameter (px)", *MEASURES[1:], "equivalent diameter (nm)")
    return TableArtifact(path="morphology/particles.csv", columns=columns, rows=tuple(rows))


def list_morphology(audit: MorphologyAudit) -> dict[str, Any]:
    """Return all numbers, fit for JSON."""
    return {
        "study": audit.study,
        "n_particles": audit.n_particles,
        "share_covered": audit.share_covered,
        "agreement": {
            "folds": _list_agreement(audit.folds),
            "new_layers_randomised": _list_agreement(audit.new_layers),
            "all_trained_randomised": _list_agreement(audit.all_trained),
            "depends_on_training": audit.depends_on_training,
        },
        "deletion": _list_curves(audit.deletion),
        "insertion": _list_curves(audit.insertion),
        "correlations": [_list_correlation(entry) for entry in audit.correlations],
        "correlations_of_class": {
            name: [_list_correlation(entry) for entry in entries] for name, entries in audit.of_class.items()
        },
    }


def _explain_randomised(
    explainer: Explainer, *, head_weights: Mapping[int, HeadWeights], own_fold: IntVector, with_convolution: bool
) -> FloatMaps:
    """Return each tile's map by its own head with weights randomised, shape (n_tiles, height, width)."""
    parts = {}
    for fold, weights in head_weights.items():
        members = np.flatnonzero(own_fold == fold)
        randomised = explainer.randomise(weights, with_convolution=with_convolution)
        parts[fold] = members, explainer.explain(randomised, members)
    maps = np.zeros((len(own_fold), *next(iter(parts.values()))[1].shape[1:]))
    for members, values in parts.values():
        maps[members] = values
    return maps


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
    by_heat: list[Curves] = []
    by_chance: list[Curves] = []
    order = []
    for fold, weights in head_weights.items():
        members = chosen[own_fold[chosen] == fold]
        order.append(members)
        by_heat.append(explainer.trace(weights, members, order=maps[members], mean=mean))
        by_chance.append(explainer.trace(weights, members, order=rng.random(maps[members].shape), mean=mean))
    images = subject.tiles.image_of_tile[np.concatenate(order)]

    def compare(name: str) -> CurveScores:
        heat, chance = (_join(curves, name) for curves in (by_heat, by_chance))
        return compare_curves(heat, chance, shares=SHARES, image_of_tile=images, seed=subject.seed)

    return compare("deletion"), compare("insertion")


def _join(curves: list[Curves], name: str) -> FloatMatrix:
    """Return the curves of all folds, one below the other."""
    joined: FloatMatrix = np.concatenate([getattr(entry, name) for entry in curves])
    return joined


def _choose_traced(image_of_tile: IntVector, *, rng: np.random.Generator) -> IntVector:
    """Return some tiles of each image, ascending."""
    chosen = [
        rng.permutation(np.flatnonzero(image_of_tile == image))[:TRACED_PER_IMAGE] for image in np.unique(image_of_tile)
    ]
    return np.sort(np.concatenate(chosen))


def _correlate_all(subject: AuditSubject, *, maps: FloatMaps, particles: ParticleTable) -> tuple[HeatCorrelation, ...]:
    """Return the correlations over all images."""
    try:
        return correlate_heat(
            maps,
            particle_maps=particles.particle_maps,
            measures=particles.measures,
            image_of_tile=subject.tiles.image_of_tile,
            seed=subject.seed,
        )
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
        members = np.flatnonzero(subject.tiles.label_of_tile == label)
        try:
            found[name] = correlate_heat(
                maps[members],
                particle_maps=particles.particle_maps[members],
                measures=particles.measures,
                image_of_tile=subject.tiles.image_of_tile[members],
                seed=subject.seed,
            )
        except ValueError:  # fewer than two images with particles: that nothing can be said is said
            found[name] = ()
    return found


def _choose_step(grid: TileGrid, *, shape: tuple[int, ...]) -> int:
    """Return every how many pixels particles are counted: a divisor of the heat map's cell."""
    cells = [grid.size_px / side for side in shape]
    if cells[0] != cells[1] or cells[0] != int(cells[0]):
        raise DataError(
            f"tile_px={grid.size_px} is no multiple of a heat map of {shape[0]} x {shape[1]} cells: heat and particles "
            "cannot be laid over each other; search with another tile_px."
        )
    return max(step for step in range(1, FINEST_PX + 1) if int(cells[0]) % step == 0)


def _describe_correlation(entry: HeatCorrelation) -> str:
    """Say whether the heat goes with one measure."""
    amount = "large" if entry.correlation.value > entry.chance_correlation else "small"
    verdict = (
        f"the heat lies on particles with {amount} {entry.measure}"
        if entry.adjusted_p_value <= MAX_P_VALUE
        else "no more than chance"
    )
    return (
        f"{entry.measure}: {entry.correlation.to_text()}, {entry.chance_correlation:.3f} with maps exchanged, "
        f"p = {entry.adjusted_p_value:.3f}, {entry.n_particles} particles of {entry.n_images} images: {verdict}."
    )


def _list_pictures(audit: MorphologyAudit, *, subject: AuditSubject) -> tuple[TilePicture, ...]:
    """Return first tiles of images of every class, each with its heat, the particles left bright."""
    tiles, table = subject.tiles, audit.particles
    per_class = max(1, SHOWN // len(audit.class_names))
    images = [
        image
        for label in range(len(audit.class_names))
        for image in np.flatnonzero(tiles.label_of_image == label)[:per_class]
    ]
    first_tile = np.searchsorted(tiles.image_of_tile, images)
    heat = resize_heat_maps(audit.maps[first_tile].astype(np.float32), size_px=subject.grid.size_px)
    return tuple(
        TilePicture(
            pixels=table.example_pixels[image],
            title=audit.class_names[tiles.label_of_image[image]],
            caption=f"{tiles.image_ids[image]}, tile 0",
            heat_map=heat[row],
        )
        for row, image in enumerate(images)
    )


def _list_agreement(agreement: HeatMapAgreement) -> dict[str, Any]:
    """Return how alike maps are."""
    return {
        "n_images": agreement.n_images,
        "n_tiles": agreement.n_tiles,
        "rank_correlation": list_interval(agreement.rank_correlation),
        "top_overlap": list_interval(agreement.top_overlap),
        "chance_rank_correlation": agreement.chance_rank_correlation,
        "chance_top_overlap": agreement.chance_top_overlap,
    }


def _list_curves(scores: CurveScores) -> dict[str, Any]:
    """Return the areas by heat, by chance, and their difference."""
    return {
        "n_images": scores.n_images,
        "by_heat": list_interval(scores.area),
        "by_chance": list_interval(scores.other_area),
        "difference": list_interval(scores.difference),
    }


def _list_correlation(entry: HeatCorrelation) -> dict[str, Any]:
    """Return one correlation."""
    return {
        "measure": entry.measure,
        "n_images": entry.n_images,
        "n_particles": entry.n_particles,
        "correlation": list_interval(entry.correlation),
        "chance_correlation": entry.chance_correlation,
        "p_value": entry.p_value,
        "adjusted_p_value": entry.adjusted_p_value,
    }

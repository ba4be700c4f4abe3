"""How often `monitor` gives a false alarm, and after how many images it finds what has changed.

Seven rendered materials are known, ten images each; the network is real, the labels are those of the nearest class. A
week has twenty images, drawn from a pool of others. Quiet streams last 100 weeks. In changed ones, the change comes
after some quiet weeks: less contrast, another magnification, or a material that the model does not know.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import zoom

from benchmarks.known_images import N_MATERIALS, N_PARTS, Embedding, Images
from sem_search.evaluation.drift import Scores, find_cause, follow_evidence
from sem_search.evaluation.novelty import NoveltyModel, fit_novelty, score_novelty
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.rendering.materials import MATERIALS, Material
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.seeds import derive_seed

SIDE_PX = 448
"""Four tiles."""

N_POOL, N_TRAINING, N_NEAR = 50, 10, 2
"""Images of each material, those that a model knows, and materials that it does not know."""

WEEK, QUIET_WEEKS, WAIT_WEEKS = 20, 100, 25
N_FIGURES = 2
"""Novelty and pixel size share the false alarms."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What comes instead of usual images."""

    alter: Callable[[FloatImage], FloatImage] | None = None
    """How pictures change; None: a material that is not known comes."""
    share: float = 1.0


def _lower_contrast(factor: float) -> Callable[[FloatImage], FloatImage]:
    return lambda pixels: ((pixels - 0.5) * factor + 0.5).astype(np.float32)


def _magnify(factor: float) -> Callable[[FloatImage], FloatImage]:
    def alter(pixels: FloatImage) -> FloatImage:
        side = round(SIDE_PX / factor)
        start = (SIDE_PX - side) // 2
        large = zoom(pixels[start : start + side, start : start + side], SIDE_PX / side, order=1)
        return np.ascontiguousarray(np.clip(large, 0, 1)[:SIDE_PX, :SIDE_PX].astype(np.float32))

    return alter


CHANGES: Mapping[str, Change] = {
    "contrast_less_by_15_percent": Change(alter=_lower_contrast(0.85)),
    "contrast_less_by_30_percent": Change(alter=_lower_contrast(0.7)),
    "magnified_1.25": Change(alter=_magnify(1.25)),
    "magnified_1.5": Change(alter=_magnify(1.5)),
    "new_material": Change(),
    "new_material_in_30_percent": Change(share=0.3),
    "new_material_in_10_percent": Change(share=0.1),
}


def measure_monitor(*, backbone: str, weights: str, n_streams: int) -> dict[str, float]:
    """Return the shares of streams with a false alarm, and after how many images changes are found.

    Args:
        backbone: Its name.
        weights: As in a search.
        n_streams: Of each kind.
    """
    embedding = Embedding(backbone, weights=weights)
    pools: dict[str, Images] = {}
    altered: dict[str, dict[str, Images]] = {key: {} for key, change in CHANGES.items() if change.alter is not None}
    for material in MATERIALS:
        pictures = list(_render(material))
        pools[material.name] = embedding.embed(pictures)
        for key, images in altered.items():
            images[material.name] = embedding.embed(map(CHANGES[key].alter, pictures))
    worlds = [World.draw(pools, altered=altered, seed=seed) for seed in range(n_streams)]
    figures = {
        f"quiet.{mix}.share_with_false_alarm": float(np.mean([_has_alarm(world, mix=mix) for world in worlds]))
        for mix in ("even_mix", "mix_of_each_week")
    }
    for n_quiet in (0, 10 * WEEK, 50 * WEEK):
        for key, change in CHANGES.items():
            found = [_find_change(world, key, change=change, n_quiet=n_quiet) for world in worlds]
            figures |= {f"{key}.after_{n_quiet}_quiet.{name}": value for name, value in _summarise(found)}
        waits = [_count_far_pixels(n_quiet=n_quiet, seed=seed) for seed in range(n_streams)]
        figures[f"pixel_size_far.after_{n_quiet}_quiet.median_images"] = float(np.median(waits))
    return figures


@dataclass(frozen=True, kw_only=True)
class World:
    """One model, and the scores of all images that it may be asked."""

    training: Scores
    usual: Scores
    changed: Mapping[str, Scores]
    rng: np.random.Generator

    @classmethod
    def draw(cls, pools: Mapping[str, Images], *, altered: Mapping[str, Mapping[str, Images]], seed: int) -> "World":
        """Choose known and unknown materials and the training images, and score all others."""
        rng = np.random.default_rng(seed)
        names = rng.permutation(sorted(pools)).tolist()
        known, near = names[:N_MATERIALS], names[N_MATERIALS : N_MATERIALS + N_NEAR]
        orders = {name: rng.permutation(N_POOL) for name in known}
        images = [pools[name][i] for name in known for i in orders[name][:N_TRAINING]]
        labels = np.repeat(np.arange(N_MATERIALS), N_TRAINING)
        model = fit_novelty(
            np.concatenate(images),
            image_of_tile=np.repeat(np.arange(len(images)), [len(image) for image in images]),
            label_of_image=labels,
            part_of_image=np.arange(len(images)) % N_PARTS,
        )

        def score(source: Mapping[str, Images], chosen: list[str]) -> Scores:
            rest = [source[name][i] for name in chosen for i in orders.get(name, np.arange(N_POOL))[N_TRAINING:]]
            return _score(model, rest, rng=rng)

        changed = {
            key: score(pools, near) if change.alter is None else score(altered[key], known)
            for key, change in CHANGES.items()
        }
        training = Scores(values=model.left_out, labels=labels.astype(np.str_), ties=rng.random(len(labels)))
        return cls(training=training, usual=score(pools, known), changed=changed, rng=rng)

    def draw_stream(self, n_images: int, *, is_mixed_weekly: bool = False) -> Scores:
        """Draw usual images; in each week the materials come alike often, or as often as it happens."""
        weights = np.ones(len(self.usual.values))
        weeks = []
        for begin in range(0, n_images, WEEK):
            if is_mixed_weekly:
                labels, places = np.unique(self.usual.labels, return_inverse=True)
                weights = self.rng.dirichlet(np.full(len(labels), 0.3))[places]
            n = min(WEEK, n_images - begin)
            weeks.append(self.rng.choice(len(weights), n, p=weights / weights.sum()))
        return self.take(self.usual, np.concatenate(weeks) if weeks else np.zeros(0, dtype=np.int64))

    def take(self, scores: Scores, rows: np.ndarray) -> Scores:
        """Return these images as if they were new ones."""
        return Scores(values=scores.values[rows], labels=scores.labels[rows], ties=self.rng.random(len(rows)))


def _render(material: Material) -> Iterator[FloatImage]:
    for number in range(N_POOL):
        seed = derive_seed(0, "monitor", material.name, number)
        yield render_scan(material, height_px=SIDE_PX, width_px=SIDE_PX, seed=seed)


def _score(model: NoveltyModel, images: Images, *, rng: np.random.Generator) -> Scores:
    """Return novelty and nearest class of each image."""
    image_of_tile = np.repeat(np.arange(len(images)), [len(image) for image in images])
    _, values = score_novelty(model, np.concatenate(images), image_of_tile=image_of_tile)
    means = np.stack([image.mean(axis=0) for image in images])
    nearest = model.metric.covariance.measure_from(means, centres=model.metric.class_means).argmin(axis=1)
    return Scores(values=values, labels=nearest.astype(np.str_), ties=rng.random(len(images)))


def _has_alarm(world: World, *, mix: str) -> bool:
    stream = world.draw_stream(QUIET_WEEKS * WEEK, is_mixed_weekly=mix == "mix_of_each_week")
    return follow_evidence(world.training, stream).find_alarm(n_figures=N_FIGURES) is not None


def _find_change(world: World, key: str, *, change: Change, n_quiet: int) -> tuple[int | None, str | None]:
    """Return how many images after the change the alarm comes, and what is said to be the cause 100 images after it."""
    n_after = WAIT_WEEKS * WEEK
    stream, new = world.draw_stream(n_quiet + n_after), world.changed[key]
    is_new = (np.arange(n_quiet + n_after) >= n_quiet) & (world.rng.random(n_quiet + n_after) < change.share)
    other = world.take(new, world.rng.choice(len(new.values), len(is_new)))
    stream = replace(
        stream,
        values=np.where(is_new, other.values, stream.values),
        labels=np.where(is_new, other.labels, stream.labels),
    )
    alarm = follow_evidence(world.training, stream).find_alarm(n_figures=N_FIGURES)
    if alarm is None or alarm < n_quiet:
        return None, None
    numbers = np.arange(len(is_new))
    seen = stream.select(numbers <= alarm + 100)
    onset = follow_evidence(world.training, seen).onset
    return alarm - n_quiet + 1, find_cause(world.training, seen.select(np.arange(len(seen.values)) >= onset))


def _count_far_pixels(*, n_quiet: int, seed: int) -> float:
    """Return after how many images with another pixel size the alarm comes, by the test of pixel sizes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(N_MATERIALS), N_TRAINING).astype(np.str_)
    training = Scores(values=np.zeros(len(labels)), labels=labels, ties=rng.random(len(labels)))
    stream = rng.choice(labels, n_quiet + WEEK)
    is_far = (np.arange(len(stream)) >= n_quiet).astype(np.float64)
    evidence = follow_evidence(training, Scores(values=is_far, labels=stream, ties=rng.random(len(stream))))
    alarm = evidence.find_alarm(n_figures=N_FIGURES)
    return np.inf if alarm is None else alarm - n_quiet + 1


def _summarise(found: list[tuple[int | None, str | None]]) -> Iterator[tuple[str, float]]:
    """Yield the share found, quantiles of the number of images that it took, and how often each cause is named."""
    waits = [np.inf if wait is None else wait for wait, _ in found]
    yield "share_found", float(np.isfinite(waits).mean())
    yield "median_images", float(np.quantile(waits, 0.5, method="higher"))
    yield "images_in_90_percent", float(np.quantile(waits, 0.9, method="higher"))
    for cause, n in sorted(Counter(cause for _, cause in found if cause is not None).items()):
        yield f"share_{cause}", n / len(found)

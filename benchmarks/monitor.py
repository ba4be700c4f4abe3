"""How often `monitor` gives a false alarm, and after how many images it finds what has changed.

Seven rendered materials are known, ten images each; the network is real, the labels are those of the nearest class. A
week has twenty images, drawn from a pool of others. Quiet streams last 100 weeks. In changed ones, the change comes
after some quiet weeks: less contrast, another magnification, or a material that the model does not know.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from benchmarks.known_images import N_MATERIALS, N_PARTS, Embedding, Images
from sem_search.deployment.monitoring.comparison import DriftReport, compare_period
from sem_search.evaluation.novelty import UNKNOWN_ABOVE, NoveltyModel, fit_novelty, score_novelty
from sem_search.micrographs.catalogue import compute_noise
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.rendering.materials import MATERIALS, Material
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.seeds import derive_seed

SIDE_PX = 448
"""Four tiles."""

N_POOL, N_TRAINING, N_NEAR = 50, 10, 2
"""Images of each material, those that a model knows, and materials that it does not know."""

WEEK, QUIET_WEEKS, WAIT_WEEKS = 20, 100, 25
LATER = 100
"""Images after an alarm, when the cause is asked for."""

START = pd.Timestamp("2026-01-05")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Pictures as the network sees them, and their grey levels."""

    images: Images
    grey: pd.DataFrame

    @classmethod
    def build(cls, pictures: list[FloatImage], *, embedding: Embedding) -> "Pool":
        """Return what is needed of some pictures."""
        rows = [(pixels.mean(), pixels.std(), compute_noise(pixels)) for pixels in pictures]
        grey = pd.DataFrame(rows, columns=["mean_grey", "contrast", "noise"], dtype=float)
        return cls(images=embedding.embed(pictures), grey=grey)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What comes instead of usual images."""

    alter: Callable[[FloatImage], FloatImage] | None = None
    """How pictures change; None: a material that is not known comes."""
    share: float = 1.0
    pixel_size: str = "as trained"


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
    "magnified_1.6": Change(alter=_magnify(1.6)),
    "magnified_1.6_and_stated": Change(alter=_magnify(1.6), pixel_size="far"),
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
    pools: dict[str, dict[str, Pool]] = {}
    for material in MATERIALS:
        pictures = list(_render(material))
        pools.setdefault("", {})[material.name] = Pool.build(pictures, embedding=embedding)
        for key, change in CHANGES.items():
            if change.alter is not None:
                altered = [change.alter(pixels) for pixels in pictures]
                pools.setdefault(key, {})[material.name] = Pool.build(altered, embedding=embedding)
    worlds = [World.draw(pools, seed=seed) for seed in range(n_streams)]
    figures = {
        f"quiet.{mix}.share_with_false_alarm": float(np.mean([_has_alarm(world, mix=mix) for world in worlds]))
        for mix in ("even_mix", "mix_of_each_week")
    }
    for n_quiet in (0, 50 * WEEK):
        for key, change in CHANGES.items():
            found = [_find_change(world, key, change=change, n_quiet=n_quiet) for world in worlds]
            figures |= {f"{key}.after_{n_quiet}_quiet.{name}": value for name, value in _summarise(found)}
    return figures


@dataclass(frozen=True, kw_only=True)
class World:
    """One model's training images, and all images that it may be asked, as rows of a journal."""

    training: pd.DataFrame
    usual: pd.DataFrame
    changed: Mapping[str, pd.DataFrame]
    rng: np.random.Generator

    @classmethod
    def draw(cls, pools: Mapping[str, Mapping[str, Pool]], *, seed: int) -> "World":
        """Choose known and unknown materials and the training images, and score all others."""
        rng = np.random.default_rng(seed)
        names = rng.permutation(sorted(pools[""])).tolist()
        known, near = names[:N_MATERIALS], names[N_MATERIALS : N_MATERIALS + N_NEAR]
        orders = {name: rng.permutation(N_POOL) for name in names}
        images = [pools[""][name].images[i] for name in known for i in orders[name][:N_TRAINING]]
        labels = np.repeat(np.arange(N_MATERIALS), N_TRAINING)
        model = fit_novelty(
            np.concatenate(images),
            image_of_tile=np.repeat(np.arange(len(images)), [len(image) for image in images]),
            label_of_image=labels,
            part_of_image=np.arange(len(images)) % N_PARTS,
        )
        training = pd.concat([pools[""][name].grey.iloc[orders[name][:N_TRAINING]] for name in known])
        training = _add_answers(training, labels=labels, novelty=model.left_out).assign(ties=rng.random(len(labels)))

        def score(source: Mapping[str, Pool], chosen: list[str]) -> pd.DataFrame:
            rest = {name: orders[name][N_TRAINING:] for name in chosen}
            grey = pd.concat([source[name].grey.iloc[own] for name, own in rest.items()])
            asked = [source[name].images[i] for name, own in rest.items() for i in own]
            labels, novelty = _classify(model, asked)
            return _add_answers(grey, labels=labels, novelty=novelty)

        changed = {
            key: (score(pools[""], near) if change.alter is None else score(pools[key], known)).assign(
                pixel_size=change.pixel_size
            )
            for key, change in CHANGES.items()
        }
        return cls(training=training, usual=score(pools[""], known), changed=changed, rng=rng)

    def draw_stream(self, n_images: int, *, is_mixed_weekly: bool = False) -> pd.DataFrame:
        """Draw usual images; in each week the materials come alike often, or as often as it happens."""
        labels, places = np.unique(self.usual.label, return_inverse=True)
        weeks = []
        for _ in range(0, n_images, WEEK):
            shares = self.rng.dirichlet(np.full(len(labels), 0.3)) if is_mixed_weekly else np.ones(len(labels))
            weights = shares[places] + 1e-9
            weeks.append(self.rng.choice(len(places), WEEK, p=weights / weights.sum()))
        return self.take(self.usual, np.concatenate(weeks)[:n_images])

    def take(self, rows: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
        """Return these images as if they were new ones."""
        times = START + pd.to_timedelta(np.arange(len(places)) * 7 / WEEK, unit="D")
        chosen = rows.iloc[places].reset_index(drop=True)
        return chosen.assign(answered_at=times, ties=self.rng.random(len(places)))


def _render(material: Material) -> Iterator[FloatImage]:
    for number in range(N_POOL):
        seed = derive_seed(0, "monitor", material.name, number)
        yield render_scan(material, height_px=SIDE_PX, width_px=SIDE_PX, seed=seed)


def _classify(model: NoveltyModel, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return nearest class and novelty of each image."""
    image_of_tile = np.repeat(np.arange(len(images)), [len(image) for image in images])
    _, novelty = score_novelty(model, np.concatenate(images), image_of_tile=image_of_tile)
    means = np.stack([image.mean(axis=0) for image in images])
    distances = model.metric.covariance.measure_from(means, centres=model.metric.class_means)
    return distances.argmin(axis=1), novelty


def _add_answers(grey: pd.DataFrame, *, labels: np.ndarray, novelty: np.ndarray) -> pd.DataFrame:
    return grey.assign(
        label=[f"material {label}" for label in labels],
        novelty=novelty,
        is_known=novelty <= UNKNOWN_ABOVE,
        pixel_size="as trained",
    ).reset_index(drop=True)


def _find_alarm(report: DriftReport) -> int | None:
    return min((one.alarm for one in report.figures if one.alarm is not None), default=None)


def _has_alarm(world: World, *, mix: str) -> bool:
    stream = world.draw_stream(QUIET_WEEKS * WEEK, is_mixed_weekly=mix == "mix_of_each_week")
    return _find_alarm(compare_period(world.training, stream)) is not None


def _find_change(world: World, key: str, *, change: Change, n_quiet: int) -> tuple[int | None, str | None]:
    """Return how many images after the change the alarm comes, and what is said to be the cause LATER images after."""
    n_images = n_quiet + WAIT_WEEKS * WEEK
    stream, new = world.draw_stream(n_images), world.changed[key]
    is_new = (np.arange(n_images) >= n_quiet) & (world.rng.random(n_images) < change.share)
    other = world.take(new, world.rng.choice(len(new), n_images))
    stream = pd.concat([stream[~is_new], other[is_new]]).sort_index()
    alarm = _find_alarm(compare_period(world.training, stream))
    if alarm is None or alarm <= n_quiet:
        return None, None
    return alarm - n_quiet, compare_period(world.training, stream.iloc[: alarm + LATER]).cause


def _summarise(found: list[tuple[int | None, str | None]]) -> Iterator[tuple[str, float]]:
    """Yield the share found, quantiles of the number of images that it took, and how often each cause is named."""
    waits = [np.inf if wait is None else wait for wait, _ in found]
    yield "share_found", float(np.isfinite(waits).mean())
    yield "median_images", float(np.quantile(waits, 0.5, method="higher"))
    yield "images_in_90_percent", float(np.quantile(waits, 0.9, method="higher"))
    for cause, n in sorted(Counter(cause for _, cause in found if cause is not None).items()):
        yield f"share_{cause}", n / len(found)

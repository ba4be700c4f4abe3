"""How often are equal lots told apart, and which differences are found?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.tables import Table
from sem_search.evaluation.lots.scores import permute_images, score_permutations, whiten_images
from sem_search.evaluation.lots.two_sample import LotPair, compare_lots

N_FEATURES = 100
P_VALUE = 0.05
EDGE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large two lots are; each entry is of the first and of the second."""

    n_images: tuple[int, int]
    n_tiles: tuple[int, int] = (6, 6)
    """Of each image."""
    images_per_group: tuple[int, int] = (1, 1)
    """Images of one group are half alike."""

    @property
    def name(self) -> str:
        """In words."""
        parts = []
        for n_images, n_tiles, per_group in zip(self.n_images, self.n_tiles, self.images_per_group, strict=True):
            groups = f"{n_images // per_group} groups of {per_group}" if per_group > 1 else f"{n_images}"
            parts.append(f"{groups} x {n_tiles}")
        return ", ".join(parts)


UNLIKE = (
    Sizes(n_images=(10, 10), n_tiles=(12, 54)),
    Sizes(n_images=(10, 10), n_tiles=(4, 20)),
    Sizes(n_images=(10, 10), n_tiles=(1, 6)),
    Sizes(n_images=(10, 10), n_tiles=(1, 20)),
    Sizes(n_images=(5, 20), n_tiles=(1, 20)),
    Sizes(n_images=(20, 20), n_tiles=(2, 12)),
    Sizes(n_images=(10, 40), images_per_group=(1, 4)),
)


def simulate_statistics(
    *, n_images: int, shift: float, n_tests: int, n_permutations: int = 199, seed: int = 0
) -> dict[str, float]:
    """Return how often lots are told apart by the AUROC and by the accuracy of the same scores."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[bool]] = {"auroc": [], "accuracy": []}
    for _ in range(n_tests):
        features, image, _ = _draw_lots(Sizes(n_images=(n_images, n_images)), shift=shift, rng=rng)
        points = whiten_images(features, row_of_tile=image).points
        is_first = np.repeat([1.0, 0.0], n_images)
        observed = score_permutations(points, is_first[None])
        permuted = score_permutations(points, permute_images(is_first, n_permutations=n_permutations, rng=rng))
        for name, of_permutations, value in (
            ("auroc", permuted.compute_auroc(), observed.compute_auroc()),
            ("accuracy", permuted.compute_accuracy(), observed.compute_accuracy()),
        ):
            found[name].append(
                (int((of_permutations >= value - EDGE).sum()) + 1) / (len(of_permutations) + 1) <= P_VALUE
            )
    return {name: float(np.mean(values)) for name, values in found.items()}


def simulate_lots(
    *,
    n_images: int | Sizes,
    shift: float,
    n_tests: int,
    n_permutations: int = 99,
    n_power_tests: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """Return how often lots of so many images are told apart, and how accurately.

    Features are as those of a trunk: their spread falls off as 1 / k, images differ as much as tiles do. The second lot
    is shifted by `shift` standard deviations of image means, in a direction of its own in each test.
    """
    rng = np.random.default_rng(seed)
    sizes = n_images if isinstance(n_images, Sizes) else Sizes(n_images=(n_images, n_images))
    pairs = [
        _draw_pair(sizes, shift=shift, rng=rng, n_permutations=n_permutations, n_power_tests=n_power_tests, seed=number)
        for number in range(n_tests)
    ]
    detectable = [pair.detectable_accuracy for pair in pairs if pair.detectable_accuracy is not None]
    return {
        "found": float(np.mean([pair.p_value <= P_VALUE for pair in pairs])),
        "accuracy": float(np.mean([pair.accuracy.value for pair in pairs])),
        "auroc": float(np.mean([pair.auroc for pair in pairs])),
        "detectable": float(np.mean(detectable)) if detectable else float("nan"),
        "held": float(np.mean([pair.accuracy.low <= 0.5 <= pair.accuracy.high for pair in pairs])),
    }


def simulate_family(*, n_lots: int, n_images: int, n_tests: int, seed: int = 0) -> float:
    """Return how often any two of several equal lots are told apart."""
    rng = np.random.default_rng(seed)
    lot = np.repeat(np.arange(n_lots), n_images)
    found = []
    for number in range(n_tests):
        features, image, _ = _draw_lots(Sizes(n_images=(len(lot), 0)), shift=0.0, rng=rng)
        pairs = compare_lots(
            features,
            image_of_tile=image,
            lot_of_image=lot,
            lot_names=[f"lot {one}" for one in range(n_lots)],
            n_permutations=99,
            n_power_tests=0,
            seed=number,
        )
        found.append(any(pair.is_different() for pair in pairs))
    return float(np.mean(found))


def print_tables(*, n_studies: int) -> None:
    """Print false alarms and power, also of lots of unlike sizes and of several lots."""
    rows = []
    for n_images in (4, 6, 10, 20):
        foretold = simulate_lots(n_images=n_images, shift=0.0, n_tests=10, n_power_tests=60)["detectable"]
        for shift in (0.0, 3.0, 4.0, 5.0):
            found = simulate_lots(n_images=n_images, shift=shift, n_tests=n_studies)
            by = simulate_statistics(n_images=n_images, shift=shift, n_tests=n_studies)
            row = [f"{n_images} + {n_images}", f"{shift:g}", found["accuracy"], found["found"], by["accuracy"]]
            rows.append([*row, *([found["held"], foretold] if shift == 0 else ["-", "-"])])
    columns = ["images", "shift", "mean accuracy", "told apart", "told apart by accuracy"]
    columns += ["interval of the accuracy holds 50 %", "detectable accuracy foretold"]
    Table(title="Lots told apart (p <= 0.05)", columns=columns, rows=rows).show(percent=True)
    rows = [
        [sizes.name, *(simulate_lots(n_images=sizes, shift=shift, n_tests=n_studies)["found"] for shift in (0.0, 5.0))]
        for sizes in UNLIKE
    ]
    columns = ["images x tiles of each, two lots", "equal lots told apart", "shift 5 told apart"]
    Table(title="Lots of images of unlike size told apart (p <= 0.05)", columns=columns, rows=rows).show(percent=True)
    rows = [
        [f"{n_lots} x {n_images}", simulate_family(n_lots=n_lots, n_images=n_images, n_tests=n_studies)]
        for n_lots, n_images in ((3, 6), (3, 10), (5, 10))
    ]
    Table(title="Any two of several equal lots told apart", columns=["lots x images", "told apart"], rows=rows).show(
        percent=True
    )


def _draw_pair(
    sizes: Sizes, *, shift: float, rng: np.random.Generator, n_permutations: int, n_power_tests: int, seed: int
) -> LotPair:
    """Return the test of two new lots."""
    features, image, group = _draw_lots(sizes, shift=shift, rng=rng)
    (pair,) = compare_lots(
        features,
        image_of_tile=image,
        lot_of_image=np.repeat([0, 1], sizes.n_images),
        lot_names=("first", "second"),
        group_of_image=[int(number) for number in group],
        n_permutations=n_permutations,
        n_power_tests=n_power_tests,
        seed=seed,
    )
    return pair


def _draw_lots(
    sizes: Sizes, *, shift: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return features of the tiles of two lots, the image of each tile, and the group of each image."""
    spread = 1 / np.sqrt(np.arange(1, N_FEATURES + 1))
    n_images = sum(sizes.n_images)
    images = spread * rng.normal(size=(n_images, N_FEATURES))
    direction = rng.normal(size=N_FEATURES)
    images[sizes.n_images[0] :] += shift * spread * direction / np.linalg.norm(direction)
    group = np.arange(n_images)
    for lot, begin in enumerate((0, sizes.n_images[0])):
        if sizes.images_per_group[lot] > 1:
            members = np.arange(begin, begin + sizes.n_images[lot])
            group[members] = begin + np.arange(len(members)) // sizes.images_per_group[lot]
            common = (spread * rng.normal(size=(n_images, N_FEATURES)))[group[members]]
            images[members] = np.sqrt(0.5) * (images[members] + common)
    image = np.repeat(np.arange(n_images), np.repeat(sizes.n_tiles, sizes.n_images))
    features: NDArray[np.float64] = images[image] + spread * rng.normal(size=(len(image), N_FEATURES))
    return features, image, group

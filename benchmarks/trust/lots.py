"""How often are equal lots told apart, and which differences are found?"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.tables import Table
from sem_search.evaluation.lot_scores import deal_images, score_deals, whiten_images
from sem_search.evaluation.two_sample import LotPair, compare_lots

N_FEATURES, N_TILES = 100, 6
P_VALUE = 0.05
EDGE = 1e-12


def simulate_statistics(
    *, n_images: int, shift: float, n_tests: int, n_deals: int = 199, seed: int = 0
) -> dict[str, float]:
    """Return how often lots are told apart by the AUROC and by the accuracy of the same scores."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[bool]] = {"auroc": [], "accuracy": []}
    for _ in range(n_tests):
        features, image = _draw_lots(n_images, shift=shift, rng=rng)
        points = whiten_images(features, row_of_tile=image).points
        is_first = np.repeat([1.0, 0.0], n_images)
        observed = score_deals(points, is_first[None])
        dealt = score_deals(points, deal_images(is_first, n_deals=n_deals, rng=rng))
        for name, of_deals, value in (
            ("auroc", dealt.compute_auroc(), observed.compute_auroc()),
            ("accuracy", dealt.compute_accuracy(), observed.compute_accuracy()),
        ):
            found[name].append((int((of_deals >= value - EDGE).sum()) + 1) / (n_deals + 1) <= P_VALUE)
    return {name: float(np.mean(values)) for name, values in found.items()}


def simulate_lots(
    *, n_images: int, shift: float, n_tests: int, n_deals: int = 99, n_power_tests: int = 0, seed: int = 0
) -> dict[str, float]:
    """Return how often lots of so many images are told apart, and how accurately.

    Features are as those of a trunk: their spread falls off as 1 / k, images differ as much as tiles do. The second lot
    is shifted by `shift` standard deviations of image means, in a direction of its own in each test.
    """
    rng = np.random.default_rng(seed)
    pairs = [
        _draw_pair(n_images, shift=shift, rng=rng, n_deals=n_deals, n_power_tests=n_power_tests, seed=number)
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


def print_tables(*, n_studies: int) -> None:
    """Print false alarms and power."""
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


def _draw_pair(
    n_images: int, *, shift: float, rng: np.random.Generator, n_deals: int, n_power_tests: int, seed: int
) -> LotPair:
    """Return the test of two new lots."""
    features, image = _draw_lots(n_images, shift=shift, rng=rng)
    (pair,) = compare_lots(
        features,
        image_of_tile=image,
        lot_of_image=np.repeat([0, 1], n_images),
        lot_names=("first", "second"),
        n_deals=n_deals,
        n_power_tests=n_power_tests,
        seed=seed,
    )
    return pair


def _draw_lots(
    n_images: int, *, shift: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return features of the tiles of two lots, and the image of each tile."""
    spread = 1 / np.sqrt(np.arange(1, N_FEATURES + 1))
    images = spread * rng.normal(size=(2 * n_images, N_FEATURES))
    direction = rng.normal(size=N_FEATURES)
    images[n_images:] += shift * spread * direction / np.linalg.norm(direction)
    image = np.repeat(np.arange(2 * n_images), N_TILES)
    features: NDArray[np.float64] = images[image] + spread * rng.normal(size=(len(image), N_FEATURES))
    return features, image

"""Which difference between lots so many images could have shown, by simulation on the images themselves."""

import math

import numpy as np

from sem_search.evaluation.lots.scores import permute_images, score_permutations
from sem_search.evaluation.statistics import MAX_P_VALUE, ROUNDING, fit_covariance
from sem_search.records import FloatMatrix, FloatVector

POWER = 0.8
"""Customary (Cohen 1988): the difference that four of five such tests would find."""

SHIFTS = np.arange(0.5, 8.1, 0.5)
"""Differences tried, in standard deviations of whitened image means."""

N_POWER_TESTS, N_POWER_PERMUTATIONS = 60, 99
"""Simulated tests of each difference, and permutations in each for one pair of lots: the power to about 5 %. For n
pairs the level is n times smaller, which takes n times as many permutations; a test that cannot reach it ends early."""


def find_detectable_accuracy(
    points: FloatMatrix, is_first: FloatVector, *, n_tests: int, rng: np.random.Generator, n_pairs: int = 1
) -> float | None:
    """Return the accuracy at which the test has its power, None where even the largest difference tried is missed.

    The images, less the mean of their lot, are assigned to two lots by chance, and one of these is shifted along a
    direction drawn anew; how often the test finds the shift, and how accurate it is then, is counted.

    The cost grows with the number of pairs: 20 images take 0.3 s of a processor with one pair, 3 s with 45. So callers
    ask once for all pairs of so many images.

    Args:
        points: Whitened image means, shape (n_images, n_directions).
        is_first: 1 for images of the first lot, shape (n_images,).
        n_tests: Tests simulated for each difference tried; 0 tries none.
        rng: Draws permutations and directions.
        n_pairs: Pairs of lots that are tested: the p-value found must be as much smaller, as for the first pair by Holm
            and for all by Bonferroni.
    """
    centred = _centre_lots(points, is_first)
    below = 0.5, 0.0
    for shift in SHIFTS if n_tests else ():
        above = _simulate_tests(centred, is_first, shift=float(shift), n_tests=n_tests, n_pairs=n_pairs, rng=rng)
        if above[1] >= POWER:
            return _interpolate(below, above)
        below = above
    return None


def _centre_lots(points: FloatMatrix, is_first: FloatVector) -> FloatMatrix:
    """Return the images less the mean of their lot, scaled so that they spread as images do."""
    centred = np.empty(points.shape)
    for side in (1, 0):
        mine = is_first == side
        n = int(mine.sum())
        centred[mine] = (points[mine] - points[mine].mean(axis=0)) * np.sqrt(n / (n - 1))
    return centred


def _simulate_tests(
    centred: FloatMatrix,
    is_first: FloatVector,
    *,
    shift: float,
    n_tests: int,
    n_pairs: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return mean accuracy and power of tests on lots that differ by a shift."""
    accuracies, is_found = np.empty(n_tests), np.empty(n_tests)
    for number in range(n_tests):
        direction = rng.normal(size=centred.shape[1])
        step = shift * direction / np.linalg.norm(direction)
        permuted = centred[rng.permutation(len(centred))] + is_first[:, None] * step
        permuted = fit_covariance(permuted - permuted.mean(axis=0)).whiten(permuted - permuted.mean(axis=0))
        observed = score_permutations(permuted, is_first[None])
        accuracies[number] = observed.compute_accuracy()[0]
        auroc = float(observed.compute_auroc()[0])
        is_found[number] = _is_found(permuted, is_first, auroc=auroc, n_pairs=n_pairs, rng=rng)
    return float(accuracies.mean()), float(is_found.mean())


def _is_found(
    points: FloatMatrix, is_first: FloatVector, *, auroc: float, n_pairs: int, rng: np.random.Generator
) -> bool:
    """Return whether the p-value is small enough; ends as soon as too many permutations are as high."""
    n_permutations = (N_POWER_PERMUTATIONS + 1) * n_pairs - 1
    n_all = math.comb(len(is_first), int(is_first.sum()))
    is_counted = n_all <= n_permutations + 1  # then there are few
    at_once = n_permutations if is_counted else N_POWER_PERMUTATIONS + 1
    n_permutations = min(n_permutations, n_all - 1)
    level = MAX_P_VALUE / n_pairs + ROUNDING
    n_as_high = 0
    for n_before in range(0, n_permutations, at_once):
        permutations = permute_images(is_first, n_permutations=min(at_once, n_permutations - n_before), rng=rng)
        n_as_high += score_permutations(points, permutations).count_as_high(auroc)
        if (n_as_high + 1) / (n_permutations + 1) > level:
            return False
    return True


def _interpolate(below: tuple[float, float], above: tuple[float, float]) -> float:
    """Return the accuracy at which the power is reached, between two pairs of accuracy and power."""
    part = (POWER - below[1]) / (above[1] - below[1])
    return below[0] + part * (above[0] - below[0])

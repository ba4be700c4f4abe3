"""Evidence of drift against a known truth: quiet streams give no alarm, changed ones do, and soon; so do p-values."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu

from sem_search.evaluation.drift import (
    FALSE_ALARM_RATE,
    Scores,
    compare_counts,
    compare_ranks,
    compute_median_interval,
    find_cause,
    follow_evidence,
)

N_CLASSES = 5
NAMES = np.array([f"material {number}" for number in range(N_CLASSES)])
N_FIGURES = 2


def score(values: np.ndarray, labels: np.ndarray, *, rng: np.random.Generator) -> Scores:
    return Scores(values=values, labels=labels, ties=rng.random(len(values)))


def draw(labels: np.ndarray, *, rng: np.random.Generator, shift: np.ndarray | float = 0.0) -> Scores:
    """Distances that differ by label, as those of varied and tight materials do."""
    scale = 1 + np.unique(NAMES, return_inverse=True)[1][np.searchsorted(NAMES, labels)]
    return score(scale * rng.gamma(9, 1 / 9, len(labels)) * np.exp(shift), labels, rng=rng)


def draw_reference(rng: np.random.Generator, *, per_class: int = 10) -> Scores:
    return draw(np.repeat(NAMES, per_class), rng=rng)


@pytest.mark.parametrize("per_class", [3, 10])
@pytest.mark.parametrize("mix", [(0.2,) * 5, (0.0, 0.0, 0.0, 0.0, 1.0)])
def test_a_quiet_stream_gives_few_alarms_whatever_its_labels(per_class: int, mix: tuple[float, ...]) -> None:
    """400 images of 150 streams each; their labels come as they like, and differ from those of the reference."""
    rng = np.random.default_rng(7)
    n_alarms = 0
    for _ in range(150):
        stream = draw(rng.choice(NAMES, 400, p=mix), rng=rng)
        evidence = follow_evidence(draw_reference(rng, per_class=per_class), stream, n_figures=1)
        n_alarms += evidence.alarm is not None
    assert n_alarms / 150 <= FALSE_ALARM_RATE + 2 * np.sqrt(FALSE_ALARM_RATE / 150)


def test_the_evidence_is_worth_one_on_average() -> None:
    """What makes it valid at any time; also for scores that are nearly all alike, whose order is drawn."""
    rng = np.random.default_rng(3)
    wealth = []
    for _ in range(4000):
        reference = score(rng.binomial(1, 0.1, 6).astype(float), np.repeat(NAMES[:2], 3), rng=rng)
        stream = score(rng.binomial(1, 0.1, 5).astype(float), rng.choice(NAMES[:2], 5), rng=rng)
        wealth.append(np.exp(follow_evidence(reference, stream, n_figures=1).log_evidence[-1]))
    assert np.mean(wealth) == pytest.approx(1, abs=4 * np.std(wealth) / np.sqrt(len(wealth)))


@pytest.mark.parametrize("shift", [0.7, -0.7])
def test_scores_of_two_sides_are_watched_on_both(shift: float) -> None:
    rng = np.random.default_rng(13)
    known = replace(draw_reference(rng), is_two_sided=True)
    quiet = [replace(draw(rng.choice(NAMES, 300), rng=rng), is_two_sided=True) for _ in range(60)]
    assert sum(follow_evidence(known, one, n_figures=1).alarm is not None for one in quiet) <= 6
    moved = replace(draw(rng.choice(NAMES, 40), rng=rng, shift=shift), is_two_sided=True)
    assert follow_evidence(known, moved, n_figures=N_FIGURES).alarm is not None
    assert compare_ranks(known, moved) < 0.001 and find_cause(known, moved) == "instrument"


@pytest.mark.parametrize(
    ("n_quiet", "shift", "share", "at_most"),
    [(0, 1.5, 1.0, 8), (300, 1.5, 1.0, 25), (0, 1.5, 0.3, 120), (300, 0.5, 1.0, 90)],
)
def test_a_change_is_found_after_so_many_images(n_quiet: int, shift: float, share: float, at_most: int) -> None:
    rng = np.random.default_rng(11)
    for _ in range(10):
        is_changed = (np.arange(n_quiet + at_most) >= n_quiet) & (rng.random(n_quiet + at_most) < share)
        stream = draw(rng.choice(NAMES, len(is_changed)), rng=rng, shift=shift * is_changed)
        evidence = follow_evidence(draw_reference(rng), stream, n_figures=N_FIGURES)
        assert evidence.alarm is not None and evidence.alarm >= n_quiet
        assert evidence.onset == pytest.approx(n_quiet, abs=15)


def test_a_drift_that_has_passed_keeps_its_beginning_and_its_end() -> None:
    """What comes afterwards changes neither, however long one waits."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        is_changed = (np.arange(2000) >= 300) & (np.arange(2000) < 340)
        stream = draw(rng.choice(NAMES, 2000), rng=rng, shift=0.9 * is_changed)
        evidence = follow_evidence(draw_reference(rng), stream, n_figures=N_FIGURES)
        assert evidence.alarm is not None and 300 <= evidence.alarm < 345
        assert evidence.onset == pytest.approx(300, abs=10) and evidence.end == pytest.approx(340, abs=15)


def test_a_new_material_that_resembles_one_label_is_found_among_others() -> None:
    rng = np.random.default_rng(5)
    alarms = []
    for _ in range(10):
        is_new = (np.arange(500) >= 200) & (rng.random(500) < 0.3)
        stream = draw(np.where(is_new, NAMES[2], rng.choice(NAMES, 500)), rng=rng, shift=1.5 * is_new)
        alarms.append(follow_evidence(draw_reference(rng), stream, n_figures=N_FIGURES).alarm or np.inf)
    assert min(alarms) > 200 and np.median(alarms) < 280


def test_infinite_scores_and_labels_without_reference_are_taken() -> None:
    rng = np.random.default_rng(0)
    known = draw_reference(rng)
    strange = score(np.full(9, np.inf), np.repeat(["another"], 9), rng=rng)
    assert follow_evidence(known, strange, n_figures=1).log_evidence == pytest.approx(0)
    broken = score(np.full(9, np.inf), np.repeat(NAMES[:3], 3), rng=rng)
    assert follow_evidence(known, broken, n_figures=N_FIGURES).alarm is not None


def test_the_cause_is_the_instrument_where_all_labels_moved() -> None:
    rng = np.random.default_rng(2)
    labels = rng.choice(NAMES, 60)
    known = draw_reference(rng)
    assert find_cause(known, draw(labels, rng=rng, shift=0.7)) == "instrument"
    assert find_cause(known, draw(labels, rng=rng, shift=1.5 * (labels == NAMES[3]))) == "material"
    assert find_cause(known, draw(labels[:8], rng=rng, shift=1.5)) == "unclear"  # too few images
    assert find_cause(known, draw(rng.choice(NAMES[:2], 60), rng=rng, shift=1.5)) == "unclear"  # too few labels
    more = [replace(known, labels=np.char.add(known.labels, mark)) for mark in ("", " a", " b")]
    fifteen = Scores(**{n: np.concatenate([getattr(one, n) for one in more]) for n in ("values", "labels", "ties")})
    assert find_cause(fifteen, draw(labels, rng=rng, shift=1.5)) == "unclear"  # five of fifteen labels


def test_one_look_keeps_its_level_and_is_wilcoxons_with_one_label() -> None:
    rng = np.random.default_rng(9)
    one = np.repeat(NAMES[:1], 25)
    first, second = draw(one, rng=rng), draw(one, rng=rng, shift=0.3)
    expected = mannwhitneyu(
        second.values, first.values, alternative="greater", method="asymptotic", use_continuity=False
    )
    assert compare_ranks(first, second) == pytest.approx(expected.pvalue, abs=1e-9)
    p_values = [
        compare_ranks(draw_reference(rng), draw(rng.choice(NAMES, 30, p=(0, 0, 0.1, 0.2, 0.7)), rng=rng))
        for _ in range(1000)
    ]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert compare_ranks(first, draw(np.repeat(NAMES[1:2], 5), rng=rng)) == 1


def test_counts_are_compared_as_by_chi_square() -> None:
    first, second = np.array([60, 50, 40, 0]), np.array([30, 45, 60, 0])
    assert compare_counts(first, second) == pytest.approx(chi2_contingency([first[:3], second[:3]]).pvalue, abs=0.01)
    assert compare_counts(first, first) == pytest.approx(1)
    assert compare_counts(np.array([5, 5]), np.array([0, 9])) < 0.05


def test_the_interval_of_a_median_holds_it() -> None:
    rng = np.random.default_rng(4)
    intervals = [compute_median_interval(rng.normal(size=23)) for _ in range(1000)]
    assert np.mean([interval.low <= 0 <= interval.high for interval in intervals]) >= 0.94
    few = compute_median_interval(np.array([3.0, 1.0, 2.0]))
    assert (few.low, few.value, few.high) == (1, 2, 3)

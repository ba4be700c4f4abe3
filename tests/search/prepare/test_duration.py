"""The time that a search is said to take: the arithmetic, and what is timed."""

from dataclasses import replace
from pathlib import Path

import pytest

from sem_search.places import CACHE_VARIABLE
from sem_search.search.prepare import duration as duration_module
from sem_search.search.prepare.duration import (
    END_S,
    TRIAL_S,
    Duration,
    Pace,
    compute_duration,
    estimate_duration,
    measure_pace,
)
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.trials.ranks import count_ranks
from sem_search.settings import SearchSettings, build_settings
from sem_search.transfer.heads.linear import MOST_ROWS

PACE = Pace(trunk_s=0.01, linear_s=0.002, baseline_s=0.001, head_s={16: 0.001, 64: 0.0005})


def build(**given: str) -> SearchSettings:
    """Return two cells of 10 epochs without refit, none of them pruned."""
    plain = {
        "preset": "standard",
        "heads": "finetune",
        "learning_rates": "1e-2",
        "batch_sizes": "16,64",
        "epochs": "10",
        "refit": "false",
        "pruner": "none",
    }
    return build_settings({**plain, **given})


@pytest.mark.parametrize(
    ("given", "heads_s", "most_heads_s"),
    [
        # 600 of 1000 tiles, 5 folds, 10 epochs: 30 s of one cell and 15 s of the other
        ({}, 45, 45),
        ({"folds": "4"}, 30, 30),  # 500 tiles, 4 folds
        ({"refit": "true"}, 45 + 22.5, 45 + 22.5),  # the winner once more, with as many steps
        ({"heads": "linear,finetune", "refit": "true"}, 45 + 6 + 22.5, 45 + 6 + 22.5),
        ({"heads": "linear,finetune"}, 45 + 6, 45 + 6),  # 600 tiles, 5 folds
        ({"heads": "linear", "refit": "true"}, 14, 14),
        ({"heads": "finetune,linear_init"}, 90 + 6, 90 + 6),  # what they start from is solved
        ({"pruner": "extrapolation"}, 22.5 * 1.3, 45),
        ({"pruner": "extrapolation", "batch_sizes": "16"}, 30, 30),  # the only cell is not pruned
        ({"trials": "1"}, 22.5, 22.5),
    ],
)
def test_heads_take_what_their_tiles_folds_epochs_and_cells_take(
    given: dict[str, str], heads_s: float, most_heads_s: float
) -> None:
    settings = build(**given)
    timed = settings.batch_sizes if settings.heads != ("linear",) else ()
    pace = replace(PACE, head_s={size: PACE.head_s[size] for size in timed})
    duration = compute_duration(pace, settings=settings, n_tiles=1000, n_views=0)
    assert (duration.heads_s, duration.most_heads_s) == pytest.approx((heads_s, most_heads_s))
    assert duration.features_s == 0
    n_training, n_both = 1000 * (settings.folds - 2) / settings.folds, 1000 * (settings.folds - 1) / settings.folds
    baseline_s = 0.001 * settings.folds * (n_training + n_both)
    assert duration.rest_s == pytest.approx(END_S + TRIAL_S * count_ranks(settings) + baseline_s)


@pytest.mark.parametrize(("n_views", "features_s"), [(0, 0), (1, 10), (8, 80)])
def test_features_take_what_the_views_that_are_missing_take(n_views: int, features_s: float) -> None:
    duration = compute_duration(PACE, settings=build(), n_tiles=1000, n_views=n_views)
    assert duration.features_s == pytest.approx(features_s)


def test_the_sentence_adds_up_and_names_the_most_only_where_cells_are_pruned() -> None:
    assert Duration(features_s=240, heads_s=3600, most_heads_s=7200, rest_s=60).to_text() == (
        "This search will take about 1 h 5 min on this machine: features 4 min 0 s, heads 1 h 0 min "
        "(up to 2 h 0 min if no cell is pruned), logging and report 1 min 0 s."
    )
    assert Duration(features_s=1, heads_s=2, most_heads_s=2, rest_s=3).to_text() == (
        "This search will take about 6 s on this machine: features 1 s, heads 2 s, logging and report 3 s."
    )


def test_a_small_search_is_not_timed_and_a_large_one_is(
    prepared: PreparedSearch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(
        duration_module,
        "measure_pace",
        lambda _prepared: Pace(trunk_s=1, linear_s=1, baseline_s=1, head_s={8: 1, 16: 1}),
    )
    assert estimate_duration(prepared) is None
    n_tiles = prepared.data.tiles.n_tiles
    monkeypatch.setattr(duration_module, "WORTH_TIMING", n_tiles)
    duration = estimate_duration(prepared)
    assert duration is not None
    assert duration.features_s == n_tiles


def test_features_in_the_cache_take_no_time_and_heads_still_do(
    prepared: PreparedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepared.views
    monkeypatch.setattr(duration_module, "measure_pace", lambda _prepared: replace(PACE, head_s={8: 1, 16: 1}))
    monkeypatch.setattr(duration_module, "WORTH_TIMING", prepared.data.tiles.n_tiles)
    duration = estimate_duration(prepared)
    assert duration is not None
    assert (duration.features_s, duration.heads_s > 0) == (0, True)


def test_a_linear_head_of_very_many_tiles_takes_no_longer() -> None:
    """Beyond `MOST_ROWS` it learns from as many rows as there."""
    many, more = (
        compute_duration(PACE, settings=build(heads="linear", augment="none"), n_tiles=n_tiles, n_views=0).heads_s
        for n_tiles in (MOST_ROWS, 3 * MOST_ROWS)
    )
    assert many == pytest.approx(more)
    assert many > 0


def test_a_tile_takes_some_time_in_the_trunk_and_in_a_head_of_each_batch_size(prepared: PreparedSearch) -> None:
    pace = measure_pace(prepared)
    assert pace.trunk_s > 0
    assert pace.linear_s >= pace.baseline_s > 0
    assert set(pace.head_s) == set(prepared.settings.batch_sizes)
    assert all(0 < seconds < 1 for seconds in pace.head_s.values())

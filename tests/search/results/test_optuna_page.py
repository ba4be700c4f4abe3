"""Optuna's page is whole and needs no network, and says nothing that so few trials cannot tell."""

import itertools
import re
from collections.abc import Callable, Sequence

import optuna
import pytest
from optuna.trial import TrialState

from sem_search.search.results.optuna_page import build_optuna_page

RATES, SIZES = [0.1, 0.01, 0.001], [16, 32, 48]
CELLS = list(itertools.product(RATES, SIZES))


def build_study(
    cells: Sequence[tuple[float, int]],
    *,
    score: Callable[[int], float] = lambda number: 0.1 * number,
    n_pruned: int = 0,
) -> optuna.Study:
    """A study whose first cells were pruned and whose others were completed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for number, (rate, size) in enumerate(cells):
        is_pruned = number < n_pruned
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
                params={"learning_rate": rate, "batch_size": size},
                distributions={
                    "learning_rate": optuna.distributions.CategoricalDistribution(RATES),
                    "batch_size": optuna.distributions.CategoricalDistribution(SIZES),
                },
                value=None if is_pruned else score(number),
                intermediate_values={0: score(number)},
            )
        )
    return study


@pytest.mark.parametrize("n_trials", [1, 2, 9])
def test_one_page_holds_every_plot_and_its_script_once(n_trials: int) -> None:
    page = build_optuna_page(build_study(CELLS[:n_trials])).text
    assert page.count("plotly-graph-div") == (6 if n_trials == 9 else 5)
    assert '<script src="http' not in page
    assert page.count("plotly.js v") == 1


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (
            lambda: build_study(CELLS, n_pruned=7),
            "it needs 8 completed trials of fine-tuned heads, and there are 2. Give pruner=none",
        ),
        (lambda: build_study([(0.1, size) for size in SIZES] * 3), "learning_rate did not vary among the 9 completed"),
        (lambda: build_study([(0.1, 16)] * 8), "batch_size and learning_rate did not vary among the 8 completed"),
        (lambda: build_study(CELLS, score=lambda _: 0.5), "all 9 completed trials scored alike"),
    ],
)
def test_importances_that_cannot_be_told_are_left_out_and_it_is_said(
    study: Callable[[], optuna.Study], words: str
) -> None:
    page = build_optuna_page(study()).text
    assert page.count("plotly-graph-div") == 5
    assert f"The importance of the parameters is left out: {words}" in page


@pytest.mark.parametrize(("n_trials", "n_plots"), [(0, 5), (1, 5), (9, 6)])
def test_a_linear_head_takes_no_part_in_the_importances(n_trials: int, n_plots: int) -> None:
    study = build_study(CELLS[:n_trials])
    head = optuna.distributions.CategoricalDistribution(["linear", "finetune"])
    study.add_trial(optuna.trial.create_trial(params={"head": "linear"}, distributions={"head": head}, value=0.9))
    page = build_optuna_page(study).text
    assert page.count("plotly-graph-div") == n_plots
    if n_plots == 6:
        assert "over the 9 completed trials of fine-tuned heads, of 10 trials in all." in page
    else:
        assert f"it needs 8 completed trials of fine-tuned heads, and there are {n_trials}." in page


def test_importances_say_of_which_trials_they_are() -> None:
    page = build_optuna_page(build_study(CELLS, n_pruned=1)).text
    assert page.count("plotly-graph-div") == 6
    assert "over the 8 completed trials of fine-tuned heads, of 9 trials in all." in page


def test_every_plot_is_explained_and_names_the_objective() -> None:
    page = build_optuna_page(build_study(CELLS, n_pruned=1)).text
    words = "".join(part.rpartition("</script>")[2] for part in page.split("<script"))
    headings = re.findall(r"<h2>(.*?)</h2>\n<p>.+</p>", words)
    assert headings == [
        "History",
        "Fold by fold",
        "Parallel coordinates",
        "Slices",
        "Timeline",
        "Importance of the parameters",
    ]
    assert "8 of 9 trials were completed." in words
    assert "Objective Value" not in page
    assert page.count('"objective"') >= 4


def test_how_a_trial_ended_is_not_shown_in_red_beside_green() -> None:
    page = build_optuna_page(build_study(CELLS, n_pruned=1)).text
    colours = {
        name: re.findall(rf'"marker":{{"color":"([^"]+)"}},"name":"{name}"', page) for name in ("COMPLETE", "PRUNED")
    }
    assert colours == {"COMPLETE": ["#0072B2"], "PRUNED": ["#E69F00"]}

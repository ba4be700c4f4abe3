"""Optuna's page is whole and needs no network."""

import optuna
import pytest

from sem_search.search.plots import build_optuna_page


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.2, 0.9, 0.4]])
def test_one_page_holds_every_plot_and_its_script_once(values: list[float]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for number, value in enumerate(values):
        distributions = {"learning_rate": optuna.distributions.CategoricalDistribution([0.1, 0.01, 0.001])}
        study.add_trial(
            optuna.trial.create_trial(
                params={"learning_rate": [0.1, 0.01, 0.001][number % 3]},
                distributions=distributions,
                value=value,
                intermediate_values={0: value},
            )
        )
    page = build_optuna_page(study).text
    assert page.count("plotly-graph-div") == (6 if len(set(values)) > 1 else 5)
    assert '<script src="http' not in page
    assert page.count("plotly.js v") == 1

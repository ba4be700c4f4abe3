"""The order of the cells."""

from typing import Any

import optuna
import pytest

from sem_search.records import Cell
from sem_search.search.trials.space import choose_params, find_cell, order_cells, suggest_cell
from sem_search.settings import build_settings

STEPS = {"learning_rate": 0.1, "batch_size": 8}
SMALL = {"learning_rates": "1e-1", "batch_sizes": "8"}


def test_every_cell_comes_once_and_likely_ones_first() -> None:
    cells = order_cells(build_settings({"preset": "paper"}))
    assert len(set(cells)) == len(cells) == 20
    assert {cell.learning_rate for cell in cells[:8]} == {1e-2, 1e-3}
    assert {cell.learning_rate for cell in cells[-4:]} == {1e-5}


def test_the_order_does_not_depend_on_how_the_lists_were_written() -> None:
    forwards = build_settings({"learning_rates": "1e-3,1e-2", "batch_sizes": "16,32"})
    backwards = build_settings({"learning_rates": "1e-2,1e-3", "batch_sizes": "32,16"})
    assert order_cells(forwards) == order_cells(backwards)


def test_the_linear_head_comes_first_and_heads_do_not_mix() -> None:
    cells = order_cells(
        build_settings({"heads": "linear_init,finetune,linear", **SMALL, "learning_rates": "1e-5,1e-3"})
    )
    assert [cell.name for cell in cells] == [
        "linear",
        "lr1e-03_bs8",
        "lr1e-05_bs8",
        "linear_init_lr1e-03_bs8",
        "linear_init_lr1e-05_bs8",
    ]


@pytest.mark.parametrize(
    ("heads", "params"),
    [
        ("finetune", [STEPS]),  # as in older studies: the head is no parameter
        ("linear", [{"head": "linear"}]),
        ("linear_init", [{"head": "linear_init", **STEPS}]),
        ("finetune,linear", [{"head": "linear"}, {"head": "finetune", **STEPS}]),
    ],
)
def test_a_trial_has_the_parameters_that_its_head_has(heads: str, params: list[dict[str, Any]]) -> None:
    settings = build_settings({"heads": heads, **SMALL})
    study = optuna.create_study()
    for rank, expected in enumerate(params):
        study.enqueue_trial(choose_params(rank, settings=settings))
        trial = study.ask()
        assert suggest_cell(trial, settings=settings) == order_cells(settings)[rank] == find_cell(study.trials[rank])
        assert trial.params == expected


@pytest.mark.parametrize(
    ("heads", "names"),
    [
        ("finetune", [None, None, None]),
        ("linear,finetune", ["linear", "finetune", "finetune"]),
        ("finetune,linear,linear_init", ["linear", "finetune", "linear_init", "finetune"]),
        ("linear_init,finetune", ["finetune", "linear_init", "finetune"]),
    ],
)
def test_a_sampler_tries_the_linear_head_once_and_the_others_in_turn(heads: str, names: list[str | None]) -> None:
    settings = build_settings({"heads": heads, "sampler": "tpe", **SMALL})
    assert [choose_params(rank, settings=settings).get("head") for rank in range(len(names))] == names


@pytest.mark.parametrize(
    ("params", "cell"),
    [
        (STEPS, Cell(learning_rate=0.1, batch_size=8)),
        ({"head": "finetune", **STEPS}, Cell(learning_rate=0.1, batch_size=8)),
        ({"head": "linear"}, Cell(head="linear")),
        ({}, None),
        ({"learning_rate": 0.1}, None),  # its worker was killed between two suggestions
        ({"head": "linear_init", "learning_rate": 0.1}, None),
    ],
)
def test_a_trial_without_all_of_its_parameters_has_no_cell(params: dict[str, Any], cell: Cell | None) -> None:
    distributions = {name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()}
    assert find_cell(optuna.trial.create_trial(params=params, distributions=distributions, value=0.5)) == cell


def test_names_are_fit_for_files() -> None:
    assert Cell(learning_rate=1e-3, batch_size=48).name == "lr1e-03_bs48"

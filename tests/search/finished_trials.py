"""Finished trials, as a search leaves them in its study."""

import optuna

from sem_search.records import Cell


def finish_trial(study: optuna.Study, *, cell: Cell, value: float, **attributes: object) -> None:
    """Add a complete trial of a grid of two learning rates and two batch sizes."""
    study.add_trial(
        optuna.trial.create_trial(
            value=value,
            params={"learning_rate": cell.learning_rate, "batch_size": cell.batch_size},
            distributions={
                "learning_rate": optuna.distributions.CategoricalDistribution([0.1, 0.01]),
                "batch_size": optuna.distributions.CategoricalDistribution([8, 16]),
            },
            intermediate_values=dict.fromkeys(range(3), value),
            user_attrs=attributes,
        )
    )

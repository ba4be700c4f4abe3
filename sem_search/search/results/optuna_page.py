"""Optuna's own plots, as the library draws them, for users who know Optuna."""

from collections.abc import Sequence
from html import escape
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.tracking.entries.types import TextArtifact

PLOTS = (
    optuna.visualization.plot_optimization_history,
    optuna.visualization.plot_intermediate_values,
    optuna.visualization.plot_parallel_coordinate,
    optuna.visualization.plot_slice,
    optuna.visualization.plot_timeline,
)

MANY_RESULTS = 8
"""Importances are a fit over the completed trials: of fewer, or of trials that differ in one parameter only, it is
noise."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Optuna's plots of the study</title></head>
<body style="font-family: sans-serif; max-width: 70rem; margin: 2rem auto">
{plots}
<p>{importances}</p>
</body></html>
"""


def build_optuna_page(study: optuna.Study) -> TextArtifact:
    """Return all of Optuna's plots as one HTML page that needs no network."""
    figures = [draw(study) for draw in PLOTS]
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    importances = explain_missing_importances(completed)
    if importances is None:
        figures.append(optuna.visualization.plot_param_importances(study))
        n_trials = len(study.get_trials(deepcopy=False))
        importances = f"Importances are of the {len(completed)} completed trials, of {n_trials} in all."
    # plotly's script (4 MB) stands once in the page, before the first plot; without it the page would need a network.
    parts = [_write_plot(figure, has_script=index == 0) for index, figure in enumerate(figures)]
    return TextArtifact(path="optuna.html", text=PAGE.format(plots="\n".join(parts), importances=escape(importances)))


def explain_missing_importances(completed: Sequence[FrozenTrial]) -> str | None:
    """Return why the importance of the parameters cannot be computed from these trials; None if it can.

    Pruned trials have no comparable result. After a pruner the completed ones are few and alike, so that the parameter
    which decided most may not differ among them at all.
    """
    values: dict[str, set[object]] = {}
    for trial in completed:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    constant = sorted(name for name, seen in values.items() if len(seen) < 2)
    if len(completed) < MANY_RESULTS:
        return (
            f"The importance of the parameters is left out: it needs {MANY_RESULTS} completed trials, and there are "
            f"{len(completed)}. Give pruner=none, or more combinations, to complete more."
        )
    if constant:
        return (
            f"The importance of the parameters is left out: {' and '.join(constant)} did not vary among the "
            f"{len(completed)} completed trials."
        )
    if len({trial.value for trial in completed}) < 2:
        return f"The importance of the parameters is left out: all {len(completed)} completed trials scored alike."
    return None


def _write_plot(figure: Any, *, has_script: bool) -> str:
    return str(figure.to_html(include_plotlyjs=has_script, full_html=False))

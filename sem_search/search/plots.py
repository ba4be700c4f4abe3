"""Optuna's own plots, as the library draws them: those who know Optuna find what they know."""

from typing import Any

import optuna
from optuna.trial import TrialState

from sem_search.tracking.loggable import TextArtifact

PLOTS = (
    optuna.visualization.plot_optimization_history,
    optuna.visualization.plot_intermediate_values,
    optuna.visualization.plot_parallel_coordinate,
    optuna.visualization.plot_slice,
    optuna.visualization.plot_timeline,
)

MANY_RESULTS = 2
"""Importances are a fit over trials: with fewer different results there is nothing to fit."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Optuna's plots of the study</title></head>
<body style="font-family: sans-serif; max-width: 70rem; margin: 2rem auto">
{plots}
</body></html>
"""


def build_optuna_page(study: optuna.Study) -> TextArtifact:
    """Return all of Optuna's plots as one HTML page that needs no network."""
    figures = [draw(study) for draw in PLOTS]
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in finished}) >= MANY_RESULTS:
        figures.append(optuna.visualization.plot_param_importances(study))
    # plotly's script (4 MB) stands once in the page, before the first plot; without it the page would need a network.
    parts = [_write_plot(figure, has_script=index == 0) for index, figure in enumerate(figures)]
    return TextArtifact(path="optuna.html", text=PAGE.format(plots="\n".join(parts)))


def _write_plot(figure: Any, *, has_script: bool) -> str:
    return str(figure.to_html(include_plotlyjs=has_script, full_html=False))

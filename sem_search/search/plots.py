"""Optuna's own plots, as the library draws them: those who know Optuna find what they know."""

from collections.abc import Callable, Iterator

import optuna
from optuna.trial import TrialState

from sem_search.tracking.loggable import TextArtifact

PLOTS: dict[str, Callable[[optuna.Study], object]] = {
    "optimization_history": optuna.visualization.plot_optimization_history,
    "intermediate_values": optuna.visualization.plot_intermediate_values,
    "parallel_coordinate": optuna.visualization.plot_parallel_coordinate,
    "slice": optuna.visualization.plot_slice,
    "timeline": optuna.visualization.plot_timeline,
}

MANY_TRIALS = 2
"""Importances are a fit over trials: with fewer finished ones there is nothing to fit."""


def iter_optuna_plots(study: optuna.Study) -> Iterator[TextArtifact]:
    """Yield each plot as an HTML page that needs no network."""
    plots = dict(PLOTS)
    if len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) >= MANY_TRIALS:
        plots["param_importances"] = optuna.visualization.plot_param_importances
    for name, draw in plots.items():
        figure = draw(study)
        # One copy of plotly's script per page (4 MB): a page that is opened alone, without a network, must work.
        yield TextArtifact(path=f"optuna/{name}.html", text=figure.to_html(include_plotlyjs=True, full_html=True))  # type: ignore[attr-defined]

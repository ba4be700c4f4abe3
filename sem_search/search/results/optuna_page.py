"""Optuna's own plots, as the library draws them, for users who know Optuna."""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.tracking.entries.types import TextArtifact
from sem_search.tracking.mlflow.names import OBJECTIVE
from sem_search.words import count

PLOTS: tuple[tuple[str, str, Callable[[optuna.Study], Any]], ...] = (
    (
        "History",
        "The objective of each completed trial in the order of the trials, and the best so far. Pruned trials are not "
        "shown.",
        partial(optuna.visualization.plot_optimization_history, target_name=OBJECTIVE),
    ),
    (
        "Fold by fold",
        "The F-measure of each fold (step 0: the first), one line for each trial. Lines of pruned trials end early.",
        optuna.visualization.plot_intermediate_values,
    ),
    (
        "Parallel coordinates",
        "Each line is a completed trial, from its objective to its parameters. Pruned trials are not shown, nor "
        "is a linear head, which has no learning rate and no batch size.",
        partial(optuna.visualization.plot_parallel_coordinate, target_name=OBJECTIVE),
    ),
    (
        "Slices",
        "The objective of the completed trials over each parameter. Pruned trials are not shown: they were poorer.",
        partial(optuna.visualization.plot_slice, target_name=OBJECTIVE),
    ),
    (
        "Timeline",
        "When each trial ran, and how it ended.",
        optuna.visualization.plot_timeline,
    ),
)
"""Heading, what the plot shows, and Optuna's function that draws it."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito (2008), told apart by readers with any colour vision."""

RECOLOURED = {"blue": "#0072B2", "orange": "#E69F00", "red": "#D55E00", "green": "#009E73"}
"""What Optuna colours by name, in the same colours: how a trial ended, which is else red beside green."""

STEPS = ("learning_rate", "batch_size")
"""The parameters of every fine-tuned head."""

MANY_RESULTS = 8
"""Importances are a fit over the completed trials: of fewer, or of trials that differ in one parameter only, it is
noise."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body style="font-family: sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem">
<main>
<h1>{title}</h1>
<p>{summary}</p>
{plots}
</main></body></html>
"""

SECTION = """<h2>{heading}</h2>
<p>{words}</p>
{plot}"""


def build_optuna_page(study: optuna.Study) -> TextArtifact:
    """Return all of Optuna's plots as one HTML page that needs no network."""
    trials = study.get_trials(deepcopy=False)
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sections = [(heading, words, draw(study)) for heading, words, draw in PLOTS]
    sections.append(("Importance of the parameters", *_draw_importances(study, completed=completed)))
    # plotly's script (4 MB) stands once in the page, before the first plot; without it the page would need a network.
    parts = [
        SECTION.format(heading=heading, words=escape(words), plot=_write_plot(figure, has_script=index == 0))
        for index, (heading, words, figure) in enumerate(sections)
    ]
    summary = (
        f"The objective is the mean F-measure over the folds, on the tiles that choose the winner. {len(completed)} of "
        f"{count(len(trials), 'trial')} were completed."
    )
    title = escape(f"{study.study_name}: Optuna's plots of the study")
    page = PAGE.format(title=title, summary=summary, plots="\n".join(parts))
    return TextArtifact(path="optuna.html", text=page)


def _draw_importances(study: optuna.Study, *, completed: Sequence[FrozenTrial]) -> tuple[str, Any]:
    """Return words about the importance of the parameters, and Optuna's plot of it where there is one.

    The linear head has no other parameters, and takes no part.
    """
    compared = [trial for trial in completed if set(STEPS) <= set(trial.params)]
    missing = explain_missing_importances(compared)
    if missing:
        return missing, None
    names = [name for name in ("head", *STEPS) if len({trial.params.get(name) for trial in compared}) > 1]
    words = (
        "How much of the differences in the objective goes with each parameter: a fit (fANOVA) over the "
        f"{len(compared)} completed trials of fine-tuned heads, of {count(len(study.trials), 'trial')} in all."
    )
    return words, optuna.visualization.plot_param_importances(study, params=names, target_name=OBJECTIVE)


def explain_missing_importances(completed: Sequence[FrozenTrial]) -> str | None:
    """Return why the importance of the parameters cannot be computed from these trials; None if it can.

    Pruned trials have no comparable result. After a pruner the completed ones are few and alike, so that the parameter
    which decided most may not differ among them at all.
    """
    constant = sorted(name for name in STEPS if len({trial.params[name] for trial in completed}) < 2)
    if len(completed) < MANY_RESULTS:
        return (
            f"The importance of the parameters is left out: it needs {MANY_RESULTS} completed trials of fine-tuned "
            f"heads, and there are {len(completed)}. Give pruner=none, or more combinations, to complete more."
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
    """Return one of Optuna's plots as HTML, in colours that all readers can tell apart, without a second title."""
    if figure is None:
        return ""
    figure.update_layout(template="plotly_white", colorway=COLOURS, title=None, margin={"t": 30})
    for trace in figure.data:
        colour = getattr(getattr(trace, "marker", None), "color", None)
        if isinstance(colour, str) and colour in RECOLOURED:
            trace.marker.color = RECOLOURED[colour]
    return str(figure.to_html(include_plotlyjs=has_script, full_html=False))

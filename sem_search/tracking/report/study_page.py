"""The report of a study: one HTML file that needs nothing else, for a scientist who did not run the search.

Numbers are computed here, words stand in `templates/report.html`.
"""

from collections.abc import Sequence

from sem_search.evaluation.metrics import compute_split_scores
from sem_search.heads import HEAD_NAMES
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import (
    SPLITS,
    UNITS,
    compute_class_rows,
    compute_confused_pairs,
    compute_confusion_table,
    compute_selection,
    compute_trial_rows,
)
from sem_search.tracking.entries.trust import StudyTrust, compute_trust
from sem_search.tracking.figures.catalogue import StudyFigure, list_study_figures, list_trust_figures
from sem_search.tracking.report.page import render_page
from sem_search.tracking.report.verdict import ENOUGH_GROUPS, compute_verdict

N_CONFUSED_PAIRS = 8
"""Pairs of classes that the text names; the matrix shows all."""

MAX_DOUBTFUL = 24
"""Doubtful labels that are shown, one picture of 15 kB each."""

N_NEEDY = 4
"""Classes that need images, of which the next steps give the numbers."""


def render_report(
    study: StudyOutcome,
    *,
    context: StudyContext,
    trust: StudyTrust | None = None,
    figures: Sequence[StudyFigure] | None = None,
) -> str:
    """Return the report as one HTML page; its figures are drawn now.

    Args:
        study: All trials, at least the winner complete.
        context: What the report shows beyond the predictions.
        trust: What `compute_trust` found in this study; computed if it is not given.
        figures: Those of the study and of its trust; listed if they are not given.
    """
    trust = trust or compute_trust(study)
    figures = figures or (*list_study_figures(study, context=context), *list_trust_figures(trust))
    winner, tiles = study.winner, study.tiles
    shown = context.mistakes.images if context.mistakes is not None else ()
    confusions = {unit: compute_confusion_table(winner, tiles=tiles, unit=unit) for unit in UNITS}
    return render_page(
        "report.html",
        study=study,
        context=context,
        trust=trust,
        verdict=compute_verdict(study, trust=trust, context=context),
        enough_groups=ENOUGH_GROUPS,
        max_needy=N_NEEDY,
        doubtful=trust.doubtful_labels,
        max_doubtful=MAX_DOUBTFUL,
        pictures={image.answer.image_id: image.picture for image in shown},
        figures={figure.number: figure for figure in figures},
        scores={split: compute_split_scores(winner, tiles=tiles, split=split) for split in reversed(SPLITS)},
        selection=compute_selection(study),
        trials=compute_trial_rows(study),
        head_names=HEAD_NAMES,
        n_missing=len(set(context.cells) - {trial.cell for trial in study.trials}),
        classes=compute_class_rows(tiles),
        pairs={unit: compute_confused_pairs(table, n_most=N_CONFUSED_PAIRS) for unit, table in confusions.items()},
        image_shares=confusions["images"].shares,
    )

"""docs/metrics.md names every metric, and no other."""

from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.run_contents import (
    iter_fold_entries,
    iter_refit_entries,
    iter_study_entries,
    iter_trial_entries,
)
from sem_search.tracking.entries.types import Entry, Metrics
from tests.metrics_page import check_names


def collect_names(entries: list[Entry]) -> set[str]:
    return {point.key for entry in entries if isinstance(entry, Metrics) for point in entry.points}


def test_the_page_names_every_metric_of_a_trial_and_no_other(study: StudyOutcome) -> None:
    entries = [entry for fold in study.winner.folds for entry in iter_fold_entries(fold, tiles=study.tiles)]
    entries += iter_trial_entries(study.winner, tiles=study.tiles, select_on="validation")
    entries += iter_refit_entries(study.winner, tiles=study.tiles)
    check_names(collect_names(entries), "Metrics of a trial")


def test_the_page_names_every_metric_of_a_study_and_no_other(study: StudyOutcome, context: StudyContext) -> None:
    names = collect_names(list(iter_study_entries(study, context=context)))
    check_names(names, "Metrics of a study", unseen=frozenset({"system/..."}))


def test_the_winner_s_metrics_are_named_as_a_trial_s(study: StudyOutcome, context: StudyContext) -> None:
    names = {
        name.removeprefix("winner/")
        for name in collect_names(list(iter_study_entries(study, context=context)))
        if name.startswith("winner/") and name not in ("winner/learning_rate", "winner/batch_size")
    }
    entries = list(iter_trial_entries(study.winner, tiles=study.tiles, select_on="validation"))
    assert names <= collect_names(entries)

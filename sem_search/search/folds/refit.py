"""The winner's heads trained again, once a study is complete: on training and validation images together.

The validation images have chosen; after that they can be learnt from. Each fold's new head lies in the store beside the
one of the search, so that a search that is killed goes on with the next fold. If a study that goes on finds another
winner, that one is trained again then.
"""

from collections.abc import Callable
from contextlib import closing

import optuna

from sem_search.micrographs.folds import Fold
from sem_search.records import Cell
from sem_search.search.folds.train import FoldSource
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.trials.results import find_winner, get_cell
from sem_search.search.trials.search_progress import SearchProgress

OpenSource = Callable[[SearchProgress], FoldSource]


def refit_winner(study: optuna.Study, *, prepared: PreparedSearch, open_source: OpenSource) -> None:
    """Train the winner's heads again, those that were not yet; nothing without `refit`.

    Args:
        study: Whose trials are finished, and their folds whole.
        prepared: Data, settings and the store of finished folds.
        open_source: Returns what trains, given what shows how far it is.

    Raises:
        FailedTrialError: No trial has finished.
        StoreError: A result could not be written.
    """
    while waiting := find_missing_refits(study, prepared=prepared):  # a worker may have finished a better cell
        cell, missing = waiting
        with closing(SearchProgress(n_folds_total=len(missing), n_folds_done=0)) as progress:
            progress.show(f"{cell.name} has won: its heads are trained again, on training and validation images.")
            open_source(progress).refit(cell, folds=missing)


def find_missing_refits(study: optuna.Study, *, prepared: PreparedSearch) -> tuple[Cell, list[Fold]] | None:
    """Return the winner and its folds whose heads are still to be trained again; None where there are none."""
    if not prepared.settings.refit:
        return None
    store, cell = prepared.store.refits, get_cell(find_winner(study))
    missing = [fold for fold in prepared.data.folds.folds if not store.is_whole(cell=cell, fold=fold.number)]
    return (cell, missing) if missing else None

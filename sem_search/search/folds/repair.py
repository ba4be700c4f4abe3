"""Finished folds that are lost or damaged on disk, trained again before anything is reported from them.

The study's database remembers that a fold was finished; its answers lie in a file of their own. Where that file was
lost since, what was reported of the fold still counts, and its answers are computed again: a fold is a pure function of
data, settings and seed. No result is computed from fewer folds than were reported to the study.
"""

from contextlib import closing

import optuna

from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.search.folds.train import LocalFolds
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.trials.results import get_cell, list_results
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.terminal import echo


def repair_folds(study: optuna.Study, *, prepared: PreparedSearch) -> tuple[str, ...]:
    """Train the folds again that finished trials have reported and that cannot be read any more.

    Cost: every finished fold is read and hashed once; where all are whole, that is all.

    Args:
        study: Whose reported folds must be whole.
        prepared: Data, settings and the store of finished folds.

    Returns:
        A warning for each fold.

    Raises:
        StoreError: A result could not be written.
    """
    lost = [
        (get_cell(trial), number, trial.intermediate_values[number])
        for trial in list_results(study)
        for number in sorted(trial.intermediate_values)
        if not prepared.store.is_whole(cell=get_cell(trial), fold=number)
    ]
    if not lost:
        return ()
    folds = {fold.number: fold for fold in prepared.data.folds.folds}
    warnings = []
    with closing(SearchProgress(n_folds_total=len(lost), n_folds_done=0)) as progress:
        source = LocalFolds(prepared=prepared, progress=progress)
        for cell, number, reported in lost:
            outcome = source.obtain(cell=cell, fold=folds[number]).outcome
            value = compute_fold_f_measure(outcome, tiles=prepared.data.tiles, split=prepared.settings.select_on)
            warning = (
                f"{cell.name}, fold {number + 1}, could not be read on this machine (lost, damaged, or stored by a "
                "worker on another machine) and has been trained again"
            )
            if value != reported:
                warning += f": F {value!r} now, {reported!r} before (another machine, or another number of threads?)"
            echo(f"Warning: {warning}.", err=True)
            warnings.append(warning)
    return tuple(warnings)

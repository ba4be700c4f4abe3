"""The names of all attributes that a search gives an Optuna study and its trials.

They lie in users' databases: a study that an older version has begun is read and resumed by them, so they stay as they
are. All values are JSON.
"""

FINGERPRINT = "fingerprint"
"""Of a study: what must be equal for results to be comparable, as a JSON text."""

SETTINGS = "settings"
"""Of a study: the search's settings as a JSON text, passwords left out."""

STUDY_RUN_ID = "mlflow_study_run_id"
"""Of a study: its run in MLflow."""

TRIAL_RUNS = "mlflow_trial_runs"
"""Of a study: trial number -> runs that the trial was logged to after it had finished, the valid one last."""

MACHINE = "machine"
"""Of a study: on which machine it ended."""

VERSIONS = "versions"
"""Of a study: the versions of this program and its libraries that last trained a cell of it."""

MLFLOW_PAGE = "mlflow_page"
"""Of a study: the address of its run in MLflow, for readers of Optuna's dashboard."""

LAST_OUTAGE = "last_outage"
"""Of a study: when its database was last back."""

RANK = "rank"
"""Of a trial: its place in the order of the study, from 0; in studies of older versions it is the trial's number."""

PROCESS = "process"
"""Of a trial: the process that trains it."""

RUN_ID = "mlflow_run_id"
"""Of a trial that was logged when it ended: its run."""

REASON = "reason"
"""Of a trial that failed for good: why. Optuna itself keeps no reason. A trial that failed without one has no result,
and its rank is free: see `ranks.holds_rank`. In studies of older versions also why a trial was pruned."""

PRUNE_REASON = "prune_reason"
"""Of a trial: why it is pruned. It is written before Optuna has the state, so it says nothing of one that was killed
meanwhile."""

REPEATS = "repeats"
"""Of a trial whose cell a sampler drew again: the number of the trial whose result it took."""

ACCURACIES = "validation_accuracies"
"""Of a complete trial: the validation accuracy of each fold, so that a worker needs no files of another."""

CURVES = "pruned_fold"
"""Of a trial that was pruned within a fold: the fold's number and curves, as JSON; it is no finished fold."""

DAMAGED = "damaged_folds"
"""Of a trial: fold -> warning, of folds that were damaged on disk and trained again."""

TRACEBACK = "traceback"
"""Of a trial that raised."""

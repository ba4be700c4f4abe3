"""The names under which studies lie in users' databases."""

from sem_search.search.trials import attributes

STORED = {
    "ACCURACIES": "validation_accuracies",
    "CURVES": "pruned_fold",
    "DAMAGED": "damaged_folds",
    "FINGERPRINT": "fingerprint",
    "LAST_OUTAGE": "last_outage",
    "MACHINE": "machine",
    "MLFLOW_PAGE": "mlflow_page",
    "PROCESS": "process",
    "PRUNE_REASON": "prune_reason",
    "RANK": "rank",
    "REASON": "reason",
    "REPEATS": "repeats",
    "RUN_ID": "mlflow_run_id",
    "SETTINGS": "settings",
    "STUDY_RUN_ID": "mlflow_study_run_id",
    "TRACEBACK": "traceback",
    "TRIAL_RUNS": "mlflow_trial_runs",
}
"""What older versions wrote: under another name, a study that they began could not be resumed."""


def test_attributes_are_stored_under_the_names_of_older_versions() -> None:
    written = {name: getattr(attributes, name) for name in dir(attributes) if name.isupper()}
    assert written.items() >= STORED.items()
    assert len(set(written.values())) == len(written)

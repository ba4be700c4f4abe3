"""The Optuna study: cells, queue, storage, objective, and the loop of a worker."""

"""What the libraries in a process that trains may print."""

import logging
import warnings

import optuna


def quieten_libraries() -> None:
    """Hold back what libraries print beside what a user must see."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # Each audit trains with a trainer of its own, and TensorFlow warns that it compiles the same thing again.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

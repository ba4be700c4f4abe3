"""How TensorFlow starts and is set up for a search.

It writes notes to standard error before any setting of its own is heard (`TF_CPP_MIN_LOG_LEVEL` as well): six lines on
what it found, ahead of everything that a user must see. They are left out; warnings and errors are passed on.
The number of threads changes the last digits of a sum, so it is fixed, and logged with every study.
This module itself loads no TensorFlow.
"""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sem_search.seeds import derive_seed

NOTE = re.compile(
    rb"I\d{4} \d\d:|WARNING: All log messages before absl::InitializeLog|To enable the following instructions: "
)
"""How a line begins that a user does not need."""

STANDARD_ERROR = 2

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""What libraries must be given before they are loaded, so that their notes do not hide what users must see."""


def quieten_start() -> None:
    """Set the variables by which libraries start quietly; one that the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def load_tensorflow() -> None:
    """Import TensorFlow without its notes."""
    with drop_notes():
        import tensorflow  # noqa: F401 - later imports find it loaded


def configure_tensorflow(*, threads: int, seed: int) -> None:
    """Set up TensorFlow for this process: fixed threads, deterministic operations; before it has computed anything.

    Args:
        threads: Processor threads that one operation may use, of NumPy's libraries as well.
        seed: The study's seed. Every draw without a seed of its own comes from this.
    """
    import keras
    import tensorflow as tf
    from threadpoolctl import threadpool_limits

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    if tf.config.threading.get_inter_op_parallelism_threads() != 1:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    threadpool_limits(threads)  # of NumPy and scikit-learn, until the process ends
    keras.utils.set_random_seed(derive_seed(seed, "tensorflow"))
    tf.config.experimental.enable_op_determinism()


@contextmanager
def drop_notes() -> Iterator[None]:
    """Hold back what is written to standard error, by native code as well, and pass on all lines that are no notes."""
    sys.stderr.flush()
    saved = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, STANDARD_ERROR)
            os.close(saved)
            written.seek(0)
            for line in written:
                if not NOTE.match(line):
                    os.write(STANDARD_ERROR, line)

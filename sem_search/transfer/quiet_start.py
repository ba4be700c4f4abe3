"""TensorFlow's start without its notes.

It writes them to standard error before any setting of its own is heard (`TF_CPP_MIN_LOG_LEVEL` as well): six lines on
what it found, ahead of everything that a user must see. Warnings and errors are passed on.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

NOTE = re.compile(
    rb"I\d{4} \d\d:|WARNING: All log messages before absl::InitializeLog|To enable the following instructions: "
)
"""How a line begins that tells nothing a user needs."""

STANDARD_ERROR = 2

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""What libraries must be given before they are loaded, so that their notes do not hide what users must see."""


def quieten_start() -> None:
    """Set the variables by which libraries start quietly; one that the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def load_tensorflow() -> None:
    """Import TensorFlow; what it says of itself is left out, unless it is a warning or an error."""
    with drop_notes():
        import tensorflow  # noqa: F401 - whoever imports it later finds it loaded


@contextmanager
def drop_notes() -> Iterator[None]:
    """Hold back what is written to standard error, by native code as well, and pass on all lines that are no notes."""
    sys.stderr.flush()
    kept = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, STANDARD_ERROR)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not NOTE.match(line):
                    os.write(STANDARD_ERROR, line)

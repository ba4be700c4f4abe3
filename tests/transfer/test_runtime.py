"""TensorFlow starts without its notes, and is set up in processes of their own, since what is set stays set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sem_search.transfer.runtime import drop_notes

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, logging, sys
import keras, tensorflow as tf
from tensorflow.python.framework import config
from threadpoolctl import threadpool_info
from sem_search.transfer.runtime import configure_tensorflow

drawn = []
for seed in (0, 0, 1):
    configure_tensorflow(threads=2, seed=seed)
    drawn.append(float(keras.random.normal(())))
try:
    configure_tensorflow(threads=3, seed=0)
    refusal = "none"
except RuntimeError as error:
    refusal = str(error)
found = {
    "threads": tf.config.threading.get_intra_op_parallelism_threads(),
    "operations_at_once": tf.config.threading.get_inter_op_parallelism_threads(),
    "threads_of_numpy": max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"),
    "is_deterministic": config.is_op_determinism_enabled(),
    "hides_info_and_warnings": logging.getLogger("tensorflow").getEffectiveLevel() == logging.ERROR,
}
json.dump({"found": found, "drawn": drawn, "refusal": refusal}, sys.stdout)
"""


def test_threads_are_fixed_operations_deterministic_and_draws_seeded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=400,  # TensorFlow takes a minute to load where others are at work
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["found"] == {
        "threads": 2,
        "threads_of_numpy": 2,
        "operations_at_once": 1,
        "is_deterministic": True,
        "hides_info_and_warnings": True,
    }
    first, again, other = found["drawn"]
    assert first == again, "the same seed draws the same, also where something was computed before"
    assert first != other
    assert "cannot be modified" in found["refusal"], "another number of threads is never half obeyed"


def test_notes_are_dropped_and_warnings_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with drop_notes():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1.5   7 port.cc:153] custom operations are on\n")
        os.write(2, b"W0000 00:00:1.5   7 port.cc:153] this processor is old\nsomething else\n")
    os.write(2, b"I0000 00:00:1.5   7 after\n")
    passed_on = capfd.readouterr().err
    assert (
        passed_on
        == "W0000 00:00:1.5   7 port.cc:153] this processor is old\nsomething else\nI0000 00:00:1.5   7 after\n"
    )


def test_what_was_written_before_a_failure_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), drop_notes():
        os.write(2, b"a library is missing\n")
        raise ImportError
    assert capfd.readouterr().err == "a library is missing\n"


def test_tensorflow_starts_without_a_word() -> None:
    code = "from sem_search.transfer.runtime import load_tensorflow; load_tensorflow()"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stderr == ""

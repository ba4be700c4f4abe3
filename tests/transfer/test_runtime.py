"""TensorFlow set up for a search: in processes of their own, since what is set stays set."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, logging, sys
import keras, tensorflow as tf
from tensorflow.python.framework import config
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
told = {
    "threads": tf.config.threading.get_intra_op_parallelism_threads(),
    "operations_at_once": tf.config.threading.get_inter_op_parallelism_threads(),
    "is_deterministic": config.is_op_determinism_enabled(),
    "hides_info_and_warnings": logging.getLogger("tensorflow").getEffectiveLevel() == logging.ERROR,
}
json.dump({"told": told, "drawn": drawn, "refusal": refusal}, sys.stdout)
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
    assert found["told"] == {
        "threads": 2,
        "operations_at_once": 1,
        "is_deterministic": True,
        "hides_info_and_warnings": True,
    }
    first, again, other = found["drawn"]
    assert first == again, "the same seed draws the same, also where something was computed before"
    assert first != other
    assert "cannot be modified" in found["refusal"], "another number of threads is never half obeyed"

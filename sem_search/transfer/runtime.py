"""How TensorFlow is set up for a search: fixed threads and deterministic operations.

The number of threads changes the last digits of a sum, so it is fixed, and logged with every study.
"""

import logging

import keras
import tensorflow as tf

from sem_search.seeds import derive_seed


def configure_tensorflow(*, threads: int, seed: int) -> None:
    """Set up TensorFlow for this process; to be called before it has computed anything.

    Args:
        threads: Processor threads that one operation may use.
        seed: The study's seed. Whatever draws without a seed of its own draws from this.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    if tf.config.threading.get_inter_op_parallelism_threads() != 1:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(derive_seed(seed, "tensorflow"))
    tf.config.experimental.enable_op_determinism()

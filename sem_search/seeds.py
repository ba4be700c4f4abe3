"""One seed; every random choice derives from it by name.

Two choices with different names never share a stream, and adding a choice leaves all the others as they were.
"""

import hashlib

SEED_BITS = 31  # Keras, NumPy and Optuna all take non-negative seeds of 31 bits


def derive_seed(seed: int, *names: str | int) -> int:
    """Return the seed of one named random choice.

    Args:
        seed: The study's seed.
        names: What the choice is, from the general to the particular: `derive_seed(0, "fold", 3)`.

    Returns:
        A number in [0, 2**31), the same on every machine.
    """
    text = "/".join(str(name) for name in (seed, *names))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)

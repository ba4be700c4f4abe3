"""How features and epochs grow with the number of tiles; each measured in a process of its own, for its peak memory."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_CLASSES, TILE_PX, BATCH_SIZE, LEARNING_RATE = 10, 224, 48, 1e-3
MIB = 2**20
LIMIT_SHARE = 0.25
"""Part of the largest store that may stay in memory where a working set beyond memory is shown."""


def measure_scale(backbone: str, *, tile_counts: tuple[int, ...], threads: int) -> dict[str, float]:
    """Return tiles per second of the trunk, seconds per epoch and peak memory in MiB for each number of tiles."""
    figures: dict[str, float] = {}
    for n_tiles in tile_counts:
        figures |= _run_in_process(backbone, n_tiles=n_tiles, is_limited=False, threads=threads)
    return figures | _run_in_process(backbone, n_tiles=max(tile_counts), is_limited=True, threads=threads)


def _run_in_process(backbone: str, *, n_tiles: int, is_limited: bool, threads: int) -> dict[str, float]:
    words = [backbone, str(n_tiles), str(int(is_limited)), str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *words], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure_one(backbone_name: str, *, n_tiles: int, is_limited: bool) -> dict[str, float]:
    from sem_search.records import Cell, TileSplits
    from sem_search.transfer.backbones import get_backbone
    from sem_search.transfer.cut import cut_network
    from sem_search.transfer.features import get_features
    from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings

    backbone = get_backbone(backbone_name)
    cut = cut_network(backbone.build(tile_px=TILE_PX))
    rng = np.random.default_rng(0)

    def iter_tiles() -> Iterator[np.ndarray]:
        for start in range(0, n_tiles, BATCH_SIZE):
            yield rng.random((min(BATCH_SIZE, n_tiles - start), TILE_PX, TILE_PX), dtype=np.float32)

    with tempfile.TemporaryDirectory() as cache:
        begun = time.perf_counter()
        store = get_features(
            cut, tiles=iter_tiles, n_tiles=n_tiles, backbone=backbone, content_key="scale", cache_folder=Path(cache)
        )
        features_s, features_mib = time.perf_counter() - begun, _get_peak_mib()
        n_bytes = sum(array.nbytes for array in store.arrays)
        n_training = n_tiles * 3 // 4
        trainer = HeadTrainer(
            cut,
            features=[store.arrays],
            labels=rng.integers(0, N_CLASSES, n_tiles),
            groups=[str(index) for index in range(n_tiles)],
            n_classes=N_CLASSES,
            settings=TrainingSettings(epochs=3, patience=0),
            seed=0,
            max_feature_bytes=int(n_bytes * LIMIT_SHARE) if is_limited else None,
        )
        ends_s: list[float] = []
        trainer.train_fold(
            TileSplits(
                number=0,
                training=np.arange(n_training),
                validation=np.arange(n_training, n_tiles - 1),
                test=np.array([n_tiles - 1]),
            ),
            cell=Cell(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE),
            on_epoch=lambda _figures: ends_s.append(time.perf_counter()),
        )
    key = f"scale.{backbone_name}.{n_tiles}{'.limited' if is_limited else ''}"
    return {
        f"{key}.features_tiles_per_s": n_tiles / features_s,
        f"{key}.features_peak_mib": features_mib,
        f"{key}.store_mib": n_bytes / MIB,
        f"{key}.epoch_s": (ends_s[-1] - ends_s[0]) / (len(ends_s) - 1),
        f"{key}.epoch_peak_mib": _get_peak_mib(),
    }


def _get_peak_mib() -> float:
    """Return the largest resident memory that this process has had; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    from sem_search.transfer.runtime import configure_tensorflow

    configure_tensorflow(threads=int(sys.argv[4]), seed=0)
    print(json.dumps(_measure_one(sys.argv[1], n_tiles=int(sys.argv[2]), is_limited=sys.argv[3] == "1")))

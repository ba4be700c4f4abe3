"""A registry with one classifier that was never trained, and a real server process over it."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import mlflow
import numpy as np
import psutil

from benchmarks.ports import find_free_port
from sem_search.deployment.package.calibration_record import Calibration
from sem_search.deployment.package.description import ClassifierDescription
from sem_search.deployment.package.writing import ClassifierParts, log_classifier
from sem_search.evaluation.conformal import CrossAnswers
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network

MODEL_NAME = "sem-search-benchmark"
CLASS_NAMES = tuple(f"material {number}" for number in range(10))
N_HEADS = 5
START_LIMIT_S = 300.0


def build_untrained_parts(backbone: str, *, tile_px: int = 224) -> ClassifierParts:
    """Return a classifier as a search would pack it, with random weights: its speed is that of a trained one."""
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone(backbone).build(tile_px=tile_px))
    head = build_head(cut, n_classes=len(CLASS_NAMES), seed=0)
    rng = np.random.default_rng(0)
    answers = CrossAnswers(
        of_true_class=rng.uniform(0.2, 1.0, 100),
        network_of_image=np.arange(100) % N_HEADS,
        group_of_image=np.arange(100),
    )
    return ClassifierParts(
        trunk=cut.trunk,
        head=head,
        head_weights=[head.get_weights() for _ in range(N_HEADS)],
        description=ClassifierDescription(
            class_names=CLASS_NAMES,
            backbone=backbone,
            convolution=cut.convolution,
            n_heads=N_HEADS,
            tile_px=tile_px,
            stride_px=tile_px,
            crop_bottom_px=0,
        ),
        calibration=Calibration(temperature=1.2, answers=answers),
    )


def write_registry(folder: Path, parts: ClassifierParts) -> str:
    """Register a classifier in a new store; return the address of the champion."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("benchmark", artifact_location=(folder / "artifacts").as_uri())
    logged = log_classifier(parts, run_id=client.create_run(experiment).info.run_id)
    version = mlflow.register_model(logged.model_uri, MODEL_NAME)
    client.set_registered_model_alias(MODEL_NAME, "champion", version.version)
    return f"models:/{MODEL_NAME}@champion"


def register_again() -> str:
    """Register the classifier once more; return the number of that version."""
    source = mlflow.MlflowClient().get_model_version(MODEL_NAME, "1").source
    return str(mlflow.register_model(str(source), MODEL_NAME).version)


def set_champion(version: str) -> None:
    """Make a version the one that is served."""
    mlflow.MlflowClient().set_registered_model_alias(MODEL_NAME, "champion", version)


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that answers."""

    port: int
    process: subprocess.Popen[bytes]
    start_s: float
    """From the command until it answered."""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def read_metrics(self) -> dict[str, float]:
        """Return what the server counts: name and labels, without `sem_search_`, to value."""
        with urllib.request.urlopen(f"{self.url}/metrics") as response:  # noqa: S310 - our own server
            lines = [line for line in response.read().decode().splitlines() if not line.startswith("#")]
        pairs = [line.removeprefix("sem_search_").rpartition(" ") for line in lines]
        return {name: float(value) for name, _, value in pairs}

    def measure_memory_mb(self) -> float:
        """Return the resident memory of the server and of all processes that it started."""
        parent = psutil.Process(self.process.pid)
        total = 0
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6


@contextmanager
def run_server(
    words: Sequence[str], *, folder: Path, log: Path, cwd: Path | None = None, ready: str = "/ping"
) -> Iterator[RunningServer]:
    """Run `sem_search WORDS --port PORT` until the block ends.

    Args:
        words: Of the command.
        folder: Of the registry.
        log: What the server prints.
        cwd: Where it works; by default here.
        ready: What answers with 200 once it may be asked.
    """
    port = find_free_port()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    begun_s = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "sem_search", *words, "--port", str(port)],
            env=environment,
            cwd=cwd,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}", process=process, log=log, ready=ready)
        yield RunningServer(port=port, process=process, start_s=time.monotonic() - begun_s)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_until_up(url: str, *, process: subprocess.Popen[bytes], log: Path, ready: str = "/ping") -> None:
    """Return when the server answers `ready` with 200."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}{ready}", timeout=5) as response:  # noqa: S310 - our own server
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"The server did not answer; its log:\n{log.read_text()}")

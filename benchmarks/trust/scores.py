"""Calibration and novelty: errors before and after scaling, and false alarms."""

import numpy as np
from scipy.special import softmax

from benchmarks.trust.tables import Table
from sem_search.evaluation.calibration import (
    apply_temperature,
    compute_calibration_scores,
    cross_fit_temperature,
    fit_temperature,
)
from sem_search.evaluation.novelty import UNKNOWN_ABOVE, fit_novelty, score_novelty

N_FEATURES = 60


def simulate_calibration(*, n_images: int, overconfidence: float, n_studies: int, seed: int = 0) -> dict[str, float]:
    """Return calibration errors before and after cross-fitted scaling, and the temperature; mean over studies.

    Answers mean what they say before their logits are multiplied by `overconfidence`; `alarm` is how often an error is
    called more than chance before scaling, `alarm after` afterwards.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for number in range(n_studies):
        honest = softmax(2.0 * rng.normal(size=(n_images, 10)), axis=1)
        labels = (honest.cumsum(axis=1) > rng.random((n_images, 1))).argmax(axis=1)
        answers = apply_temperature(honest, temperature=1 / overconfidence)
        scaled = cross_fit_temperature(answers, labels=labels, part_of_row=np.arange(n_images) % 5).probabilities
        before, after = (
            compute_calibration_scores(probabilities, labels=labels, seed=number) for probabilities in (answers, scaled)
        )
        for name, scores in (("", before), (" after", after)):
            is_alarm = scores.expected_calibration_error > scores.highest_error_if_calibrated
            found.setdefault(f"error{name}", []).append(scores.expected_calibration_error)
            found.setdefault(f"alarm{name}", []).append(float(is_alarm))
            found.setdefault(f"log loss{name}", []).append(scores.log_loss)
            found.setdefault(f"chance{name}", []).append(scores.error_if_calibrated)
        found.setdefault("temperature", []).append(fit_temperature(answers, labels=labels))
    return {name: float(np.mean(values)) for name, values in found.items()}


def simulate_novelty(*, images_per_class: int, rate: float, n_studies: int, seed: int = 0) -> dict[str, float]:
    """Return how often known images, with as many tiles as those fitted on or with one, and unknown ones are alarms."""
    rng = np.random.default_rng(seed)
    alarms = np.zeros((n_studies, 3))
    for number in range(n_studies):
        classes = 1.5 * rng.normal(size=(5, N_FEATURES))
        labels = np.repeat(np.arange(4), images_per_class)
        features, image = _draw_tiles(classes, labels, n_tiles=6, rng=rng)
        model = fit_novelty(
            features,
            image_of_tile=image,
            label_of_image=labels,
            part_of_image=np.arange(len(labels)) % 5,
            false_alarm_rate=rate,
        )
        for column, (known, n_tiles) in enumerate(((True, 6), (True, 1), (False, 6))):
            new, image = _draw_tiles(classes, np.arange(200) % 4 if known else np.full(50, 4), n_tiles=n_tiles, rng=rng)
            alarms[number, column] = (score_novelty(model, new, image_of_tile=image)[1] > UNKNOWN_ABOVE).mean()
    known, single, unknown = alarms.mean(axis=0)
    return {"known": float(known), "single tiles": float(single), "unknown": float(unknown)}


def print_tables(*, n_studies: int) -> None:
    """Print calibration errors and false alarms."""
    rows = []
    for n_images in (40, 100, 300):
        for overconfidence in (1.0, 0.5, 3.0):
            found = simulate_calibration(n_images=n_images, overconfidence=overconfidence, n_studies=n_studies)
            names = ("temperature", "error", "error after", "chance after", "log loss", "log loss after")
            rows.append([f"{n_images}", f"{overconfidence:g}", *(found[name] for name in names)])
    columns = ["images", "logits times", "temperature", "error", "after scaling", "by chance alone"]
    columns += ["log loss", "after scaling"]
    Table(title="Calibration, cross-fitted", columns=columns, rows=rows).show()
    rows = []
    for images_per_class in (5, 10, 30):
        for rate in (0.05, 0.1):
            found = simulate_novelty(images_per_class=images_per_class, rate=rate, n_studies=n_studies)
            rows.append([f"4 x {images_per_class}", rate, found["known"], found["single tiles"], found["unknown"]])
    columns = ["known images", "asked", "known", "known, one tile", "unknown class"]
    Table(title="Images called unknown", columns=columns, rows=rows).show(percent=True)


def _draw_tiles(
    classes: np.ndarray, labels: np.ndarray, *, n_tiles: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return features of tiles and the image of each; images differ in few directions."""
    spread = 2 / np.sqrt(np.arange(1, N_FEATURES + 1))
    image = np.repeat(np.arange(len(labels)), n_tiles)
    images = classes[labels] + spread * rng.normal(size=(len(labels), N_FEATURES))
    return images[image] + 1.5 * spread * rng.normal(size=(len(image), N_FEATURES)), image

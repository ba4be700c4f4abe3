"""What a model of the demonstration set answers to images it never saw: of its materials, and of anything else."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import mlflow
import numpy as np
import skimage.data

from sem_search.deployment.classifier.classifier import ImageAnswer, MicrographClassifier
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.pyfunc.answers import _choose_set
from sem_search.deployment.pyfunc.model import MODEL_FOLDER
from sem_search.deployment.pyfunc.requests import RequestOptions
from sem_search.evaluation.calibration import compute_calibration_scores
from sem_search.evaluation.conformal import compute_set_scores
from sem_search.evaluation.novelty import UNKNOWN_ABOVE
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.places import get_cache_folder

HELD_OUT_SEEDS = (1, 2, 3, 4)
"""The model was trained on seed 0; every picture of another seed is a new image of the same ten materials."""

COVERAGES = (0.8, 0.9, 0.95)

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "page", "text", "grass", "gravel", "brick", "moon")

SIZE = DEMO_SIZES["small"]


def measure_strangers(model: str, *, files: Path | None) -> dict[str, float]:
    """Return accuracy, calibration and coverage on new images, and the share of other images that are called unknown.

    Args:
        model: URI or folder of a model of `data=demo`, seed 0.
        files: Micrographs of other materials.
    """
    folder = Path(mlflow.artifacts.download_artifacts(model)) if ":" in model else Path(model)
    classifier = read_classifier(folder / "artifacts" / MODEL_FOLDER)
    answers, labels = _answer_held_out(classifier)
    figures = _score_held_out(answers, labels=labels, classifier=classifier)
    for name, images in _gather_strangers(classifier, files=files).items():
        novelty = np.array([answer.novelty for image in images for answer in classifier.classify([image])])
        figures |= {
            f"strangers.{name}.images": float(len(novelty)),
            f"strangers.{name}.share_unknown": float((novelty > UNKNOWN_ABOVE).mean()),
            f"strangers.{name}.least_novelty": float(novelty.min()),
        }
    return figures


def _answer_held_out(classifier: MicrographClassifier) -> tuple[list[ImageAnswer], np.ndarray]:
    answers: list[ImageAnswer] = []
    labels: list[int] = []
    for seed in HELD_OUT_SEEDS:
        catalogue = _read_demo(seed)
        images = (classifier.read(record.path.read_bytes(), name="") for record in catalogue.records)
        answers += [answer for image in images for answer in classifier.classify([image.pixels])]
        labels += [catalogue.class_names.index(record.label) for record in catalogue.records]
    return answers, np.array(labels)


def _score_held_out(
    answers: Sequence[ImageAnswer], *, labels: np.ndarray, classifier: MicrographClassifier
) -> dict[str, float]:
    together = np.stack([answer.probabilities for answer in answers])
    single = np.concatenate([answer.head_probabilities for answer in answers])
    figures = {"heldout.images": float(len(answers))}
    for name, probabilities, truth in (
        ("served", together, labels),
        ("single_head", single, np.repeat(labels, len(answers[0].head_probabilities))),
    ):
        scores = compute_calibration_scores(probabilities, labels=truth)
        figures |= {
            f"heldout.{name}.accuracy": scores.accuracy,
            f"heldout.{name}.confidence": scores.confidence,
            f"heldout.{name}.calibration_error": scores.expected_calibration_error,
            f"heldout.{name}.calibration_error_by_chance": scores.highest_error_if_calibrated,
            f"heldout.{name}.log_loss": scores.log_loss,
        }
    for coverage in COVERAGES:
        options, names = RequestOptions(coverage=coverage), classifier.description.class_names
        chosen = [
            _choose_set(answer, calibration=classifier.calibration, class_names=names, options=options)[0]
            for answer in answers
        ]
        sets = np.array([np.isin(np.arange(together.shape[1]), members) for members in chosen])
        scores_of_sets = compute_set_scores(sets, labels=labels)
        figures |= {
            f"heldout.sets_{coverage:g}.coverage": scores_of_sets.coverage,
            f"heldout.sets_{coverage:g}.mean_size": scores_of_sets.mean_size,
        }
    is_known = [answer.novelty is not None and answer.novelty <= UNKNOWN_ABOVE for answer in answers]
    return figures | {"heldout.share_called_unknown": 1 - float(np.mean(is_known))}


def _gather_strangers(classifier: MicrographClassifier, *, files: Path | None) -> Mapping[str, list[FloatImage]]:
    rng = np.random.default_rng(0)
    shape = (SIZE.scan_height_px, SIZE.scan_width_px)
    strangers: dict[str, list[FloatImage]] = {
        "photographs": list(iter_photographs()),
        "white_noise": [rng.uniform(size=shape).astype(np.float32) for _ in range(10)],
        "grey_noise": [np.clip(rng.normal(0.5, 0.1, shape), 0, 1).astype(np.float32) for _ in range(10)],
        "flat": [np.full(shape, level, dtype=np.float32) for level in (0.0, 0.25, 0.5, 0.75, 1.0)],
    }
    if files is not None:
        paths = sorted(path for path in files.rglob("*") if path.suffix.lower() in (".tif", ".tiff"))
        strangers["instrument_files"] = [classifier.read(path.read_bytes(), name=path.name).pixels for path in paths]
    return strangers


def iter_photographs() -> Iterator[FloatImage]:
    """Yield the photographs that scikit-image brings along, as grey levels."""
    for name in PHOTOGRAPHS:
        picture = np.asarray(getattr(skimage.data, name)(), dtype=np.float32)
        grey = picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32) if picture.ndim == 3 else picture
        if min(grey.shape) >= 224:
            yield np.clip(grey / 255, 0, 1)


def _read_demo(seed: int) -> Catalogue:
    folder = write_demo_data(get_cache_folder() / "demo" / f"strangers-{seed}", size="small", seed=seed)
    return read_catalogue(folder, reading=ReadingOptions(crop_bottom_px=SIZE.bar_height_px))

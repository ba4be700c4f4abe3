"""What a finished study found, for the page: its answers image by image, pictures, pages and files.

All is read from the study's run in MLflow and from the folder of its report; no network is built. Where the network
looks is computed with the heads that are served, that of the fold that was not trained on the image.
"""

import io
import json
import threading
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from sem_search.app.folders import NOT_FOUND, Folders
from sem_search.app.pictures import PictureCache, render_file
from sem_search.deployment.classifier.classifier import MicrographClassifier
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.pyfunc.model import MODEL_FOLDER
from sem_search.deployment.registry.contents import borrow_model
from sem_search.errors import RefusedRequestError, StoreError
from sem_search.micrographs.listing import list_images
from sem_search.micrographs.reading.micrograph import encode_jpeg, read_micrograph
from sem_search.places import REPORT
from sem_search.search.prepare.data import locate_data
from sem_search.search.trials.grid_state import GridState, list_grid_states, read_grid_state
from sem_search.settings import DEMO
from sem_search.terminal import protect_cell
from sem_search.tracking.mlflow.files import read_artifact, read_text_artifact
from sem_search.tracking.mlflow.links import link_run
from sem_search.tracking.mlflow.models import find_model_uri
from sem_search.tracking.mlflow.names import TAG_LEARNING_CURVE, TAG_REFIT
from sem_search.tracking.mlflow.runs import find_latest_run, get_tags, read_learning_curve

PROBABILITY = "probability of "
"""How the columns of the answers begin that hold probabilities."""

HEAT_SIDE_PX = 900
HEAT_QUALITY = 85

LEARNING_CURVE_PAGE = "learning_curve/learning_curve.html"

KEPT_STUDIES = 4


@dataclass(frozen=True, kw_only=True)
class StudyAnswers:
    """The winner's answers to the test images, each by the head that was not trained on it."""

    run_id: str
    winner_run_id: str
    frame: pd.DataFrame
    """One row for each image: `image_id`, `true`, `predicted`, `fold` from 1, and the probabilities."""
    class_names: tuple[str, ...]


class Results:
    """The studies of a storage.

    Args:
        storage: Optuna's, as the searches of the page use it.
        folders: What may be read.
        kits: Folder of the publication kits.
    """

    def __init__(self, *, storage: str, folders: Folders, kits: Path) -> None:
        self._storage = storage
        self._folders = folders
        self._kits = kits
        self._pictures = PictureCache()
        self._lock = threading.Lock()
        self._read_answers = lru_cache(KEPT_STUDIES)(_read_answers)
        self._load_classifier = lru_cache(1)(_load_classifier)
        self._list_paths = lru_cache(KEPT_STUDIES)(_list_paths)

    def list_studies(self) -> list[dict[str, Any]]:
        """Return every study that has begun, the latest first."""
        return [
            {**describe_grid(state), "is_finished": _find_report(state) is not None}
            for state in list_grid_states(self._storage)
        ]

    def read_study(self, name: str) -> dict[str, Any]:
        """Return what a finished study found.

        Raises:
            RefusedRequestError: There is no such study, or it is not finished (404).
            StoreError: The tracking store does not answer.
        """
        state = self.get_state(name)
        answers = self._get_answers(state)
        images = [
            {
                "id": row["image_id"],
                "fold": int(row["fold"]),
                "true": row["true"],
                "predicted": row["predicted"],
                "p_true": float(row[PROBABILITY + row["true"]]),
                "p_predicted": float(row[PROBABILITY + row["predicted"]]),
            }
            for row in answers.frame.to_dict("records")
        ]
        return {
            **describe_grid(state),
            "classes": answers.class_names,
            "images": images,
            "doubtful": _read_doubtful(answers.run_id),
            "learning_curve": read_learning_curve(study=name, near_run_id=answers.run_id),
            "model": state.settings.resolved_model_name,
            "has_kit": self._find_kit(name) is not None,
            "run": answers.winner_run_id,
            "page": link_run(answers.run_id),
        }

    def get_state(self, name: str) -> GridState:
        """Return how far a study is.

        Raises:
            RefusedRequestError: There is none (404).
        """
        state = read_grid_state(name, storage=self._storage)
        if state is None:
            raise RefusedRequestError(f"There is no study {name[:100]!r} here.", status=NOT_FOUND)
        return state

    def read_page(self, name: str, page: str) -> str:
        """Return a page of a study as HTML: its `report`, or its `learning-curve`.

        Raises:
            RefusedRequestError: There is none (404).
            StoreError: The tracking store does not answer.
        """
        state = self.get_state(name)
        if page == "learning-curve":
            run = find_latest_run(TAG_LEARNING_CURVE, kind=page, study=name, near_run_id=state.run_id)
            if run is not None:
                return read_text_artifact(run_id=run.info.run_id, path=LEARNING_CURVE_PAGE)
        report = _find_report(state)
        if page != "report" or report is None:
            raise RefusedRequestError(f"Study {name[:100]!r} has no such page yet.", status=NOT_FOUND)
        return report.read_text("utf-8")

    def read_predictions(self, name: str) -> str:
        """Return the answers to all test images as CSV.

        Raises:
            RefusedRequestError: There is no such study, or it is not finished (404).
            StoreError: The tracking store does not answer.
        """
        frame = self._get_answers(self.get_state(name)).frame
        return str(frame.map(protect_cell).to_csv(index=False))

    def read_kit(self, name: str) -> bytes:
        """Return the publication kit as a ZIP.

        Raises:
            RefusedRequestError: It has not been made (404).
        """
        folder = self._find_kit(self.get_state(name).name)
        if folder is None:
            raise RefusedRequestError(f"There is no kit of study {name[:100]!r} yet: make it first.", status=NOT_FOUND)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder))
        return content.getvalue()

    def draw_image(self, name: str, image_id: str, *, side_px: int) -> bytes:
        """Return a JPEG of an image of a study.

        Raises:
            RefusedRequestError: The study has no such image (404), or it may not be read (403).
            UnreadableImageError: It cannot be read any more.
        """
        path = self._find_image(self.get_state(name), image_id)
        key = (path, side_px, path.stat().st_mtime_ns)
        return self._pictures.get(key, make=lambda: render_file(path, side_px=side_px))

    def draw_heat(self, name: str, image_id: str, *, label: str) -> bytes:
        """Return a JPEG of where the head that was not trained on an image looks for a class.

        The pictures of the true and of the predicted class have one scale, so that they can be compared.

        Args:
            name: Of the study.
            image_id: The image.
            label: Its true class, or the predicted one.

        Raises:
            RefusedRequestError: The study has no such image or class (404).
            UnreadableImageError: The image cannot be read any more.
            StoreError: The model's files are not what was logged.
        """
        state = self.get_state(name)
        path, answers = self._find_image(state, image_id), self._get_answers(state)
        (answer,) = answers.frame[answers.frame["image_id"] == image_id].to_dict("records")
        labels = tuple(dict.fromkeys((answer["true"], answer["predicted"])))
        if label not in labels:
            raise RefusedRequestError("The image neither is nor was predicted as that class.", status=NOT_FOUND)

        def make() -> bytes:
            with self._lock:
                classifier = self._load_classifier(answers.winner_run_id)
                names = classifier.description.class_names
                pixels = read_micrograph(path, name=path.name, reading=classifier.description.reading).pixels
                overlays = classifier.draw_heat(
                    pixels,
                    labels=[names.index(each) for each in labels],
                    head=int(answer["fold"]) - 1,
                    max_side_px=HEAT_SIDE_PX,
                )
            return encode_jpeg(overlays[labels.index(label)], quality=HEAT_QUALITY)

        return self._pictures.get((answers.winner_run_id, image_id, label), make=make)

    def _get_answers(self, state: GridState) -> StudyAnswers:
        if _find_report(state) is None:
            raise RefusedRequestError(f"Study {state.name} is not finished yet.", status=NOT_FOUND)
        tags = get_tags(state.run_id)
        return self._read_answers(state.run_id, tags.get("sem_search.winner_run", ""))

    def _find_kit(self, name: str) -> Path | None:
        return max((self._kits / name).glob("*"), default=None)

    def _find_image(self, state: GridState, image_id: str) -> Path:
        """Return the file of an image that the study has, if it may be read."""
        if image_id not in set(self._get_answers(state).frame["image_id"]):
            raise RefusedRequestError("The study has no such image.", status=NOT_FOUND)
        place, _ = locate_data(state.settings)
        path = self._list_paths(place.absolute()).get(image_id)
        if path is None:
            raise RefusedRequestError("The image is not where it was.", status=NOT_FOUND)
        return path if state.settings.data == DEMO else self._folders.find(str(path))


def _list_paths(place: Path) -> dict[str, Path]:
    return {image.image_id: image.path for image in list_images(place, allow_outside=True).images}


def describe_grid(state: GridState) -> dict[str, Any]:
    """Return how far a study is, as JSON values."""
    settings, best = state.settings, state.best
    return {
        "name": state.name,
        "data": settings.data,
        "backbone": settings.backbone,
        "preset": settings.preset,
        "n_folds": state.n_folds,
        "learning_rates": settings.learning_rates,
        "batch_sizes": settings.batch_sizes,
        "n_cells": state.n_cells,
        "is_trained": state.is_trained,
        "best": None if best is None else {"cell": best.cell.to_text(), "value": best.value},
        "cells": [
            {
                **{name: getattr(view.cell, name) for name in ("head", "learning_rate", "batch_size")},
                "name": view.cell.to_text(),
                "state": view.state,
                "folds": view.folds,
                "value": view.value,
                "reason": view.reason,
                "is_best": view is best,
            }
            for view in state.cells
        ],
    }


def _find_report(state: GridState) -> Path | None:
    """Return the report of a study, which is there once it is finished."""
    file = Path(state.settings.study_folder) / state.name / REPORT
    return file if file.is_file() else None


def _read_answers(run_id: str, winner_run_id: str) -> StudyAnswers:
    refit = "refit/" if TAG_REFIT in get_tags(winner_run_id) else ""
    content = read_artifact(run_id=winner_run_id, path=f"{refit}predictions/images.parquet")
    frame = pd.read_parquet(io.BytesIO(content))
    names = tuple(
        str(column).removeprefix(PROBABILITY) for column in frame.columns if str(column).startswith(PROBABILITY)
    )
    tested = frame[frame["split"] == "test"].reset_index(drop=True)
    for column in ("image_id", "true", "predicted", "split"):
        tested[column] = tested[column].astype(str)
    return StudyAnswers(run_id=run_id, winner_run_id=winner_run_id, frame=tested, class_names=names)


def _load_classifier(winner_run_id: str) -> MicrographClassifier:
    with borrow_model(find_model_uri(winner_run_id)) as model:
        return read_classifier(model / "artifacts" / MODEL_FOLDER)


def _read_doubtful(run_id: str) -> list[dict[str, Any]]:
    """Return the images whose label the networks doubt, the most doubtful first; none in studies from before."""
    try:
        text = read_text_artifact(run_id=run_id, path="mistakes/doubtful_labels.csv")
    except StoreError:
        return []
    frame = pd.read_csv(io.StringIO(text), keep_default_na=False, dtype={"image_id": str, "label": str})
    return list(json.loads(frame.to_json(orient="records")))

"""What `import sem_search` offers: the commands as functions, which return records and print nothing but progress.

They raise the package's errors, warn by Python's warnings, and set no signal handlers. Searches and audits put what
they make into the current folder, as the commands do, unless `storage`, `study_folder` and MLflow's tracking URI say
otherwise.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from sem_search.audits.lots import LotsAudit
from sem_search.audits.study_audit import QUESTIONS, StudyAudit
from sem_search.audits.study_comparison import StudyComparison
from sem_search.deployment.batch.model import Model
from sem_search.errors import NotComparableError
from sem_search.micrographs import catalogue as catalogues
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.inspection.inspect import Inspection
from sem_search.places import write_store_plainly
from sem_search.search.commands import finished_study
from sem_search.search.commands.audit import run_audit
from sem_search.search.commands.compare import run_comparison
from sem_search.search.commands.inspect import inspect_data
from sem_search.search.commands.lots import run_lots
from sem_search.search.commands.search import run_search
from sem_search.search.prepare.data import locate_data
from sem_search.search.results.study_result import Study
from sem_search.settings import SearchSettings, build_settings

Place = str | PathLike[str]
"""A file or folder, as a text or a path."""


def read_catalogue(data: Place = "demo", **settings: Any) -> Catalogue:
    """Read micrographs and their labels; `catalogue.table` has one row for each image.

    Args:
        data: A folder with one sub-folder for each class, a CSV, or `demo`.
        settings: Settings of the search by name: `exclude`, `skip_unreadable`, `crop_bottom_px`, `tile_px` ...

    Raises:
        DataError: There are no data, or they cannot be used as they are.
        SettingsError: A setting is unknown or out of range.
    """
    asked = _build_settings(data, settings)
    place, reading = locate_data(asked)
    return catalogues.read_catalogue(
        place, exclude=asked.exclude, allow_outside=asked.allow_outside, reading=reading, progress=True
    )


def inspect(data: Catalogue | Place = "demo", **settings: Any) -> Inspection:
    """Find what is wrong with micrographs before anything is trained; a notebook shows the report.

    Files that cannot be read are findings here, not errors.

    Args:
        data: From `read_catalogue`, or as it takes it.
        settings: Settings of the search by name: `folds`, `overlaps`, `tile_px` ...

    Raises:
        DataError: There are no data, or no two classes.
        SettingsError: A setting is unknown or out of range.
    """
    if isinstance(data, Catalogue):
        return inspect_data(_build_settings(data.root, settings), catalogue=data)
    return inspect_data(_build_settings(data, settings))


def search(data: Place = "demo", **settings: Any) -> Study:
    """Search learning rate and batch size for a backbone, log every trial, and register the winner.

    The same call again goes on where it was stopped: finished folds are not trained again.

    Args:
        data: A folder with one sub-folder for each class, a CSV, or `demo`.
        settings: Settings by name, see `SearchSettings`: `backbone`, `preset`, `learning_rates`, `study` ...

    Raises:
        InputError: Data, weights or settings cannot be used; nothing was trained.
        StoreError: A database, the tracking server or the disk does not answer.
    """
    write_store_plainly()
    asked = _build_settings(data, settings)
    conclusion = run_search(asked)
    registered = conclusion.registered
    return Study(
        settings=asked.model_copy(update={"study": conclusion.outcome.name}),
        outcome=conclusion.outcome,
        run_id=conclusion.run_id,
        model_uri=f"models:/{registered.name}/{registered.version}",
    )


def load_study(name: str, *, storage: str = "sqlite:///optuna.db", study_folder: Place | None = None) -> Study:
    """Return a study that a search has finished; its images are read again, nothing is computed.

    Args:
        name: As the search named it.
        storage: Its Optuna storage.
        study_folder: Where its finished folds lie; the search's own by default.

    Raises:
        StudyMismatchError: There is no such study, no folder of it, or its data have changed.
        FailedTrialError: No trial of it has finished.
    """
    write_store_plainly()
    folder = None if study_folder is None else str(study_folder)
    return finished_study.read_study(name, storage=storage, study_folder=folder)


def audit(study: Study, *, questions: Sequence[str] = QUESTIONS) -> StudyAudit:
    """Ask whether a study's score means what it seems to; heads alone are trained. Logged below the study's run.

    Args:
        study: From `search` or `load_study`.
        questions: Of `leak`, `metadata`, `left-out`, `controls` and `nested`, which costs four searches.

    Raises:
        SettingsError: A question is not known.
        StudyMismatchError: The data or weights are not the study's own any more.
    """
    settings = study.settings
    return run_audit(
        study.name,
        storage=settings.storage,
        study_folder=settings.study_folder,
        threads=settings.threads,
        questions=tuple(questions),
    )


def compare(study: Study, other: Study) -> StudyComparison:
    """Compare the winners of two studies of one storage, image by image. Logged below the first study's run.

    Args:
        study: From `search` or `load_study`.
        other: One over the same data and folds.

    Raises:
        NotComparableError: They differ in data or folds, or lie in different storages.
    """
    if study.settings.storage != other.settings.storage:
        raise NotComparableError(
            f"Studies {study.name!r} and {other.name!r} lie in different storages: search both with one storage."
        )
    folder = study.settings.study_folder
    common = folder if folder == other.settings.study_folder else None
    return run_comparison(study.name, other.name, storage=study.settings.storage, study_folder=common)


def lots(*folders: Place, output: Place | None = None, **settings: Any) -> LotsAudit:
    """Test whether lots of one material can be told apart by their images; nothing is trained.

    Args:
        folders: One for each lot, two or more.
        output: Folder for the report and its files; None writes none.
        settings: Settings by name: `backbone`, `weights`, `tile_px`, `crop_bottom_px`, `max_megapixels`, `seed` ...

    Raises:
        InputError: A folder or a picture cannot be used, or a lot has too few images.
    """
    return run_lots([Path(folder) for folder in folders], output=None if output is None else Path(output), **settings)


def load_model(model_uri: str | None = None) -> Model:
    """Return a registered classifier, its files held against the registry; `model.predict(paths)` is a table.

    Args:
        model_uri: `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<run id>/<name>` or a model's folder;
            None is the champion of the only model that has one.

    Raises:
        ModelNotFoundError: There is no such model, or it cannot be loaded.
        StoreError: A file is not what was registered.
    """
    write_store_plainly()
    return Model.load(model_uri)


def _build_settings(data: Place, settings: dict[str, Any]) -> SearchSettings:
    return build_settings({**settings, "data": str(data)})

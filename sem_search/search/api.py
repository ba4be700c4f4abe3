"""What `import sem_search` offers: the commands as functions, which return records and print nothing but progress.

They raise the package's errors, warn by Python's warnings, and set no signal handlers. Searches and audits put what
they make into the current folder, as the commands do, unless `storage`, `study_folder` and MLflow's tracking URI say
otherwise. Each function imports what it needs when it is called, so that images are inspected without TensorFlow.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sem_search.errors import NotComparableError, SettingsError
from sem_search.places import write_store_plainly
from sem_search.transfer.runtime import load_tensorflow, quieten_start
from sem_search.words import count

if TYPE_CHECKING:
    from sem_search.audits.learning_curve_answer import LearningCurveAudit
    from sem_search.audits.lot_judgement import LotJudgementAudit
    from sem_search.audits.lot_reference import LotReference
    from sem_search.audits.lots import LotsAudit
    from sem_search.audits.study_audit import StudyAudit
    from sem_search.audits.study_comparison import StudyComparison
    from sem_search.deployment.batch.model import Model
    from sem_search.micrographs.catalogue import Catalogue
    from sem_search.micrographs.inspection.inspect import Inspection
    from sem_search.search.results.study_result import Study
    from sem_search.settings import SearchSettings

Place = str | PathLike[str]
"""A file or folder, as a text or a path."""


READING_SETTINGS = ("exclude", "skip_unreadable", "allow_outside", "crop_bottom_px", "max_megapixels")
"""What only `read_catalogue` can still do."""


def read_catalogue(data: Place = "demo", **settings: Any) -> "Catalogue":
    """Read micrographs and their labels.

    >>> ss.read_catalogue("micrographs").class_names
    ('lactose', 'mannitol', 'starch')

    Args:
        data: A folder with one sub-folder for each class, a CSV, or `demo`.
        settings: Settings of the search by name: `exclude`, `skip_unreadable`, `crop_bottom_px`, `tile_px` ...

    Returns:
        The images: `.table` has one row for each, `.class_names` the classes, `.warnings` what reading had to say.

    Raises:
        DataError: There are no data, or they cannot be used as they are.
        SettingsError: A setting is unknown or out of range, or `exclude` names no class.
    """
    from sem_search.search.prepare.data import read_data

    return read_data(_build_settings(data, settings), progress=True)


def inspect(data: "Catalogue | Place" = "demo", **settings: Any) -> "Inspection":
    """Find what is wrong with micrographs before anything is trained; a notebook shows the report.

    Files that cannot be read are findings here, not errors.

    >>> ss.inspect("micrographs").table["severity"].unique().tolist()
    ['note']

    Args:
        data: From `read_catalogue`, or as it takes it.
        settings: Settings of the search by name: `folds`, `overlaps`, `tile_px` ...

    Returns:
        The findings: `.table` has one row for each, the worst first; `.to_html()` is the report.

    Raises:
        DataError: There are no data, or no two classes.
        SettingsError: A setting is unknown or out of range, or comes too late for a catalogue that has been read.
    """
    from sem_search.micrographs.catalogue import Catalogue
    from sem_search.search.commands.inspect import inspect_data

    if isinstance(data, Catalogue):
        late = ", ".join(name for name in READING_SETTINGS if name in settings)
        if late:
            raise SettingsError(f"{late}: these images have been read already. Give it to read_catalogue.")
        return inspect_data(_build_settings(data.root, settings), catalogue=data)
    return inspect_data(_build_settings(data, settings))


def search(data: Place = "demo", **settings: Any) -> "Study":
    """Search heads, learning rates and batch sizes for a backbone, log every trial, and register the winner.

    The same call again goes on where it was stopped: finished folds are not trained again.

    >>> study = ss.search("micrographs", model_name="first-look")
    >>> study.model_uri
    'models:/first-look/1'

    Args:
        data: A folder with one sub-folder for each class, a CSV, or `demo`.
        settings: Settings by name, see `SearchSettings`: `backbone`, `preset`, `heads`, `learning_rates`, `study` ...

    Returns:
        The study: `.best` is the winner's row of `.trials`, `.predictions` its answers, `.figures` and `.report` show
        both, and `.model_uri` is what `load_model` takes.

    Raises:
        InputError: Data, weights or settings cannot be used, or the study was made with others; nothing was trained.
        FailedTrialError: No trial has finished.
        StoreError: A database, the tracking server or the disk does not answer.
    """
    asked = _build_settings(data, settings)
    _start()
    from sem_search.search.commands.search import run_search
    from sem_search.search.results.study_result import Study

    conclusion = run_search(asked)
    registered = conclusion.registered
    return Study(
        settings=asked.model_copy(update={"study": conclusion.outcome.name}),
        outcome=conclusion.outcome,
        run_id=conclusion.run_id,
        model_uri=f"models:/{registered.name}/{registered.version}",
    )


def load_study(name: str, *, storage: str = "sqlite:///optuna.db", study_folder: Place | None = None) -> "Study":
    """Take up a study that a search has finished; its images are read again, nothing is computed.

    >>> ss.load_study("excipients").best["state"]
    'complete'

    Args:
        name: As the search named it.
        storage: Its Optuna storage.
        study_folder: Where its finished folds lie; the search's own by default.

    Returns:
        The study as `search` returned it.

    Raises:
        SettingsError: There is no such storage here.
        StudyMismatchError: There is no such study, no folder of it, or its data have changed.
        DataError: Its images cannot be read any more.
        FailedTrialError: No trial of it has finished.
        StoreError: The storage does not answer, or finished folds are lost or damaged.
    """
    _start()
    from sem_search.search.commands.finished_study import read_study

    return read_study(name, storage=storage, study_folder=None if study_folder is None else str(study_folder))


def audit(study: "Study", *, questions: Sequence[str] | None = None) -> "StudyAudit":
    """Ask whether a study's score means what it seems to; heads alone are trained. Logged below the study's run.

    >>> ss.audit(study, questions=["metadata"]).table["name"][0]
    'as measured'

    Args:
        study: From `search` or `load_study`.
        questions: Of `leak`, `metadata`, `left-out`, `controls` and `nested`; all but `nested`, which costs four
            searches, by default.

    Returns:
        The answers: `.table` has one row for each way of training or asking, `.to_text()` says what they mean.

    Raises:
        SettingsError: A question is not known.
        StudyMismatchError: The data or weights are not the study's own any more.
        StoreError: The tracking store does not answer, or finished folds are lost or damaged.
    """
    _start()
    from sem_search.audits.study_audit import QUESTIONS
    from sem_search.search.commands.audit import run_audit

    asked = QUESTIONS if questions is None else tuple(questions)
    return run_audit(study.name, **_get_place(study), questions=asked)


def learning_curve(study: "Study", *, target: float | None = None) -> "LearningCurveAudit":
    """Ask how many images a study needs: its winner trained on growing numbers of them. Logged below the study's run.

    >>> ss.learning_curve(study).table["n_images"].round(2).tolist()
    [1.0, 1.67]

    Args:
        study: From `search` or `load_study`.
        target: F-measure over test tiles, above 0 and below 1; by default half of today's errors gone.

    Returns:
        The curve: `.table` has one row for each number of images of a class that a head learns from, `.need` says how
        many the target needs, and `.to_text()` what all that means.

    Raises:
        SettingsError: The target is no such score.
        ClassTooSmallError: There are too few images to leave any out.
        StudyMismatchError: The data or weights are not the study's own any more.
        StoreError: The tracking store does not answer, or finished folds are lost or damaged.
    """
    _start()
    from sem_search.search.commands.learning_curve import run_learning_curve

    return run_learning_curve(study.name, **_get_place(study), target=target)


def compare(study: "Study", other: "Study") -> "StudyComparison":
    """Compare the winners of two studies of one storage, image by image. Logged below the first study's run.

    >>> other = ss.search("micrographs", study="other", learning_rates=[0.01])
    >>> ss.compare(study, other).table["figure"].tolist()[-3:]
    ['lactose', 'mannitol', 'starch']

    Args:
        study: From `search` or `load_study`.
        other: One over the same data and folds.

    Returns:
        The comparison: `.table` has one row for each figure, with the difference and its interval; `.to_text()` says
        what they mean.

    Raises:
        NotComparableError: They differ in data or folds, or lie in different storages.
        StoreError: The tracking store does not answer, or finished folds are lost or damaged.
    """
    if study.settings.storage != other.settings.storage:
        raise NotComparableError(
            f"Studies {study.name!r} and {other.name!r} lie in different storages: search both with one storage."
        )
    _start()
    from sem_search.search.commands.compare import run_comparison

    folder = study.settings.study_folder
    common = folder if folder == other.settings.study_folder else None
    return run_comparison(study.name, other.name, storage=study.settings.storage, study_folder=common)


@overload
def lots(*folders: Place, reference: None = None, output: Place | None = None, **settings: Any) -> "LotsAudit": ...


@overload
def lots(
    *folders: Place, reference: Place, margin: float | None = None, output: Place | None = None, **settings: Any
) -> "LotJudgementAudit": ...


def lots(
    *folders: Place,
    reference: Place | None = None,
    margin: float | None = None,
    output: Place | None = None,
    **settings: Any,
) -> "LotsAudit | LotJudgementAudit":
    """Test whether lots of one material can be told apart, or judge one by a reference; nothing is trained.

    >>> ss.lots("micrographs/lactose", "micrographs/starch").table[["first", "second"]].to_numpy().tolist()
    [['lactose', 'starch']]

    Args:
        folders: One for each lot: two or more, or the new lot alone.
        reference: Folder that `lots_reference` has written.
        margin: With a reference: how far a lot may lie off, in standard deviations between lots; 3 by default.
        output: Folder for the report and its files; None writes none.
        settings: Settings by name: `backbone`, `weights`, `tile_px`, `crop_bottom_px`, `max_megapixels`, `seed` ...;
            with a reference only `weights`, `max_megapixels` and `threads`.

    Returns:
        The tests: `.table` has one row for each pair of lots, `.to_text()` says what they mean. With a reference the
        judgement: `.judgement.verdict` is `equivalent`, `different` or `unclear`, `.table` has the control chart.

    Raises:
        InputError: A folder, a picture, weights or a setting cannot be used, or a lot has too few images.
    """
    if not folders or (reference is None) != (len(folders) > 1) or (reference is None and margin is not None):
        raise SettingsError(
            f"{count(len(folders), 'folder')} and {'no' if reference is None else 'a'} reference: give two or more "
            "folders, or one with reference=, and margin= only then."
        )
    _start()
    paths, place = [Path(folder) for folder in folders], None if output is None else Path(output)
    if reference is None:
        from sem_search.search.commands.lots import run_lots

        return run_lots(paths, output=place, **settings)
    from sem_search.search.commands.lots_reference import run_lot_judgement

    return run_lot_judgement(paths[0], reference=Path(reference), margin=margin, output=place, **settings)


def lots_reference(*folders: Place, output: Place = "reference", **settings: Any) -> "LotReference":
    """Make a reference of accepted lots, by which `lots` judges a new one; nothing is trained.

    >>> ss.lots_reference("micrographs/lactose", "micrographs/starch")
    Traceback (most recent call last):
    sem_search.errors.DataError: the reference has 2 lots: give 5 or more, which show how much lots differ

    Args:
        folders: One for each lot, five or more, in the order of time where their pictures state no date.
        output: Folder that is written; a reference in it is replaced.
        settings: Settings by name, as `lots` takes them.

    Returns:
        The reference: `.lots` are what is kept of each.

    Raises:
        InputError: A folder, a picture, weights or a setting cannot be used, or there are too few lots or images.
    """
    _start()
    from sem_search.search.commands.lots_reference import run_lots_reference

    return run_lots_reference([Path(folder) for folder in folders], output=Path(output), **settings)


def load_model(model_uri: str | None = None) -> "Model":
    """Load a registered classifier; its files are held against the registry.

    >>> model = ss.load_model("models:/excipients/1")
    >>> model.predict("micrographs/starch").shape[0]
    5

    Args:
        model_uri: `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<run id>/<name>` or a model's folder;
            None is the champion of the only model that has one.

    Returns:
        The classifier: `.predict(paths)` returns a table with one row for each image.

    Raises:
        ModelNotFoundError: There is no such model, or it cannot be loaded.
        SettingsError: The registry refuses the request.
        StoreError: The registry does not answer, or a file is not what was registered.
    """
    _start()
    from sem_search.deployment.batch.model import Model

    return Model.load(model_uri)


def _start() -> None:
    """Do what must be done before MLflow and TensorFlow are loaded: where the runs go, and no notes to the user."""
    quieten_start()
    write_store_plainly()
    load_tensorflow()


def _get_place(study: "Study") -> dict[str, Any]:
    """Return where a study lies, and its threads, as the commands on finished studies take them."""
    return study.settings.model_dump(include={"storage", "study_folder", "threads"})


def _build_settings(data: Place, settings: dict[str, Any]) -> "SearchSettings":
    from sem_search.settings import build_settings

    return build_settings({**settings, "data": str(data)})

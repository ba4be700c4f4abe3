"""`sem-search report`: the report of a finished study, found beside its folds or made again; nothing is trained.

For a paper about the study: its kit, and the report as PDF.
"""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sem_search.deployment.registry import find_registered
from sem_search.files import write_atomically
from sem_search.places import REPORT
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.finished_study import (
    FinishedStudy,
    check_study_folder,
    read_settings,
    take_up_study,
)
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import get_study_folder, write_report
from sem_search.search.process import quieten_libraries
from sem_search.search.results.conclusion import describe_study, describe_tiling, list_winner_runs, read_examples
from sem_search.search.trials.study import choose_study_name, load_study
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.trust import compute_trust
from sem_search.tracking.kit.kit import PRINTED_SIDE_PX, build_kit, check_kit_folder
from sem_search.tracking.kit.methods import StudyRecord
from sem_search.tracking.mlflow.files import read_text_artifact, write_artifacts
from sem_search.tracking.report.study_page import render_report


def run_report(
    study: str | None = None,
    *,
    storage: str,
    study_folder: str | None = None,
    threads: int | None = None,
    is_new: bool = False,
    output: Path | None = None,
    show: Show = show_nothing,
) -> Path:
    """Return the file of a study's report; where there is none, it is made from the finished folds.

    Args:
        study: The study's name; None is the only study of the storage.
        storage, study_folder, threads: As of `take_up_study`.
        is_new: Make it again although it is there: an audit may have been logged since.
        output: Where a copy is put.
        show: Shows that it is made.

    Raises:
        InputError: There is no such study here, or its data have changed.
        StoreError: Finished folds are lost, or a file cannot be written.
    """
    quieten_libraries()
    study = study or choose_study_name(storage)
    settings = read_settings(
        load_study(name=study, storage=storage), storage=storage, changes={"study_folder": study_folder}
    )
    check_study_folder(settings, name=study)
    file = get_study_folder(settings, name=study).absolute() / REPORT
    if is_new or not file.is_file():
        show("The report is made from the finished folds.")
        file = _make_report(study, storage=storage, study_folder=study_folder, threads=threads)
    if output is None:
        return file
    write_atomically(output.absolute(), file.read_bytes(), setting="output")
    return output.absolute()


def run_kit(
    study: str | None,
    *,
    folder: Path,
    storage: str,
    study_folder: str | None = None,
    threads: int | None = None,
    show: Show = show_nothing,
) -> Path:
    """Write all that a paper about a study needs into a new folder, and return it: see `tracking/kit`.

    Args:
        study: The study's name; None is the only study of the storage.
        folder: New, or empty.
        storage, study_folder, threads: As of `take_up_study`.
        show: Shows that it is made.

    Raises:
        InputError: The folder holds files, there is no such study here, or its data have changed.
        StoreError: Finished folds are lost, a file cannot be written, or the tracking store does not answer.
    """
    check_kit_folder(folder)
    finished = take_up_study(
        study or choose_study_name(storage), storage=storage, study_folder=study_folder, threads=threads
    )
    show("The figures are drawn for print, which takes about a minute.")
    record = StudyRecord(
        study=finished.outcome,
        context=_enlarge(_describe(finished, storage=storage), prepared=finished.prepared),
        trust=compute_trust(finished.outcome),
        versions=json.loads(read_text_artifact(run_id=finished.run_id, path="study/versions.json")),
    )
    target = folder.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as parts:  # there in full, or not at all
        write_artifacts(build_kit(record), folder=Path(parts) / target.name)
        (Path(parts) / target.name).replace(target)  # an empty folder gives way
    return target


def _make_report(study: str, *, storage: str, study_folder: str | None, threads: int | None) -> Path:
    """Write the report of a study beside its folds."""
    finished = take_up_study(study, storage=storage, study_folder=study_folder, threads=threads)
    context = _describe(finished, storage=storage)
    text = render_report(finished.outcome, context=context)
    return write_report(text, settings=finished.prepared.settings, name=study)


def _describe(finished: FinishedStudy, *, storage: str) -> StudyContext:
    """Return what figures and words about a finished study need."""
    begun, prepared = load_study(name=finished.prepared.name, storage=storage), finished.prepared
    registered = find_registered(
        model_name=prepared.settings.resolved_model_name,
        run_ids=list_winner_runs(begun, outcome=finished.outcome),
    )
    return describe_study(
        begun,
        outcome=finished.outcome,
        prepared=prepared,
        model_uri=None if registered is None else registered.uri,
        run_id=finished.run_id,
    )


def _enlarge(context: StudyContext, *, prepared: PreparedSearch) -> StudyContext:
    """Return the same with originals as large as print shows them."""
    examples = read_examples(prepared, side_px=PRINTED_SIDE_PX)
    return replace(context, examples=examples, tiling=describe_tiling(prepared, example=examples[0]))

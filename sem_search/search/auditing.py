"""`sem-search audit`: a finished study is asked whether its score means what it seems to."""

import click

from sem_search.audits.study_audit import QUESTIONS, StudyAudit, audit_study, check_questions, iter_audit_entries
from sem_search.audits.subject import AuditSubject
from sem_search.search.finished import FinishedStudy, take_up_study, tell_progress
from sem_search.search.processes import describe_process
from sem_search.tracking.mlflow_log import end_run, log_entries, open_child_run
from sem_search.tracking.runs import describe_audit
from sem_search.transfer.training import TrainingSettings


def run_audit(
    study: str,
    *,
    storage: str,
    study_folder: str | None = None,
    threads: int | None = None,
    questions: tuple[str, ...] = QUESTIONS,
) -> StudyAudit:
    """Audit a study, print what was found, and log it below the study's run.

    Raises:
        InputError: There is no such study here, its data have changed, or a question is not known.
    """
    check_questions(questions)
    finished = take_up_study(study, storage=storage, study_folder=study_folder, threads=threads)
    tags = describe_audit(study=study, kind="audit", process=describe_process())
    run_id = open_child_run(parent_run_id=finished.run_id, name=f"audit of {study}", tags=tags)
    is_done = False
    try:
        audit = audit_study(build_subject(finished), questions=questions, tell=tell_progress)
        log_entries(iter_audit_entries(audit), run_id=run_id)
        is_done = True
    finally:
        end_run(run_id, status="FINISHED" if is_done else "FAILED")
    click.echo(audit.to_text())
    click.echo(f"Logged as run {run_id}, artifacts below audit/.")
    return audit


def build_subject(finished: FinishedStudy) -> AuditSubject:
    """Return the study as the audits see it."""
    prepared = finished.prepared
    settings, data = prepared.settings, prepared.data
    return AuditSubject(
        study=prepared.name,
        winner=finished.outcome.winner,
        tiles=data.tiles,
        folds=data.folds,
        catalogue=data.catalogue,
        grid=data.grid,
        crop_bottom_px=data.crop_bottom_px,
        max_megapixels=settings.max_megapixels,
        backbone=prepared.network.backbone,
        cut=prepared.network.cut,
        features=prepared.features,
        training=TrainingSettings(epochs=settings.epochs, patience=settings.patience, momentum=settings.momentum),
        hidden_units=settings.hidden_units,
        dropout=settings.dropout,
        seed=settings.seed,
    )

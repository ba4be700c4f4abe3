"""`sem-search audit` and `morphology`: is a study's score what it seems to be, and what does its network look at?"""

import click

from sem_search.audits.morphology import MorphologyAudit, audit_morphology, iter_morphology_entries
from sem_search.audits.study_audit import QUESTIONS, StudyAudit, audit_study, check_questions, iter_audit_entries
from sem_search.audits.subject import AuditSubject
from sem_search.search.finished import FinishedStudy, open_question_run, take_up_study, tell_progress
from sem_search.search.outcome import read_kept_folds
from sem_search.tracking.mlflow_log import log_entries
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
    with open_question_run(
        study=study, kind="audit", parent_run_id=finished.run_id, name=f"audit of {study}"
    ) as run_id:
        audit = audit_study(build_subject(finished), questions=questions, tell=tell_progress)
        log_entries(iter_audit_entries(audit), run_id=run_id)
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


def run_morphology(
    study: str, *, storage: str, study_folder: str | None = None, threads: int | None = None
) -> MorphologyAudit:
    """Ask what a study's network looks at, print what was found, and log it below the study's run.

    Raises:
        InputError: There is no such study here, its data have changed, or too few images have particles.
    """
    finished = take_up_study(study, storage=storage, study_folder=study_folder, threads=threads)
    subject = build_subject(finished)
    kept = read_kept_folds(finished.prepared, cell=finished.outcome.winner.cell)
    with open_question_run(
        study=study, kind="morphology", parent_run_id=finished.run_id, name=f"morphology of {study}"
    ) as run_id:
        audit = audit_morphology(
            subject, head_weights={one.outcome.fold: one.head_weights for one in kept}, tell=tell_progress
        )
        log_entries(iter_morphology_entries(audit, subject=subject), run_id=run_id)
    click.echo(audit.to_text())
    click.echo(f"Logged as run {run_id}, artifacts below morphology/.")
    return audit

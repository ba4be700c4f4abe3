"""`sem-search audit` and `morphology`: is a study's score what it seems to be, and what does its network look at?"""

from sem_search.audits.heat_maps.heat import HeadWeights
from sem_search.audits.heat_maps.morphology import MorphologyAudit, audit_morphology
from sem_search.audits.heat_maps.morphology_entries import iter_morphology_entries
from sem_search.audits.heat_maps.other_network import explain_study
from sem_search.audits.study_audit import QUESTIONS, StudyAudit, check_questions, iter_audit_entries, iter_audits
from sem_search.audits.subject import AuditSubject
from sem_search.progress import Show, show_nothing
from sem_search.records import TrialOutcome
from sem_search.search.commands.command_line import write_command
from sem_search.search.commands.compare import SAME_TILES, check_pair
from sem_search.search.commands.finished_study import FinishedStudy, open_question_run, take_up_study
from sem_search.search.prepare.network import get_training_settings
from sem_search.search.results.outcome import read_finished_folds
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.names import TAG_AUDIT


def run_audit(
    study: str,
    *,
    storage: str,
    study_folder: str | None = None,
    threads: int | None = None,
    questions: tuple[str, ...] = QUESTIONS,
    show: Show = show_nothing,
    show_progress: Show = show_nothing,
) -> StudyAudit:
    """Audit a study; show and log each answer, below the study's run, as it comes.

    What was answered before an interruption stays: shown, and in the run.

    Args:
        study: The study's name.
        storage, study_folder, threads: As of `take_up_study`.
        questions: What to ask.
        show: Shows each answer.
        show_progress: Shows what is being trained.

    Raises:
        InputError: There is no such study here, its data have changed, or a question is not known.
    """
    check_questions(questions)
    command = write_command(
        "audit", study, storage=storage, study_folder=study_folder, only=None if questions == QUESTIONS else questions
    )
    finished = take_up_study(study, storage=storage, study_folder=study_folder, threads=threads)
    with open_question_run(study=study, kind="audit", parent_run_id=finished.run_id) as run_id:
        show_progress(f"Logged as run {run_id}, artifacts below audit/, answer by answer.")
        audits = iter_audits(build_subject(finished), questions=questions, show=show_progress)
        known, shown = None, ""
        for audit in audits:
            answer = audit.to_answer()
            log_entries(iter_audit_entries(audit, command=command, known=known), run_id=run_id)
            show(answer.describe_sections().removeprefix(shown).removeprefix("\n"))
            known, shown = audit, answer.describe_sections()
        if set(questions) >= set(QUESTIONS):
            log_entries([Tags(values={TAG_AUDIT: answer.light})], run_id=run_id)
    show("\n".join(answer.iter_conclusion()))
    show(format_links({"audit": link_run(run_id, artifact="audit/audit.html")}))
    return audit


def build_subject(finished: FinishedStudy) -> AuditSubject:
    """Return the study as the audits see it."""
    prepared = finished.prepared
    settings, data = prepared.settings, prepared.data
    return AuditSubject(
        outcome=finished.outcome,
        folds=data.folds,
        catalogue=data.catalogue,
        grid=data.grid,
        backbone=prepared.network.backbone,
        cut=prepared.network.cut,
        views=prepared.views,
        training=get_training_settings(settings.model_dump()),
        hidden_units=settings.hidden_units,
        dropout=settings.dropout,
        seed=settings.seed,
    )


def run_morphology(
    study: str,
    *,
    storage: str,
    study_folder: str | None = None,
    threads: int | None = None,
    other: str | None = None,
    show: Show = show_nothing,
    show_progress: Show = show_nothing,
) -> MorphologyAudit:
    """Ask what a study's network looks at, show what was found, and log it below the study's run.

    Args:
        study: The study's name.
        storage, study_folder, threads: As of `take_up_study`.
        other: Another study of the storage, on the same data and folds: does its network look at the same places?
        show: Shows what was found.
        show_progress: Shows what is being computed.

    Raises:
        InputError: There is no such study here, its data have changed, too few images have particles, or the other
            study has other data or folds.
    """
    if other is not None:
        check_pair(study, other, storage=storage, must_agree=SAME_TILES)
    finished = take_up_study(study, storage=storage, study_folder=study_folder, threads=threads)
    subject, maps = build_subject(finished), None
    with open_question_run(study=study, kind="morphology", parent_run_id=finished.run_id) as run_id:
        if other is not None:
            show_progress(f"heat maps of {other}")
            second = take_up_study(other, storage=storage, study_folder=study_folder, threads=threads)
            weights = read_head_weights(second, trial=second.outcome.winner)
            maps = explain_study(build_subject(second), head_weights=weights)
        audit = audit_morphology(
            subject,
            head_weights=read_head_weights(finished, trial=finished.outcome.winner),
            searched_weights=read_head_weights(finished, trial=finished.outcome.chosen),
            show=show_progress,
            other=maps,
        )
        command = write_command("morphology", study, storage=storage, study_folder=study_folder, other=other)
        log_entries(iter_morphology_entries(audit, subject=subject, command=command), run_id=run_id)
    show(audit.to_text())
    show(format_links({"morphology": link_run(run_id, artifact="morphology/morphology.html")}))
    return audit


def read_head_weights(finished: FinishedStudy, *, trial: TrialOutcome) -> dict[int, HeadWeights]:
    """Return a trial's head of each fold, by the fold's number."""
    kept = read_finished_folds(finished.prepared, trial=trial)
    return {one.outcome.fold: one.head_weights for one in kept}

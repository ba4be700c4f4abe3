"""`sem-search learning-curve`: how many images does a study need?"""

from sem_search.audits.learning_curve import check_target, measure_learning_curve
from sem_search.audits.learning_curve_answer import LearningCurveAudit, iter_learning_curve_entries
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.audit import build_subject
from sem_search.search.commands.command_line import write_command
from sem_search.search.commands.finished_study import open_question_run, take_up_study
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries


def run_learning_curve(
    study: str,
    *,
    storage: str,
    study_folder: str | None = None,
    threads: int | None = None,
    target: float | None = None,
    show: Show = show_nothing,
) -> LearningCurveAudit:
    """Train a study's winner on growing numbers of images, show what they tell, and log it below the study's run.

    Args:
        study: The study's name.
        storage, study_folder, threads: As of `take_up_study`.
        target: F-measure over test tiles, in (0, 1); by default half of today's errors gone.
        show: Shows what was found.

    Raises:
        InputError: There is no such study here, its data have changed, there are too few images to leave any out, or
            the target is no score.
    """
    check_target(target)
    command = write_command(
        "learning-curve",
        study,
        storage=storage,
        study_folder=study_folder,
        target=None if target is None else f"{target:g}",
    )
    finished = take_up_study(study, storage=storage, study_folder=study_folder, threads=threads)
    with open_question_run(study=study, kind="learning-curve", parent_run_id=finished.run_id) as run_id:
        audit = measure_learning_curve(build_subject(finished), target=target)
        log_entries(iter_learning_curve_entries(audit, command=command), run_id=run_id)
    show(audit.to_text())
    show(format_links({"learning curve": link_run(run_id, artifact="learning_curve/learning_curve.html")}))
    return audit

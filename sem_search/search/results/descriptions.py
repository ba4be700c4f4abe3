"""The verdict on a study, where it is looked for: in the descriptions of its run and its winner's, and at the model."""

from sem_search.deployment.registry import RegisteredVersion, write_verdict
from sem_search.records import StudyOutcome
from sem_search.tracking.mlflow.links import link_run_within, link_version_within
from sem_search.tracking.mlflow.own_runs import describe_run, escape_markdown
from sem_search.tracking.report.verdict import Verdict


def describe_study_runs(outcome: StudyOutcome, *, verdict: Verdict, registered: RegisteredVersion, run_id: str) -> None:
    """Write the descriptions of a study's run and of its winner's, and the verdict on the version that it became."""
    write_verdict(registered.name, registered.version, verdict=verdict.sentence)
    winner, version = outcome.winner, f"{escape_markdown(registered.name)}, version {registered.version}"
    found = f"**{escape_markdown(verdict.headline)}.** {escape_markdown(verdict.sentence)}"
    if verdict.fine_tuning is not None:
        found += f"\n\n{escape_markdown(verdict.fine_tuning.sentence)}"
    study, model = link_run_within(run_id), link_version_within(registered.name, registered.version)
    report = f"[Report]({link_run_within(run_id, artifact='report.html')})"
    if winner.run_id is not None:
        origin = f"Winner of study [{escape_markdown(outcome.name)}]({study}), registered as [{version}]({model})."
        describe_run(winner.run_id, text=f"{found}\n\n{origin} {report}")
        lines = [
            report,
            f"Winner: [{winner.cell.name}]({link_run_within(winner.run_id)}), {winner.cell.to_text()}",
            f"Model: [{version}]({model}), {escape_markdown(registered.reason)}",
        ]
        describe_run(run_id, text="\n- ".join([f"{found}\n", *lines]))

"""`sem-search monitor`: a journal in, whether something has drifted out, as a table, a page and metrics of a run."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from math import isfinite
from pathlib import Path

import pandas as pd

from sem_search.audits.answer import iter_answer
from sem_search.deployment.monitoring.answer import build_drift_answer, list_metrics
from sem_search.deployment.monitoring.comparison import DriftReport, compare_period, read_training, select_images
from sem_search.deployment.monitoring.journal import AnswerJournal
from sem_search.deployment.registry import complete_model_uri, resolve_model_uri
from sem_search.deployment.registry.versions import split_model_uri
from sem_search.errors import DataError, SettingsError
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.command_line import write_command
from sem_search.search.commands.inspect import check_place
from sem_search.secrets import mask_url
from sem_search.tracking.entries.types import Params, iter_finite_metrics
from sem_search.tracking.mlflow.files import write_artifacts
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import create_store, open_side_run
from sem_search.tracking.report.answer_page import Answer
from sem_search.words import count

TRAINING = "training"
"""What `against` is by default."""


def run_monitor(
    journal: str,
    *,
    output: Path,
    model_uri: str | None = None,
    since: str | None = None,
    until: str | None = None,
    against: str = TRAINING,
    show: Show = show_nothing,
) -> DriftReport:
    """Compare the answers of a period with a reference, show what was found, write it and log it as a run of its own.

    Args:
        journal: File, or URL of a database.
        output: Folder that is written, made if it is not there.
        model_uri: Of a registered version; None is the champion of the only model that has one.
        since: ISO date or time from which on images count, in local time unless it names a zone; None: all, or from the
            end of the earlier period on.
        until: The first moment that does not count; None: now.
        against: `training`, or an earlier period as `SINCE..UNTIL`.
        show: Shows what was found.

    Raises:
        InputError: The journal, the model or a moment cannot be used, or there are no images to compare.
        StoreError: The registry, the journal or the tracking store does not answer.
    """
    check_place(output)
    uri = resolve_model_uri(complete_model_uri(model_uri))
    reference, rows = _read_both(journal, uri=uri, since=since, until=until, against=against)
    period = select_images(rows)
    if against != TRAINING:
        period = period[~period.image_sha256.isin(reference.image_sha256)].reset_index(drop=True)
    if period.empty or reference.empty:
        where = against if reference.empty else "this period"
        raise DataError(f"journal={mask_url(journal)} holds no new images of {uri} in {where}: choose another one.")
    report = compare_period(reference, period)
    subject = (
        f"{uri}: {count(len(period), 'image')} from {period.answered_at.min():%Y-%m-%d} to "
        f"{period.answered_at.max():%Y-%m-%d} (UTC; {len(rows) - len(period)} repeated or training images left out), "
        f"compared with {count(len(reference), 'image')} of {against}."
    )
    answer = build_drift_answer(report, subject=subject, reference="Training" if against == TRAINING else "Earlier")
    show(answer.to_text())
    given = {"journal": mask_url(journal), "model": uri, "since": since, "until": until, "against": against}
    run_id = _write(report, answer=answer, output=output, given=given)
    show(f"Written to {output}: monitor.html has all of it.")
    show(format_links({"monitor": link_run(run_id, artifact="monitor.html")}))
    return report


def _write(report: DriftReport, *, answer: Answer, output: Path, given: Mapping[str, str | None]) -> str:
    """Write the files and log them with the numbers to a run of their own; return its id."""
    command = write_command("monitor", output=str(output), **{name: value for name, value in given.items() if value})
    numbers = {key: value if isfinite(value) else str(value) for key, value, _ in list_metrics(report)}
    files = tuple(iter_answer("monitor", answer=answer, numbers=numbers, command=command))
    metrics = iter_finite_metrics(list_metrics(report), source="monitor")
    create_store()
    with open_side_run(kind="monitor", name=f"monitor {str(given['model']).removeprefix('models:/')}") as run_id:
        write_artifacts(files, folder=output)
        log_entries([Params(values=given), *metrics, *files], run_id=run_id)
    return run_id


def _read_both(
    journal: str, *, uri: str, since: str | None, until: str | None, against: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the images of the reference, and the journal's rows of the period."""
    address = split_model_uri(uri)
    if address is None:
        raise SettingsError(f"model={uri}: give a registered version; a journal knows answers by their version.")
    begin, end = _read_moment(since, name="since"), _read_moment(until, name="until")
    source = AnswerJournal.open(journal, is_new_allowed=False)
    read = partial(source.read, model_name=address[0], model_version=address[1])
    if against == TRAINING:
        return read_training(uri), read(since=begin, until=end)
    earlier_begin, earlier_end = _read_period(against)
    if begin is not None and begin < earlier_end:
        raise SettingsError(f"since={since} lies before the end of against={against}: no image may count twice.")
    return select_images(read(since=earlier_begin, until=earlier_end)), read(since=begin or earlier_end, until=end)


def _read_period(given: str) -> tuple[datetime, datetime]:
    """Return both ends of `SINCE..UNTIL`."""
    since, _, until = given.partition("..")
    begin, end = _read_moment(since, name="against"), _read_moment(until, name="against")
    if begin is None or end is None or begin >= end:
        raise SettingsError(f"against={given}: give training, or a period such as 2026-01-01..2026-02-01.")
    return begin, end


def _read_moment(given: str | None, *, name: str) -> datetime | None:
    """Return a moment with its time zone; None where none is given."""
    if not given:
        return None
    try:
        return datetime.fromisoformat(given).astimezone()
    except ValueError:
        raise SettingsError(f"{name}={given} is no date: write it as 2026-03-31, or 2026-03-31T14:00.") from None

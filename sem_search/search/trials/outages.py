"""What a search does while a database or the tracking server is away: it works on, waits where it must, and says so.

Of the tracking server it needs nothing while it trains: what is to be logged lies in the study's outbox until the
server is back (`tracking.outbox`). The study's database says what to train next, so for that it waits
(`search.storage`); what has been trained is on disk before either is told.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.trial import FrozenTrial

from sem_search.deployment.package.writing import MODEL_ITEM, deliver_classifier
from sem_search.errors import StoreError
from sem_search.search.prepare.study_folder import get_study_folder
from sem_search.search.trials.study import RUN_ID
from sem_search.settings import SearchSettings
from sem_search.terminal import echo
from sem_search.tracking.mlflow.delivery import DELIVERERS
from sem_search.tracking.mlflow.outbox import Outbox
from sem_search.tracking.mlflow.posting import describe_rest, open_outbox, resolve_run

OUTBOX = "outbox"
"""The folder below a study's own in which what is to be logged waits."""


def tell_outage(text: str) -> None:
    """Say that something is away, or back, to who waits."""
    echo(f"Warning: {text}", err=True)


def locate_outbox(settings: SearchSettings, *, name: str) -> Path:
    """Return the folder of a study's outbox."""
    return get_study_folder(settings, name=name) / OUTBOX


@contextmanager
def open_study_outbox(settings: SearchSettings, *, name: str) -> Iterator[Outbox]:
    """Open the outbox of a study for this process; what dead processes left in it is logged first.

    Raises:
        StoreError: The work is done, and the tracking server stayed away for `outage_wait` seconds.
    """
    deliverers = {**DELIVERERS, MODEL_ITEM: deliver_classifier}
    with open_outbox(
        locate_outbox(settings, name=name),
        deliverers=deliverers,
        patience_s=settings.outage_wait,
        tell=tell_outage,
    ) as outbox:
        outbox.deliver()
        yield outbox


def wait_for_logging(outbox: Outbox, *, patience_s: float) -> None:
    """Wait until all processes of the study have logged all there is: the winner's model must be there.

    Raises:
        StoreError: The tracking server stayed away.
    """
    if not outbox.wait_for_others(patience_s=patience_s):
        raise StoreError(describe_rest(outbox))


def find_trial_run(trial: FrozenTrial, *, settings: SearchSettings, study: str) -> str:
    """Return the id of a trial's run, which may have been named while the tracking server was away."""
    return resolve_run(str(trial.user_attrs[RUN_ID]), root=locate_outbox(settings, name=study))

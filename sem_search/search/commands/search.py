"""`mlflow run .` and `sem-search search`: prepare, train, conclude."""

import dataclasses
import os
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from sem_search.disk_errors import explain_disk_errors
from sem_search.errors import ClassTooSmallError
from sem_search.progress import Show, show_nothing
from sem_search.search.attempt import search_study
from sem_search.search.cluster.client import ClusterClient, open_cluster
from sem_search.search.cluster.remote_folds import compute_shards
from sem_search.search.commands.command_line import write_search_command
from sem_search.search.prepare.duration import time_search
from sem_search.search.prepare.prepared_search import PreparedSearch, prepare_search
from sem_search.search.prepare.study_folder import get_study_folder
from sem_search.search.process import quieten_libraries
from sem_search.search.results.conclusion import Conclusion
from sem_search.search.trials.storage import check_storage
from sem_search.settings import SearchSettings
from sem_search.terminal import warn
from sem_search.tracking.mlflow.own_runs import RUN_ID_VARIABLE
from sem_search.words import count, read_list

PASSWORD_ADVICE = {
    "storage": "as PGPASSWORD or in ~/.pgpass",
    "shared": "to fsspec, in its configuration files or variables (https://filesystem-spec.readthedocs.io)",
}


def run_search(settings: SearchSettings, *, show: Show = show_nothing) -> Conclusion:
    """Search, track and register; the same settings again go on where the study stands.

    Args:
        settings: What to search.
        show: Shows what is searched, on what data, with which weights.

    Raises:
        InputError: Data, weights or settings cannot be used; nothing was trained.
        StoreError: A database, the tracking server or the disk does not answer, or did not stay.
    """
    with explain_disk_errors():
        return finish_search(begin_search(settings, show=show))


def begin_search(settings: SearchSettings, *, show: Show = show_nothing) -> PreparedSearch:
    """Return a search that is ready to train: whatever can be refused is refused here.

    Args:
        settings: What to search.
        show: Shows what is searched, on what data, with which weights.

    Raises:
        InputError: Data, weights or settings cannot be used.
        StoreError: A database does not answer, or a file cannot be written.
    """
    quieten_libraries()
    show(_describe_request(settings))
    _warn_of_logged_password(settings)
    check_storage(settings.storage, wait_s=settings.outage_wait)
    try:
        prepared = prepare_search(settings, show=show)
    except ClassTooSmallError as error:
        raise ClassTooSmallError(f"{error}{_describe_way_out(error, settings=settings)}") from error
    show(f"Study {prepared.name}: its finished folds lie in {get_study_folder(settings, name=prepared.name)}.")
    return prepared


def run_estimate(settings: SearchSettings, *, show: Show) -> None:
    """Show how much disk and time a search would take on this machine; nothing is trained.

    Cost: that of looking at the images, of converting the network once, and about ten seconds.

    Args:
        settings: What to search.
        show: Shows what is searched, and what it takes.

    Raises:
        InputError: Data, weights or settings cannot be used.
        StoreError: A database does not answer, or a file cannot be written.
    """
    show(time_search(begin_search(settings, show=show)).to_text())


def finish_search(prepared: PreparedSearch) -> Conclusion:
    """Train what is left of a search, track it and register its winner.

    Args:
        prepared: From `begin_search`.

    Raises:
        StoreError: A database, the tracking server or the disk does not answer, or did not stay.
    """
    address = prepared.settings.cluster
    cluster: AbstractContextManager[ClusterClient | None] = nullcontext() if address is None else open_cluster(address)
    with cluster as client:  # one that is away makes no study
        if client is not None:
            prepared = dataclasses.replace(prepared, elsewhere=partial(compute_shards, client, prepared=prepared))
        return search_study(prepared, client=client)


def _describe_way_out(error: ClassTooSmallError, *, settings: SearchSettings) -> str:
    """Return the command with which the search would go on, on a line of its own; empty where there is none."""
    if not error.changes:
        return ""
    left_out = (*settings.exclude, *read_list(error.changes.get("exclude", "")))
    n_folds = int(error.changes.get("folds", settings.folds))
    changed = settings.model_copy(update={"exclude": left_out, "folds": n_folds})
    return f" For example:\n  {write_search_command(changed)}"


def _describe_request(settings: SearchSettings) -> str:
    """Return what is searched, as the first lines that a search shows."""
    steps = "learning rate x batch size"
    words = {"linear": "linear head", "finetune": steps, "linear_init": f"{steps} from the linear head"}
    cells = " and ".join(words[head] for head in settings.heads)
    epochs = "" if settings.heads == ("linear",) else f", at most {settings.epochs} epochs"
    text = (
        f"Preset {settings.preset}: {count(settings.n_cells, 'cell')} of {settings.backbone} ({cells}), "
        f"{settings.folds} folds{epochs}; data={settings.data}."
    )
    if settings.preset == "quick":
        text += "\n  quick is for a first look; preset=standard searches the paper's whole grid."
    return text


def _warn_of_logged_password(settings: SearchSettings) -> None:
    """Warn of passwords that `mlflow run` has logged with its parameters before this program began."""
    if RUN_ID_VARIABLE not in os.environ:
        return
    for name, advice in PASSWORD_ADVICE.items():
        if getattr(settings, name) != getattr(settings.without_passwords, name):
            warn(
                f"mlflow run has logged {name}, with its password, as a parameter. Leave the password out of the URL "
                f"and give it {advice}; change the one that was logged."
            )

"""`mlflow run .` and `sem-search search`: prepare, train, conclude."""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sem_search.disk_errors import explain_disk_errors
from sem_search.progress import Show, show_nothing
from sem_search.search.attempt import search_study
from sem_search.search.cluster.remote_folds import Share
from sem_search.search.cluster.tasks import Hands
from sem_search.search.prepare.prepared_search import prepare_search
from sem_search.search.process import quieten_libraries
from sem_search.search.results.conclusion import Conclusion
from sem_search.search.trials.storage import check_storage
from sem_search.settings import SearchSettings
from sem_search.terminal import warn
from sem_search.tracking.mlflow.runs import RUN_ID_VARIABLE

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
        quieten_libraries()
        show(_describe_request(settings))
        _warn_of_logged_password(settings)
        check_storage(settings.storage, wait_s=settings.outage_wait, warn=warn)
        prepared = prepare_search(settings, show=show)
        with _open_hands(settings) as hands:  # a cluster that is away makes no study
            if hands is None:
                return search_study(prepared)
            data, network = prepared.data, prepared.network
            share = Share(hands=hands, settings=settings, study=prepared.name, data=data, network=network)
            return search_study(dataclasses.replace(prepared, elsewhere=share.compute_shards), share=share)


@contextmanager
def _open_hands(settings: SearchSettings) -> Iterator[Hands | None]:
    """Give the cluster's workers, if the search is to have any."""
    if settings.cluster is None:
        yield None
        return
    from sem_search.search.cluster.dask import open_cluster

    with open_cluster(settings.cluster) as hands:
        yield hands


def _describe_request(settings: SearchSettings) -> str:
    """Return what is searched, as the first lines that a search shows."""
    text = (
        f"Preset {settings.preset}: {settings.n_cells} cells of {settings.backbone} (learning rate x batch size), "
        f"{settings.folds} folds, at most {settings.epochs} epochs; data={settings.data}."
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

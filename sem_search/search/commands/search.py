"""The whole way, once: prepare, work, conclude. `mlflow run .` and `sem-search search` and `worker` end here."""

import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
import optuna

from sem_search.disk_errors import explain_disk_errors
from sem_search.errors import InputError, SettingsError, StudyMismatchError
from sem_search.search.attempt import help_study, search_study
from sem_search.search.cluster.remote_folds import Share
from sem_search.search.cluster.tasks import Hands
from sem_search.search.prepare.data import PreparedData, check_findings, prepare_data
from sem_search.search.prepare.network import compute_features, prepare_network
from sem_search.search.prepare.prepared_search import (
    PreparedSearch,
    check_study_name,
    claim_study_folder,
    compute_fingerprint,
    find_begun_precision,
    get_study_folder,
    name_study,
)
from sem_search.search.results.conclusion import Conclusion
from sem_search.search.trials.storage import START_S, check_storage
from sem_search.search.trials.study import (
    FINGERPRINT,
    SETTINGS,
    STUDY_RUN_ID,
    check_fingerprint,
    has_file,
    keep_precision,
    load_study,
    open_study,
)
from sem_search.secrets import MASK
from sem_search.settings import SearchSettings
from sem_search.terminal import echo, warn
from sem_search.tracking.mlflow.availability import wait_while_away
from sem_search.tracking.mlflow.runs import RUN_ID_VARIABLE, check_run_is_known
from sem_search.transfer.runtime import configure_tensorflow
from sem_search.transfer.weights.choice import check_weights

SAME_IMAGES = "A worker needs the search's own images and versions: give --data as this machine reaches them."

PASSWORD_ADVICE = {
    "storage": "as PGPASSWORD or in ~/.pgpass",
    "shared": "to fsspec, in its configuration files or variables (https://filesystem-spec.readthedocs.io)",
}

WAIT_S = 2.0
"""Between two looks whether a search has begun."""


def run_search(settings: SearchSettings) -> Conclusion:
    """Search, track, register: the program's main act. Prints what it does and ends with the winner.

    Raises:
        InputError: Data, weights or settings cannot be used; nothing was trained.
        StoreError: A database, the tracking server or the disk does not answer, or did not stay.
    """
    with explain_disk_errors():
        return _search(settings)


def _search(settings: SearchSettings) -> Conclusion:
    _prepare_process()
    if settings.study is not None:
        check_study_name(settings.study)
    check_weights(settings.weights, backbone=settings.backbone)
    _announce(settings)
    _warn_of_logged_password(settings)
    check_storage(settings.storage, wait_s=settings.outage_wait, warn=warn)
    data = prepare_data(settings)
    check_findings(data.findings, allowed=settings.allow_errors)
    _tell_data(data)
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    network = prepare_network(settings)
    click.echo(f"{settings.backbone} has the weights {network.weights.used!r}.")
    for warning in (*data.catalogue.warnings, *network.weights.warnings):
        echo(f"Warning: {warning}", err=True)
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    precision = find_begun_precision(settings, fingerprint=fingerprint)
    if precision != network.precision:
        click.echo(f"The study was begun with precision={precision}; it goes on with that.", err=True)
        network = prepare_network(settings.model_copy(update={"precision": precision}))
        fingerprint = compute_fingerprint(settings, data=data, network=network)
    name = name_study(settings, fingerprint=fingerprint)
    mended = claim_study_folder(settings, name=name, fingerprint=fingerprint, folds=data.folds)
    for warning in mended:
        echo(f"Warning: {warning}", err=True)
    with _open_hands(settings) as hands:  # before a study is made in the database that would have none
        share = None
        if hands is not None:
            share = Share(hands=hands, settings=settings, study=name, data=data, network=network)
        features = compute_features(
            settings, data=data, network=network, elsewhere=share.compute_shards if share else None
        )
        prepared = PreparedSearch(
            settings=settings,
            name=name,
            fingerprint=fingerprint,
            data=data,
            network=network,
            features=features,
            mended=tuple(mended),
        )
        conclusion = search_study(prepared, share=share)
    echo(conclusion.to_text())
    return conclusion


def run_worker(
    *,
    study: str,
    storage: str,
    threads: int | None,
    data: str | None = None,
    study_folder: str | None = None,
    shared: str | None = None,
    wait_s: float = 0.0,
) -> None:
    """Help with a study that a search has begun: claim cells, and those of dead workers, until all have ended.

    Settings, images and folds are those of the study, held to their hashes; features that shared storage or the cache
    here lack are computed.

    Args:
        study: Its name.
        storage: Its database.
        threads: Processor threads; the search's by default, and another number changes the last digits of results.
        data: Where the images lie on this machine; by default where the search found them.
        study_folder: Where finished folds are kept on this machine; by default under the search's own path.
        shared: The name by which this machine reaches shared storage; by default the search's.
        wait_s: How long to wait for a study that no search has begun yet.

    Raises:
        StudyMismatchError: There is no such study, or the data, the weights or the settings here are not its own.
        StoreError: The study's database or the tracking server does not answer.
    """
    places = {"data": data, "study_folder": study_folder, "shared": shared, "threads": threads}
    given = {name: value for name, value in places.items() if value is not None}
    with explain_disk_errors():
        _help(study=study, storage=storage, given=given, wait_s=wait_s)


def _help(*, study: str, storage: str, given: Mapping[str, Any], wait_s: float) -> None:
    _prepare_process()
    loaded = _wait_for_study(study, storage=storage, wait_s=wait_s)
    settings = SearchSettings.model_validate_json(loaded.user_attrs[SETTINGS])
    settings = settings.model_copy(update={"study": study, "storage": storage, "cluster": None, **given})
    if MASK in (settings.shared or ""):
        raise SettingsError(
            f"The search's shared={settings.shared} has a password, which is not kept: give --shared as this machine "
            "reaches it."
        )
    run_id = str(loaded.user_attrs[STUDY_RUN_ID])
    wait_while_away(lambda: check_run_is_known(run_id), wait_s=min(settings.outage_wait, START_S), warn=warn)
    check_weights(settings.weights, backbone=settings.backbone)
    data = _prepare_same_data(settings)
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    network = prepare_network(keep_precision(settings, study=loaded))
    _warn_unless_shared(settings, name=study)
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    check_fingerprint(
        name=study, stored=json.loads(loaded.user_attrs[FINGERPRINT]), wanted=fingerprint, remedy=SAME_IMAGES
    )
    for warning in claim_study_folder(settings, name=study, fingerprint=fingerprint, folds=data.folds):
        echo(f"Warning: {warning}", err=True)
    opened = open_study(settings, name=study, fingerprint=fingerprint, warn=warn)
    features = compute_features(settings, data=data, network=network)
    prepared = PreparedSearch(
        settings=settings, name=study, fingerprint=fingerprint, data=data, network=network, features=features
    )
    help_study(opened, prepared=prepared, run_id=run_id)
    click.echo(f"No cell of study {study!r} is left to claim.")


def _wait_for_study(name: str, *, storage: str, wait_s: float) -> optuna.Study:
    """Return a study that a search has begun, or is about to begin."""
    ends_at, is_told = time.monotonic() + wait_s, False
    while True:
        left_s = ends_at - time.monotonic()
        is_over = left_s <= 0
        try:
            if is_over or has_file(storage):
                return load_study(name=name, storage=storage, wait_s=START_S, warn=warn)
        except StudyMismatchError:
            if is_over:
                raise
        if not is_told:
            click.echo(f"Waiting for a search to begin study {name!r}, at most {wait_s:g} s ...", err=True)
            is_told = True
        time.sleep(min(WAIT_S, left_s))


def _prepare_same_data(settings: SearchSettings) -> PreparedData:
    """Return the search's data as this machine sees them; what is wrong with them here was not wrong there."""
    try:
        return prepare_data(settings)
    except InputError as error:
        raise StudyMismatchError(f"This machine does not see what the search saw: {error} {SAME_IMAGES}") from error


def _warn_unless_shared(settings: SearchSettings, *, name: str) -> None:
    """Say what follows if the search's finished folds and this worker's lie on different machines."""
    folder = get_study_folder(settings, name=name)
    if settings.shared is None and not (folder / "study.json").exists():
        click.echo(
            f"Warning: the search's finished folds are not to be seen here ({folder.absolute()}), and there is no "
            "shared storage. What this worker finishes is logged, but a cell that it leaves behind begins anew "
            "elsewhere, and the search trains this worker's folds again before it reports them. Give --study-folder "
            "as this machine reaches it, or start the search with shared=FOLDER_OR_URL.",
            err=True,
        )


def _prepare_process() -> None:
    """Let SIGTERM end a search as Ctrl-C does, and keep libraries' chatter away from what a user must see."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logging.getLogger("mlflow").setLevel(logging.WARNING)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _announce(settings: SearchSettings) -> None:
    click.echo(
        f"Preset {settings.preset}: {settings.n_cells} cells of {settings.backbone} (learning rate x batch size), "
        f"{settings.folds} folds, at most {settings.epochs} epochs; data={settings.data}."
    )
    if settings.preset == "quick":
        click.echo("  quick is for a first look; preset=standard searches the paper's whole grid.")
    sys.stdout.flush()


def _warn_of_logged_password(settings: SearchSettings) -> None:
    """Say what `mlflow run` does with its parameters before this program begins, and what to do instead."""
    if RUN_ID_VARIABLE not in os.environ:
        return
    for name, advice in PASSWORD_ADVICE.items():
        if getattr(settings, name) != getattr(settings.without_passwords, name):
            click.echo(
                f"Warning: mlflow run has logged {name}, with its password, as a parameter. Leave the password out of "
                f"the URL and give it {advice}; change the one that was logged.",
                err=True,
            )


def _tell_data(data: PreparedData) -> None:
    n_images, n_classes = len(data.catalogue.records), len(data.tiles.class_names)
    click.echo(f"{n_images} images of {n_classes} classes, {data.tiles.n_tiles} tiles.")
    for finding in data.findings:
        if finding.severity != "note":
            word = "Allowed error" if finding.severity == "error" else "Warning"  # others have ended the search
            echo(f"{word}: {finding.message}", err=True)


@contextmanager
def _open_hands(settings: SearchSettings) -> Iterator[Hands | None]:
    """Give the cluster's workers, if the search is to have any."""
    if settings.cluster is None:
        yield None
        return
    from sem_search.search.cluster.dask import open_cluster

    with open_cluster(settings.cluster) as hands:
        yield hands

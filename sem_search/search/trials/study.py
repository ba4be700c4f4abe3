"""The Optuna study: created, continued, or read; its attributes and its sampler."""

import json
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.places import find_sqlite_file
from sem_search.search.pruning.pruners import build_pruner
from sem_search.search.trials.attributes import FINGERPRINT, SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.ranks import get_rank
from sem_search.search.trials.space import choose_params
from sem_search.search.trials.storage import START_S, open_storage, read_study_names
from sem_search.secrets import mask_url
from sem_search.seeds import derive_seed
from sem_search.settings import SearchSettings
from sem_search.tracking.mlflow.names import OBJECTIVE

OTHER_STUDY = "Give the settings it was made with, or another study=NAME."


class RankSampler(optuna.samplers.RandomSampler):
    """Draws each trial's values one by one, with a seed of its rank: a resumed study suggests what it would have."""

    def __init__(self, settings: SearchSettings) -> None:
        """Begin with the settings: the sampler that draws, the seed of all, and what is not drawn."""
        super().__init__()
        self._settings = settings

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Return a value of a parameter.

        Args:
            study: Whose finished trials the sampler learns from.
            trial: Its rank seeds the draw.
            param_name: Seeds the draw, too.
            param_distribution: What may be drawn.
        """
        rank = get_rank(trial)
        known = choose_params(rank, settings=self._settings)
        if param_name in known:  # not enqueued: another worker has taken the trial that this one enqueued
            return known[param_name]
        build = optuna.samplers.TPESampler if self._settings.sampler == "tpe" else optuna.samplers.RandomSampler
        sampler = build(seed=derive_seed(self._settings.seed, "sampler", rank, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def open_study(settings: SearchSettings, *, name: str, fingerprint: Mapping[str, Any]) -> optuna.Study:
    """Return the study of this name, new or as it was left.

    Args:
        settings: Storage, sampler and pruner.
        name: The study's name.
        fingerprint: What must be equal for results to be comparable, as JSON values by name.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
        StudyMismatchError: The study exists and was made with something else; each difference is named.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of each trial that gives its rank back
    study = optuna.create_study(
        storage=open_storage(settings.storage, wait_s=settings.outage_wait),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=RankSampler(settings),
        pruner=build_pruner(settings),
    )
    _name_objective(study)
    stored = study.user_attrs.get(FINGERPRINT)
    if stored is None:
        study.set_user_attr(FINGERPRINT, json.dumps(fingerprint, sort_keys=True))
        return study
    check_fingerprint(name=name, stored=json.loads(stored), wanted=fingerprint)
    return study


def _name_objective(study: optuna.Study) -> None:
    """Let Optuna's pages call the objective as MLflow's do, also in a study that was begun without the name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # tried with the version that is required
        if study.metric_names is None:
            study.set_metric_names([OBJECTIVE])


def check_fingerprint(
    *, name: str, stored: Mapping[str, Any], wanted: Mapping[str, Any], remedy: str = OTHER_STUDY
) -> None:
    """Refuse a study whose results would not be comparable.

    Args:
        name: The study's name.
        stored: What it was made with.
        wanted: What is wanted of it now.
        remedy: What to do, as a sentence.

    Raises:
        StudyMismatchError: Names every difference, before and now.
    """
    wanted = json.loads(json.dumps(wanted))
    differences = [
        f"{key} was {stored.get(key)!r} and is now {wanted.get(key)!r}"
        for key in sorted({*stored, *wanted})
        if stored.get(key) != wanted.get(key)
    ]
    if differences:
        raise StudyMismatchError(
            f"Study {name!r} exists, and its results would not be comparable: {'; '.join(differences)}. {remedy}"
        )


def load_study(*, name: str, storage: str, wait_s: float = 0.0) -> optuna.Study:
    """Return a study that a search has begun.

    Args:
        name: Its name.
        storage: Its database.
        wait_s: How long a database that is away is waited for.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
        StudyMismatchError: There is none of this name, and the message names those that there are; or its search has
            only just begun.
    """
    _check_storage_exists(storage)
    names = read_study_names(storage, wait_s=wait_s)
    if name not in names:
        raise StudyMismatchError(
            f"There is no study {name!r} in this storage; there are: {', '.join(sorted(names)) or 'none'}. "
            "Start the search first, and give its storage."
        )
    study = optuna.load_study(study_name=name, storage=open_storage(storage, wait_s=wait_s))
    if not {SETTINGS, STUDY_RUN_ID} <= set(study.user_attrs):
        raise StudyMismatchError(
            f"Study {name!r} has no settings yet. If its search has just been started, wait until it trains, then "
            "give this command again."
        )
    return study


def choose_study_name(storage: str) -> str:
    """Return the name of the only study of a storage.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
        StudyMismatchError: It has none or several; the message names them.
    """
    _check_storage_exists(storage)
    names = sorted(read_study_names(storage, wait_s=START_S))
    if len(names) != 1:
        raise StudyMismatchError(f"Name one of the studies of this storage: {', '.join(names) or 'there are none'}.")
    return names[0]


def read_stored_fingerprint(*, name: str, storage: str) -> dict[str, Any] | None:
    """Return what a study was made with as its database has it, None where there is no such study.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
    """
    if not has_file(storage) or name not in read_study_names(storage, wait_s=START_S):
        return None
    stored = optuna.load_study(study_name=name, storage=open_storage(storage)).user_attrs.get(FINGERPRINT)
    return None if stored is None else dict(json.loads(stored))


def _check_storage_exists(url: str) -> None:
    """Refuse an SQLite file that is not there: to open it would make an empty one."""
    if not has_file(url):
        raise SettingsError(
            f"storage={mask_url(url)}: there is no such file here ({find_sqlite_file(url)}). "
            "Give this command in the folder of the search, or give the search's storage."
        )


def has_file(url: str) -> bool:
    """Tell whether the file of an SQLite storage is there; True for all that is not a file."""
    file = find_sqlite_file(url)
    return file is None or file.exists()

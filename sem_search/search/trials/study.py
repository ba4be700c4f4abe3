"""The Optuna study: opened or taken up again, and its cells queued.

The cells are enqueued as waiting trials on a storage with a heartbeat: of the ways tried (grid sampler, brute force,
queue) the only one that neither lost nor doubled a cell when a worker was killed.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.places import find_sqlite_file
from sem_search.records import Cell
from sem_search.search.pruning.pruners import build_pruner
from sem_search.search.trials.process_id import is_known_dead
from sem_search.search.trials.queue import count_states
from sem_search.search.trials.space import order_cells
from sem_search.search.trials.storage import START_S, open_storage, read_study_names
from sem_search.secrets import mask_url
from sem_search.seeds import derive_seed
from sem_search.settings import SearchSettings

FINGERPRINT = "fingerprint"
SETTINGS = "settings"
STUDY_RUN_ID = "mlflow_study_run_id"
QUEUED = "queued"
RUN_ID = "mlflow_run_id"
TRIAL_RUNS = "mlflow_trial_runs"
"""Attribute of a study: trial number -> runs that the trial was logged to after it had finished, the valid one last."""

OTHER_STUDY = "Give the settings it was made with, or another study=NAME."

REASON = "reason"
"""Why a trial was pruned or how it failed; Optuna itself keeps no reason."""


class NumberedSampler(optuna.samplers.BaseSampler):
    """Draws each trial's values with a seed of its number: a resumed study suggests what it would have.

    The number is known once a trial is begun. Before, two workers would seed alike, and draw the same cells.
    """

    def __init__(self, build: Callable[..., optuna.samplers.BaseSampler], *, seed: int) -> None:
        """Begin with Optuna's sampler of one trial, which takes its seed as `seed`, and the seed of all."""
        self._build = build
        self._seed = seed

    def infer_relative_search_space(
        self, _study: optuna.Study, _trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return none: values are drawn one by one."""
        return {}

    def sample_relative(
        self,
        _study: optuna.Study,
        _trial: FrozenTrial,
        _search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Return none."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Return a value of a parameter."""
        sampler = self._build(seed=derive_seed(self._seed, "sampler", trial.number, param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def open_study(
    settings: SearchSettings,
    *,
    name: str,
    fingerprint: Mapping[str, Any],
    tell: Callable[[str], None] = lambda _: None,
) -> optuna.Study:
    """Return the study of this name, new or as it was left.

    Args:
        settings: Storage, sampler and pruner.
        name: The study's name.
        fingerprint: What must be equal for results to be comparable, as JSON values by name.
        tell: Is told when the database is away, and when it is back.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
        StudyMismatchError: The study exists and was made with something else; each difference is named.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=open_storage(settings.storage, patience_s=settings.outage_wait, tell=tell),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=_build_sampler(settings),
        pruner=build_pruner(settings),
    )
    stored = study.user_attrs.get(FINGERPRINT)
    if stored is None:
        study.set_user_attr(FINGERPRINT, json.dumps(fingerprint, sort_keys=True))
        return study
    check_fingerprint(name=name, stored=json.loads(stored), wanted=fingerprint)
    return study


def _build_sampler(settings: SearchSettings) -> optuna.samplers.BaseSampler:
    """Return the sampler of a study's trials."""
    build = optuna.samplers.TPESampler if settings.sampler == "tpe" else optuna.samplers.RandomSampler
    return NumberedSampler(build, seed=settings.seed)


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


def keep_precision(settings: SearchSettings, *, study: optuna.Study) -> SearchSettings:
    """Return the settings with what `precision=auto` came to when the study was begun, whatever it would be here."""
    stored = json.loads(study.user_attrs[FINGERPRINT])
    return settings.model_copy(update={"precision": stored.get("precision", settings.precision)})


def enqueue_cells(study: optuna.Study, *, settings: SearchSettings) -> None:
    """Queue every cell of the grid that the study does not know yet, in the order of `order_cells`."""
    if settings.sampler != "grid":
        return
    known = {_get_fixed_cell(trial) for trial in study.get_trials(deepcopy=False)}
    for cell in order_cells(settings)[: settings.trials]:
        if (cell.learning_rate, cell.batch_size) not in known:
            study.enqueue_trial(
                {"learning_rate": cell.learning_rate, "batch_size": cell.batch_size}, user_attrs={QUEUED: True}
            )


def load_study(
    *, name: str, storage: str, patience_s: float = 0.0, tell: Callable[[str], None] = lambda _: None
) -> optuna.Study:
    """Return a study that a search has made and signed with its settings.

    Args:
        name: Its name.
        storage: Its database.
        patience_s: How long a database that is away is waited for.
        tell: Is told when it is.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
        StudyMismatchError: There is none of this name, and the message names those that there are; or its search has
            only just begun.
    """
    _check_storage_exists(storage)
    names = read_study_names(storage, patience_s=patience_s, tell=tell)
    if name not in names:
        raise StudyMismatchError(
            f"There is no study {name!r} in this storage; there are: {', '.join(sorted(names)) or 'none'}. "
            "Start the search first, and give its storage."
        )
    study = optuna.load_study(study_name=name, storage=open_storage(storage, patience_s=patience_s, tell=tell))
    if not {SETTINGS, STUDY_RUN_ID} <= set(study.user_attrs):
        raise StudyMismatchError(
            f"Study {name!r} is not signed by a search yet, so nobody knows what to do in it. If its search has just "
            "been started, wait until it trains, then start this worker again."
        )
    return study


def read_stored_fingerprint(*, name: str, storage: str) -> dict[str, Any] | None:
    """Return what a study was made with as its database has it, None where there is no such study.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
    """
    if not has_file(storage) or name not in read_study_names(storage, patience_s=START_S, tell=lambda _: None):
        return None
    stored = optuna.load_study(study_name=name, storage=open_storage(storage)).user_attrs.get(FINGERPRINT)
    return None if stored is None else dict(json.loads(stored))


def find_dead_study_runs(runs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the runs, of run id -> process, whose process is known to be gone."""
    return tuple(run_id for run_id, process in runs.items() if is_known_dead(process))


def count_finished(study: optuna.Study) -> int:
    """Return the number of trials that have ended, well or badly."""
    return sum(count for state, count in count_states(study).items() if state.is_finished())


def count_waiting(study: optuna.Study) -> int:
    """Return the number of queued trials that nobody has begun."""
    return count_states(study)[TrialState.WAITING]


def list_waiting_cells(study: optuna.Study) -> list[Cell]:
    """Return the queued cells that nobody has begun, in the order of their turn."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    fixed = [_get_fixed_cell(trial) for trial in sorted(waiting, key=lambda trial: trial.number)]
    return [Cell(learning_rate=rate, batch_size=size) for rate, size in fixed if None not in (rate, size)]


def count_running(study: optuna.Study) -> int:
    """Return the number of trials that some process is at work on."""
    return count_states(study)[TrialState.RUNNING]


def find_earlier_trial(study: optuna.Study, *, cell: Cell, before: int) -> FrozenTrial | None:
    """Return the trial of this cell with a lower number, if there is one: a finished one first, no failed one."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
    wanted = {"learning_rate": cell.learning_rate, "batch_size": cell.batch_size}
    trials = study.get_trials(deepcopy=False, states=states)
    earlier = [trial for trial in trials if trial.number < before and trial.params == wanted]
    return min(earlier, key=lambda trial: (not trial.state.is_finished(), trial.number), default=None)


def _check_storage_exists(url: str) -> None:
    """Refuse an SQLite file that is not there: to open it would make an empty one.

    Raises:
        SettingsError: Names the file.
    """
    if not has_file(url):
        raise SettingsError(
            f"storage={mask_url(url)}: there is no such file here ({find_sqlite_file(url)}). "
            "Give this command in the folder of the search, or give the search's storage."
        )


def has_file(url: str) -> bool:
    """Tell whether the file of an SQLite storage is there; True for all that is not a file."""
    file = find_sqlite_file(url)
    return file is None or file.exists()


def _get_fixed_cell(trial: FrozenTrial) -> tuple[float, int]:
    params = trial.system_attrs.get("fixed_params", trial.params)
    return params.get("learning_rate"), params.get("batch_size")

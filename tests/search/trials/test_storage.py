"""The study's database away, back, gone for good; its driver missing; a call that was done although nobody heard so."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sem_search.search.trials.queue import claim_next
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import OperationalError

from sem_search.errors import SettingsError, StoreError
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.stale_trials import PROCESS, TrialWatch, let_go, read_claim
from sem_search.search.trials.storage import START_S, PatientStorage, check_storage, open_storage, read_study_names
from tests.servers.postgres import PASSWORD, Postgres, find_obstacle, run_postgres

ROOT = Path(__file__).parents[3]

needs_postgres = pytest.mark.skipif(find_obstacle() is not None, reason=find_obstacle() or "")


class Answers:
    """Lets the answer to the next calls of a method be lost, after the call was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, *, n_lost: int) -> None:
        self.n_lost = n_lost
        real = getattr(optuna.storages.RDBStorage, name)

        def call(storage: PatientStorage, *args: object, **kwargs: object) -> object:
            result = real(storage, *args, **kwargs)
            if self.n_lost:
                self.n_lost -= 1
                lost = OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))
                raise optuna.exceptions.StorageInternalError("lost") from lost
            return result

        monkeypatch.setattr(optuna.storages.RDBStorage, name, call)


@pytest.fixture
def storage(tmp_path: Path) -> PatientStorage:
    return open_storage(f"sqlite:///{tmp_path}/optuna.db", patience_s=30)


@pytest.fixture
def study(storage: PatientStorage) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=storage, direction="maximize")
    for rate in (0.1, 0.2):
        study.enqueue_trial({"x": rate})
    return study


def test_a_trial_s_end_that_nobody_heard_of_is_told_once(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = study.ask()
    answers = Answers(monkeypatch, "set_trial_state_values", n_lost=1)
    study.tell(trial, 0.5)
    assert answers.n_lost == 0
    (told,) = study.get_trials(states=(TrialState.COMPLETE,))
    assert told.value == 0.5


def test_a_claim_that_nobody_heard_of_is_known_as_our_own(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    Answers(monkeypatch, "set_trial_state_values", n_lost=1)
    assert study.ask().number == 0, "the next trial, not the one after it"
    assert len(study.get_trials(states=(TrialState.RUNNING,))) == 1


def test_the_claim_of_another_is_not_ours(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    other = study.ask()
    other.set_user_attr(PROCESS, "another:1:1")
    Answers(monkeypatch, "set_trial_state_values", n_lost=1)
    assert not study._storage.set_trial_state_values(other._trial_id, state=TrialState.RUNNING)


def test_a_trial_that_another_has_ended_is_still_refused(study: optuna.Study) -> None:
    trial = study.ask()
    study.tell(trial, 0.5)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.COMPLETE, values=[0.5])


def test_a_missing_driver_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[postgresql\]'") as caught:
        open_storage(f"postgresql://me:{PASSWORD}@localhost/x")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with run_postgres() as server:
        yield server


@pytest.fixture
def url(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    if not postgres.is_up():
        postgres.start()
    return postgres.make_database(f"{request.node.originalname[5:40]}-{time.time_ns()}")


@needs_postgres
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_calls_wait_for_postgresql(postgres: Postgres, url: str, mode: str) -> None:
    told: list[str] = []
    study = optuna.create_study(storage=open_storage(url, patience_s=60, tell=told.append), direction="maximize")
    study.enqueue_trial({"x": 0.5})
    trial = study.ask()
    trial.set_user_attr(PROCESS, describe_process())
    claimed = read_claim(study, trial._trial_id)
    starting = postgres.restart_in_background(2.0, mode=mode)
    trial.report(0.25, step=0)
    assert not TrialWatch().take_back_dead(study)
    study.tell(trial, 0.5)
    starting.join()
    (told_trial,) = study.get_trials()
    assert (told_trial.value, told_trial.intermediate_values) == (0.5, {0: 0.25})
    assert claimed is not None
    assert told == [
        "The study's database does not answer; waiting for it, at most 60 s.",
        "The study's database answers again.",
    ]


@needs_postgres
def test_what_stays_away_is_one_sentence_and_nobody_waits_twice(postgres: Postgres, url: str) -> None:
    storage = open_storage(url, patience_s=1.0)
    study = optuna.create_study(storage=storage)
    study.enqueue_trial({"x": 0.5})
    trial = study.ask()
    claimed = read_claim(study, trial._trial_id)
    postgres.stop()
    with pytest.raises(StoreError, match=r"has not answered for 1 s\. Finished folds are on disk") as caught:
        study.tell(trial, 0.5)
    assert PASSWORD not in str(caught.value)
    assert storage.patience_s == 0
    let_go(study, trial._trial_id, claimed=claimed)
    postgres.start()
    assert study.get_trials()[0].state == TrialState.RUNNING, "left to the next process"


@needs_postgres
@pytest.mark.parametrize("knock", [open_storage, check_storage], ids=["opened", "knocked at"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda url: url.replace(PASSWORD, "wrong-secret"),
            r"it says: password authentication failed for user .*PGPASS",
        ),
        (lambda url: url.replace(f":{PASSWORD}@", "@"), r"it says: no password supplied\. Give the password as PGPASS"),
        (lambda url: f"{url}-not", r"it says: database .* does not exist\. Make it first \(createdb\)"),
    ],
    ids=["wrong password", "no password", "no database"],
)
def test_a_server_that_does_not_let_us_in_is_quoted_at_once_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch, knock: Callable[..., object], change: Callable[[str], str], expected: str
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    begun = time.monotonic()
    with pytest.raises(SettingsError, match=expected) as caught:
        knock(change(url), patience_s=600, tell=pytest.fail)
    assert time.monotonic() - begun < 20
    for secret in (PASSWORD, "wrong-secret"):
        assert secret not in str(caught.value)


@needs_postgres
@pytest.mark.parametrize("knock", [open_storage, check_storage], ids=["opened", "knocked at"])
def test_a_server_that_is_away_at_the_start_is_waited_for(
    postgres: Postgres, url: str, knock: Callable[..., object]
) -> None:
    told: list[str] = []
    starting = postgres.restart_in_background(2.0, mode="fast")
    knock(url, patience_s=600, tell=told.append)
    starting.join()
    assert told == [
        f"The study's database does not answer; waiting for it, at most {START_S:g} s.",
        "The study's database answers again.",
    ]


def test_a_server_that_stays_away_at_the_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sem_search.search.trials.storage.START_S", 0.5)
    with pytest.raises(StoreError, match=r"has not answered for 1 s") as caught:
        check_storage(f"postgresql://me:{PASSWORD}@127.0.0.1:1/x", patience_s=600, tell=lambda _: None)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///not_there.db", "sqlite://"])
def test_a_file_is_not_knocked_at(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_storage(url, patience_s=0, tell=pytest.fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "redis://localhost/0"])
def test_what_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"cannot be opened .*It must be a database URL such as sqlite:///optuna\.db"
    ):
        check_storage(url, patience_s=600, tell=pytest.fail)


@needs_postgres
def test_a_command_line_never_shows_the_password(url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sem_search", "worker", "--study", "x", "--storage", url.replace(PASSWORD, "n0t-it")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.returncode == 2
    assert "password authentication failed" in done.stderr
    assert "n0t-it" not in done.stdout + done.stderr


N_CELLS = 30


@needs_postgres
@pytest.mark.long
@pytest.mark.parametrize("attempt", range(10))
def test_a_database_that_stops_again_and_again_loses_and_doubles_nothing(
    postgres: Postgres, url: str, attempt: int
) -> None:
    """It goes down at random moments of claiming, reporting and telling; half of the times by a crash."""
    rng = random.Random(attempt)
    study = optuna.create_study(storage=open_storage(url, patience_s=120), direction="maximize")
    for number in range(N_CELLS):
        study.enqueue_trial({"x": number / N_CELLS})
    is_over = threading.Event()

    def disturb() -> None:
        while not is_over.wait(timeout=rng.uniform(0.05, 1.5)):
            postgres.restart_after(rng.uniform(0.0, 0.5), mode=rng.choice(["fast", "immediate"]))

    disturber = threading.Thread(target=disturb)
    disturber.start()
    claimed = []
    try:
        while (trial := claim_next(study)) is not None:
            value = trial.suggest_float("x", 0, 1)
            claimed.append(trial.number)
            for step in range(3):
                trial.report(value + step, step=step)
            study.tell(trial, value)
    finally:
        is_over.set()
        disturber.join()
    assert claimed == list(range(N_CELLS)), "each once, and in order"
    trials = study.get_trials()
    assert [trial.value for trial in trials] == [number / N_CELLS for number in range(N_CELLS)]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert all(trial.intermediate_values == {step: trial.value + step for step in range(3)} for trial in trials)


@needs_postgres
def test_workers_that_look_for_a_study_leave_an_empty_database_empty(url: str) -> None:
    """Eight at once beside a search that makes its tables: Optuna could not bear a second one that does."""
    seen: list[tuple[str, ...]] = []

    def look() -> None:
        while not seen or not seen[-1]:
            seen.append(read_study_names(url, patience_s=0.0, tell=pytest.fail))

    engine = create_engine(url)
    assert read_study_names(url, patience_s=0.0, tell=pytest.fail) == ()
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    optuna.create_study(storage=open_storage(url), study_name="mine")
    for thread in threads:
        thread.join(timeout=60)
    assert seen[-1] == ("mine",)


@pytest.mark.parametrize("has_optuna", [False, True])
def test_mlflow_s_own_database_is_refused_and_left_as_it_is(
    tmp_path: Path, make_mlflow_store: Callable[[Path], str], has_optuna: bool
) -> None:
    """Both keep their version in `alembic_version`; tables that an earlier attempt left change nothing."""
    url = make_mlflow_store(tmp_path)
    engine = create_engine(url)
    if has_optuna:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE studies (study_id INTEGER)")
    before = inspect(engine).get_table_names()
    with pytest.raises(SettingsError, match=r"mlflow\.db is MLflow's database: the study needs one of its own"):
        open_storage(url)
    assert inspect(engine).get_table_names() == before


@pytest.mark.parametrize(
    ("version", "advice"),
    [("v2.6.0.a", "optuna storage upgrade --storage"), ("v99.0.0.a", "updating optuna to the latest version")],
)
def test_tables_of_another_optuna_are_a_sentence(tmp_path: Path, version: str, advice: str) -> None:
    url = f"sqlite:///{tmp_path}/My Search/optuna.db"
    (tmp_path / "My Search").mkdir()
    open_storage(url)
    with create_engine(url).begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")
    with pytest.raises(SettingsError, match=advice) as caught:
        open_storage(url)
    assert ("'" + url + "'" in str(caught.value)) == (version == "v2.6.0.a"), "ready for a shell"

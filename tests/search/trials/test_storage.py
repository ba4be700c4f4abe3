"""The study's database away, back, gone for good; its driver missing; what is an outage and what a refusal."""

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
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError

from sem_search.databases import CONNECTION_LOST, find_refusal
from sem_search.errors import SettingsError, StoreError
from sem_search.search.trials.attributes import PROCESS, RANK
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.ranks import find_free_rank, get_rank, holds_rank
from sem_search.search.trials.stale_trials import StaleTrials
from sem_search.search.trials.storage import (
    START_S,
    check_storage,
    is_outage,
    open_storage,
    read_study_names,
    repeat_after_outages,
)
from tests.servers.postgres import PASSWORD, Postgres, find_obstacle, run_postgres

ROOT = Path(__file__).parents[3]

needs_postgres = pytest.mark.skipif(find_obstacle() is not None, reason=find_obstacle() or "")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the user is warned of."""
    given: list[str] = []
    monkeypatch.setattr("sem_search.search.trials.storage.warn", given.append)
    return given


def wrap(cause: Exception) -> optuna.exceptions.StorageInternalError:
    """Return the error that Optuna makes of SQLAlchemy's."""
    error = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (OperationalError("SELECT", {}, Exception("server closed the connection")), True),
        # The next call within the transaction whose connection broke off.
        (PendingRollbackError("Can't reconnect", code=CONNECTION_LOST), True),
        (PendingRollbackError("rolled back due to a previous exception during flush", code="7s2a"), False),
        (IntegrityError("INSERT", {}, Exception("duplicate key")), False),
        (ValueError("no database"), False),
        (OperationalError("", {}, Exception('FATAL:  password authentication failed for user "me"')), False),
        (OperationalError("", {}, Exception('FATAL:  database "x" does not exist')), False),
        (OperationalError("", {}, Exception("FATAL:  the database system is starting up")), True),
    ],
)
def test_only_what_may_pass_is_an_outage(cause: Exception, expected: bool) -> None:
    assert is_outage(wrap(cause)) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('connection to "h" failed: FATAL:  password authentication failed for user "me"\nmore', "password"),
        ('FATAL:  database "x" does not exist', 'database "x" does not exist'),
        ('FATAL:  role "me" does not exist', 'role "me" does not exist'),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "me"', "no pg_hba.conf entry for host"),
        ("fe_sendauth: no password supplied", "no password supplied"),
        ("connection refused", None),
    ],
)
def test_a_refusal_is_quoted_in_the_server_s_words(said: str, expected: str | None) -> None:
    found = find_refusal(wrap(OperationalError("", {}, Exception(said))))
    assert found is None if expected is None else (found or "").startswith(expected)
    assert "\n" not in (found or "")


def test_an_outage_behind_optuna_s_own_mistake_is_seen() -> None:
    """Where the database is away, Optuna cannot record that a trial failed, and stumbles over that."""
    lost = wrap(OperationalError("", {}, Exception("server closed the connection")))
    with pytest.raises(UnboundLocalError) as caught:
        try:
            raise lost
        finally:
            raise UnboundLocalError("cannot access local variable 'updated_state'")
    assert is_outage(caught.value)
    assert not is_outage(UnboundLocalError("a fault of ours"))


def test_a_heartbeat_that_the_database_does_not_take_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("drop table trial_heartbeats")
    with caplog.at_level("INFO"):
        storage.record_heartbeat(1)
    assert "A heartbeat was not recorded" in caplog.text


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
def test_an_attempt_is_made_again_when_postgresql_is_back(
    postgres: Postgres, url: str, warnings: list[str], mode: str
) -> None:
    study = optuna.create_study(storage=open_storage(url), direction="maximize")
    stale, starting, values = StaleTrials(), [], []

    def train(trial: optuna.Trial) -> float:
        trial.set_user_attr(PROCESS, describe_process())
        if not starting:
            starting.append(postgres.restart_in_background(2.0, mode=mode))
        trial.report(0.25, step=0)
        values.append(trial.number)
        return 0.5

    def attempt() -> None:
        stale.release(study)
        study.optimize(train, n_trials=1)

    repeat_after_outages(attempt, study=study, url=url, wait_s=60)
    starting[0].join()
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert values == [1]
    assert warnings == [
        "The study's database does not answer; waiting for it, at most 60 s.",
        "The study's database answers again.",
    ]


def test_a_database_that_answers_but_takes_nothing_is_not_asked_for_ever(tmp_path: Path, warnings: list[str]) -> None:
    """Locked by another program, or the server's disk is full: it can be connected to, and each attempt fails."""
    url = f"sqlite:///{tmp_path}/optuna.db"
    storage = open_storage(url)
    study = optuna.create_study(storage=storage)
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        if len(attempts) > 20:
            pytest.fail("it was tried for ever")
        study.set_user_attr("a", 1)

    def refuse(*_: object) -> None:
        raise OperationalError("INSERT", {}, Exception("could not extend file: No space left on device"))

    event.listen(storage.engine, "begin", refuse)
    with pytest.raises(StoreError, match="has not answered for 1 s"):
        repeat_after_outages(attempt, study=study, url=url, wait_s=1.0)
    assert len(attempts) == 1
    assert len(warnings) == 1


@needs_postgres
def test_a_database_that_stays_away_is_one_sentence(postgres: Postgres, url: str) -> None:
    study = optuna.create_study(storage=open_storage(url))
    postgres.stop()
    with pytest.raises(StoreError, match=r"has not answered for 1 s\. Finished folds are on disk") as caught:
        repeat_after_outages(lambda: study.ask(), study=study, url=url, wait_s=1.0)
    assert PASSWORD not in str(caught.value)


@needs_postgres
def test_a_refusal_in_the_middle_is_quoted_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [wrap(OperationalError("", {}, Exception("server closed the connection")))]

    def attempt() -> None:
        raise lost.pop()

    study = optuna.create_study(storage=open_storage(url))
    with pytest.raises(SettingsError, match=r"it says: database .* does not exist"):
        repeat_after_outages(attempt, study=study, url=f"{url}-not", wait_s=600)


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
    url: str,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    knock: Callable[..., object],
    change: Callable[[str], str],
    expected: str,
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    begun = time.monotonic()
    with pytest.raises(SettingsError, match=expected) as caught:
        knock(change(url), wait_s=600)
    assert warnings == []
    assert time.monotonic() - begun < 20
    for secret in (PASSWORD, "wrong-secret"):
        assert secret not in str(caught.value)


@needs_postgres
@pytest.mark.parametrize("knock", [open_storage, check_storage], ids=["opened", "knocked at"])
def test_a_server_that_is_away_at_the_start_is_waited_for(
    postgres: Postgres, url: str, warnings: list[str], knock: Callable[..., object]
) -> None:
    starting = postgres.restart_in_background(2.0, mode="fast")
    knock(url, wait_s=600)
    starting.join()
    assert warnings == [
        f"The study's database does not answer; waiting for it, at most {START_S:g} s.",
        "The study's database answers again.",
    ]


def test_a_server_that_stays_away_at_the_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sem_search.search.trials.storage.START_S", 0.5)
    with pytest.raises(StoreError, match=r"has not answered for 0\.5 s\. Nothing was begun") as caught:
        check_storage(f"postgresql://me:{PASSWORD}@127.0.0.1:1/x", wait_s=600)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///not_there.db", "sqlite://"])
def test_a_file_is_not_knocked_at(
    url: str, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_storage(url, wait_s=0)
    assert warnings == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "redis://localhost/0"])
def test_what_is_no_database_is_refused(url: str, warnings: list[str]) -> None:
    with pytest.raises(
        SettingsError, match=r"cannot be opened .*It must be a database URL such as sqlite:///optuna\.db"
    ):
        check_storage(url, wait_s=600)
    assert warnings == []


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


N_RANKS = 30


@needs_postgres
@pytest.mark.long
@pytest.mark.parametrize("attempt", range(10))
def test_a_database_that_stops_again_and_again_loses_and_doubles_nothing(
    postgres: Postgres, url: str, attempt: int
) -> None:
    """It goes down at random moments of enqueueing, reporting and ending; half of the times by a crash."""
    rng = random.Random(attempt)
    study = optuna.create_study(storage=open_storage(url), direction="maximize")
    stale, is_over = StaleTrials(), threading.Event()

    def disturb() -> None:
        while not is_over.wait(timeout=rng.uniform(0.05, 1.5)):
            postgres.restart_after(rng.uniform(0.0, 0.5), mode=rng.choice(["fast", "immediate"]))

    def train(trial: optuna.Trial) -> float:
        trial.set_user_attr(PROCESS, describe_process())
        for step in range(3):
            trial.report(get_rank(trial) + step, step=step)
        return get_rank(trial)

    def work() -> None:
        while True:
            stale.release(study)
            rank = find_free_rank(study.get_trials(), n_ranks=N_RANKS)
            if rank is not None:
                study.enqueue_trial({}, user_attrs={RANK: rank})
            elif not study.get_trials(states=(TrialState.WAITING,)):
                return
            study.optimize(train, n_trials=1)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        repeat_after_outages(work, study=study, url=url, wait_s=120)
    finally:
        is_over.set()
        disturber.join()
    results = [trial for trial in study.get_trials() if holds_rank(trial)]
    assert sorted((get_rank(trial), trial.value, trial.state) for trial in results) == [
        (rank, float(rank), TrialState.COMPLETE) for rank in range(N_RANKS)
    ]
    assert all(trial.intermediate_values == {step: trial.value + step for step in range(3)} for trial in results)


@needs_postgres
def test_workers_that_look_for_a_study_leave_an_empty_database_empty(url: str, warnings: list[str]) -> None:
    """Eight at once beside a search that makes its tables: Optuna could not bear a second one that does."""
    seen: list[tuple[str, ...]] = []

    def look() -> None:
        while not seen or not seen[-1]:
            seen.append(read_study_names(url))

    engine = create_engine(url)
    assert read_study_names(url) == ()
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    optuna.create_study(storage=open_storage(url), study_name="mine")
    for thread in threads:
        thread.join(timeout=60)
    assert seen[-1] == ("mine",)
    assert warnings == []


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

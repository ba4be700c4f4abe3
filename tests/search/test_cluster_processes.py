"""More than one machine, as real processes: the numbers of one, a worker killed or not.

Dask's scheduler and workers are started by its own command line, ours by `sem-search worker`; each has a cache of its
own, and a killed one gets SIGKILL. The undisturbed search is one process; all that is logged is compared with it.
"""

import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.search.machines import LIMIT_S, hold, run_cluster, start_worker, wait_until
from tests.test_end_to_end import TINY_PARAMETERS, Place

pytestmark = pytest.mark.slow

PARAMETERS = TINY_PARAMETERS | {
    "folds": "3",
    "epochs": "12",
    "heads": "finetune",
    "augment": "none",
    "refit": "true",
    "learning_rates": "1e-1,1e-2,1e-5",
    "batch_sizes": "8,16",
    "study": "grid",
}
"""Six cells; of these some are ended between folds and some within one, so that the order of judgement matters."""

N_CELLS = 6


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Place:
    """A search in one process."""
    place = Place(folder=tmp_path_factory.mktemp("alone"))
    done = place.run_search(data=str(tiny_folder), **PARAMETERS)
    assert done.returncode == 0, done.stderr[-4000:]
    states = Counter(run.data.tags["sem_search.trial_state"] for run in place.get_runs("trial"))
    assert states["pruned"], "this grid is to try the judge, too"
    return place


def read_numbers(place: Place) -> dict[tuple[str, str, int], float]:
    """Return every number of every trial that was not superseded, all epochs and folds, but for wall-clock times."""
    client = place.get_client()
    return {
        (run.data.tags["sem_search.cell"], key, point.step): point.value
        for run in place.get_runs("trial")
        if "sem_search.superseded_by" not in run.data.tags
        for key in run.data.metrics
        if not key.endswith("_s")
        for point in client.get_metric_history(run.info.run_id, key)
    }


def read_ends(place: Place) -> dict[str, Any]:
    """Return how each cell ended, by its trial."""
    study = optuna.load_study(study_name="grid", storage=f"sqlite:///{place.folder}/optuna.db")
    trials = study.get_trials()
    results = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(results) == N_CELLS, "a cell was lost or doubled"
    # The trial of a killed worker fails without a reason, and another one takes its cell.
    assert all("reason" not in trial.user_attrs for trial in trials if trial not in results)
    return {
        f"{trial.params}": (
            trial.state.name,
            trial.value,
            trial.intermediate_values,
            # A cell that was begun again has another trial number; all other words and figures are the same.
            re.sub(r"of trial \d+", "of trial N", trial.user_attrs.get("prune_reason", "")),
        )
        for trial in results
    }


def read_winner(place: Place) -> dict[str, str]:
    tags = place.get_client().get_model_version_by_alias("sem-search-tiny", "champion").tags
    names = ("learning_rate", "batch_size", "validation_f_measure", "test_f_measure")
    return {name: tags[f"sem_search.{name}"] for name in names}


def check_same(place: Place, *, as_in: Place) -> None:
    assert read_ends(place) == read_ends(as_in)
    assert read_numbers(place) == read_numbers(as_in)
    assert read_winner(place) == read_winner(as_in)


AGAIN_WORDS = [f"again {number}" for number in range(1, 5)]
AGAIN = [pytest.param(1, id=words, marks=pytest.mark.long) for words in AGAIN_WORDS]


@pytest.mark.parametrize(
    "n_killed", [pytest.param(0, id="undisturbed"), pytest.param(1, id="one of three workers is killed"), *AGAIN]
)
def test_a_dask_cluster_gives_the_numbers_of_one_process(
    alone: Place, tiny_folder: Path, tmp_path: Path, n_killed: int
) -> None:
    place = Place(folder=tmp_path / "search")
    place.folder.mkdir()
    shared = tmp_path / "shared"
    with run_cluster(tmp_path / "dask", n_workers=2 + n_killed) as cluster:
        process = place.start_search(data=str(tiny_folder), cluster=cluster.address, shared=str(shared), **PARAMETERS)
        try:
            if n_killed:
                wait_until(lambda: any(shared.glob("studies/*/*/fold_*.bin")), what="the first fold")
                cluster.workers[0].send_signal(signal.SIGKILL)
            _, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        assert process.returncode == 0, errors[-3000:] + cluster.read_logs()
    check_same(place, as_in=alone)


@pytest.mark.parametrize("attempt", ["once", *(pytest.param(word, marks=pytest.mark.long) for word in AGAIN_WORDS)])
def test_one_of_three_independent_workers_is_killed(
    alone: Place, tiny_folder: Path, tmp_path: Path, attempt: str
) -> None:
    """The search and two workers have nothing in common but database, tracking store and shared folder.

    The search is held while the workers begin, else it would have done everything before they have loaded TensorFlow.
    """
    place = Place(folder=tmp_path)
    shared = tmp_path / "shared"
    search = place.start_search(
        data=str(tiny_folder), shared=str(shared), **PARAMETERS, storage=f"sqlite:///{tmp_path}/optuna.db"
    )
    workers = []
    try:
        wait_until(lambda: place.count_finished_folds() >= 1 or search.poll() is not None, what="the first fold")
        hold(search, databases=[tmp_path / "optuna.db", tmp_path / "mlflow.db"])
        words = ("--study", "grid", "--storage", f"sqlite:///{tmp_path}/optuna.db")
        workers = [start_worker(place, *words, machine=f"machine_{number}") for number in range(2)]

        def has_begun() -> bool:
            return any((tmp_path / "machine_0" / "studies").glob("*/*/fold_*.bin")) or workers[0].poll() is not None

        wait_until(has_begun, what="the first worker's first fold")
        assert workers[0].poll() is None, workers[0].communicate()
        workers[0].send_signal(signal.SIGKILL)
        search.send_signal(signal.SIGCONT)
        living = (search, workers[1])
        outputs = [process.communicate(timeout=LIMIT_S) for process in living]
        assert [process.returncode for process in living] == [0, 0], str(outputs)[-5000:]
    finally:
        for process in (search, *workers):
            process.kill()
    assert "No cell of study 'grid' is left to claim." in outputs[1][0]
    check_same(place, as_in=alone)

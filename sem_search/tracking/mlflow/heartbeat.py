"""Study runs that nobody works on any more, ended; and the sign of life by which others see that this one is worked on.

A search that is killed leaves its run RUNNING. Where it ran on this machine that is known at once. Of another machine
only a sign of life can tell: a tag that the search writes anew every `BEAT_S`. If a run's tag stands still for
`GRACE_S` by the watcher's own clock, its search is given up. Two clocks are never compared, so that a clock that jumps,
or is wrong, ends no living run. A search that takes less time than that ends no run of another machine; the next does.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlflow.tracking import MlflowClient

from sem_search.tracking.mlflow.availability import LOOK, ask_once, is_outage
from sem_search.tracking.mlflow.runs import find_unfinished_study_runs, supersede_run

TAG_ALIVE = "sem_search.alive"

BEAT_S = 30.0
GRACE_S = 180.0
"""Six signs of life: well over a restart of the server, during which nobody can give one."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RunWatch:
    """Since when, by this process's own clock, has each run shown no new sign of life?"""

    grace_s: float = GRACE_S
    clock: Callable[[], float] = time.monotonic
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)

    def find_silent(self, signs: Mapping[str, str]) -> tuple[str, ...]:
        """Return the runs, of run id -> latest sign of life, that have been silent for too long."""
        now_s, known = self.clock(), self._since
        self._since = {
            run_id: known[run_id] if run_id in known and known[run_id][0] == sign else (sign, now_s)
            for run_id, sign in signs.items()
        }
        return tuple(run_id for run_id, (_, since_s) in self._since.items() if now_s - since_s >= self.grace_s)


@contextmanager
def watch_runs(
    run_id: str, *, study: str, is_known_dead: Callable[[str], bool], beat_s: float = BEAT_S, grace_s: float = GRACE_S
) -> Iterator[None]:
    """Give signs of life for a study's run, and end those of the study that give none, until the `with` is left.

    While the tracking store is away nothing is seen, so nothing is concluded: every run is then as silent as its store.

    Args:
        run_id: This search's run.
        study: The study's name.
        is_known_dead: Whether a process, as runs are tagged with it, was on this machine and is gone.
        beat_s: Seconds between two signs.
        grace_s: Seconds of silence after which a run is given up.
    """
    is_over = threading.Event()

    def run() -> None:
        watch = RunWatch(grace_s=grace_s)
        while True:
            try:
                give_sign(run_id)
                end_silent_runs(watch, study=study, by=run_id, is_known_dead=is_known_dead)
            except Exception as error:  # noqa: BLE001 - without signs of life, others would end this run
                level = logging.INFO if is_outage(error) else logging.WARNING
                logger.log(level, "No sign of life was given (%s); the next one will be.", type(error).__name__)
                watch = RunWatch(grace_s=grace_s)
            if is_over.wait(timeout=beat_s):
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=float(LOOK["MLFLOW_HTTP_REQUEST_TIMEOUT"]))


def give_sign(run_id: str) -> None:
    """Write a tag that is never twice the same."""
    with ask_once(LOOK):
        MlflowClient().set_tag(run_id, TAG_ALIVE, uuid.uuid4().hex)


def end_silent_runs(watch: RunWatch, *, study: str, by: str, is_known_dead: Callable[[str], bool]) -> tuple[str, ...]:
    """End the study's runs whose search is gone; return them."""
    with ask_once(LOOK):
        processes = find_unfinished_study_runs(study=study, but=by)
        signs = {run_id: MlflowClient().get_run(run_id).data.tags.get(TAG_ALIVE, "") for run_id in processes}
    silent = watch.find_silent(signs)
    gone = tuple(run_id for run_id, process in processes.items() if run_id in silent or is_known_dead(process))
    for run_id in gone:
        supersede_run(run_id, by=by, is_later=True)
    return gone

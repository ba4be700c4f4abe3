"""The way of everything that is logged: into the outbox of this process where one is open, else straight to MLflow.

A process has one tracking store, as MLflow sees it, and so it has one outbox. Whoever logs finds it by himself: nobody
can forget to hand it on, and with none open (an audit, a test) the same items are delivered from a temporary folder.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from sem_search.errors import StoreError
from sem_search.tracking.mlflow.availability import ask_once, is_outage, look_at_store
from sem_search.tracking.mlflow.names import NOT_FOUND
from sem_search.tracking.mlflow.outbox import FILES, RUNS, UNNAMED, Item, Outbox, RunNames, Writer

EXIT_S = 3.0
"""How long a search that was stopped, or has failed, still tries to log what is left: somebody waits for it to end."""

NOWHERE = "0" * 32
"""The id of a run that could not be opened, for the one that it belongs below is gone."""

Deliverer = Callable[[Item, RunNames], None]
"""Logs an item; its run, and any run it names, may be a name that `RunNames` knows."""

_open: list[Outbox] = []


@contextmanager
def open_outbox(
    root: Path, *, deliverers: Mapping[str, Deliverer], patience_s: float, tell: Callable[[str], None]
) -> Iterator[Outbox]:
    """Open this process's outbox; what dead processes of the study left is delivered first.

    At the end what is left is delivered, for `patience_s` seconds at most; after an interruption or an error for
    `EXIT_S` seconds only, and what is left then is for the next process.

    Args:
        root: The folder that all processes of a study share.
        deliverers: How each kind of item is logged.
        patience_s: How long the end waits for a store that is away.
        tell: Is told when the store goes away and comes back, and what is left.

    What a dead process left for a run that was deleted, or lay in a store that was cleared since, is left out: the
    search logs that trial anew (`search.relogging`).

    Raises:
        StoreError: The end was reached, and the store stayed away.
    """

    def deliver(box: Outbox, item: Item) -> None:
        try:
            with ask_once():
                deliverers[item.kind](item, box.runs)
        except MlflowException as error:
            if box.is_own(item) or not _is_lost(error):
                raise
            tell(f"The run of an entry that was kept is not in this tracking store any more: {item.key} is left out.")
            if item.run.startswith(UNNAMED) and box.runs.find(item.run) is None:
                box.runs.set(item.run, NOWHERE)

    outbox = Outbox(
        root,
        deliver=deliver,
        is_outage=is_outage,
        look=look_at_store,
        tell=tell,
    )
    _open.append(outbox)
    try:
        yield outbox
        if not outbox.flush(patience_s=patience_s):
            raise StoreError(describe_rest(outbox))
    except BaseException:
        if not outbox.flush(patience_s=EXIT_S):
            tell(describe_rest(outbox))
        raise
    finally:
        _open.remove(outbox)
        outbox.close()


def _is_lost(error: MlflowException) -> bool:
    """Tell whether a run is not in the store, or was deleted."""
    return error.error_code in NOT_FOUND or "'active' state" in str(error)


def post(kind: str, *, run: str, deliverer: Deliverer, write: Writer, is_later: bool = False) -> None:
    """Log something, now or as soon as the store is there.

    Args:
        kind: As the outbox's deliverers know it.
        run: Id or name of the run.
        deliverer: Logs it where no outbox is open.
        write: Writes its files into a folder, and returns its facts as JSON values.
        is_later: Leave it to who logs next: a thread beside the search must not meet the refusal of what the search
            has logged.
    """
    if _open:
        _open[-1].add(kind, run=run, write=write)
        if not is_later:
            _open[-1].deliver()
        return
    with tempfile.TemporaryDirectory(prefix="sem_search_") as name:
        files = Path(name) / FILES
        files.mkdir()
        facts = write(files)
        deliverer(Item(folder=Path(name), kind=kind, run=run, facts=facts), RunNames(Path(name)))


def post_facts(kind: str, *, run: str, deliverer: Deliverer, facts: Mapping[str, Any], is_later: bool = False) -> None:
    """Log something that has no files."""
    post(kind, run=run, deliverer=deliverer, write=lambda _: facts, is_later=is_later)


def get_outbox() -> Outbox | None:
    """Return the outbox of this process, if one is open."""
    return _open[-1] if _open else None


def resolve_run(name: str, *, root: Path) -> str:
    """Return the id of a run that may have been named while the store was away; an unopened one keeps its name."""
    return RunNames(root / RUNS).find(name) or name


def describe_rest(outbox: Outbox) -> str:
    """Return what is said of what could not be logged."""
    return (
        f"The tracking store does not answer: {outbox.count()} entries are kept in {outbox.root}. "
        "When it is back, give the same command again; it logs them first."
    )

"""The one thread that writes the journal, so that no answer waits for its database."""

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue

from sem_search.deployment.monitoring.journal import AnswerJournal, JournalRow
from sem_search.errors import get_first_line
from sem_search.secrets import mask_secrets

MOST_WAITING = 10_000
"""Rows that may wait for a database that is slow or away, some MB; further ones are lost."""

CLOSE_S = 5.0
"""Longest that the end of the server waits for the database."""

_logger = logging.getLogger(__name__)


class JournalThread:
    """Writes rows in the order in which they were given; safe to share between threads."""

    def __init__(self, journal: AnswerJournal) -> None:
        self._journal = journal
        self._queue: SimpleQueue[Sequence[JournalRow] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._n_waiting = 0
        self._n_dropped = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def n_lost(self) -> int:
        """Answers that are not in the journal and will not be."""
        return self._journal.n_lost + self._n_dropped

    def add(self, rows: Sequence[JournalRow]) -> None:
        """Let the rows of one request be written soon."""
        with self._lock:
            has_room = self._n_waiting + len(rows) <= MOST_WAITING
            self._n_waiting += len(rows) if has_room else 0
        if has_room:
            self._queue.put(rows)
        else:
            self.lose(len(rows), "The journal's database is too slow")

    def lose(self, n_rows: int, reason: str) -> None:
        """Count answers that will not be in the journal, and warn."""
        with self._lock:
            self._n_dropped += n_rows
        _logger.warning("%s: %d answers are not in it.", reason, self._n_dropped)

    def close(self) -> None:
        """Write what waits, for a few seconds at most, and end."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self.lose(self._n_waiting, f"The journal's database did not take all answers within {CLOSE_S:g} s")

    def _run(self) -> None:
        while (rows := self._queue.get()) is not None:
            try:
                self._journal.write(rows)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next rows are written
                self.lose(len(rows), f"The journal was not written ({describe_error(error)})")
            with self._lock:
                self._n_waiting -= len(rows)


def describe_error(error: Exception) -> str:
    """Return an error as part of a line of the log."""
    return f"{type(error).__name__}: {mask_secrets(get_first_line(error))}"

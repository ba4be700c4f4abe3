"""The one thread that writes the journal, so that no answer waits for its database."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sem_search.deployment.monitoring.journal import AnswerJournal, JournalRow

MOST_WAITING = 10_000
"""Rows that may wait for a database that is slow or away, some MB; further ones are lost."""

_logger = logging.getLogger(__name__)


class JournalThread:
    """Writes rows in the order in which they were given; safe to share between threads."""

    def __init__(self, journal: AnswerJournal) -> None:
        self._journal = journal
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._lock = threading.Lock()
        self._n_waiting = 0
        self._n_dropped = 0

    @property
    def n_lost(self) -> int:
        """Answers that are not in the journal and will not be."""
        return self._journal.n_lost + self._n_dropped

    def add(self, rows: Sequence[JournalRow]) -> None:
        """Let the rows of one request be written soon."""
        with self._lock:
            if self._n_waiting + len(rows) > MOST_WAITING:
                self._n_dropped += len(rows)
                _logger.warning("The journal's database is too slow: %d answers are not in it.", self._n_dropped)
                return
            self._n_waiting += len(rows)
        self._writing.submit(self._write, rows)

    def close(self) -> None:
        """Write what waits, and end."""
        self._writing.shutdown()

    def _write(self, rows: Sequence[JournalRow]) -> None:
        try:
            self._journal.write(rows)
        finally:
            with self._lock:
                self._n_waiting -= len(rows)

"""A search that is stopped where it would begin to train."""

from typing import Any

import pytest

from sem_search.errors import SemSearchWarning
from sem_search.progress import Show, show_nothing
from sem_search.search import attempt
from sem_search.search.commands.search import run_search
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.settings import SearchSettings

BEGINS = {
    "prepare_data": prepare_room,
    "configure_tensorflow": prepare_room,
    "prepare_network": prepare_room,
    "create_store": attempt,
    "compute_views": prepare_room,
}
"""What a search does, in this order, before it trains, and the module that does it."""


class StoppedError(Exception):
    """Raised where a test has seen enough."""


def change(asked: SearchSettings, **changes: Any) -> SearchSettings:
    return asked.model_copy(update=changes)


def begin(settings: SearchSettings, *, show: Show = show_nothing) -> None:
    """Search until training would begin."""
    with pytest.raises(StoppedError):
        run_search(settings, show=show)


def list_warnings(recorded: pytest.WarningsRecorder) -> list[str]:
    """Return what the user was warned of."""
    return [str(one.message) for one in recorded if issubclass(one.category, SemSearchWarning)]

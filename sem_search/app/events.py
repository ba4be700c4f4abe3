"""What runs, and how far it is, sent to every open page as it changes (server-sent events).

The state is read once for all visitors, from the logs of the commands and from the study's database: so a second
visitor, and one who comes back, see the same.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sem_search.app.access import check_site
from sem_search.app.jobs import NAMES, Jobs
from sem_search.app.requests import AWAY, Desk
from sem_search.app.results import describe_grid
from sem_search.deployment.registry import read_headline
from sem_search.deployment.server.rotation import Rotation
from sem_search.errors import RefusedRequestError, SemSearchError
from sem_search.search.trials.grid_state import read_grid_state
from sem_search.tracking.entries.json_values import to_json

EVERY_S = 1.0
"""Between two looks."""

ALIVE_EVERY_S = 15.0
"""So often something is sent, or proxies close the connection."""

MOST_STREAMS = 100
"""Open at once, of the connections that the server has."""

EVENT_TYPE = "text/event-stream"


class Events:
    """Reads the state, and sends it.

    Args:
        jobs: The commands.
        storage: Of the searches.
        rotation: Knows which model answers.
        desk: Has the threads.
        is_ending: Whether the server is about to end.
    """

    def __init__(
        self, *, jobs: Jobs, storage: str, rotation: Rotation, desk: Desk, is_ending: Callable[[], bool]
    ) -> None:
        self._jobs = jobs
        self._storage = storage
        self._rotation = rotation
        self._desk = desk
        self._is_ending = is_ending
        self._lock = asyncio.Lock()
        self._state: Mapping[str, Any] = {}
        self._read_s = 0.0
        self._n_streams = 0
        self._read_headline = lru_cache(4)(read_headline)

    async def stream(self, request: Request) -> Response:
        """Answer with the state, now and whenever it changes."""
        check_site(request)
        if self._n_streams >= MOST_STREAMS:
            raise RefusedRequestError("Too many pages are open: close some.", status=AWAY)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._iter_events(), media_type=EVENT_TYPE, headers=headers)

    async def _iter_events(self) -> AsyncIterator[str]:
        sent, sent_s = "", 0.0
        self._n_streams += 1
        try:
            while not self._is_ending():
                text = json.dumps(await self._get_state(), ensure_ascii=False)
                if text != sent:
                    sent, sent_s = text, time.monotonic()
                    yield f"data: {text}\n\n"
                elif time.monotonic() - sent_s > ALIVE_EVERY_S:
                    sent_s = time.monotonic()
                    yield ": alive\n\n"
                await asyncio.sleep(EVERY_S)
        finally:
            self._n_streams -= 1

    async def _get_state(self) -> Mapping[str, Any]:
        """Return the state, not older than `EVERY_S`."""
        async with self._lock:
            if time.monotonic() - self._read_s >= 0.9 * EVERY_S:
                self._state = await self._desk.state.work(self._read_state)
                self._read_s = time.monotonic()
        return self._state

    def _read_state(self) -> dict[str, Any]:
        views = {kind: self._jobs.view(kind) for kind in NAMES}
        search, served = views["search"], self._rotation.current
        return {
            "jobs": to_json(views),
            "grid": None if search is None else self._read_grid(search.study),
            "model": {
                "address": self._rotation.address,
                "name": served.name if served else None,
                "version": served.registered.version if served else None,
                "classes": served.classifier.description.class_names if served else (),
                "headline": self._read_headline(served.model_uri) if served else None,
                "trouble": self._rotation.trouble,
            },
        }

    def _read_grid(self, study: str | None) -> Any:
        """Return how far the study of the search is; None before it has begun, or while its database is away."""
        try:
            state = None if study is None else read_grid_state(study, storage=self._storage)
        except SemSearchError:
            return None
        return None if state is None else to_json(describe_grid(state))

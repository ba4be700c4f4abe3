"""What all requests of the page share: who asks, what they send, and the threads in which the work is done."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import Response

from sem_search.app.access import Access, check_site
from sem_search.deployment.server.admission import JSON_TYPE, TOO_LARGE, UNSUPPORTED
from sem_search.deployment.server.application import NO_ROOM, Handler
from sem_search.deployment.server.connection import PACE_S
from sem_search.errors import DataError, FailedTrialError, RefusedRequestError, SemSearchError, StoreError
from sem_search.secrets import mask_secrets
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.mlflow.availability import explain_store_error

Query = Mapping[str, str]
Read = Callable[[Query], object]
Change = Callable[[Mapping[str, Any]], object]

MAX_JSON_BYTES = 5_000_000
"""Names of fifty thousand images."""

JSON_LIMIT_S = 60.0
"""Longest that a caller may take to send them."""

MOST_BODIES = 8
"""Of JSON that are received at once."""

BYTES_TYPE = "application/octet-stream"

AWAY = 503


class Pool:
    """Threads for one kind of work: what one kind waits for holds up no other.

    Args:
        name: Of the threads.
        n_threads: How many.
        most_waiting: Callers that may wait; further ones are asked to come again.
    """

    def __init__(self, name: str, *, n_threads: int, most_waiting: int) -> None:
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._most = n_threads + most_waiting
        self._n_present = 0

    async def work(self, act: Callable[[], Any]) -> Any:
        """Return what a function returns, which runs in a thread.

        Raises:
            RefusedRequestError: Too many wait, or a store or the disk does not do what it should (503); what an input
                lacks is raised as it is.
        """
        if self._n_present >= self._most:
            raise RefusedRequestError(NO_ROOM, status=AWAY)
        self._n_present += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, act)
        except (StoreError, FailedTrialError) as error:
            raise RefusedRequestError(mask_secrets(str(error)), status=AWAY) from error
        except SemSearchError:
            raise
        except Exception as error:
            explained = explain_store_error(error)
            if explained is None:
                raise
            raise RefusedRequestError(str(explained), status=AWAY) from error
        finally:
            self._n_present -= 1


class Desk:
    """Turns functions into handlers of the server.

    Args:
        access: Who may change something.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self.short = Pool("short", n_threads=3, most_waiting=200)
        """For lists, the registry, files."""
        self.state = Pool("state", n_threads=1, most_waiting=10)
        """For what runs and how far it is, and to start and stop it."""
        self.pictures = Pool("pictures", n_threads=2, most_waiting=500)
        self.heat = Pool("heat", n_threads=1, most_waiting=100)
        """For what takes a processor."""
        self._n_bodies = 0

    def read(self, act: Read, *, pool: Pool | None = None) -> Mapping[str, Handler]:
        """Return the handler of a question; what the function returns is JSON, unless it is a response already.

        Args:
            act: Answers, from the parameters of the address.
            pool: Where it runs; `short` by default.
        """

        async def handle(request: Request) -> Response:
            check_site(request)
            return reply(await (pool or self.short).work(lambda: act(request.query_params)))

        return {"GET": handle}

    def change(self, act: Change, *, pool: Pool | None = None) -> Mapping[str, Handler]:
        """Return the handler of what changes something: a JSON object by POST, from who may.

        Args:
            act: Does it, with the fields of the object.
            pool: Where it runs; `state` by default.
        """

        async def handle(request: Request) -> Response:
            self.check_change(request)
            given = await self._read_json(request)
            return reply(await (pool or self.state).work(lambda: act(given)))

        return {"POST": handle}

    def ask(self, act: Change) -> Mapping[str, Handler]:
        """Return the handler of a question that is too long for an address; it changes nothing."""

        async def handle(request: Request) -> Response:
            check_site(request)
            given = await self._read_json(request)
            return reply(await self.short.work(lambda: act(given)))

        return {"POST": handle}

    def check_change(self, request: Request) -> None:
        """Refuse who may not change anything, and what a page of another site sends.

        Raises:
            RefusedRequestError: With status 403.
        """
        check_site(request)
        self.access.check_change(request)

    async def _read_json(self, request: Request) -> Mapping[str, Any]:
        if self._n_bodies >= MOST_BODIES:
            raise RefusedRequestError(NO_ROOM, status=AWAY)
        self._n_bodies += 1
        try:
            async with asyncio.timeout(JSON_LIMIT_S):
                return await _read_json(request)
        except TimeoutError as error:
            raise RefusedRequestError(f"The request was not sent within {JSON_LIMIT_S:g} s.", status=408) from error
        finally:
            self._n_bodies -= 1


def reply(content: object) -> Response:
    """Return an answer: JSON, unless it is a response already."""
    if isinstance(content, Response):
        return content
    text = json.dumps(to_json(content), ensure_ascii=False, allow_nan=False)
    return Response(text.encode("utf-8", "replace"), media_type=JSON_TYPE, headers={"Cache-Control": "no-store"})


def get_text(given: Mapping[str, Any], name: str) -> str:
    """Return a text that a request must give.

    Raises:
        DataError: It is missing, or is no text.
    """
    value = given.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"The request must give {name!r}.")
    return value


async def receive(request: Request, *, into: IO[bytes], most_bytes: int) -> None:
    """Write a body into a file as it comes.

    Raises:
        RefusedRequestError: It is too large (413), of another type (415), or comes too slowly (408).
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BYTES_TYPE:
        raise RefusedRequestError(f"Files are sent as {BYTES_TYPE}.", status=UNSUPPORTED)
    n_bytes = 0
    async for chunk in _iter_body(request):
        n_bytes += len(chunk)
        if n_bytes > most_bytes:
            raise RefusedRequestError(f"At most {most_bytes / 1e6:.0f} MB are taken at once.", status=TOO_LARGE)
        try:
            into.write(chunk)
        except OSError as error:
            raise RefusedRequestError(f"The file cannot be written ({error.strerror}).", status=AWAY) from error


async def _read_json(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
        raise RefusedRequestError(f"The request must be {JSON_TYPE}.", status=UNSUPPORTED)
    body = bytearray()
    async for chunk in _iter_body(request):
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise RefusedRequestError("The request is too large.", status=TOO_LARGE)
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError("The request is not valid JSON.") from error
    if not isinstance(given, dict):
        raise DataError("The request must be a JSON object.")
    return given


async def _iter_body(request: Request) -> AsyncIterator[bytes]:
    """Yield the parts of a body, each of which must come within `PACE_S`."""
    parts = request.stream()
    while True:
        try:
            async with asyncio.timeout(PACE_S):
                part = await anext(parts, None)
        except TimeoutError as error:
            raise RefusedRequestError(f"Nothing was sent for {PACE_S:g} s.", status=408) from error
        if part is None:
            return
        yield part

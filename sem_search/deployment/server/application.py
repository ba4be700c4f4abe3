"""The server as one ASGI application: what it answers to which caller, in how much memory and time.

The event loop moves bytes alone. Requests are taken apart and pictures decoded in a few threads, and one thread
computes (`computing`). A refusal is one sentence of JSON, as MLflow's server words it, without stack trace or path.
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import mlflow
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

import sem_search
from sem_search.deployment.classifier.classifier import Deadline, ImageAnswer
from sem_search.deployment.monitoring.journal import JournalRow, describe_answer
from sem_search.deployment.pyfunc.answers import describe_answers
from sem_search.deployment.pyfunc.model import USED_SHARE
from sem_search.deployment.pyfunc.requests import BadRow, check_rows, read_images
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.admission import AdmittedRequest, admit_request
from sem_search.deployment.server.computing import BUSY, ComputeThread, Question
from sem_search.deployment.server.connection import PACE_BYTES, PACE_S
from sem_search.deployment.server.intake import LOCAL_HOSTS, BodyBudget, PixelRoom, check_caller
from sem_search.deployment.server.journal_thread import JournalThread, describe_error
from sem_search.deployment.server.metrics import MEDIA_TYPE, Metrics
from sem_search.deployment.server.rotation import Rotation, ServedVersion
from sem_search.errors import InputError, RefusedRequestError
from sem_search.micrographs.reading.micrograph import Micrograph

MODEL_HEADER, VERSION_HEADER, ID_HEADER = "X-Model-Name", "X-Model-Version", "X-Request-Id"

REQUESTS_HELD = 4
"""Bodies of the largest size that may be in memory at once; further callers are asked to come again."""

KEPT_SHARE = 1 / 8
"""Of that memory, for small bodies only."""

READ_LIMIT_S = 60.0
"""Longest that a caller may take to send a body."""

RETRY_AFTER_S = 2

NO_MODEL = "No model answers at present; one may be loading: try again soon."
NO_ROOM = "Too many large requests are under way: try again soon."

N_READING, N_DECODING = 2, 2
"""Threads that take requests apart, and threads that decode pictures and write answers."""

DECODED_REQUESTS = 2
"""Requests of the most pixels that may be decoded at once; of small ones there may be more."""

CODES = {
    400: "BAD_REQUEST",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    409: "RESOURCE_CONFLICT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

LIVE, READY = "/livez", ("/readyz", "/ping", "/health")
"""Answered whatever `Host` and `Origin` say: a probe asks by the machine's address, and learns nothing."""

INVOCATIONS = "/invocations"

SHOWN_CHARACTERS = 100
"""Of a path, in the log."""

Handler = Callable[[Request], Awaitable[Response]]

Routes = Mapping[str, Mapping[str, Handler]]
"""Path -> method -> what answers."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What the server allows."""

    request: RequestLimits = field(default_factory=RequestLimits)
    allowed_hosts: frozenset[str] = LOCAL_HOSTS
    """Names that it answers to, see `intake.read_allowed_hosts`."""
    timeout_s: float = 60.0
    """Longest that an answer may take once there is room for the request, and longest that it may wait for that."""


class Application:
    """Answers every request.

    Args:
        rotation: Knows the version that answers.
        limits: What is allowed.
        routes: Further paths that it answers, checked and logged as its own.
        journal: Where each answer is noted; None notes none.
    """

    def __init__(
        self,
        *,
        rotation: Rotation,
        limits: ServerLimits,
        routes: Routes | None = None,
        journal: JournalThread | None = None,
    ) -> None:
        self._rotation = rotation
        self._limits = limits
        self._journal = journal
        self.metrics = Metrics()
        total_bytes = REQUESTS_HELD * limits.request.max_bytes
        self._budget = BodyBudget(total_bytes=total_bytes, kept_bytes=int(KEPT_SHARE * total_bytes))
        self._room = PixelRoom(DECODED_REQUESTS * limits.request.max_request_megapixels)
        self._reading = ThreadPoolExecutor(N_READING, thread_name_prefix="reading")
        self._decoding = ThreadPoolExecutor(N_DECODING, thread_name_prefix="decoding")
        self._computing = ComputeThread(on_batch=self.metrics.count_batch)
        self._handlers: dict[str, Mapping[str, Handler]] = {
            LIVE: {"GET": self._show_life},
            **{path: {"GET": self._show_readiness} for path in READY},
            "/version": {"GET": self._show_version},
            "/metrics": {"GET": self._show_metrics},
            INVOCATIONS: {"POST": self._answer},
            **(routes or {}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, count it, and write one line about it into the log."""
        request = Request(scope, receive)
        begun_s, number = time.perf_counter(), secrets.token_hex(8)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            _logger.info("%s %s the caller left", number, request.method)
            return
        response.headers.update({"Server": "sem-search", "X-Content-Type-Options": "nosniff", ID_HEADER: number})
        took_s = time.perf_counter() - begun_s
        if scope["path"] == INVOCATIONS:
            self.metrics.count_request(status=response.status_code, took_s=took_s)
        path = scope["path"][:SHOWN_CHARACTERS]
        _logger.info("%s %s %r %d %.3f s", number, request.method, path, response.status_code, took_s)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        """Return an answer, or every refusal and failure as one sentence of JSON."""
        try:
            return await self._find_handler(request)(request)
        except RefusedRequestError as error:
            return _refuse(error.status, str(error))
        except InputError as error:
            return _refuse(400, str(error))
        except ClientDisconnect:
            raise
        except Exception as error:
            _logger.exception("The server failed on a request.")
            return _refuse(500, f"The server failed on this request ({type(error).__name__}); its log says why.")

    def _find_handler(self, request: Request) -> Handler:
        path, method = request.scope["path"], request.method
        if method != "GET" or path not in (LIVE, *READY):
            headers = request.headers
            check_caller(
                host=headers.get("host"), origin=headers.get("origin"), allowed_hosts=self._limits.allowed_hosts
            )
        methods = self._handlers.get(path, {})
        if method not in methods:
            reason = "Method Not Allowed" if methods else "Not Found"
            raise RefusedRequestError(
                f"{reason}: this server knows POST /invocations, GET /ping, /livez, /readyz, /metrics and /version.",
                status=405 if methods else 404,
            )
        return methods[method]

    async def _show_life(self, _: Request) -> Response:
        """Answer: the process is there."""
        return JSONResponse({"status": "ok"})

    async def _show_readiness(self, _: Request) -> Response:
        """Answer 200 while a version answers; which one stays unnamed, since any caller is answered."""
        self._get_served()
        return JSONResponse({"status": "ok"})

    async def _show_version(self, _: Request) -> Response:
        served = self._rotation.current
        facts = {
            "address": self._rotation.address,
            "model": served.name if served else None,
            "version": served.registered.version if served else None,
            "sem_search": sem_search.__version__,
            "mlflow": mlflow.__version__,
        }
        return JSONResponse(facts, headers=_name_version(served) if served else None)

    async def _show_metrics(self, _: Request) -> Response:
        served = self._rotation.current
        name, number = (served.name, served.registered.version or "") if served else ("", "")
        n_lost = self._journal.n_lost if self._journal else 0
        return Response(self.metrics.write(name=name, version=number, n_lost=n_lost), media_type=MEDIA_TYPE)

    def _get_served(self) -> ServedVersion:
        if self._rotation.current is None:
            raise RefusedRequestError(NO_MODEL, status=503)
        return self._rotation.current

    async def _answer(self, request: Request) -> Response:
        """Answer one request for predictions."""
        announced = _check_headers(request.headers, limits=self._limits.request)
        self._get_served()
        if not self._budget.has_room(announced, body_bytes=announced):
            raise RefusedRequestError(NO_ROOM, status=503)
        body = bytearray()
        n_bytes = 0
        try:
            await self._read(request, into=body, announced=announced)
            n_bytes = len(body)
            content_type = request.headers.get("content-type", "")
            admitted = await asyncio.get_running_loop().run_in_executor(
                self._reading, lambda: admit_request(body, content_type=content_type, limits=self._limits.request)
            )
            body.clear()  # its part of the budget stays taken, for the files that were in it
            return await self._wait_and_ask(admitted)
        finally:
            self._budget.give_back(n_bytes or len(body))

    async def _read(self, request: Request, *, into: bytearray, announced: int) -> None:
        """Read a body as it comes; what is held of it is taken from the budget."""
        chunks, is_over = request.stream(), False
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                while not is_over:
                    async with asyncio.timeout(PACE_S):
                        is_over = await self._read_part(chunks, into=into, announced=announced)
        except TimeoutError as error:
            raise RefusedRequestError(
                f"The request was not sent within {READ_LIMIT_S:g} s, or slower than {PACE_BYTES / PACE_S:g} bytes/s.",
                status=408,
            ) from error

    async def _read_part(self, chunks: AsyncGenerator[bytes, None], *, into: bytearray, announced: int) -> bool:
        """Read the next bytes that a caller must send within the pace; return whether these were the last ones."""
        until = len(into) + PACE_BYTES
        while len(into) < until:
            chunk = await anext(chunks, b"")
            if not chunk:
                return True
            n_bytes = len(into) + len(chunk)
            if n_bytes > self._limits.request.max_bytes:
                raise RefusedRequestError(
                    "The request is larger than this server takes: send fewer or smaller images at once.", status=413
                )
            if not self._budget.take(len(chunk), body_bytes=max(announced, n_bytes)):
                raise RefusedRequestError(NO_ROOM, status=503)
            into += chunk
        return False

    async def _wait_and_ask(self, admitted: AdmittedRequest) -> Response:
        """Wait until there is room for the pictures, then ask the version that answers at that moment."""
        limit_s = self._limits.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                taken = await self._room.take(admitted.megapixels)
        except TimeoutError as error:
            raise RefusedRequestError(BUSY, status=503) from error
        try:
            async with asyncio.timeout(limit_s):
                return await self._ask(self._get_served(), admitted=admitted)
        except TimeoutError as error:
            raise RefusedRequestError(
                f"No answer within {limit_s:g} s: send fewer images at once, or give a longer --timeout.", status=504
            ) from error
        finally:
            self._room.give_back(taken)

    async def _ask(self, served: ServedVersion, *, admitted: AdmittedRequest) -> Response:
        begun_s, deadline = time.perf_counter(), Deadline.start(USED_SHARE * self._limits.timeout_s)
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._decoding, lambda: self._decode(admitted, served=served))
            images = [row.pixels for row in rows if isinstance(row, Micrograph)]
            question = Question(
                classifier=served.classifier, images=images, is_explained=admitted.options.explain, deadline=deadline
            )
            answers = await asyncio.wrap_future(self._computing.ask(question)) if images else ()
            content, journal_rows = await loop.run_in_executor(
                self._decoding,
                lambda: self._write(answers, rows=rows, admitted=admitted, served=served, begun_s=begun_s),
            )
        except InputError as error:
            status = error.status if isinstance(error, RefusedRequestError) else 400
            return _refuse(status, str(error), headers=_name_version(served))
        if self._journal is not None and journal_rows:
            self._journal.add(journal_rows)  # here: an answer that comes too late is none
        return Response(content, media_type="application/json", headers=_name_version(served))

    def _decode(self, admitted: AdmittedRequest, *, served: ServedVersion) -> list[Micrograph | BadRow]:
        rows = read_images(
            admitted.files,
            n_rows=len(admitted.files),
            read=served.classifier.read,
            max_megapixels=self._limits.request.max_request_megapixels,
        )
        if admitted.options.on_error == "refuse":
            check_rows(rows)
        return rows

    def _write(
        self,
        answers: Iterable[ImageAnswer],
        *,
        rows: Sequence[Micrograph | BadRow],
        admitted: AdmittedRequest,
        served: ServedVersion,
        begun_s: float,
    ) -> tuple[bytes, list[JournalRow]]:
        """Return the answer as MLflow's server writes it, and its rows for the journal."""
        records = describe_answers(
            answers, rows=rows, classifier=served.classifier, options=admitted.options, served_name=served.registered
        )
        self.metrics.count_answers(records)
        content = json.dumps({"predictions": records}).encode("ascii")
        answered = [(record, row) for record, row in zip(records, rows, strict=True) if isinstance(row, Micrograph)]
        return content, self._describe(answered, begun_s=begun_s)

    def _describe(
        self, answered: Sequence[tuple[Mapping[str, Any], Micrograph]], *, begun_s: float
    ) -> list[JournalRow]:
        """Return the rows for the journal; an answer is never refused because they cannot be made."""
        if self._journal is None:
            return []
        took_ms = 1000 * (time.perf_counter() - begun_s) / max(1, len(answered))
        try:
            return [describe_answer(record, micrograph=row, duration_ms=took_ms) for record, row in answered]
        except Exception as error:  # noqa: BLE001 - see above
            self._journal.lose(len(answered), f"The journal cannot hold an answer ({describe_error(error)})")
            return []


def _check_headers(headers: Mapping[str, str], *, limits: RequestLimits) -> int:
    """Return the size that a caller announces, 0 where none is; refuse what is wrong by the headers alone."""
    n_bytes = int(headers.get("content-length", "0"))
    if n_bytes > limits.max_bytes:
        raise RefusedRequestError(
            f"The request has {n_bytes / 1e6:.3g} MB, and at most {limits.max_bytes / 1e6:g} MB are taken: send fewer "
            "or smaller images at once.",
            status=413,
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedRequestError("Compressed requests are not taken: send the body as it is.", status=415)
    return n_bytes


def _name_version(served: ServedVersion) -> dict[str, str]:
    """Return the headers that name the version which answered."""
    headers = {MODEL_HEADER: served.name.encode("ascii", "replace").decode()}
    number = served.registered.version
    return headers | ({VERSION_HEADER: number} if number is not None else {})


def _refuse(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal: `{"error_code": ..., "message": ...}`, as MLflow's server words them."""
    more = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    if status == 408:
        more["Connection"] = "close"
    body = {"error_code": CODES[status], "message": message}
    return JSONResponse(body, status_code=status, headers={**(headers or {}), **more})

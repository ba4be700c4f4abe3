"""The one port that callers know: checks requests, passes them to the version that answers, cleans its answers.

What MLflow's server lacks is here: a limit to the size of a request, checked before it is read; a limit to what all
requests together may hold in memory; refusals in one sentence without stack traces; a header that names the version
which answered. It is written on aiohttp, server and client in one, which MLflow itself requires.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version

import aiohttp
from aiohttp import web

import sem_search
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.admission import AdmittedRequest, admit_request
from sem_search.deployment.server.intake import LOCAL_HOSTS, BodyBudget, check_caller
from sem_search.deployment.server.page import Page
from sem_search.deployment.server.rotation import Rotation, ServedVersion
from sem_search.errors import RefusedRequestError

MODEL_HEADER, VERSION_HEADER = "X-Model-Name", "X-Model-Version"

REQUESTS_HELD = 4
"""Bodies of the largest size that may be in memory at once; further callers are asked to come again."""

KEPT_SHARE = 1 / 8
"""Of that memory, for small bodies only."""

READ_LIMIT_S = 60.0
"""Longest that a caller may take to send a body."""

PACE_BYTES, PACE_S = 100_000, 10.0
"""Each of so many bytes, and the last ones, must come within so many seconds: 10 kB/s. Slower callers are dropped."""

RETRY_AFTER_S = 2

NO_ROOM = "Too many large requests are under way: try again soon."

N_ADMITTING = 2
"""Threads that take requests apart."""

DATA_MARK = "\nError: "
"""MLflow's server puts what was sent before the message, up to this mark."""

CODES = {
    400: "BAD_REQUEST",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    411: "LENGTH_REQUIRED",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    417: "EXPECTATION_FAILED",
    500: "INTERNAL_ERROR",
    502: "BAD_GATEWAY",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

PROBES = ("/ping", "/health")
"""Answered whatever `Host` and `Origin` say: a liveness probe asks by the machine's address, and learns nothing."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FrontSettings:
    """What the front allows."""

    limits: RequestLimits = field(default_factory=RequestLimits)
    allowed_hosts: frozenset[str] = LOCAL_HOSTS
    """Names that it answers to, see `intake.read_allowed_hosts`."""
    n_at_once: int = 2
    """Requests that the model works on at the same time; further ones wait in the front."""
    timeout_s: float = 60.0
    """Longest that an answer may take once the model works on it, and longest that a request may wait for its turn."""


class Front:
    """The handlers of the front.

    Args:
        rotation: Knows the version that answers.
        settings: What is allowed.
        page: The page for people, served at `/`; None serves none.
    """

    def __init__(self, *, rotation: Rotation, settings: FrontSettings, page: Page | None = None) -> None:
        self._rotation = rotation
        self._settings = settings
        self._page = page
        self._turns = asyncio.Semaphore(settings.n_at_once)
        total_bytes = REQUESTS_HELD * settings.limits.max_bytes
        self._budget = BodyBudget(total_bytes=total_bytes, kept_bytes=int(KEPT_SHARE * total_bytes))
        self._admitting = ThreadPoolExecutor(N_ADMITTING, thread_name_prefix="admitting")

    def build_application(self) -> web.Application:
        """Return the application of this front."""
        application = web.Application(middlewares=[_speak_plainly, self._check_caller], logger=_logger)
        application.on_response_prepare.append(_name_server)
        add = application.router.add_route
        for path in PROBES:
            add("GET", path, self.ping)
        add("GET", "/version", self.show_version)
        add("POST", "/invocations", self.answer, expect_handler=self._expect)
        if self._page is not None:
            add("GET", "/", self._build_page_handler(self._page))
        return application

    @web.middleware
    async def _check_caller(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "GET" or request.path not in PROBES:
            _check_host_and_origin(request, allowed_hosts=self._settings.allowed_hosts)
        return await handler(request)

    async def ping(self, _: web.Request) -> web.Response:
        """Answer 200 while a version answers, else 503; which one stays unnamed, since any caller is answered."""
        if self._rotation.current is None:
            return _refuse(503, "No model answers at present.")
        return web.json_response({"status": "ok"})

    async def show_version(self, _: web.Request) -> web.Response:
        """Answer with the version that is served."""
        served = self._rotation.current
        facts = {
            "address": self._rotation.address,
            "model": served.name if served else None,
            "version": served.version if served else None,
            "sem_search": sem_search.__version__,
            "mlflow": version("mlflow"),
        }
        return web.json_response(facts, headers=_name_version(served) if served else None)

    def _build_page_handler(self, page: Page) -> Handler:
        headers = {"Content-Security-Policy": page.policy, "Referrer-Policy": "no-referrer"}

        async def show_page(_: web.Request) -> web.Response:
            """Answer with the page, which is the same for every request."""
            return web.Response(text=page.html, content_type="text/html", charset="utf-8", headers=headers)

        return show_page

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request for predictions."""
        limits = self._settings.limits
        _check_headers(request, limits=limits)
        if self._rotation.current is None:
            return _refuse(503, "No model answers at present: try again soon.")
        announced = request.content_length or 0
        if not self._budget.has_room(announced, body_bytes=announced):
            return _refuse(503, NO_ROOM)
        body = bytearray()
        try:
            refusal = await self._read(request, into=body)
            if refusal is not None:
                return refusal
            return await self._admit_and_ask(body, content_type=request.headers.get("Content-Type", ""))
        finally:
            self._budget.give_back(len(body))

    async def _read(self, request: web.Request, *, into: bytearray) -> web.Response | None:
        """Read a body as it comes, what is held of it taken from the budget; return a refusal if that ended early."""
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                while not request.content.at_eof():
                    async with asyncio.timeout(PACE_S):
                        refusal = await self._read_part(request, into=into)
                    if refusal is not None:
                        return refusal
        except TimeoutError:
            refusal = _refuse(
                408,
                f"The request was not sent within {READ_LIMIT_S:g} s, or slower than {PACE_BYTES / PACE_S:g} bytes/s.",
            )
            refusal.force_close()
            return refusal
        return None

    async def _read_part(self, request: web.Request, *, into: bytearray) -> web.Response | None:
        """Read the next bytes that a caller must send within the pace, or the last ones."""
        until = len(into) + PACE_BYTES
        while len(into) < until and (chunk := await request.content.readany()):
            if len(into) + len(chunk) > self._settings.limits.max_bytes:
                return _refuse(
                    413, "The request is larger than this server takes: send fewer or smaller images at once."
                )
            size = max(request.content_length or 0, len(into) + len(chunk))
            if not self._budget.take(len(chunk), body_bytes=size):
                return _refuse(503, NO_ROOM)
            into += chunk
        return None

    async def _admit_and_ask(self, body: bytearray, *, content_type: str) -> web.Response:
        served = self._rotation.current
        if served is None:
            return _refuse(503, "No model answers at present: try again soon.")
        loop = asyncio.get_running_loop()
        admitted = await loop.run_in_executor(
            self._admitting,
            lambda: admit_request(
                body, content_type=content_type, limits=self._settings.limits, param_names=served.param_names
            ),
        )
        return await self._take_turn(admitted)

    async def _take_turn(self, admitted: AdmittedRequest) -> web.Response:
        """Wait for a turn, then ask the version that answers at that moment."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            return _refuse(503, "Too many requests are under way: try again soon.")
        try:
            served = self._rotation.current
            if served is None:
                return _refuse(503, "No model answers at present: try again soon.")
            with served.server:
                return await self._ask(served, body=admitted.body)
        finally:
            self._turns.release()

    async def _ask(self, served: ServedVersion, *, body: bytes) -> web.Response:
        # The child ends a request itself at its time limit; it is given a little longer to answer.
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s + 5.0)
        url = f"{served.server.address}/invocations"
        try:
            async with served.server.session.post(
                url, data=body, headers={"Content-Type": "application/json"}, timeout=timeout
            ) as response:
                content = await response.read()
        except TimeoutError:
            limit = f"{self._settings.timeout_s:g} s"
            return _refuse(504, f"No answer within {limit}: send fewer images at once, or give a longer --timeout.")
        except aiohttp.ClientError:
            _logger.exception("The server of %s broke off.", served.model_uri)
            return _refuse(502, "The model's server broke off while answering: try again soon.")
        if response.status == 200:
            return web.Response(body=content, content_type="application/json", headers=_name_version(served))
        return _pass_refusal(response.status, content=content, headers=_name_version(served))

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse a body that is too large before it is sent, where the caller waits for leave to send it."""
        try:
            _check_host_and_origin(request, allowed_hosts=self._settings.allowed_hosts)
            _check_headers(request, limits=self._settings.limits)
        except RefusedRequestError as error:  # aiohttp asks before it enters the middleware
            return _refuse(error.status, str(error))
        if request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None


async def _name_server(_: web.Request, response: web.StreamResponse) -> None:
    """Name the program that answers, not the versions of its libraries."""
    response.headers["Server"] = "sem-search"
    response.headers["X-Content-Type-Options"] = "nosniff"


@web.middleware
async def _speak_plainly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every refusal and failure into one sentence of JSON."""
    try:
        return await handler(request)
    except RefusedRequestError as error:
        return _refuse(error.status, str(error))
    except web.HTTPException as error:
        return _refuse(error.status, f"{error.reason}: this server knows POST /invocations, GET /ping and /version.")
    except (ConnectionError, asyncio.CancelledError):
        raise  # the caller has gone
    except Exception:
        _logger.exception("The front failed on a request.")
        return _refuse(500, "The server failed on this request; its log says why.")


def _check_host_and_origin(request: web.Request, *, allowed_hosts: frozenset[str]) -> None:
    headers = request.headers
    check_caller(host=headers.get("Host"), origin=headers.get("Origin"), allowed_hosts=allowed_hosts)


def _check_headers(request: web.Request, *, limits: RequestLimits) -> None:
    """Refuse what is wrong by the headers alone.

    Raises:
        RefusedRequestError: The body is too large, or compressed.
    """
    length = request.content_length
    if length is not None and length > limits.max_bytes:
        raise RefusedRequestError(
            f"The request has {length / 1e6:.3g} MB, and at most {limits.max_bytes / 1e6:g} MB are taken: send fewer "
            "or smaller images at once.",
            status=413,
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RefusedRequestError("Compressed requests are not taken: send the body as it is.", status=415)


def _name_version(served: ServedVersion) -> dict[str, str]:
    """Return the headers that name the version which answered."""
    headers = {MODEL_HEADER: served.name.encode("ascii", "replace").decode()}
    return headers | ({VERSION_HEADER: served.version} if served.version is not None else {})


def _pass_refusal(status: int, *, content: bytes, headers: dict[str, str]) -> web.Response:
    """Return a refusal of MLflow's server without what was sent, stack traces and paths."""
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, TypeError, KeyError):
        message = "The request could not be answered in time." if status == 504 else "The request was refused."
    _, mark, sentence = message.rpartition(DATA_MARK)
    return _refuse(status, sentence if mark else message.splitlines()[0], headers=headers)


def _refuse(status: int, message: str, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return a refusal: `{"error_code": ..., "message": ...}`, as MLflow's server words them."""
    wait = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    body = {"error_code": CODES.get(status, "ERROR"), "message": message}
    return web.json_response(body, status=status, headers={**(headers or {}), **wait})

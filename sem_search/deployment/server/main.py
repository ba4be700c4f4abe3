"""`sem-search serve` and `sem-search app`: the port, the served version, and a clean end."""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from sem_search.deployment.monitoring.journal import AnswerJournal, check_registered
from sem_search.deployment.registry import complete_model_uri, resolve_model_uri
from sem_search.deployment.request_limits import MAX_REQUEST_MB, MAX_REQUEST_MEGAPIXELS, RequestLimits
from sem_search.deployment.server.application import Application, Routes, ServerLimits
from sem_search.deployment.server.connection import Connection
from sem_search.deployment.server.intake import ANY_ADDRESS, LOCAL_HOSTS, read_allowed_hosts, write_host
from sem_search.deployment.server.journal_thread import JournalThread
from sem_search.deployment.server.rotation import Rotation, load_version
from sem_search.errors import SettingsError
from sem_search.micrographs.reading.options import DEFAULT_MAX_MEGAPIXELS
from sem_search.terminal import PlainFormatter

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"

BACKLOG = 2048
"""Connections that may wait to be taken up; uvicorn's own number."""

KEEP_ALIVE_S = 75
"""An idle connection is kept so long: callers that hold one open would meet its end in the very next request."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """The options of `sem-search serve`; a value that is out of range is a SettingsError."""

    model: str | None
    """`models:/<name>@<alias>`, which is watched, or any other model's URI; None is the champion of the only model that
    has one."""
    host: str = "127.0.0.1"
    port: int = 5001
    timeout: int = 60
    """Seconds a request may take."""
    watch: float = 5.0
    """Seconds between two looks at the alias."""
    max_request_mb: float = MAX_REQUEST_MB
    """Size of a request in 10^6 bytes."""
    max_megapixels: float = MAX_REQUEST_MEGAPIXELS
    """Of all images of a request; of one image at most `DEFAULT_MAX_MEGAPIXELS`."""
    allowed_hosts: str = ""
    """Further names by which callers may ask, separated by commas."""
    journal: str | None = None
    """File, or URL of a database, in which each answer is noted for `sem-search monitor`."""
    waits_for_model: bool = False
    """Whether it begins without a model, and takes the first champion that comes, where `model` names none."""

    def __post_init__(self) -> None:
        for name in ("watch", "max_request_mb", "max_megapixels"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise SettingsError(f"{name.replace('_', '-')}={value:g} must be above 0, and finite.")
        read_allowed_hosts(self.allowed_hosts, host=self.host)

    @property
    def limits(self) -> ServerLimits:
        """What the server allows."""
        request = RequestLimits(
            max_bytes=int(self.max_request_mb * 1e6),
            max_image_megapixels=min(self.max_megapixels, DEFAULT_MAX_MEGAPIXELS),
            max_request_megapixels=self.max_megapixels,
        )
        allowed_hosts = read_allowed_hosts(self.allowed_hosts, host=self.host)
        return ServerLimits(request=request, allowed_hosts=allowed_hosts, timeout_s=float(self.timeout))


BuildRoutes = Callable[[Rotation, Callable[[], bool]], Routes]
"""Returns what a server answers beside its classifier, from the version that answers and whether the server is about to
end, which an answer without an end must look at."""


def run_server(
    settings: ServeSettings,
    *,
    build_routes: BuildRoutes | None = None,
    when_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is under way.

    Args:
        settings: What to serve, and how.
        build_routes: Returns further paths that are answered.
        when_ready: Called once with the server's URL, when it answers.

    Raises:
        ModelNotFoundError: There is no such model; none is given, and no model or several have a champion.
        SettingsError: The port is taken, or the host is none of this machine's.
        StoreError: The model is not what was registered, or does not answer.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(LOG_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("sem_search").setLevel(logging.INFO)
    # What is no HTTP is refused by uvicorn, and would fill the log with a warning for each such connection.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a registry that is away is reported in a sentence of ours
    gc.freeze()  # all that was imported: to look through it again and again would hold up requests for half a second
    with _outlive_signals():
        asyncio.run(_serve(settings, build_routes=build_routes, when_ready=when_ready))


@contextmanager
def _outlive_signals() -> Iterator[None]:
    """Let uvicorn end the server on a signal, and not the process when it sends the signal on afterwards."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _serve(
    settings: ServeSettings, *, build_routes: BuildRoutes | None, when_ready: Callable[[str], object] | None
) -> None:
    limits, rotation = settings.limits, _build_rotation(settings)
    if settings.journal and rotation.address:
        check_registered(rotation.address)
    listening = _listen(settings)  # first: a port that is taken is an error at once
    if write_host(settings.host) in ANY_ADDRESS and limits.allowed_hosts <= LOCAL_HOSTS | ANY_ADDRESS:
        _logger.warning(
            "Only callers who ask for localhost are answered: give the names of this server with --allowed-hosts."
        )
    journal = JournalThread(AnswerJournal.open(settings.journal)) if settings.journal else None
    server: uvicorn.Server | None = None
    routes = build_routes(rotation, lambda: server is not None and server.should_exit) if build_routes else None
    application = Application(rotation=rotation, limits=limits, routes=routes, journal=journal)
    server = build_server(application, timeout_s=settings.timeout)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        if await _run_until(serving, asyncio.create_task(_load_first(rotation, settings=settings))):
            url = f"http://{write_host(settings.host)}:{settings.port}"
            _logger.info("%s is served at %s; Ctrl-C ends it.", rotation.address or "The page", url)
            if when_ready is not None:
                when_ready(url)
            watching = asyncio.gather(rotation.watch(), application.metrics.watch_event_loop())
            await _run_until(serving, watching)
    finally:
        server.should_exit = True
        await serving
        if journal is not None:
            journal.close()


def _build_rotation(settings: ServeSettings) -> Rotation:
    """Return what follows the model that was asked for, or the only champion that there is or will be."""
    is_open = settings.model is None and settings.waits_for_model
    return Rotation(
        address="" if is_open else complete_model_uri(settings.model),
        watch_s=settings.watch,
        resolve=lambda address: resolve_model_uri(complete_model_uri(address or None)),
        load=load_version,
    )


async def _load_first(rotation: Rotation, *, settings: ServeSettings) -> None:
    """Load the version with which a server begins; one that waits for a model loads it while it serves."""
    if not settings.waits_for_model:
        _logger.info("%s is being loaded, which takes a moment ...", rotation.address)
        await rotation.start()


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(
            f"port={settings.port} on host={settings.host} cannot be opened ({reason}): give another one."
        ) from error


def build_server(application: Application, *, timeout_s: int) -> uvicorn.Server:
    """Return what speaks HTTP for an application; once it is asked to stop, it waits so long for what is under way."""
    config = uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=timeout_s,
    )
    return uvicorn.Server(config)


async def _run_until(serving: "asyncio.Task[None]", work: "asyncio.Future[Any]") -> bool:
    """Run until the work is done, or the server was asked to stop; return whether the work was done before."""
    await asyncio.wait([serving, work], return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()  # a failure ends the server, it is not hidden
        return True
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    return False

"""`sem-search serve` and `sem-search app`: the front server, the served version behind it, and a clean end."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from sem_search.deployment.registry import complete_model_uri, resolve_model_uri
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.child import ServerSettings
from sem_search.deployment.server.front import Front, FrontSettings
from sem_search.deployment.server.intake import ANY_ADDRESS, LOCAL_HOSTS, read_allowed_hosts, write_host
from sem_search.deployment.server.page import read_page
from sem_search.deployment.server.rotation import Rotation
from sem_search.errors import SettingsError
from sem_search.micrographs.reading.options import DEFAULT_MAX_MEGAPIXELS
from sem_search.terminal import PlainFormatter

AT_ONCE_PER_WORKER = 2
"""While the network works on one request, the pictures of the next are decoded."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"

WINDOWS = (
    "serve and app do not run on Windows itself, which has no process groups as they need them: use WSL "
    "(docs/platforms.md), or mlflow models serve -m models:/NAME@champion --env-manager local."
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """The options of `sem-search serve`."""

    address: str
    """`models:/<name>@<alias>`: watched; any other model's URI is served as it is."""
    host: str = "127.0.0.1"
    port: int = 5001
    watch_s: float = 5.0
    front: FrontSettings = field(default_factory=FrontSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    has_page: bool = False


def build_serve_settings(
    *,
    model: str | None,
    host: str,
    port: int,
    workers: int,
    env_manager: str,
    timeout: int,
    watch: float,
    max_request_mb: float,
    max_megapixels: float,
    allowed_hosts: str = "",
    has_page: bool = False,
) -> ServeSettings:
    """Return the settings that the command line's words mean.

    Args:
        model: `models:/<name>@<alias>`, which is watched, or any other model's URI; None is the champion of the only
            model that has one.
        host: Address to listen on.
        port: 1 to 65535.
        workers: Processes that answer, at least 1.
        env_manager: MLflow's word for where the model runs: `local`, `virtualenv`, `uv` or `conda`.
        timeout: Seconds a request may take, at least 1.
        watch: Seconds between two looks at the alias, above 0.
        max_request_mb: Size of a request in 10^6 bytes, above 0.
        max_megapixels: Of all images of a request, above 0; of one image at most `DEFAULT_MAX_MEGAPIXELS`.
        allowed_hosts: Further names by which callers may ask, separated by commas; empty for none.
        has_page: Whether a browser gets a page to try the model on.

    Raises:
        ModelNotFoundError: None is given, and no model or several have a champion.
        SettingsError: A value is out of range, or `allowed_hosts` are no names of hosts.
    """
    _check_positive({"watch": watch, "max-request-mb": max_request_mb, "max-megapixels": max_megapixels})
    return ServeSettings(
        address=complete_model_uri(model),
        host=host,
        port=port,
        watch_s=watch,
        front=FrontSettings(
            limits=_build_limits(max_request_mb=max_request_mb, max_megapixels=max_megapixels),
            allowed_hosts=read_allowed_hosts(allowed_hosts, host=host),
            n_at_once=AT_ONCE_PER_WORKER * workers,
            timeout_s=float(timeout),
        ),
        server=ServerSettings(n_workers=workers, env_manager=env_manager, timeout_s=timeout),
        has_page=has_page,
    )


def _check_positive(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not value > 0:
            raise SettingsError(f"{name}={value:g} must be above 0.")


def _build_limits(*, max_request_mb: float, max_megapixels: float) -> RequestLimits:
    return RequestLimits(
        max_bytes=int(max_request_mb * 1e6),
        max_image_megapixels=min(max_megapixels, DEFAULT_MAX_MEGAPIXELS),
        max_request_megapixels=max_megapixels,
    )


def run_server(settings: ServeSettings, *, when_ready: Callable[[str], object] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is under way and end all child processes.

    Args:
        settings: What to serve, and how.
        when_ready: Called once with the front's URL, when it answers.

    Raises:
        ModelNotFoundError: There is no such model.
        SettingsError: The port is taken, the host is none of this machine's, or this is Windows.
        StoreError: The model's server could not be started.
    """
    if sys.platform == "win32":
        raise SettingsError(WINDOWS)
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(LOG_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("sem_search").setLevel(logging.INFO)
    # What is no HTTP is refused by aiohttp, and would fill the log with a stack trace for each such connection.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a registry that is away is reported in a sentence of ours
    asyncio.run(_serve(settings, when_ready=when_ready))


async def _serve(settings: ServeSettings, *, when_ready: Callable[[str], object] | None) -> None:
    asked_to_stop = _catch_signals()
    if write_host(settings.host) in ANY_ADDRESS and settings.front.allowed_hosts <= LOCAL_HOSTS | ANY_ADDRESS:
        _logger.warning(
            "Only callers who ask for localhost are answered: give the names of this server with --allowed-hosts."
        )
    rotation = Rotation(
        address=settings.address, settings=settings.server, watch_s=settings.watch_s, resolve=resolve_model_uri
    )
    front = Front(rotation=rotation, settings=settings.front, page=read_page() if settings.has_page else None)
    runner = web.AppRunner(front.build_application(), access_log=None, auto_decompress=False)
    await runner.setup()
    try:
        await _listen(runner, settings=settings)  # first: a port that is taken is an error at once
        _logger.info("%s is being loaded, which takes a moment ...", settings.address)
        if await _start_unless_stopped(rotation, asked_to_stop=asked_to_stop):
            url = f"http://{write_host(settings.host)}:{settings.port}"
            _logger.info("%s is served at %s; Ctrl-C ends it.", settings.address, url)
            if when_ready is not None:
                when_ready(url)
            await _watch_until(asked_to_stop, rotation=rotation)
            _logger.info("Asked to stop: requests that are under way are answered.")
    finally:
        await runner.cleanup()
        await rotation.stop(limit_s=settings.front.timeout_s)


def _catch_signals() -> asyncio.Event:
    """Return the event that SIGTERM and Ctrl-C set."""
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    return asked_to_stop


async def _start_unless_stopped(rotation: Rotation, *, asked_to_stop: asyncio.Event) -> bool:
    """Start the first version; return whether that was done before a signal came."""
    starting, stopping = asyncio.create_task(rotation.start()), asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


async def _listen(runner: web.AppRunner, *, settings: ServeSettings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsError(
            f"port={settings.port} on host={settings.host} cannot be opened ({reason}): give another one."
        ) from error


async def _watch_until(asked_to_stop: asyncio.Event, *, rotation: Rotation) -> None:
    """Watch the alias until a signal comes; a failure of the watching itself ends the server, it is not hidden."""
    watching, stopping = asyncio.create_task(rotation.watch()), asyncio.create_task(asked_to_stop.wait())
    try:
        await asyncio.wait([watching, stopping], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        for task in (watching, stopping):
            task.cancel()
        await asyncio.gather(watching, stopping, return_exceptions=True)

"""Which version answers: the one that the alias names, watched, and exchanged without losing a request.

MLflow's server looks an alias up once, when it starts. Here a new champion gets a server of its own beside the old one;
requests go to it from the moment it is ready, and the old one ends when its last request is answered. A version that
cannot be started leaves the old one in place. A server that dies is started again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info

from sem_search.deployment.registry.contents import describe_failure
from sem_search.deployment.server.child import ModelServer, ServerSettings, start_model_server
from sem_search.errors import ModelNotFoundError, SemSearchError, get_first_line

RETRY_S = 60.0
"""A version that could not be started is tried again after so long; the old one answers meanwhile."""

_logger = logging.getLogger(__name__)

Resolver = Callable[[str], str]
"""Turns `models:/<name>@<alias>` into `models:/<name>/<version>`."""


@dataclass(frozen=True, kw_only=True)
class ServedVersion:
    """A model with the server that answers for it."""

    model_uri: str
    """Exactly one version."""
    param_names: tuple[str, ...]
    """The parameters that this version knows."""
    server: ModelServer

    @property
    def name(self) -> str:
        """Name of the registered model; the whole URI of a model that is not registered."""
        name, slash, _ = self.model_uri.removeprefix("models:/").rpartition("/")
        return name if slash and self.model_uri.startswith("models:/") else self.model_uri

    @property
    def version(self) -> str | None:
        """Number of the registered version; None for a model that is not registered."""
        return None if self.name == self.model_uri else self.model_uri.rpartition("/")[2]


class Rotation:
    """Keeps one version ready, and follows the address it was given.

    Args:
        address: `models:/<name>@<alias>`, or the URI of one model, which is then never exchanged.
        settings: How servers are started.
        watch_s: Seconds between two looks at the alias.
        resolve: Looks an address up.
    """

    def __init__(self, *, address: str, settings: ServerSettings, watch_s: float, resolve: Resolver) -> None:
        self.address = address
        self._settings = settings
        self._watch_s = watch_s
        self._resolve = resolve
        self._current: ServedVersion | None = None
        self._ended: ModelServer | None = None
        self._failed_s: dict[str, float] = {}
        self._background: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> ServedVersion | None:
        """The version that answers now, or None while there is none."""
        served = self._current
        return served if served is not None and served.server.is_running else None

    async def start(self) -> None:
        """Start the first version.

        Raises:
            ModelNotFoundError: There is no such model.
            StoreError: Its files are not those that were registered, or its server could not be started.
        """
        self._current = await self._launch(await asyncio.to_thread(self._resolve, self.address))

    async def watch(self) -> None:
        """Follow the address for ever, and start a server again that has died."""
        while True:
            await self._wait_for_news()
            wanted = await self._look_up()
            is_new = self._current is None or wanted != self._current.model_uri
            if (is_new or self.current is None) and not self._has_just_failed(wanted):
                await self._exchange(wanted)

    async def stop(self, *, limit_s: float) -> None:
        """End all servers when their last request is answered, or after the limit."""
        tasks = list(self._background)
        if self._current is not None:
            tasks.append(asyncio.create_task(self._current.server.drain_and_stop(limit_s=limit_s)))
        await asyncio.gather(*tasks)

    async def _wait_for_news(self) -> None:
        """Wait until it is time to look at the alias, or the server that should answer has died."""
        server = self._current.server if self._current is not None else None
        if server is None or server is self._ended:
            await asyncio.sleep(self._watch_s)
            return
        with contextlib.suppress(TimeoutError):  # the usual case: it is time to look
            async with asyncio.timeout(self._watch_s):
                code = await server.wait_until_ended()
                self._ended = server
                _logger.error("The server of %s ended with code %d; it is started again.", self.address, code)

    async def _look_up(self) -> str:
        """Return the version that the address means now; the one served so far, where the registry does not answer."""
        try:
            return await asyncio.to_thread(self._resolve, self.address)
        except (SemSearchError, MlflowException, OSError) as error:
            if self._current is None:
                return self.address
            _logger.warning(
                "%s could not be looked up (%s); %s goes on.",
                self.address,
                get_first_line(error),
                self._current.model_uri,
            )
            return self._current.model_uri

    def _has_just_failed(self, model_uri: str) -> bool:
        return time.monotonic() - self._failed_s.get(model_uri, -RETRY_S) < RETRY_S

    async def _exchange(self, model_uri: str) -> None:
        """Put another version in the place of the one that answers; keep that one if the other cannot be started."""
        before = self._current
        try:
            served = await self._launch(model_uri)
        except (SemSearchError, MlflowException, OSError) as error:
            self._failed_s[model_uri] = time.monotonic()
            _logger.error(
                "%s could not be started (%s); it is tried again in %g s, and %s.",
                model_uri,
                get_first_line(error),
                RETRY_S,
                "nothing answers meanwhile" if self.current is None else f"{self.current.model_uri} goes on",
            )
            return
        self._current = served
        _logger.info("%s answers now%s.", model_uri, "" if before is None else f", in place of {before.model_uri}")
        if before is not None:
            self._run_in_background(before.server.drain_and_stop(limit_s=2.0 * self._settings.timeout_s))

    async def _launch(self, model_uri: str) -> ServedVersion:
        param_names = await asyncio.to_thread(_read_param_names, model_uri)
        server = await start_model_server(model_uri, settings=self._settings)
        try:
            await server.wait_until_ready(limit_s=self._settings.start_limit_s)
        except BaseException:
            await server.stop()
            raise
        return ServedVersion(model_uri=model_uri, param_names=param_names, server=server)

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _read_param_names(model_uri: str) -> tuple[str, ...]:
    """Return the parameters that a model's signature names; nothing of the model is loaded.

    Raises:
        ModelNotFoundError: Its files cannot be read.
    """
    try:
        signature = get_model_info(model_uri).signature
    except (MlflowException, OSError) as error:
        raise ModelNotFoundError(describe_failure(model_uri, error=error)) from error
    return tuple(param.name for param in signature.params.params) if signature and signature.params else ()

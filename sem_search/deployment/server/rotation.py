"""Which version answers: the one that the alias names, watched, and exchanged without losing a request.

A new champion is loaded beside the old one; requests that come after it is ready go to it, and those before are
answered by the old one, which is dropped with the last of them. A version that cannot be loaded, or does not answer its
own stored example, leaves the old one in place.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sem_search.deployment.classifier.classifier import MicrographClassifier
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.pyfunc.answers import ServedName
from sem_search.deployment.pyfunc.model import MODEL_FOLDER
from sem_search.deployment.pyfunc.requests import check_rows, read_images
from sem_search.deployment.registry.contents import borrow_model
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.admission import JSON_TYPE, admit_request
from sem_search.errors import StoreError, get_first_line
from sem_search.micrographs.reading.micrograph import Micrograph

EXAMPLE_FILE = "serving_input_example.json"
"""The request that MLflow stores with a model."""

RETRY_S = 60.0
"""A version that could not be loaded is tried again after so long; the old one answers meanwhile."""

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

Resolver = Callable[[str], str]
"""Turns `models:/<name>@<alias>` into `models:/<name>/<version>`."""


@dataclass(frozen=True, kw_only=True)
class ServedVersion:
    """A model that is loaded."""

    model_uri: str
    """Exactly one version."""
    classifier: MicrographClassifier

    @property
    def registered(self) -> ServedName:
        """Name and version in the registry; None for a model that is not registered."""
        path = self.model_uri.removeprefix("models:/")
        name, slash, version = path.rpartition("/")
        return ServedName(name=name, version=version) if slash and path != self.model_uri else ServedName()

    @property
    def name(self) -> str:
        """Name of the registered model; the whole URI of a model that is not registered."""
        return self.registered.name or self.model_uri


Loader = Callable[[str], ServedVersion]


class Rotation:
    """Keeps one version ready, and follows the address it was given.

    Args:
        address: `models:/<name>@<alias>`, or the URI of one model, which is then never exchanged; empty for what
            `resolve` makes of that.
        watch_s: Seconds between two looks at the alias.
        resolve: Looks an address up.
        load: Loads a version, see `load_version`.
    """

    def __init__(self, *, address: str, watch_s: float, resolve: Resolver, load: Loader) -> None:
        self.address = address
        self.current: ServedVersion | None = None
        """The version that answers now, or None before the first is loaded."""
        self.trouble = ""
        """Why there is no other one, as far as the last look tells."""
        self._watch_s = watch_s
        self._resolve = resolve
        self._load = load
        self._failed_s: dict[str, float] = {}
        self._is_called = asyncio.Event()

    async def start(self) -> None:
        """Load the first version.

        Raises:
            ModelNotFoundError: There is no such model.
            StoreError: Its files are not those that were registered, or it does not answer.
        """
        model_uri = await _run_aside(self._resolve, self.address)
        self.current = await _run_aside(self._load, model_uri)

    def follow(self, address: str) -> None:
        """Follow another address from now on; the version that answers goes on until the other one is loaded."""
        self.address, self.trouble = address, ""
        self._failed_s.clear()
        self._is_called.set()

    async def watch(self) -> None:
        """Follow the address for ever."""
        while True:
            wanted = await self._look_up()
            if wanted is not None and time.monotonic() - self._failed_s.get(wanted, -RETRY_S) >= RETRY_S:
                await self._exchange(wanted)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._watch_s):
                    await self._is_called.wait()
            self._is_called.clear()

    async def _look_up(self) -> str | None:
        """Return the version that the address means now; None for the one that answers already."""
        served = self.current.model_uri if self.current is not None else None
        try:
            wanted = await _run_aside(self._resolve, self.address)
        except Exception as error:  # noqa: BLE001 - whatever a registry or a network raises, the old one goes on
            said, before = get_first_line(error), self.trouble
            self.trouble = f"{said}."
            if served is not None:
                _logger.warning("%s could not be looked up (%s); %s goes on.", self.address, said, served)
            elif self.trouble != before:
                _logger.info("No model answers yet: %s", self.trouble)
            return None
        if wanted == served:
            self.trouble = ""
            return None
        return wanted

    async def _exchange(self, model_uri: str) -> None:
        """Put another version in the place of the one that answers; keep that one if the other cannot be loaded."""
        before = self.current.model_uri if self.current is not None else None
        try:
            self.current = await _run_aside(self._load, model_uri)
        except Exception as error:  # noqa: BLE001 - whatever a store or a network raises, the old one goes on
            self._failed_s[model_uri] = time.monotonic()
            self.trouble = f"{get_first_line(error)}."
            _logger.error(
                "%s could not be loaded (%s); it is tried again in %g s, and %s goes on.",
                model_uri,
                get_first_line(error),
                RETRY_S,
                before,
            )
            return
        self.trouble = ""
        _logger.info("%s answers now, in place of %s.", model_uri, before)


async def _run_aside(work: Callable[[str], Result], place: str) -> Result:
    """Return what a function makes of a place; it runs in a thread that the end of the server does not wait for."""
    result: Future[Result] = Future()

    def run() -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(work(place))
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            result.set_exception(error)

    threading.Thread(target=run, name="registry", daemon=True).start()
    return await asyncio.wrap_future(result)


def load_version(model_uri: str) -> ServedVersion:
    """Load a model from a copy of its files that is compared with the registry, and have it answer its own example.

    Raises:
        ModelNotFoundError: There is no such model, or its files cannot be read.
        StoreError: Its files are not those that were registered, or it does not answer.
    """
    with borrow_model(model_uri) as model:
        try:
            classifier = read_classifier(model / "artifacts" / MODEL_FOLDER)
            check_example(classifier, (model / EXAMPLE_FILE).read_bytes())
        except StoreError:
            raise
        except Exception as error:  # whatever a network raises that is damaged or of another make
            said = f"{type(error).__name__}: {get_first_line(error)}"
            raise StoreError(f"{model_uri} does not answer the example that is stored with it ({said}).") from error
    return ServedVersion(model_uri=model_uri, classifier=classifier)


def check_example(classifier: MicrographClassifier, example: bytes) -> None:
    """Answer a stored request, as one that comes from a caller.

    Raises:
        StoreError: An answer is none of the model's classes.
        DataError: The request is none that can be answered.
    """
    limits = RequestLimits()
    files = admit_request(example, content_type=JSON_TYPE, limits=limits).files
    megapixels = limits.max_request_megapixels
    rows = read_images(files, n_rows=len(files), read=classifier.read, max_megapixels=megapixels)
    check_rows(rows)
    for answer in classifier.classify([row.pixels for row in rows if isinstance(row, Micrograph)]):
        n_classes = len(classifier.description.class_names)
        if answer.probabilities.shape != (n_classes,) or not np.isfinite(answer.probabilities).all():
            raise StoreError(f"The model answers its stored example with none of its {n_classes} classes.")

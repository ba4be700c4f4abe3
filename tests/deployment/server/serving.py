"""An application on a real port, before a classifier of stone; and a caller that writes its HTTP itself."""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from sem_search.deployment.classifier.classifier import NO_DEADLINE, Deadline, ImageAnswer
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.application import Application, Routes, ServerLimits
from sem_search.deployment.server.journal_thread import JournalThread
from sem_search.deployment.server.main import build_server
from sem_search.deployment.server.rotation import ServedVersion
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.micrograph import Micrograph, encode_png, read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.tiles import TileGrid

CLASS_NAMES = ("lactose", "starch")
LIMIT_S = 20.0


def encode_picture(grey: int = 99, *, side_px: int = 8) -> str:
    """Return the base64 of a picture of one grey level; a darker one is lactose, a brighter one starch."""
    return base64.b64encode(encode_png(np.full((side_px, side_px), grey, dtype=np.uint8))).decode()


GOOD = encode_picture()
TABLE = {"inputs": [GOOD]}


def build_answer(image: FloatImage) -> ImageAnswer:
    """Return an answer: the brighter, the more starch."""
    starch = float(image.mean())
    probabilities = np.array([1 - starch, starch])
    return ImageAnswer(
        probabilities=probabilities,
        head_probabilities=probabilities[None],
        tile_probabilities=probabilities[None],
        novelty=None,
        corners=((0, 0),),
        overlay_png=None,
    )


@dataclass(eq=False)
class StoneClassifier:
    """Answers by the grey level; waits at its gate, and fails where it is told to."""

    failure: Exception | None = None
    delay_s: float = 0.0
    batches: list[int] = field(default_factory=list)
    """Images of each call."""
    calibration: None = None

    def __post_init__(self) -> None:
        self.description = SimpleNamespace(
            class_names=CLASS_NAMES,
            pixel_sizes_nm={},
            pixel_size_nm=None,
            tile_px=8,
            grid=TileGrid(size_px=8, stride_px=8),
        )
        self.gate = threading.Event()
        self.gate.set()

    def read(self, content: bytes, *, name: str) -> Micrograph:
        return read_micrograph(content, name=name, reading=ReadingOptions())

    def classify(self, images: Sequence[FloatImage], *, deadline: Deadline = NO_DEADLINE) -> tuple[ImageAnswer, ...]:
        self.batches.append(len(images))
        assert self.gate.wait(LIMIT_S)
        time.sleep(self.delay_s)
        deadline.check()
        if self.failure is not None:
            raise self.failure
        return tuple(build_answer(image) for image in images)

    def explain(self, image: FloatImage, *, deadline: Deadline = NO_DEADLINE) -> ImageAnswer:
        (answer,) = self.classify([image], deadline=deadline)
        return answer

    def is_training_image(self, image: FloatImage) -> bool:
        return False


@dataclass
class StoneRotation:
    """Knows one version, or none."""

    current: ServedVersion | None
    address: str = "models:/lactose@champion"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    def to_json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Bench:
    """An application with what stands behind it."""

    port: int
    rotation: StoneRotation
    classifier: StoneClassifier
    application: Application

    async def call(
        self,
        method: str,
        path: str,
        *,
        pieces: Iterable[bytes] = (),
        pause_s: float = 0.0,
        is_chunked: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send a request, its body in pieces, and return the answer, which may come before the last piece."""
        pieces = list(pieces)
        length = {} if is_chunked else {"Content-Length": str(sum(map(len, pieces)))}
        sent = {"Host": "localhost", "Connection": "close"} | length | (headers or {})
        sent |= {"Transfer-Encoding": "chunked"} if is_chunked else {}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {text}\r\n" for name, text in sent.items()) + "\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode())
        sending = asyncio.create_task(_send(writer, pieces, pause_s=pause_s, is_chunked=is_chunked))
        try:
            return await asyncio.wait_for(_receive(reader), LIMIT_S)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.call("GET", path, headers=headers)

    async def post(self, body: Any, **headers: str) -> Reply:
        """Ask for predictions; `_` in the name of a header stands for `-`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.call("POST", "/invocations", pieces=[data], headers=sent)


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes], *, pause_s: float, is_chunked: bool) -> None:
    for piece in pieces:
        await asyncio.sleep(pause_s)
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
        await writer.drain()
    writer.write(b"0\r\n\r\n" if is_chunked else b"")


async def _receive(reader: asyncio.StreamReader) -> Reply:
    status = int((await reader.readline()).split()[1])
    headers = {}
    while line := (await reader.readline()).strip():
        name, _, text = line.decode().partition(": ")
        headers[name.title()] = text
    content = b"" if "Content-Length" not in headers else await reader.readexactly(int(headers["Content-Length"]))
    while "Content-Length" not in headers and (size := int(await reader.readline(), 16)):
        content += (await reader.readexactly(size + 2))[:size]
    return Reply(status=status, headers=headers, content=content)


@asynccontextmanager
async def open_bench(
    classifier: StoneClassifier | None = None,
    *,
    model_uri: str = "models:/lactose/7",
    limits: ServerLimits | None = None,
    routes: Routes | None = None,
    journal: JournalThread | None = None,
) -> AsyncIterator[Bench]:
    """Give an application on a port of its own."""
    stone = classifier or StoneClassifier()
    rotation = StoneRotation(current=ServedVersion(model_uri=model_uri, classifier=stone))  # type: ignore[arg-type]
    application = Application(
        rotation=rotation,  # type: ignore[arg-type]
        limits=limits or ServerLimits(request=RequestLimits(max_bytes=10_000)),
        routes=routes,
        journal=journal,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = build_server(application, timeout_s=1)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield Bench(port=listening.getsockname()[1], rotation=rotation, classifier=stone, application=application)
    finally:
        stone.gate.set()
        server.should_exit = True
        await serving


async def wait_for(is_so: Any) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(LIMIT_S):
        while not is_so():
            await asyncio.sleep(0.005)

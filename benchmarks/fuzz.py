"""Thousands of requests that no caller should send, to a real server: what it answers, and what it costs.

Half are drawn by hypothesis from a description of all that can be put into a request, half are nasties written by hand,
sent in random order and in several connections at once, while others announce much and send nothing. The server must
answer each with a sentence or not at all (where the caller broke off), go on, answer `/ping` meanwhile, and not grow.
"""

import base64
import contextlib
import http.client
import io
import json
import random
import select
import socket
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.servers import build_untrained_parts, run_server, write_registry

JSON_HEADERS = {"Content-Type": "application/json"}
ALLOWED = frozenset({200, 400, 403, 404, 405, 408, 411, 413, 415, 417, 431})
LEAKS = (
    *("Traceback", "stack_trace", "site-packages", ".py", 'File "', "aiohttp", "uvicorn"),
    *("/root", "/home", tempfile.gettempdir()),
)
"""What must never be in a refusal: traces, paths, and what the server is made of."""

ANSWER_LIMIT_S = 90.0
N_CLIENTS = 4

N_HOLDING = 8
"""Connections that announce the largest body and send its first byte, all the time."""

DRIP_S = 0.5
PING_S = 0.05

WIDE_BYTES = 30_000_000
"""Of bodies with millions of small values: as Python's objects they would take up to a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class FuzzedRequest:
    """One request."""

    name: str
    body: bytes = b""
    method: str = "POST"
    path: str = "/invocations"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    raw: bytes | None = None
    """Bytes to send as they are, instead of an HTTP request; the connection is then half closed."""
    is_slow: bool = False
    """Of `raw`: a byte follows now and then, until there is an answer."""


@dataclass(frozen=True, kw_only=True)
class FuzzedAnswer:
    """What came back."""

    request: FuzzedRequest
    status: int | None
    """None where the server closed the connection without an answer."""
    body: str
    took_s: float

    @property
    def complaint(self) -> str | None:
        """What is wrong with the answer, or None."""
        if self.status is None:
            return None if self.request.raw is not None else "no answer"
        if self.status not in ALLOWED:
            return f"status {self.status}"
        leaked = [leak for leak in LEAKS if leak in self.body]
        if leaked and self.status != 200:
            return f"leaks {leaked[0]!r}"
        if self.took_s > ANSWER_LIMIT_S:
            return f"took {self.took_s:.0f} s"
        return None


def encode(height_px: int, width_px: int, *, seed: int = 0, file_format: str = "PNG") -> bytes:
    """Return a file of noise."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height_px, width_px), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format=file_format)
    return buffer.getvalue()


def to_text(content: bytes) -> str:
    """Return base64."""
    return base64.b64encode(content).decode("ascii")


PICTURES = {kind: encode(256, 300, file_format=kind) for kind in ("PNG", "JPEG", "BMP", "TIFF")}


def write_png_bomb(side_px: int) -> bytes:
    """Return a small PNG that claims, and holds, side_px x side_px black pixels."""
    buffer = io.BytesIO()
    Image.new("1", (side_px, side_px)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _records(*cells: Any, **params: Any) -> bytes:
    table: dict[str, Any] = {"dataframe_records": [{"image": cell} for cell in cells]}
    return json.dumps(table | ({"params": params} if params else {})).encode()


FOREIGN = {
    "host": {"Host": "evil.example"},
    "host with the port": {"Host": "evil.example:5001"},
    "host that begins well": {"Host": "localhost.evil.example"},
    "no host": {"Host": ""},
    "origin": {"Origin": "http://evil.example"},
    "no origin": {"Origin": "null"},
    "rebound page": {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
}

WIDE_UNITS = {
    "lists": b"[],",
    "objects": b"{},",
    "texts": b'"a",',
    "numbers": b"1.5,",
    "nested objects": b'{"a":0},',
    "records": b'{"image":0},',
}

HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def _build_nasties() -> dict[str, Callable[[], FuzzedRequest]]:
    """Return the requests that were written by hand; each is built when it is sent, since some are large."""
    good = to_text(PICTURES["PNG"])
    bodies: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "null": lambda: b"null",
        "number": lambda: b"1",
        "NaN": lambda: b"NaN",
        "not JSON": lambda: b"{bad",
        "binary": lambda: bytes(range(256)) * 40,
        "invalid UTF-8": lambda: b'{"inputs": ["\xff\xfe"]}',
        "UTF-16": lambda: json.dumps({"inputs": [good]}).encode("utf-16"),
        "lone surrogate": lambda: b'{"inputs": ["\\ud800"], "params": {"on_error": "report"}}',
        "nested lists": lambda: b'{"inputs":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "nested objects": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "long number": lambda: b'{"inputs": [' + b"9" * 1_000_000 + b"]}",
        "huge exponent": lambda: b'{"inputs": [1e999999]}',
        "many keys": lambda: json.dumps({f"k{n}": n for n in range(200_000)}).encode(),
        "many columns": lambda: json.dumps(
            {"dataframe_records": [{"image": "x", **{f"{row}_{n}": 0 for n in range(500)}} for row in range(500)]}
        ).encode(),
        "wide split": lambda: json.dumps(
            {"dataframe_split": {"columns": ["image", *map(str, range(100_000))], "data": [["x"] * 100_001]}}
        ).encode(),
        "twice the same key": lambda: b'{"inputs": ["x"], "inputs": ["y"]}',
        "10,000 rows": lambda: _records(*["x"] * 10_000),
        "100,000 reported rows": lambda: _records(*["x"] * 100_000, on_error="report"),
        "1,000 reported rows": lambda: _records(*["x"] * 1000, on_error="report"),
        "empty list": lambda: _records(),
        "empty text": lambda: _records(""),
        "blank text": lambda: _records(" " * 1_000_000),
        "null cell": lambda: _records(None),
        "NaN cell": lambda: _records(float("nan")),
        "infinite cell": lambda: _records(float("inf")),
        "numbers": lambda: _records(1, 2.5, -3),
        "truth values": lambda: _records(True, False),
        "lists": lambda: _records([good], [[]]),
        "objects": lambda: _records({"image": good}),
        "a path": lambda: _records("/etc/passwd"),
        "a URL": lambda: _records("http://127.0.0.1:1/x.png", "file:///etc/passwd"),
        "wrong column": lambda: json.dumps({"dataframe_records": [{"img": good}]}).encode(),
        "mixed columns": lambda: json.dumps({"dataframe_records": [{"image": good}, {"img": good}]}).encode(),
        "no base64": lambda: _records("not base64!"),
        "data URL": lambda: _records("data:image/png;base64," + good),
        "data URL without base64": lambda: _records("data:image/png," + good),
        "data URL cut": lambda: _records("data:image/png;base64"),
        "URL-safe base64": lambda: _records(base64.urlsafe_b64encode(bytes(range(256))).decode()),
        "GIF": lambda: _records(to_text(encode(64, 64, file_format="GIF"))),
        "SVG": lambda: _records(to_text(b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
        "ZIP": lambda: _records(to_text(b"PK\x03\x04" + bytes(100))),
        "PNG bomb": lambda: _records(to_text(write_png_bomb(20_000))),
        "PNG bomb, reported": lambda: _records(to_text(write_png_bomb(20_000)), good, on_error="report"),
        "many PNG bombs": lambda: _records(*[to_text(write_png_bomb(9000))] * 40),
        "too small": lambda: _records(to_text(encode(8, 8))),
        "one row of pixels": lambda: _records(to_text(encode(1, 5000))),
        "text bomb in a PNG": lambda: _records(to_text(_write_text_bomb())),
        "TIFF of itself": lambda: _records(to_text(_write_looping_tiff())),
        "TIFF of 65535 pages": lambda: _records(to_text(_write_many_pages())),
        "good": lambda: _records(good),
        "good, explained": lambda: _records(good, good, explain=True, tiles=True),
        "unknown parameter": lambda: _records(good, explian=True),
        "wrong parameters": lambda: _records(good, explain="yes", coverage="high"),
        "coverage 2": lambda: _records(good, coverage=2),
        "coverage -1": lambda: _records(good, coverage=-1e308),
        **{
            f"wide: {name}": lambda unit=unit: b'{"instances":[' + unit * (WIDE_BYTES // len(unit)) + b"0]}"
            for name, unit in WIDE_UNITS.items()
        },
        "wide character": lambda: b'{"inputs": ["' + b"A" * WIDE_BYTES + '\U0001f600"]}'.encode(),
        "wide: short lines": lambda: b'{"inputs": ["' + b"QUJD " * (WIDE_BYTES // 5) + b'"]}',
        "huge JSON": lambda: b'{"inputs": ["' + b"A" * 80_000_000 + b'"]}',
        "large JSON": lambda: b'{"inputs": ["' + b"A" * 30_000_000 + b'"]}',
        "chat": lambda: json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode(),
    }
    nasties: dict[str, Callable[[], FuzzedRequest]] = {
        name: lambda name=name, build=build: FuzzedRequest(name=name, body=build())  # type: ignore[misc]
        for name, build in bodies.items()
    }
    raws = {
        "no HTTP": b"hello\r\n\r\n",
        "half a request": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n",
        "less than promised": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{}",
        "negative length": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        "two lengths": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        "length and chunks": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad chunk": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "chunks of one byte": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n",
        "many requests at once": b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500,
        "long header": b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        "many headers": b"GET /ping HTTP/1.1\r\nHost: localhost\r\n"
        + b"".join(b"X-%d: a\r\n" % n for n in range(5000))
        + b"\r\n",
        "long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        "length of 10 GB": b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 10000000000\r\n\r\n{",
    }
    nasties |= {
        name: lambda name=name, raw=raw: FuzzedRequest(name=name, raw=raw)  # type: ignore[misc]
        for name, raw in raws.items()
    }
    others = [
        FuzzedRequest(name="GET invocations", method="GET"),
        FuzzedRequest(name="DELETE", method="DELETE", path="/ping"),
        FuzzedRequest(name="TRACE", method="TRACE", path="/version"),
        FuzzedRequest(name="unknown path", method="GET", path="/../../etc/passwd"),
        FuzzedRequest(name="encoded path", method="GET", path="/%2e%2e/%2e%2e/etc/passwd%00"),
        FuzzedRequest(name="no content type", body=_records(good), headers={}),
        FuzzedRequest(name="as a form", body=_records(good), headers={"Content-Type": "multipart/form-data"}),
        FuzzedRequest(name="other charset", body=b"{}", headers={"Content-Type": "application/json; charset=utf-7"}),
        FuzzedRequest(
            name="Parquet",
            body=b"PAR1" + bytes(50) + b"PAR1",
            headers={"Content-Type": "application/vnd.apache.parquet"},
        ),
        FuzzedRequest(
            name="deflated",
            body=zlib.compress(bytes(50_000_000), 9),
            headers=JSON_HEADERS | {"Content-Encoding": "deflate"},
        ),
        FuzzedRequest(name="CSV", body=f"image\n{good}\n".encode(), headers={"Content-Type": "text/csv"}),
        FuzzedRequest(name="large CSV", body=b"image\n" + b"A" * WIDE_BYTES, headers={"Content-Type": "text/csv"}),
        FuzzedRequest(name="CSV of quotes", body=b'image\n"' + b'""' * 100_000, headers={"Content-Type": "text/csv"}),
        FuzzedRequest(name="CSV of lines", body=b"image\n" + b"x\n" * 5_000_000, headers={"Content-Type": "text/csv"}),
        FuzzedRequest(
            name="CSV of commas", body=b"image" + b"," * 1_000_000 + b"\nx\n", headers={"Content-Type": "text/csv"}
        ),
        *(
            FuzzedRequest(name=f"foreign: {name}", body=_records(good), headers=JSON_HEADERS | headers)
            for name, headers in FOREIGN.items()
        ),
        FuzzedRequest(name="foreign: page", method="GET", path="/", headers=FOREIGN["host"]),
        FuzzedRequest(name="slow: one byte", raw=HEAD + b"Content-Length: 40000000\r\n\r\n{", is_slow=True),
        FuzzedRequest(name="slow: chunks", raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n{", is_slow=True),
        FuzzedRequest(name="CSV of NULs", body=b"image\n\x00\x00\n", headers={"Content-Type": "text/csv"}),
    ]
    tables = {"commas": lambda: b"image" + b"," * WIDE_BYTES, "blank lines": lambda: b"image\n" + b"\n" * WIDE_BYTES}
    nasties |= {
        f"wide: CSV of {name}": lambda name=name, build=build: FuzzedRequest(  # type: ignore[misc]
            name=f"wide: CSV of {name}", body=build(), headers={"Content-Type": "text/csv"}
        )
        for name, build in tables.items()
    }
    return nasties | {request.name: lambda request=request: request for request in others}  # type: ignore[misc]


def _write_text_bomb() -> bytes:
    """Return a PNG with a compressed comment of 200 MB."""
    chunk = b"Comment\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    framed = len(chunk).to_bytes(4, "big") + b"zTXt" + chunk + zlib.crc32(b"zTXt" + chunk).to_bytes(4, "big")
    whole = PICTURES["PNG"]
    return whole[:33] + framed + whole[33:]


def _write_looping_tiff() -> bytes:
    """Return a TIFF whose directory names itself as the next one."""
    return (
        b"II*\x00\x08\x00\x00\x00"
        + b"\x01\x00"
        + b"\x00\x01\x03\x00\x01\x00\x00\x00\x10\x00\x00\x00"
        + b"\x08\x00\x00\x00"
    )


def _write_many_pages() -> bytes:
    """Return a TIFF of 65535 empty directories."""
    pages = b"".join(b"\x00\x00" + (8 + 6 * (n + 1)).to_bytes(4, "little") for n in range(65_535))
    return b"II*\x00\x08\x00\x00\x00" + pages + b"\x00\x00\x00\x00\x00\x00"


NASTIES = _build_nasties()


@st.composite
def draw_pictures(draw: st.DrawFn) -> bytes:
    """Draw a picture file, whole or damaged."""
    content = bytearray(PICTURES[draw(st.sampled_from(sorted(PICTURES)))])
    kind = draw(st.sampled_from(["whole", "cut", "flipped", "noise behind", "header changed"]))
    if kind == "cut":
        del content[draw(st.integers(0, len(content) - 1)) :]
    elif kind == "noise behind":
        content += draw(st.binary(max_size=200))
    elif kind != "whole":
        last = min(64, len(content) - 1) if kind == "header changed" else len(content) - 1
        for position in draw(st.lists(st.integers(0, last), min_size=1, max_size=8)):
            content[position] = draw(st.integers(0, 255))
    return bytes(content)


CELLS = st.one_of(
    draw_pictures().map(to_text),
    draw_pictures().map(lambda content: "data:image/png;base64," + to_text(content)),
    st.text(max_size=200),
    st.binary(max_size=100).map(to_text),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.recursive(st.none() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=8),
)

ROWS = st.lists(CELLS, max_size=6)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)

TABLES = st.one_of(
    ROWS.map(lambda cells: {"dataframe_records": [{"image": cell} for cell in cells]}),
    ROWS.map(lambda cells: {"dataframe_split": {"columns": ["image"], "data": [[cell] for cell in cells]}}),
    ROWS.map(lambda cells: {"inputs": cells}),
    ROWS.map(lambda cells: {"instances": [{"image": cell} for cell in cells]}),
    st.dictionaries(
        st.sampled_from(["dataframe_records", "dataframe_split", "inputs", "instances", "messages"]),
        ANYTHING,
        max_size=2,
    ),
    ANYTHING,
)

PARAMS = st.dictionaries(
    st.sampled_from(["explain", "tiles", "on_error", "coverage", "other"]),
    st.one_of(st.booleans(), st.sampled_from(["report", "refuse"]), st.floats(), st.integers(), ANYTHING),
    max_size=4,
)


@st.composite
def draw_requests(draw: st.DrawFn) -> FuzzedRequest:
    """Draw one request."""
    table = draw(TABLES)
    if isinstance(table, dict) and draw(st.booleans()):
        table = {**table, "params": draw(PARAMS)}
    body = json.dumps(table).encode()
    if draw(st.integers(0, 4)) == 0 and body:
        position = draw(st.integers(0, len(body) - 1))
        body = body[:position] + draw(st.binary(max_size=5)) + body[position + draw(st.integers(0, 3)) :]
    content_type = draw(
        st.sampled_from(["application/json"] * 8 + ["text/csv", "application/json; charset=utf-8", "text/plain"])
    )
    return FuzzedRequest(name="drawn", body=body, headers={"Content-Type": content_type})


def iter_drawn(n: int, requests: st.SearchStrategy[FuzzedRequest] | None = None) -> list[FuzzedRequest]:
    """Return requests drawn by hypothesis, always the same ones; for predictions by default."""
    drawn: list[FuzzedRequest] = []

    @settings(
        max_examples=n,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(draw_requests() if requests is None else requests)
    def collect(request: FuzzedRequest) -> None:
        drawn.append(request)

    collect()
    return drawn


def send(port: int, request: FuzzedRequest) -> FuzzedAnswer:
    """Send one request and return what came back."""
    begun_s = time.monotonic()
    try:
        status, body = _send_raw(port, request) if request.raw is not None else _send_http(port, request)
    except (OSError, http.client.HTTPException):
        status, body = None, ""
    return FuzzedAnswer(request=request, status=status, body=body, took_s=time.monotonic() - begun_s)


def _send_http(port: int, request: FuzzedRequest) -> tuple[int | None, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * ANSWER_LIMIT_S)
    try:
        # A body that is too large is refused before it is sent; the answer may be there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(request.method, request.path, body=request.body, headers=dict(request.headers))
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def _send_raw(port: int, request: FuzzedRequest) -> tuple[int | None, str]:
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=2 * ANSWER_LIMIT_S) as connection:
        connection.sendall(request.raw or b"")
        if request.is_slow:
            received = _drip(connection)
        else:
            connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65_536):
            received += chunk
    if not received:
        return None, ""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode("utf-8", "replace")


def _drip(connection: socket.socket) -> bytes:
    """Send a byte now and then until something comes back, and return that."""
    deadline_s = time.monotonic() + ANSWER_LIMIT_S
    while not select.select([connection], [], [], DRIP_S)[0] and time.monotonic() < deadline_s:
        connection.sendall(b" ")
    return connection.recv(65_536)


@contextlib.contextmanager
def hold_connections(port: int) -> Iterator[None]:
    """Hold connections whose callers announce the largest body and send one byte; the server may drop them."""
    held: list[socket.socket] = []
    is_over = threading.Event()

    def hold() -> None:
        while not is_over.wait(1.0 if held else 0.0):
            gone = select.select(held, [], [], 0)[0]  # answered, or closed
            for connection in gone:
                held.remove(connection)
                connection.close()
            while len(held) < N_HOLDING:
                held.append(socket.create_connection(("127.0.0.1", port), timeout=ANSWER_LIMIT_S))
                held[-1].sendall(HEAD + b"Content-Length: 40000000\r\n\r\n{")

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=10)
        for connection in held:
            connection.close()


@contextlib.contextmanager
def measure_pings(port: int) -> Iterator[list[float]]:
    """Give a list that fills with the seconds that each of many `/ping` takes: the longest is how long all waited."""
    took_s: list[float] = []
    is_over = threading.Event()

    def ping() -> None:
        while not is_over.wait(PING_S):
            took_s.append(send(port, FuzzedRequest(name="ping", method="GET", path="/ping")).took_s)

    thread = threading.Thread(target=ping, daemon=True)
    thread.start()
    try:
        yield took_s
    finally:
        is_over.set()
        thread.join(timeout=ANSWER_LIMIT_S)


def iter_requests(n: int, *, seed: int = 0) -> Iterator[FuzzedRequest]:
    """Yield requests in random order: half drawn, half nasties."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    names = sorted(NASTIES)
    hand_made: list[FuzzedRequest | str] = [names[index % len(names)] for index in range(n // 2)]
    order = [*hand_made, *iter_drawn(n - n // 2)]
    rng.shuffle(order)
    for item in order:
        yield NASTIES[item]() if isinstance(item, str) else item


@dataclass(frozen=True, kw_only=True)
class FuzzReport:
    """What became of all requests."""

    statuses: Mapping[int | None, int]
    complaints: tuple[str, ...]
    slowest: tuple[str, float]
    longest_ping_s: float
    """Of a caller who asks all the time whether the server is there."""
    peak_mb: float


def measure_fuzz(*, n: int) -> dict[str, float]:
    """Return what became of so many requests to `sem-search serve` with a small network; raises on any complaint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        address = write_registry(folder, build_untrained_parts("mobilenet_v2", tile_px=96))
        with run_server(["serve", "--model", address], folder=folder, log=folder / "log.txt") as server:
            send(server.port, NASTIES["good"]())
            before_mb = server.measure_memory_mb()
            report = fuzz(server.port, n=n, measure_mb=server.measure_memory_mb)
            answers_still = send(server.port, NASTIES["good"]()).status == 200
            held_s = server.read_metrics()["event_loop_held_seconds_max"]
            after_mb = server.measure_memory_mb()
    if report.complaints:
        raise AssertionError("\n".join(report.complaints[:20]))
    return {
        "fuzz.requests": float(sum(report.statuses.values())),
        **{
            f"fuzz.status_{status or 'closed'}": float(count)
            for status, count in sorted(report.statuses.items(), key=str)
        },
        "fuzz.server_errors": float(sum(n for status, n in report.statuses.items() if status and status >= 500)),
        "fuzz.answers_still": float(answers_still),
        "fuzz.slowest_s": report.slowest[1],
        "fuzz.longest_ping_s": report.longest_ping_s,
        "fuzz.event_loop_held_s": held_s,
        "fuzz.memory_before_mb": before_mb,
        "fuzz.memory_peak_mb": report.peak_mb,
        "fuzz.memory_after_mb": after_mb,
    }


def fuzz(port: int, *, n: int, measure_mb: Callable[[], float], seed: int = 0) -> FuzzReport:
    """Send many requests over several connections at once and return what became of them."""
    answers: list[tuple[str, int | None, str | None, float]] = []
    peak_mb = measure_mb()
    with hold_connections(port), measure_pings(port) as pings_s, ThreadPoolExecutor(N_CLIENTS) as pool:
        waiting = []
        for request in iter_requests(n, seed=seed):
            waiting.append(pool.submit(send, port, request))
            if len(waiting) >= N_CLIENTS:
                answer = waiting.pop(0).result()
                complaint = None if answer.complaint is None else _word(answer)
                answers.append((answer.request.name, answer.status, complaint, answer.took_s))
                peak_mb = max(peak_mb, measure_mb())
        for future in waiting:
            answer = future.result()
            complaint = None if answer.complaint is None else _word(answer)
            answers.append((answer.request.name, answer.status, complaint, answer.took_s))
    slowest = max(answers, key=lambda entry: entry[3])
    return FuzzReport(
        statuses=Counter(status for _, status, _, _ in answers),
        complaints=tuple(complaint for _, _, complaint, _ in answers if complaint is not None),
        slowest=(slowest[0], slowest[3]),
        longest_ping_s=max(pings_s, default=0.0),
        peak_mb=peak_mb,
    )


def _word(answer: FuzzedAnswer) -> str:
    return f"{answer.request.name}: {answer.complaint}: {answer.body[:300]} <- {answer.request.body[:200]!r}"

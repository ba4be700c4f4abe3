"""A download gets one try, ends in time whatever the other side does, and keeps the published file only."""

import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import h5py
import numpy as np
import pytest

from sem_search.errors import WeightsError
from sem_search.transfer.backbones import PublishedWeights
from sem_search.transfer.weights.download import HDF5_SIGNATURE, fetch_published_weights, get_keras_models_folder


def _write_hdf5(*, n_values: int) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["weights"] = np.arange(n_values)
    return buffer.getvalue()


CONTENT = _write_hdf5(n_values=1000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENCE_S = 0.4


def _send(handler: BaseHTTPRequestHandler, content: bytes, *, size: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(size or len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def _answer_well(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, CONTENT)


def _answer_not_at_all(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3 * PATIENCE_S)


def _answer_drop_by_drop(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, CONTENT[:8], size=len(CONTENT))
    for _ in range(20):
        time.sleep(PATIENCE_S / 4)
        handler.wfile.write(b"w")


def _answer_half(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, CONTENT[:100], size=len(CONTENT))


def _answer_with_login_page(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, b"<html>Welcome to the guest network</html>")


def _answer_other_weights(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, HDF5_SIGNATURE + b"others")


def _answer_cut_weights(handler: BaseHTTPRequestHandler) -> None:
    _send(handler, CONTENT[:-1])


def _answer_missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


@pytest.fixture
def serve(monkeypatch, tmp_path) -> Iterator[Callable[..., PublishedWeights]]:
    """Start a server on this machine whose answer is given; Keras' cache is an empty folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    servers = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None], *, digest: str | None = MD5) -> PublishedWeights:
        class Handler(BaseHTTPRequestHandler):
            n_requests = 0

            def do_GET(self) -> None:
                type(self).n_requests += 1
                try:
                    answer(self)
                except OSError:
                    self.close_connection = True  # whoever asked has gone

            def log_message(self, *args: object) -> None:
                """Keep the test's output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return PublishedWeights(url=f"http://127.0.0.1:{server.server_port}/folder/net_notop.h5", digest=digest)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _fetch(published: PublishedWeights) -> Path:
    return fetch_published_weights(published, first_byte_s=PATIENCE_S, whole_file_s=PATIENCE_S)


def _list_cache() -> list[str]:
    folder = get_keras_models_folder()
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("digest", [MD5, SHA256, None])
def test_published_file_is_kept_in_keras_cache_and_not_fetched_again(serve, digest):
    file = _fetch(serve(_answer_well, digest=digest))
    assert file == get_keras_models_folder() / "net_notop.h5"
    assert file.read_bytes() == CONTENT
    gone = PublishedWeights(url="http://127.0.0.1:9/net_notop.h5", digest=digest)
    assert _fetch(gone) == file
    assert _list_cache() == ["net_notop.h5"]


@pytest.mark.parametrize(
    ("answer", "digest", "message"),
    [
        (_answer_not_at_all, MD5, r"no answer within 0\.4 s|timed out"),
        (_answer_drop_by_drop, MD5, r"not complete after 0\.4 s"),
        (_answer_half, MD5, rf"ended after 100 of {len(CONTENT)} bytes"),
        (_answer_with_login_page, None, "what came is no HDF5 file"),
        (_answer_other_weights, MD5, "its hash is .* published is"),
        (_answer_cut_weights, None, "it is damaged or cut off: .*truncated file"),
        (_answer_missing, MD5, r"HTTP Error 404: Not Found\. "),
    ],
)
def test_what_goes_wrong_is_said_in_time_and_nothing_is_kept(serve, answer, digest, message):
    published = serve(answer, digest=digest)
    started_s = time.monotonic()
    with pytest.raises(WeightsError, match=message) as raised:
        _fetch(published)
    assert time.monotonic() - started_s < 5 * PATIENCE_S
    assert "net_notop.h5: " in str(raised.value)
    assert "or put the file into" in str(raised.value)
    deadline_s = time.monotonic() + 5
    while _list_cache() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert _list_cache() == []


def test_unknown_host_and_refused_connection_are_errors_in_words(serve):
    serve(_answer_well)
    with pytest.raises(WeightsError, match=r"could not be downloaded from http://127\.0\.0\.1:9/a\.h5: .*refused"):
        _fetch(PublishedWeights(url="http://127.0.0.1:9/a.h5", digest=None))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (URLError(socket.gaierror(-2, "Name or service not known")), r"the server's name could not be looked up"),
        (URLError("unknown url type"), r": unknown url type\."),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (RemoteDisconnected(), "RemoteDisconnected"),
    ],
)
def test_the_reason_is_given_in_words(serve, monkeypatch, error, message):
    published = serve(_answer_well)

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(WeightsError, match=message) as raised:
        _fetch(published)
    assert "urlopen" not in str(raised.value)


def test_name_lookup_that_never_answers_is_given_up(serve, monkeypatch):
    published = serve(_answer_well)

    def look_up(*args: object, **kwargs: object) -> None:
        time.sleep(3 * PATIENCE_S)
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", look_up)
    started_s = time.monotonic()
    with pytest.raises(WeightsError, match=r"no answer within 0\.4 s"):
        _fetch(published)
    assert time.monotonic() - started_s < 2 * PATIENCE_S


@pytest.mark.parametrize("digest", [MD5, SHA256, None])
@pytest.mark.parametrize("n_left", [8, 50, len(CONTENT) // 2, len(CONTENT) - 1])
def test_a_damaged_file_in_the_cache_is_fetched_anew(serve, digest, n_left):
    published = serve(_answer_well, digest=digest)
    folder = get_keras_models_folder()
    folder.mkdir(parents=True)
    (folder / "net_notop.h5").write_bytes(CONTENT[:n_left])
    assert _fetch(published).read_bytes() == CONTENT


def test_a_damaged_file_is_named_where_no_other_can_be_fetched(serve):
    serve(_answer_well)
    folder = get_keras_models_folder()
    folder.mkdir(parents=True)
    (folder / "net_notop.h5").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"refused.* The file that is there is of no use: it is damaged or cut off"):
        _fetch(PublishedWeights(url="http://127.0.0.1:9/net_notop.h5", digest=None))


def test_a_cache_that_cannot_be_written_is_an_error_in_words(serve, monkeypatch, tmp_path):
    published = serve(_answer_well)
    (tmp_path / "blocked").write_text("a file, no folder")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "blocked"))
    with pytest.raises(WeightsError, match="could not be downloaded"):
        _fetch(published)

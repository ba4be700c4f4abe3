"""Fetching published weights once, bounded in time.

Keras' own download has no limit in time, and believes what a login page of a guest network sends. Here a download
gets one try, a limit to the first byte and one to the last, and only the published file is stored: in Keras' own cache,
where keras.applications finds it too.
"""

import hashlib
import os
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import h5py

from sem_search.errors import WeightsError
from sem_search.progress import ProgressMeter
from sem_search.transfer.backbones import PublishedWeights

CHUNK_BYTES = 1 << 18
MEGABYTE = 1 << 20
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
MD5_DIGITS = 32


def fetch_published_weights(published: PublishedWeights, *, first_byte_s: float, whole_file_s: float) -> Path:
    """Return the file of published weights from Keras' cache, or download it into there.

    A file in the cache that is damaged, cut off or another one than published is downloaded anew.

    Args:
        published: Address and hash.
        first_byte_s: Longest wait for the first byte, in seconds, name look-up included.
        whole_file_s: Longest wait for the rest.

    Raises:
        WeightsError: It is not in the cache and could not be downloaded in time, or was not what is published.
    """
    file = get_keras_models_folder() / published.file_name
    fault = _find_fault(file, digest=published.digest) if file.is_file() else None
    if file.is_file() and fault is None:
        return file
    download = _Download(published, file=file, first_byte_s=first_byte_s)
    try:
        download.wait(first_byte_s=first_byte_s, whole_file_s=whole_file_s)
    except WeightsError as error:
        raise (WeightsError(f"{error} The file that is there is of no use: {fault}.") if fault else error) from None
    return file


def get_keras_models_folder() -> Path:
    """Return where keras.applications stores downloaded weights: `KERAS_HOME`, or `.keras` in the home folder."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


class _Download:
    """One download in a thread of its own: the look-up of a name cannot be given a limit, but waiting for it can."""

    def __init__(self, published: PublishedWeights, *, file: Path, first_byte_s: float) -> None:
        self._published, self._file, self._socket_s = published, file, first_byte_s
        self._has_begun, self._is_abandoned = threading.Event(), threading.Event()
        self._reason: str | None = "it broke off"
        self._thread = threading.Thread(target=self._run, daemon=True, name="download of weights")
        self._thread.start()

    def wait(self, *, first_byte_s: float, whole_file_s: float) -> None:
        """Return when the file is complete; raise WeightsError when that fails or takes too long."""
        try:
            if not self._has_begun.wait(first_byte_s):
                self._fail(f"no answer within {first_byte_s:g} s")
            self._thread.join(whole_file_s)
            if self._thread.is_alive():
                self._fail(f"not complete after {whole_file_s:g} s")
        finally:
            self._is_abandoned.set()
        if self._reason is not None:
            self._fail(self._reason)

    def _fail(self, reason: str) -> None:
        raise WeightsError(
            f"ImageNet weights could not be downloaded from {self._published.url}: {reason}. Connect this machine, "
            f"or put the file into {self._file.parent}."
        )

    def _run(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._file.parent, prefix=".download-") as folder:
                part = Path(folder) / self._published.file_name
                self._stream(part)
                self._reason = _find_fault(part, digest=self._published.digest)
                if self._reason is None and not self._is_abandoned.is_set():
                    part.replace(self._file)
        except (OSError, HTTPException) as error:  # URLError and time-outs are kinds of OSError
            self._reason = _explain(error)
        finally:
            self._has_begun.set()

    def _stream(self, part: Path) -> None:
        """Write what comes to a file, until its end or until the caller has given up."""
        request = urllib.request.urlopen(self._published.url, timeout=self._socket_s)  # noqa: S310 (constants)
        with request as answer, part.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            label = f"Downloading {self._published.file_name}"
            with ProgressMeter(label, total=size // MEGABYTE or None, unit="MB", is_shown=True) as meter:
                shown = 0
                while (chunk := answer.read1(CHUNK_BYTES)) and not self._is_abandoned.is_set():
                    self._has_begun.set()
                    file.write(chunk)
                    meter.update(file.tell() // MEGABYTE - shown)
                    shown = file.tell() // MEGABYTE
            if size and file.tell() != size:
                raise OSError(f"the connection ended after {file.tell()} of {size} bytes")


def _explain(error: Exception) -> str:
    """Return why a download failed, as part of a sentence: urllib hides the reason in an error of its own."""
    cause = error.reason if type(error) is urllib.error.URLError else error
    if isinstance(cause, socket.gaierror):
        return "the server's name could not be looked up (is there a connection?)"
    return str(cause) or type(error).__name__


def _find_fault(file: Path, *, digest: str | None) -> str | None:
    with file.open("rb") as stream:
        if stream.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return "what came is no HDF5 file (a login page?)"
        stream.seek(0)
        if digest is None:
            return _find_cut(file)
        found = hashlib.file_digest(stream, "md5" if len(digest) == MD5_DIGITS else "sha256").hexdigest()
    return None if found == digest else f"its hash is {found}, published is {digest}"


def _find_cut(file: Path) -> str | None:
    """Return what HDF5 has against a file whose hash is not published: it knows its own length."""
    try:
        with h5py.File(file, "r"):
            return None
    except OSError as error:
        return f"it is damaged or cut off: {error}"

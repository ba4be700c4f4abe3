"""Storage that every machine of a search reaches: a shared folder, or any place that fsspec has a word for.

Each object is its SHA-256, a newline, and the content, as finished folds are on disk: one that is damaged or half
written counts as not there. Objects are never changed, so it does not matter who of two writers comes last.

    features/<key>/<shard>.bin            trunk outputs of some tiles (feature_shards)
    networks/<sha256>.bin                 the weights of a backbone
    studies/<study>/<bench>.bin           what a worker must know to train a fold (bench)
    studies/<study>/<cell>/fold_<k>.bin   a finished fold
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sem_search.errors import SettingsError, StoreError
from sem_search.files import seal, unseal, write_atomically
from sem_search.secrets import mask_secrets, mask_url

FOLDER_SCHEME = "file://"


@dataclass(frozen=True, kw_only=True)
class SharedStore:
    """Objects by name."""

    url: str
    """A folder, or a URL such as `s3://bucket/folder`."""

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None if it is not there, or not as it was written."""
        sealed = self._read_bytes(name)
        return None if sealed is None else unseal(sealed)

    def write(self, name: str, content: bytes) -> None:
        """Keep an object, whole or not at all.

        Raises:
            StoreError: The storage refuses; the message says why.
        """
        sealed = seal(content)
        if self._folder is not None:
            write_atomically(self._folder / name, sealed, setting="shared")
            return
        system, root = self._remote
        path = f"{root}/{name}"
        try:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.pipe_file(path, sealed)
        except OSError as error:
            raise StoreError(f"{mask_url(self.url)}/{name} could not be written: {_describe(error)}.") from error

    def has(self, name: str) -> bool:
        """Tell whether an object is there, without reading it: it may yet turn out to be damaged."""
        if self._folder is not None:
            return (self._folder / name).is_file()
        system, root = self._remote
        return bool(system.exists(f"{root}/{name}"))

    def check(self) -> None:
        """Refuse a storage that cannot be used, before anything is computed.

        Raises:
            SettingsError: Names it, and the reason.
        """
        try:
            self.write("probe.bin", b"sem_search")
        except (StoreError, OSError) as error:
            raise SettingsError(f"shared={mask_url(self.url)}: nothing can be written there: {error}") from error
        if self.read("probe.bin") != b"sem_search":
            raise SettingsError(f"shared={mask_url(self.url)}: what is written there cannot be read again.")

    @property
    def _folder(self) -> Path | None:
        """The folder, if it is one."""
        if self.url.startswith(FOLDER_SCHEME):
            return Path(unquote(self.url.removeprefix(FOLDER_SCHEME)))
        return None if "://" in self.url else Path(self.url).expanduser()

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        """fsspec's file system and the path in it.

        Raises:
            SettingsError: fsspec, or its driver for such URLs, is not installed, or it refuses the URL.
        """
        shown = mask_url(self.url)
        try:
            import fsspec
        except ImportError as error:
            raise SettingsError(
                f"shared={shown} is no folder, and URLs need fsspec: pip install '.[cluster]' in the project's folder."
            ) from error
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            raise SettingsError(f"shared={shown} cannot be used: {_describe(error)}.") from error
        return system, str(root).rstrip("/")

    def _read_bytes(self, name: str) -> bytes | None:
        try:
            if self._folder is not None:
                return (self._folder / name).read_bytes()
            system, root = self._remote
            return bytes(system.cat_file(f"{root}/{name}"))
        except OSError:  # not there, or not to be had: it is computed again
            return None


def open_shared(url: str | None) -> SharedStore | None:
    """Return the storage that `shared` names, if it names one."""
    return None if url is None else SharedStore(url=url)


def _describe(error: Exception) -> str:
    return mask_secrets(" ".join(str(error).split())[:300] or type(error).__name__)

"""Storage that every machine of a search reaches: a shared folder, or any place that fsspec has a driver for.

Each object lies below its SHA-256, as finished folds do on disk: one that is damaged or half written counts as not
there. An object is a pure function of its name, so that it does not matter which of two writers comes last.

    features/<key>/<shard>.bin            trunk outputs of some tiles (feature_shards)
    studies/<study>/context_<hash>.bin    what a worker needs to train a fold (worker_context)
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
PROBE = "probe.bin"


@dataclass(frozen=True, kw_only=True)
class SharedStore:
    """Objects by name."""

    url: str
    """A folder, or a URL such as `s3://bucket/folder`."""

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None if it is not there, or not as it was written."""
        try:
            if self._folder is not None:
                return unseal((self._folder / name).read_bytes())
            system, root = self._remote
            return unseal(bytes(system.cat_file(f"{root}/{name}")))
        except OSError:  # not there, or out of reach: it is computed again
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all.

        Raises:
            StoreError: The storage refuses; the message says why.
        """
        if self._folder is not None:
            write_atomically(self._folder / name, seal(content), setting="shared")
            return
        system, root = self._remote
        path = f"{root}/{name}"
        try:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.pipe_file(path, seal(content))
        except OSError as error:
            raise StoreError(f"{self._shown}/{name} could not be written: {_describe(error)}.") from error

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
            self.write(PROBE, b"sem_search")
        except (StoreError, OSError) as error:
            raise SettingsError(f"shared={self._shown}: nothing can be written there: {error}") from error
        if self.read(PROBE) != b"sem_search":
            raise SettingsError(f"shared={self._shown}: what is written there cannot be read again.")

    @property
    def _shown(self) -> str:
        return mask_url(self.url)

    @property
    def _folder(self) -> Path | None:
        """The folder, if it is one."""
        if self.url.startswith(FOLDER_SCHEME):
            return Path(unquote(self.url.removeprefix(FOLDER_SCHEME)))
        return None if "://" in self.url else Path(self.url).expanduser()

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        """fsspec's file system and the path in it."""
        try:
            import fsspec
        except ImportError as error:
            raise SettingsError(
                f"shared={self._shown} is no folder, and URLs need fsspec: pip install '.[cluster]' in the project's "
                "folder."
            ) from error
        try:
            system, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            raise SettingsError(f"shared={self._shown} cannot be used: {_describe(error)}.") from error
        return system, str(root).rstrip("/")


def open_shared(url: str | None) -> SharedStore | None:
    """Return the storage that `shared` names, if it names one."""
    return None if url is None else SharedStore(url=url)


def _describe(error: Exception) -> str:
    return mask_secrets(" ".join(str(error).split())[:300] or type(error).__name__)

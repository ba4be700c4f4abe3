"""Which callers are answered, and how much of their requests may be in memory: rules without a web framework.

Host and origin: a web page from anywhere can send requests to a server that listens on the reader's own machine, by
letting its own name point there (DNS rebinding). Such a request carries the page's name in `Host`; only known names are
answered. `Origin` is the page that asks, as the browser states it: it must be this server's own.

Memory: the bytes that have arrived count, not the announced length, since a false announcement costs a caller nothing.
"""

import asyncio
import ipaddress
import re

from sem_search.errors import RefusedRequestError, SettingsError

FORBIDDEN = 403

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names of this machine that no other machine's name server decides on."""

ANY_ADDRESS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - recognised, not bound to
"""What a server listens on to be reached from everywhere; it is then called by other names."""

DEFAULT_PORTS = {"http": 80, "https": 443}

HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>\d{1,5}))?", re.IGNORECASE)

SMALL_BYTES = 1_000_000
"""A body up to this size counts as small."""


def read_allowed_hosts(text: str, *, host: str) -> frozenset[str]:
    """Return the names that a server answers to: those of this machine, the one it listens on, and further ones.

    Args:
        text: Further names, separated by commas, without ports; may be empty. An address of IP version 6 may stand
            in brackets or not.
        host: What the server listens on.

    Raises:
        SettingsError: A name is no name of a host.
    """
    names = [write_host(name.strip()) for name in text.split(",") if name.strip()]
    for name in names:
        found = HOST.fullmatch(name)
        if found is None or found["port"] is not None:
            raise SettingsError(
                f"allowed-hosts: {name!r} is no name of a host: give names such as sem.example.org, separated by "
                "commas, without http:// and without a port."
            )
    return LOCAL_HOSTS | {write_host(host)} | frozenset(names)


def write_host(host: str) -> str:
    """Return a name as a URL and `Host` give it: without the dot of the root, IP version 6 in brackets."""
    try:
        return f"[{ipaddress.IPv6Address(host.lower().removeprefix('[').removesuffix(']'))}]"
    except ValueError:
        return host.lower().removesuffix(".")


def check_caller(*, host: str | None, origin: str | None, allowed_hosts: frozenset[str]) -> None:
    """Refuse a request that was sent to another name, or by a page of another place.

    The scheme of the origin is not compared: behind a proxy that speaks HTTPS the server itself is asked by HTTP.

    Args:
        host: The header `Host`; None where there is none.
        origin: The header `Origin`; None where there is none, as in every request that no browser sent.
        allowed_hosts: As `read_allowed_hosts` gives them.

    Raises:
        RefusedRequestError: With status 403.
    """
    found = HOST.fullmatch(host or "")
    if found is None or found["name"].lower().removesuffix(".") not in allowed_hosts:
        raise RefusedRequestError(
            f"This server does not answer to the host {(host or '')[:60]!r}; allow that name with --allowed-hosts.",
            status=FORBIDDEN,
        )
    if origin is not None and not _is_same_origin(origin, host=found):
        raise RefusedRequestError(
            f"Pages of {origin[:60]!r} may not ask this server, only its own page; a proxy must pass on the header "
            "Host as it came.",
            status=FORBIDDEN,
        )


def _is_same_origin(origin: str, *, host: re.Match[str]) -> bool:
    scheme, separator, place = origin.lower().partition("://")
    found = HOST.fullmatch(place)
    if not separator or scheme not in DEFAULT_PORTS or found is None:
        return False
    default = DEFAULT_PORTS[scheme]
    asked, own = int(found["port"] or default), int(host["port"] or default)
    return found["name"] == host["name"].lower() and asked == own


class BodyBudget:
    """Account of what the bodies of all requests take in memory, as they arrive.

    A part is kept for small bodies, so that a few large ones cannot shut out all other callers.

    Args:
        total_bytes: Of all bodies together.
        kept_bytes: The part of it that only bodies of up to `SMALL_BYTES` may use.
    """

    def __init__(self, *, total_bytes: int, kept_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._kept_bytes = kept_bytes
        self._used_bytes = 0

    def has_room(self, n_bytes: int, *, body_bytes: int) -> bool:
        """Return whether so many bytes more may be taken by a body of a size, as announced or as far as it is known."""
        limit_bytes = self._total_bytes - (0 if body_bytes <= SMALL_BYTES else self._kept_bytes)
        return self._used_bytes + n_bytes <= limit_bytes

    def take(self, n_bytes: int, *, body_bytes: int) -> bool:
        """Take bytes for a body; return whether there was room for them."""
        has_room = self.has_room(n_bytes, body_bytes=body_bytes)
        self._used_bytes += n_bytes if has_room else 0
        return has_room

    def give_back(self, n_bytes: int) -> None:
        """Give back what a body held."""
        self._used_bytes -= n_bytes


class PixelRoom:
    """Room for the pictures that are decoded at the same time; who finds none waits, first come, first served.

    Args:
        megapixels: Of all requests together; a larger request has all of it.
    """

    def __init__(self, megapixels: float) -> None:
        self._free = self._total = megapixels
        self._door = asyncio.Lock()
        self._has_freed = asyncio.Event()

    async def take(self, megapixels: float) -> float:
        """Return what was taken when there is room: at least one megapixel, so that requests are counted, too."""
        taken = min(max(megapixels, 1.0), self._total)
        async with self._door:
            while self._free < taken:
                self._has_freed.clear()
                await self._has_freed.wait()
            self._free -= taken
        return taken

    def give_back(self, taken: float) -> None:
        """Give back what was taken."""
        self._free += taken
        self._has_freed.set()

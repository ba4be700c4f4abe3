"""Who may change something: people at this very machine, and whoever has the token.

A page from anywhere can make a browser send requests. `deployment.server.intake` refuses those that name another host
or come from another page. What changes something is JSON or bytes by POST besides, which no form of a page can send.
"""

import hmac
import ipaddress
import secrets

from starlette.requests import Request

from sem_search.deployment.server.intake import FORBIDDEN, HOST, LOCAL_HOSTS
from sem_search.errors import RefusedRequestError, SettingsError

TOKEN_VARIABLE, TOKEN_HEADER = "SEM_SEARCH_TOKEN", "X-Sem-Search-Token"
"""The header is one of its own: a proxy that asks for a password has `Authorization`."""

MIN_TOKEN_LENGTH = 12

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""Headers of proxies: behind one, the caller is not at this machine even if the proxy is."""

OWN_SITE = (None, "none", "same-origin")
"""What a browser states in `Sec-Fetch-Site` of a request of the page itself, and of one that a person typed."""


class Access:
    """Decides whether a caller may change something.

    Args:
        token: What callers elsewhere must send as `X-Sem-Search-Token`; None makes one.

    Raises:
        SettingsError: It is shorter than `MIN_TOKEN_LENGTH`, or holds what no header can.
    """

    def __init__(self, token: str | None = None) -> None:
        self.token = token if token is not None else secrets.token_urlsafe(18)
        if len(self.token) < MIN_TOKEN_LENGTH or not self.token.isascii() or not self.token.isprintable():
            raise SettingsError(
                f"{TOKEN_VARIABLE} must have {MIN_TOKEN_LENGTH} or more letters, digits or signs of ASCII."
            )

    def may_change(self, request: Request) -> bool:
        """Return whether the caller is at this machine, or has the token."""
        given = request.headers.get(TOKEN_HEADER, "")
        return hmac.compare_digest(given.encode(), self.token.encode()) or _is_local(request)

    def check_change(self, request: Request) -> None:
        """Refuse a caller who may not change anything.

        Raises:
            RefusedRequestError: With status 403.
        """
        if not self.may_change(request):
            raise RefusedRequestError(
                "To change something from another machine, enter the token on the page. It was printed where the page "
                f"was started, or set there as {TOKEN_VARIABLE}.",
                status=FORBIDDEN,
            )


def check_site(request: Request) -> None:
    """Refuse what a page of another site asks for: pictures and lists say what is in a laboratory's folders.

    Raises:
        RefusedRequestError: With status 403.
    """
    if request.headers.get("sec-fetch-site") not in OWN_SITE:
        raise RefusedRequestError("Pages of other sites may not ask this server.", status=FORBIDDEN)


def _is_local(request: Request) -> bool:
    found = HOST.fullmatch(request.headers.get("host", ""))
    if found is None or found["name"].lower().removesuffix(".") not in LOCAL_HOSTS or request.client is None:
        return False
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False

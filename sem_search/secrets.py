"""Passwords out of everything that is shown, logged or stored."""

import re

MASK = "***"

_FIELD = r"\w*(?:password|passwd|pwd|passphrase|token|secret|api_key|access_key)"

_CREDENTIALS = re.compile(
    r"://([^\s/:]*):(?P<secret>"
    r"(?:(?!://)\S)*@"  # to the last @ of the word: a password may hold one, or a slash
    r"|(?!\s|\d{1,5}\b)(?:(?!://).)*?@(?:(?!://)\S)*@"  # a password with a blank; what looks like a port is none
    r"|(?!\s|\d{1,5}\b)(?:(?!://).)*?@)"
)
_PORT = re.compile(r"\d{1,5}[/?#\"']")
_SECRET_FIELDS = re.compile(
    rf"\b({_FIELD})=('(?:\\.|[^'\\])*'|\"[^\s\":][^\"]*\"|[^\s&;,'\"=<>](?:[^\s&;,'\"]|[;,](?!\s|\w+=|$))*)",
    re.IGNORECASE,
)
_QUERY_FIELDS = re.compile(rf"([?&]{_FIELD})=[^&#]*", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Return any text with passwords in URLs and in `password=...` fields replaced by `***`."""
    return _SECRET_FIELDS.sub(rf"\1={MASK}", _CREDENTIALS.sub(_mask_password, text))


def _mask_password(found: re.Match[str]) -> str:
    """Return credentials without the password; a port of a web address, and a later `@`, are no credentials."""
    is_web = found.string[: found.start()].endswith(("http", "https"))
    if is_web and _PORT.match(found["secret"]):
        return found[0]
    return f"://{found[1]}:{MASK}@"


def mask_url(url: str) -> str:
    """Return one URL, and nothing else, with its passwords replaced by `***`.

    Where a URL begins and ends is known here, so that a password with a blank in it is masked whole.
    """
    from sqlalchemy import make_url  # only a URL is worth the time that it takes to load
    from sqlalchemy.exc import ArgumentError

    try:
        has_password = make_url(url).password is not None
    except (ArgumentError, ValueError):
        return mask_secrets(url)
    if not has_password:
        return mask_secrets(_QUERY_FIELDS.sub(rf"\1={MASK}", url))
    # SQLAlchemy ends a password at the first @; what stands between an unquoted one and the last is not shown either.
    login, _, rest = url.partition("@")
    place, mark, query = rest.partition("?")
    scheme, _, user = login.partition("://")
    shown = f"{scheme}://{user.partition(':')[0]}:{MASK}@{place.rpartition('@')[2]}{mark}{query}"
    return _QUERY_FIELDS.sub(rf"\1={MASK}", shown)

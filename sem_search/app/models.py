"""The registry, for the page: versions, their history, and who answers."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sem_search.app.requests import get_text
from sem_search.deployment.registry import (
    list_models,
    list_moves,
    promote_version,
    resolve_model_uri,
    roll_back,
    show_version,
)
from sem_search.deployment.registry.versions import CHAMPION
from sem_search.deployment.registry.views import format_view
from sem_search.errors import ModelNotFoundError

MAX_REASON = 2000


def describe_models() -> list[dict[str, Any]]:
    """Return every registered model with its versions and its history, the latest move first; none without models."""
    try:
        overviews = list_models()
    except ModelNotFoundError:
        return []
    return [
        {**asdict(overview), "moves": [_describe_move(move) for move in reversed(list_moves(overview.name))]}
        for overview in overviews
    ]


def describe_version(given: Mapping[str, str]) -> dict[str, str]:
    """Return the card of a version as text.

    Raises:
        InputError: There is no such version.
    """
    view = show_version(get_text(given, "model"), get_text(given, "version"))
    return {"text": format_view(view)}


def promote(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make a version champion: by the gate, or by hand where a reason is given.

    Raises:
        InputError: There is no such version, or the gate refuses.
    """
    reason = str(given.get("reason") or "").strip()[:MAX_REASON] or None
    return _describe_move(promote_version(get_text(given, "model"), get_text(given, "version"), reason=reason))


def restore(given: Mapping[str, Any]) -> dict[str, Any]:
    """Make the champion before champion again.

    Raises:
        InputError: There is none.
    """
    reason = str(given.get("reason") or "").strip()[:MAX_REASON] or None
    return _describe_move(roll_back(get_text(given, "model"), reason=reason))


def find_address(given: Mapping[str, Any]) -> str:
    """Return the address of a registered version, `models:/NAME@champion` for `champion`.

    Raises:
        InputError: There is no such version.
    """
    name, version = get_text(given, "model"), get_text(given, "version")
    numbers = {overview.name: [row.version for row in overview.versions] for overview in list_models()}
    if version != CHAMPION and version not in numbers.get(name, []):
        raise ModelNotFoundError(f"There is no version {version[:20]!r} of a model {name[:80]!r} in this registry.")
    address = f"models:/{name}@{CHAMPION}" if version == CHAMPION else f"models:/{name}/{version}"
    if name not in numbers:
        raise ModelNotFoundError(f"There is no model {name[:80]!r} in this registry.")
    resolve_model_uri(address)
    return address


def _describe_move(move: Any) -> dict[str, Any]:
    names = ("number", "at", "who", "action", "alias", "from_version", "to_version", "reason", "sha256")
    return {name: getattr(move, name) for name in names}

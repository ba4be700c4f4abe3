"""Registered versions and their aliases (being written: signatures first)."""

from collections.abc import Mapping
from dataclasses import dataclass

CHAMPION = "champion"
CHALLENGER = "challenger"


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """What became of a model that was brought to the registry."""

    name: str
    version: str
    alias: str | None
    reason: str
    """Continues "registered as <name> version <version>, ..."."""


def register_winner(
    *,
    model_uri: str,
    run_id: str,
    model_name: str,
    score: float,
    data_digest: str,
    folds_digest: str,
    select_on: str = "validation",
    tags: Mapping[str, str],
) -> RegisteredVersion:
    """Register a study's winner once; champion if none is, or if it is better on the same data; else challenger."""
    raise NotImplementedError


def resolve_model_uri(model_uri: str) -> str:
    """Return the URI with its alias resolved; ModelNotFoundError says what there is."""
    raise NotImplementedError

"""One version with its model card, and what has happened to it since."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.package.card import ModelCard
from sem_search.deployment.package.card_text import shorten_card
from sem_search.deployment.package.record import read_card
from sem_search.deployment.registry.contents import (
    RECORD_PATH,
    describe_missing_folder,
    fetch_files,
    find_missing_folder,
)
from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.moves_log import read_journal
from sem_search.deployment.registry.stores import open_client
from sem_search.deployment.registry.tags import DESCRIPTION_LENGTH
from sem_search.deployment.registry.versions import find_version
from sem_search.errors import ModelNotFoundError, StoreError

NO_CARD = "This version carries no model card: it was logged by an earlier sem_search, or by another program."


@dataclass(frozen=True, kw_only=True)
class VersionView:
    """A registered version."""

    name: str
    version: str
    aliases: tuple[str, ...]
    card: ModelCard | None
    """None for a model that was logged without one."""
    moves: tuple[HistoryEntry, ...]
    """The entries of the history that gave this version an alias or took one from it."""


def show_version(name: str, version: str) -> VersionView:
    """Return a version with its card.

    Args:
        name: Registered model.
        version: Number, alias or `latest`.

    Raises:
        ModelNotFoundError: There is no such model or version.
        StoreError: The card is damaged.
    """
    client = open_client()
    found = find_version(client, name=name, version=version)
    missing = find_missing_folder(f"models:/{name}/{found.version}")
    if missing is not None:
        raise ModelNotFoundError(f"The files of version {found.version} of {name!r} {describe_missing_folder(missing)}")
    journal = read_journal(client, name=name)
    number = str(found.version)
    return VersionView(
        name=name,
        version=number,
        aliases=tuple(sorted(alias for alias, holder in journal.aliases.items() if holder == number)),
        card=_read_card(found),
        moves=_select_moves(journal.history.entries, number=number),
    )


def describe_version(version: ModelVersion) -> str:
    """Return the card as the Markdown that MLflow's pages show, no longer than its databases keep.

    A damaged card is told there: it is no reason to leave a registration unfinished.
    """
    try:
        card = _read_card(version)
    except StoreError as error:
        return str(error)
    if card is None:
        return NO_CARD
    return shorten_card(card, name=version.name, version=str(version.version), limit=DESCRIPTION_LENGTH)


def _read_card(version: ModelVersion) -> ModelCard | None:
    with fetch_files(version, path=RECORD_PATH) as folder:
        return None if folder is None else read_card(folder)


def _select_moves(entries: Sequence[HistoryEntry], *, number: str) -> tuple[HistoryEntry, ...]:
    return tuple(entry for entry in entries if number in (entry.from_version, entry.to_version))

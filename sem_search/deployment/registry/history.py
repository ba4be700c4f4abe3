"""All moves of a registered model, in order, and what is wrong with them.

The entries form a chain. Where two moves were made at the same moment by processes that could not lock each other out,
it forks: both entries are kept, and the next move names both as the ones before it. Nothing here touches a store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sem_search.deployment.registry.entries import (
    HistoryEntry,
    StoredEntry,
    is_history_key,
    is_well_formed_key,
    read_entry,
)
from sem_search.deployment.registry.tags import CHAMPION
from sem_search.errors import StoreError


@dataclass(frozen=True, kw_only=True)
class History:
    """The moves of one registered model."""

    stored: tuple[StoredEntry, ...]
    """In the order of their numbers; entries of one number in the order of time."""
    unreadable: tuple[str, ...] = ()
    """A sentence for each tag that is no entry."""

    @property
    def entries(self) -> tuple[HistoryEntry, ...]:
        """The moves without the hashes that were stated beside them."""
        return tuple(stored.entry for stored in self.stored)

    @property
    def heads(self) -> tuple[str, ...]:
        """Hashes of the entries that no other follows: one, but for a fork; none where nothing was moved yet."""
        followed = {sha256 for entry in self.entries for sha256 in entry.previous}
        return tuple(stored.stated_sha256 for stored in self.stored if stored.stated_sha256 not in followed)

    @property
    def next_number(self) -> int:
        """Number of the entry to come."""
        return max((entry.number for entry in self.entries), default=0) + 1

    @property
    def recorded_champions(self) -> frozenset[str | None]:
        """Who is champion by the history: one version or None; several where a fork is not joined yet."""
        if not self.stored:
            return frozenset({None})
        states = _compute_champions(self.stored)
        return frozenset(state for head in self.heads for state in states[head])

    def find(self, *, action: str, version: str) -> HistoryEntry | None:
        """Return the last move of this kind that gave this version an alias."""
        found = [entry for entry in self.entries if entry.action == action and entry.to_version == version]
        return found[-1] if found else None


def read_history(tags: Mapping[str, str]) -> History:
    """Return the history that the tags of a registered model hold; what cannot be read is told, not raised."""
    stored, unreadable = [], []
    for key in sorted(filter(is_history_key, tags)):
        try:
            stored.append(read_entry(key, tags[key]))
        except StoreError as error:
            unreadable.append(str(error))
    ordered = sorted(stored, key=lambda each: (each.entry.number, each.entry.at, each.stated_sha256))
    return History(stored=tuple(ordered), unreadable=tuple(unreadable))


def iter_problems(history: History) -> Iterator[str]:
    """Yield a sentence for everything in a history that an honest registry would not hold, the first entry first.

    What cannot be seen from the entries alone: that the last ones are gone, or that all were made anew. For the first
    there are the mark of the last carried-out move and the copies in the runs (see `verifying`); against the second
    only a hash that was written down elsewhere helps.
    """
    yield from history.unreadable
    known: dict[str, HistoryEntry] = {}
    champions = _compute_champions(history.stored)
    for stored in history.stored:
        yield from _iter_entry_problems(stored, known=known, champions=champions)
        known[stored.stated_sha256] = stored.entry
    if len(history.heads) > 1:
        forked = " and ".join(f"entry {known[head].number} ({head[:8]})" for head in history.heads)
        yield (
            f"the history forks: {forked} are both the last, since two moves were made at the same moment. Look at "
            "both, and make the move that shall hold: the next entry joins them."
        )


def count_forks(history: History) -> int:
    """Return how often two moves were made at the same moment, joined or not."""
    n_joined = sum(max(0, len(entry.previous) - 1) for entry in history.entries)
    return n_joined + max(0, len(history.heads) - 1)


def find_previous_champion(history: History, *, champion: str | None) -> str | None:
    """Return who was champion before, by the history; None if nobody was.

    A rollback takes back one step: after promotions of 1, 2 and 3, two rollbacks lead to 2 and then to 1. Where the
    alias is gone, the one before is who held it last.

    Args:
        history: The moves.
        champion: Who holds the alias now.
    """
    held: list[str] = []
    for entry in history.entries:
        if entry.alias != CHAMPION or entry.to_version is None:
            continue
        if entry.action == "rolled back" and entry.to_version in held:
            while held[-1] != entry.to_version:
                held.pop()
        elif not held or held[-1] != entry.to_version:
            held.append(entry.to_version)
    if held and held[-1] == champion:
        held.pop()
    return held[-1] if held else None


def _iter_entry_problems(
    stored: StoredEntry, *, known: Mapping[str, HistoryEntry], champions: Mapping[str, frozenset[str | None]]
) -> Iterator[str]:
    entry, name = stored.entry, f"entry {stored.entry.number}"
    if entry.sha256 != stored.stated_sha256:
        yield (
            f"{name} was altered: its hash is {entry.sha256[:16]}... and {stored.stated_sha256[:16]}... stands in it."
        )
    elif not is_well_formed_key(stored.key) or not stored.is_intact:
        yield f"{name} stands in the tag {stored.key}, and belongs into {entry.key}: it was put there by hand."
    missing = [sha256 for sha256 in entry.previous if sha256 not in known]
    if missing:
        yield (
            f"{name} follows an entry with the hash {missing[0][:16]}..., which is not there: an entry before it was "
            "removed or replaced."
        )
        return
    expected = max((known[sha256].number for sha256 in entry.previous), default=0) + 1
    if entry.number != expected:
        yield f"{name} should have the number {expected}: it was put there by hand."
    if entry.alias == CHAMPION and entry.from_version not in _get_champions_before(entry, champions=champions):
        yield f"{name} says that version {entry.from_version} was champion before, and the entry before does not."


def _compute_champions(stored: tuple[StoredEntry, ...]) -> dict[str, frozenset[str | None]]:
    """Return for each entry's stated hash who may be champion after it; parents that are not there tell nothing."""
    champions: dict[str, frozenset[str | None]] = {}
    for each in stored:
        if each.entry.alias == CHAMPION:
            champions[each.stated_sha256] = frozenset({each.entry.to_version})
        else:
            champions[each.stated_sha256] = _get_champions_before(each.entry, champions=champions)
    return champions


def _get_champions_before(
    entry: HistoryEntry, *, champions: Mapping[str, frozenset[str | None]]
) -> frozenset[str | None]:
    if not entry.previous:
        return frozenset({None})
    return frozenset(state for sha256 in entry.previous for state in champions.get(sha256, frozenset({None})))

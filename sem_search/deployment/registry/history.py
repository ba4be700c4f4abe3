"""The history of a registered model: every move of an alias, as entries that show whether they were altered.

An entry's hash is the SHA-256 of its canonical JSON, and its content holds the hash of the entry before it: a change
of one entry makes all later ones wrong. Each entry is one tag of the registered model. The tag's name holds number and
hash, so that two processes that cannot lock each other out write two tags, not one over the other: the history forks,
and the next move names both as the entries before it.

Sources: Haber and Stornetta, How to time-stamp a digital document, J. Cryptology 3 (1991) 99; canonical JSON after
RFC 8785: sorted keys, no spaces, shortest numbers.
"""

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mlflow import MlflowClient

from sem_search.deployment.registry.versions import CHAMPION, get_registered_model
from sem_search.errors import SettingsError

Action = Literal["registered", "promoted", "promoted by hand", "rolled back", "found"]
"""`found`: the alias named another version than the history says; another program had moved it."""

FORMAT_VERSION = 1
"""Raised when a reader of before could misunderstand an entry."""

FINDING = "finding"
"""Of `HistoryEntry.comparison`: what the gate found, in words, where the reason is a user's own."""

ENTRY_PREFIX = "sem_search.history."

LONGEST_TAG = 5000
"""Characters. MLflow checks for 100,000, but its databases keep 5,000 of a registered model's tag, but for SQLite."""


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """What happened to an alias, once."""

    number: int
    """From 1; one more than that of the entry before."""
    previous: tuple[str, ...]
    """Hash of the entry before, none for the first; several where moves were made at the same moment."""
    model: str
    """The registered model, as it was called then."""
    at: str
    """UTC, ISO 8601."""
    who: str
    action: Action
    alias: str
    from_version: str | None
    to_version: str | None
    """None only where the alias was found to be gone."""
    reason: str
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By version: objective, validation and test F-measure, as registered."""
    comparison: Mapping[str, Any] | None = None
    """What the gate found, where it compared; of a move by hand also as a sentence, `FINDING`."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Of data, folds and files of `to_version`."""
    run_id: str | None = None
    """The run that the version was made of."""
    sha256: str = ""
    """Hash of everything above, as it stands in the entry; see `seal`."""

    @property
    def key(self) -> str:
        """Name of the tag that holds the entry."""
        return f"{ENTRY_PREFIX}{self.number:06d}.{self.sha256[:8]}"

    def compute_sha256(self) -> str:
        """Return the hash that the entry should have."""
        content = {"format": FORMAT_VERSION, **asdict(self)}
        del content["sha256"]
        return hashlib.sha256(format_canonical(content).encode()).hexdigest()

    def seal(self) -> "HistoryEntry":
        """Return the entry with its hash."""
        return replace(self, sha256=self.compute_sha256())

    def to_json(self) -> str:
        """Return the tag's value.

        Raises:
            SettingsError: It is longer than a database may keep; the reason is what a user can shorten.
        """
        text = format_canonical({"format": FORMAT_VERSION, **asdict(self)})
        if len(text) > LONGEST_TAG:
            raise SettingsError(
                f"the reason is too long: with {len(self.reason)} characters the entry has {len(text)}, and a "
                f"registry keeps {LONGEST_TAG}. Write a shorter one."
            )
        return text


@dataclass(frozen=True, kw_only=True)
class History:
    """The moves of a registered model, and where its aliases stand."""

    model: str
    entries: tuple[HistoryEntry, ...]
    """In the order of their numbers; entries of one number in the order of time."""
    aliases: Mapping[str, str]
    problems: tuple[str, ...] = ()
    """A sentence for each tag that does not hold its entry."""

    @property
    def champion(self) -> str | None:
        """The version that holds the alias."""
        return self.aliases.get(CHAMPION)

    @property
    def heads(self) -> tuple[str, ...]:
        """Hashes of the entries that no other follows: one, but for a fork; none where nothing was moved yet."""
        followed = {sha256 for entry in self.entries for sha256 in entry.previous}
        return tuple(sorted(entry.sha256 for entry in self.entries if entry.sha256 not in followed))

    @property
    def last_sha256(self) -> str | None:
        """Hash of the last entry, to be kept in another place."""
        return self.entries[-1].sha256 if self.entries else None

    @property
    def recorded_champion(self) -> str | None:
        """The version that is champion by the history."""
        return next((entry.to_version for entry in reversed(self.entries) if entry.alias == CHAMPION), None)

    @property
    def previous_champion(self) -> str | None:
        """The version that was champion before, by the history, or the last one where the alias is gone.

        A rollback takes back one step: after promotions of 1, 2 and 3, two rollbacks lead to 2 and then to 1.
        """
        held: list[str] = []
        for entry in self.entries:
            if entry.alias != CHAMPION or entry.to_version is None:
                continue
            if entry.action == "rolled back" and entry.to_version in held:
                while held[-1] != entry.to_version:
                    held.pop()
            elif not held or held[-1] != entry.to_version:
                held.append(entry.to_version)
        if held and held[-1] == self.champion:
            held.pop()
        return held[-1] if held else None

    def find_registration(self, version: str) -> HistoryEntry | None:
        """Return the entry of a version's registration."""
        found = [entry for entry in self.entries if entry.action == "registered" and entry.to_version == version]
        return found[-1] if found else None


def read_history(client: MlflowClient, *, name: str) -> History:
    """Return the history of a registered model; a tag that cannot be read is listed, not raised.

    Raises:
        ModelNotFoundError: There is no such model.
    """
    registered = get_registered_model(client, name=name)
    tags = {key: text for key, text in sorted(registered.tags.items()) if key.startswith(ENTRY_PREFIX)}
    found = [_read_entry(key, text) for key, text in tags.items()]
    entries = [entry for entry in found if isinstance(entry, HistoryEntry)]
    return History(
        model=registered.name,
        entries=tuple(sorted(entries, key=lambda entry: (entry.number, entry.at, entry.sha256))),
        aliases={alias: str(version) for alias, version in registered.aliases.items()},
        problems=tuple(problem for problem in found if isinstance(problem, str)),
    )


def iter_problems(history: History) -> Iterator[str]:
    """Yield a sentence for everything in a history that an honest registry would not hold, the first entry first.

    The entries alone cannot show that the last ones are gone, or that all were made anew: see `verification`.
    """
    yield from history.problems
    known: dict[str, HistoryEntry] = {}
    for entry in history.entries:
        yield from _iter_entry_problems(entry, known=known)
        known[entry.sha256] = entry
    if len(history.heads) > 1:
        forked = " and ".join(f"entry {known[head].number} ({head[:8]})" for head in history.heads)
        yield (
            f"the history forks: {forked} are both the last, since two moves were made at the same moment. Look at "
            "both, and make the move that shall hold: the next entry joins them."
        )


def describe_champion_state(history: History, *, versions: Container[str]) -> str | None:
    """Return a sentence if the champion's alias names another version than the history says; else None.

    `versions` are those that were not deleted.
    """
    recorded, champion = history.recorded_champion, history.champion
    if champion == recorded:
        return None
    if champion is not None:
        found = f"the alias stands at version {champion}"
    elif recorded in versions:
        found = "the alias is gone"
    else:
        found = f"version {recorded} was deleted, and MLflow dropped the alias with it"
    expected = f"version {recorded} is {CHAMPION}" if recorded else f"there is no {CHAMPION}"
    return f"by the history {expected}, but {found}: a move was interrupted, or another program made one."


def format_canonical(content: Mapping[str, Any]) -> str:
    """Return the one JSON text of a content: equal contents give equal texts.

    Raises:
        ValueError: The content holds NaN or infinity.
    """
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read_entry(key: str, text: str) -> HistoryEntry | str:
    """Return the entry that a tag holds, whether or not its hash is right, or a sentence: it holds none."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        values = json.loads(text)
        if (version := values.pop("format")) != FORMAT_VERSION:
            return (
                f"history tag {key} has format {version}, and this sem_search reads format {FORMAT_VERSION}: use the "
                "version of sem_search that wrote it."
            )
        entry = HistoryEntry(**{**values, "previous": tuple(values["previous"])})
        if entry.key == key:
            return entry
    return f"history tag {key} does not hold its entry: it was altered."


def _iter_entry_problems(entry: HistoryEntry, *, known: Mapping[str, HistoryEntry]) -> Iterator[str]:
    name, sha256 = f"entry {entry.number}", entry.compute_sha256()
    if sha256 != entry.sha256:
        yield f"{name} was altered: its hash is {sha256[:16]}... and {entry.sha256[:16]}... stands in it."
    missing = [sha256 for sha256 in entry.previous if sha256 not in known]
    expected = max((known[sha256].number for sha256 in entry.previous if sha256 in known), default=0) + 1
    if missing:
        yield (
            f"{name} follows an entry with the hash {missing[0][:16]}..., which is not there: an entry before it was "
            "removed or replaced."
        )
    elif entry.number != expected:
        yield f"{name} should have the number {expected}: it was put there by hand."

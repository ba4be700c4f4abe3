"""One move in the registry, as a record that cannot be altered without its hash telling so.

An entry's hash is the SHA-256 of its canonical JSON, and its content holds the hash of the entry before it: who alters
one entry must make all later ones anew. An entry is kept as one tag of the registered model, whose name holds number
and hash, so that two processes that cannot lock each other out write two tags instead of one over the other.

Sources: Haber and Stornetta, How to time-stamp a digital document, J. Cryptology 3 (1991) 99, for the chain;
canonical JSON after RFC 8785: sorted keys, no spaces, shortest numbers.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from sem_search.deployment.registry.tags import HISTORY_PREFIX, MODEL_TAG_LENGTH
from sem_search.errors import SettingsError, StoreError

Action = Literal["registered", "promoted", "promoted by hand", "rolled back", "found"]
"""`found`: the alias stood elsewhere than the history says, since something else than this program had moved it."""

FORMAT_VERSION = 1
"""Raised when a reader of before could misunderstand an entry."""

KEY_DIGITS = 8
"""Digits of the hash in a tag's name: two entries of one number and one name would need a contrived collision."""

_KEY = re.compile(re.escape(HISTORY_PREFIX) + rf"(\d{{6,}})\.([0-9a-f]{{{KEY_DIGITS}}})")


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
    """Who held the alias before."""
    to_version: str | None
    """Who holds it since; None only where the alias was found to be gone."""
    reason: str
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By version: objective, validation and test F-measure, as registered."""
    comparison: Mapping[str, Any] | None = None
    """What the gate found, where it compared."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Of data, folds and files of `to_version`."""
    run_id: str | None = None
    """The run that the version was made of, and whose artifacts hold a copy of this entry."""

    @property
    def sha256(self) -> str:
        """Hash of everything above."""
        return hashlib.sha256(format_canonical({"format": FORMAT_VERSION, **asdict(self)}).encode()).hexdigest()

    @property
    def key(self) -> str:
        """Name of the tag that keeps the entry."""
        return f"{HISTORY_PREFIX}{self.number:06d}.{self.sha256[:KEY_DIGITS]}"

    def to_json(self) -> str:
        """Return the tag's value: the entry and its hash.

        Raises:
            SettingsError: It is longer than a database may keep; the reason is what a user can shorten.
        """
        text = format_canonical({"format": FORMAT_VERSION, **asdict(self), "sha256": self.sha256})
        if len(text) > MODEL_TAG_LENGTH:
            raise SettingsError(
                f"the reason is too long: with {len(self.reason)} characters the entry has {len(text)}, and a "
                f"registry keeps {MODEL_TAG_LENGTH}. Write a shorter one."
            )
        return text


@dataclass(frozen=True, kw_only=True)
class StoredEntry:
    """An entry as it was read, with the hash that stands in it."""

    key: str
    entry: HistoryEntry
    stated_sha256: str

    @property
    def is_intact(self) -> bool:
        """Whether content, stated hash and the tag's name agree."""
        return self.entry.sha256 == self.stated_sha256 and self.entry.key == self.key


def read_entry(key: str, text: str) -> StoredEntry:
    """Return the entry that a tag holds, whether or not its hash is right.

    Raises:
        StoreError: The text is no entry.
    """
    try:
        values = json.loads(text)
        stated, version = values.pop("sha256"), values.pop("format")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"history tag {key} has format {version}, and this sem_search reads format {FORMAT_VERSION}: "
                "use the version of sem_search that wrote it."
            )
        return StoredEntry(key=key, entry=_build_entry(values), stated_sha256=str(stated))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"history tag {key} does not hold an entry: it was altered.") from error


def is_history_key(key: str) -> bool:
    """Tell whether a tag of the registered model is part of the history."""
    return key.startswith(HISTORY_PREFIX)


def is_well_formed_key(key: str) -> bool:
    """Tell whether a tag's name could be that of an entry."""
    return _KEY.fullmatch(key) is not None


def format_canonical(content: Mapping[str, Any]) -> str:
    """Return the one JSON text of a content: equal contents give equal texts.

    Raises:
        ValueError: The content holds NaN or infinity.
    """
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _build_entry(values: Mapping[str, Any]) -> HistoryEntry:
    if set(values) != {each.name for each in fields(HistoryEntry)} or values["action"] not in get_args(Action):
        raise ValueError("not the fields of an entry")
    return HistoryEntry(**{**values, "previous": tuple(values["previous"]), "number": int(values["number"])})

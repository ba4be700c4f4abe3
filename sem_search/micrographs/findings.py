"""One thing that inspection found, and how findings name what they are about: the words that all checks share."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MAX_NAMED = 4  # the rest stands in `Finding.images`


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found, where, and what to do about it."""

    kind: str
    """One of the kinds that `inspection` lists."""
    severity: Severity
    """error: no search, or no meaning in it, until it is mended; warning: look at it; note: good to know."""
    message: str
    """Sentences for people: what was found, in which files, what to do."""
    images: tuple[str, ...] = ()
    """All image ids concerned, sorted; none where the finding is about whole classes."""
    classes: tuple[str, ...] = ()
    """All classes concerned, sorted."""


def count(number: int, noun: str) -> str:
    """Return `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def name_some(names: Collection[str]) -> str:
    """Return the first few names, and how many more there are."""
    shown = sorted(names)
    if len(shown) <= MAX_NAMED:
        return join_words(shown)
    return f"{', '.join(shown[: MAX_NAMED - 1])} and {len(shown) - MAX_NAMED + 1} more"

"""One thing that inspection found, and how findings name what they are about: the words that all checks share."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
ALLOWABLE_ERRORS = ("label_conflict",)
"""Kinds of errors with which a search can go on where `allow_errors` names them; too few images cannot be divided."""
MAX_NAMED = 4  # the rest stands in `Finding.images`
MAX_TOLD = 10  # classes, or values of one class, in a sentence
MAX_EXAMPLES = 3  # of findings of one kind; the rest stands in `Finding.details`


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
    advice: str = ""
    """What to do about all findings of the kind; told once, at the end, also where each message ends with it."""
    details: tuple[str, ...] = ()
    """Where the message sums up many cases: each of them, in words, without the advice."""


def join_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return one finding for all of one kind that have one advice, in the order of the first.

    It tells how many there are, a few examples, and what to do. Findings without an advice of their own sum up already.
    """
    kinds: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        key = (finding.kind, finding.severity, finding.advice) if finding.advice else number
        kinds.setdefault(key, []).append(finding)
    return [_join(same) if len(same) > 1 else same[0] for same in kinds.values()]


def _join(findings: Sequence[Finding]) -> Finding:
    """Return one finding for several of one kind."""
    first = findings[0]
    cases = tuple(finding.message.removesuffix(finding.advice).rstrip() for finding in findings)
    images = sorted({image_id for finding in findings for image_id in finding.images})
    among = f", on {count(len(images), 'image')}" if images else ""
    more = f" And {len(cases) - MAX_EXAMPLES:,} more." if len(cases) > MAX_EXAMPLES else ""
    return Finding(
        kind=first.kind,
        severity=first.severity,
        message=f"{len(cases):,} times{among}: {' '.join(cases[:MAX_EXAMPLES])}{more} {first.advice}".rstrip(),
        images=tuple(images),
        classes=tuple(sorted({name for finding in findings for name in finding.classes})),
        advice=first.advice,
        details=cases,
    )


def count(number: int, noun: str) -> str:
    """Return `1 image`, `2 images`, `1,800 images`."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def name_some(names: Collection[str], *, most: int = MAX_NAMED) -> str:
    """Return the first few names, and how many more there are."""
    shown = sorted(names)
    if len(shown) <= most:
        return join_words(shown)
    return f"{', '.join(shown[: most - 1])} and {len(shown) - most + 1:,} more"


def tell_some(parts: Sequence[str], *, noun: str) -> str:
    """Return the first few parts, by semicolons, and how many more there are.

    Args:
        parts: Words on one thing each.
        noun: What each is about, for `3 more classes`.
    """
    more = len(parts) - MAX_TOLD
    return "; ".join(parts[:MAX_TOLD]) + (
        f"; and {more:,} more {count(2, noun).removeprefix('2 ')}" if more > 0 else ""
    )


def tell_values(tally: Sequence[tuple[str, int]]) -> str:
    """Return the first few values with how many images have each, and how many values more there are.

    Args:
        tally: Values and numbers of images, the commonest first.
    """
    words = [f"{value} ({n})" for value, n in tally[:MAX_TOLD]]
    more = len(tally) - MAX_TOLD
    return join_words([*words, f"{more:,} more"] if more > 0 else words)


def write_list(names: Iterable[str]) -> str:
    """Return names by commas as a setting takes them: one that holds a comma or a quotation mark in quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def read_list(line: str) -> tuple[str, ...]:
    """Return the names in a line by commas, blanks round them left out.

    It undoes `write_list`, but for names that are empty or that begin or end with blanks.

    Raises:
        ValueError: There is a line break outside quotation marks, or a name is absurdly long.
    """
    try:
        rows = list(csv.reader([line], skipinitialspace=True))
    except csv.Error as error:
        is_broken = len(line.splitlines()) > 1
        found = "a line break outside quotation marks" if is_broken else f"{len(line):,} characters"
        raise ValueError(f"names by commas are expected in one line, but it holds {found}") from error
    return tuple(name for row in rows for part in row if (name := part.strip()))

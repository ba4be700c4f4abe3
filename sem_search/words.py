"""How many things, and which: the phrases that messages share, and lists of names as settings take them."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence

MAX_NAMED = 4  # names in a sentence
MAX_JOINED = 10  # classes, or values of one class, in a sentence


def count(number: int, noun: str) -> str:
    """Return `1 image`, `2 images`, `1,800 images`."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def write_duration(seconds: float) -> str:
    """Return a time in the two largest units that say something: `1 h 5 min`, `2 min 30 s`, `12 s`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest_min} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def name_some(names: Collection[str], *, most: int = MAX_NAMED) -> str:
    """Return the first few names, and how many more there are."""
    shown = sorted(names)
    if len(shown) <= most:
        return join_words(shown)
    return f"{', '.join(shown[: most - 1])} and {len(shown) - most + 1:,} more"


def join_some(parts: Sequence[str], *, noun: str) -> str:
    """Return the first few parts, by semicolons, and how many more there are.

    Args:
        parts: Words on one thing each.
        noun: What each is about, for `3 more classes`.
    """
    more = len(parts) - MAX_JOINED
    return "; ".join(parts[:MAX_JOINED]) + (
        f"; and {more:,} more {count(2, noun).removeprefix('2 ')}" if more > 0 else ""
    )


def join_values(tally: Sequence[tuple[str, int]]) -> str:
    """Return the first few values with how many images have each, and how many values more there are.

    Args:
        tally: Values and numbers of images, the commonest first.
    """
    words = [f"{value} ({n})" for value, n in tally[:MAX_JOINED]]
    more = len(tally) - MAX_JOINED
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

"""Files that cannot be used, by cause: a thousand files with one fault are one line; and warnings summed up alike."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sem_search.errors import UnreadableDataError
from sem_search.words import MAX_NAMED, count, name_some, write_list

MAX_EXAMPLES = 3  # files of one cause that are named one by one
MAX_REFUSED_NAMES = 50  # per cause, where they are to be repaired or removed one by one
TILE_STEP_PX = 32  # sides that are advised; the smallest that is allowed


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file that was left out because it could not be used."""

    path: Path
    reason: str
    size_px: tuple[int, int] | None = None
    """Width and height, where what is wrong is that they are smaller than a tile."""


@dataclass(frozen=True, kw_only=True)
class SkippedCause:
    """Files that were left out for one cause."""

    names: tuple[str, ...]
    """Paths from the root, sorted."""
    reason: str
    """In words, of all of them; the first one's where theirs differ in numbers."""
    cases: tuple[str, ...]
    """Each file with its own reason."""
    is_example: bool = False
    """Whether the reason is the first one's alone."""
    is_of_size: bool = False
    """Whether a smaller tile would take them all: they need not be looked at one by one."""

    def to_text(self, *, most: int = MAX_NAMED) -> str:
        """Return which files, at most so many by name, and why: `a.png: is empty`."""
        if len(self.names) == 1:
            return f"{self.names[0]}: {self.reason}"
        why = f"for example {self.cases[0]}" if self.is_example else f"each: {self.reason}"
        return f"{count(len(self.names), 'file')} ({name_some(self.names, most=most)}), {why}"


def find_causes(skipped: Iterable[SkippedFile], *, root: Path, tile_px: int | None = None) -> list[SkippedCause]:
    """Return the files that were left out by cause: a thousand files with one fault are one cause.

    Up to MAX_EXAMPLES files of one cause are named one by one.

    Args:
        skipped: The files.
        root: Of the data: names begin there.
        tile_px: Side of a tile, where it is known.
    """
    by_cause: dict[object, list[SkippedFile]] = {}
    for file in skipped:
        by_cause.setdefault(file.size_px is not None or _strip_numbers(file.reason), []).append(file)
    causes = []
    few = [[file] for files in by_cause.values() if len(files) <= MAX_EXAMPLES for file in files]
    for files in [*few, *(files for files in by_cause.values() if len(files) > MAX_EXAMPLES)]:
        cases = sorted((locate_below(root, file.path), file.reason) for file in files)
        sizes = sorted({file.size_px for file in files if file.size_px is not None})
        causes.append(
            SkippedCause(
                names=tuple(name for name, _ in cases),
                reason=describe_sizes(sizes, tile_px=tile_px) if len(sizes) > 1 else cases[0][1],
                cases=tuple(f"{name}: {reason}" for name, reason in cases),
                is_of_size=bool(sizes),
                is_example=len(sizes) < 2 and len({reason for _, reason in cases}) > 1,
            )
        )
    return causes


def _strip_numbers(text: str) -> str:
    """Return a text without what may differ between two files that have one fault."""
    return re.sub(r"\d+", "0", text)


def describe_sizes(sizes: Sequence[tuple[int, int]], *, tile_px: int | None) -> str:
    """Return the reason for images that are smaller than a tile, and a tile size that would fit."""
    smallest = min(sizes, key=min)
    fitting_px = min(smallest) // TILE_STEP_PX * TILE_STEP_PX
    way_out = f"set tile_px={fitting_px} or less, or leave" if fitting_px else "leave"
    tile = "a tile" if tile_px is None else f"a tile of {tile_px} px"
    size = f"{smallest[0]} x {smallest[1]} px"
    if len(sizes) == 1:
        return f"is {size} without its data bar, smaller than {tile}: {way_out} it out"
    return f"is smaller than {tile} without its data bar, the smallest {size}: {way_out} them out"


def check_skipped(
    causes: Sequence[SkippedCause], *, n_files: int, labels: Collection[str], left: Collection[str], is_allowed: bool
) -> None:
    """Raise if files may not be left out, or if a class has none left.

    Args:
        causes: Why files cannot be used.
        n_files: Number of all files.
        labels: All classes.
        left: Classes of which a usable image is left.
        is_allowed: Whether files may be left out.

    Raises:
        UnreadableDataError: The message names the files.
    """
    listed = "\n".join(
        f"  - {cause.to_text(most=MAX_NAMED if cause.is_of_size else MAX_REFUSED_NAMES)}" for cause in causes
    )
    lost = sorted(set(labels) - set(left))
    if not is_allowed:
        n_unusable = sum(len(cause.names) for cause in causes)
        way_out = "remove them" if lost else "remove them, or continue without them with skip_unreadable=true"
        raise UnreadableDataError(f"{n_unusable} of {n_files} files cannot be used:\n{listed}\nRepair or {way_out}.")
    if lost:
        way_out = f", or leave the class out with exclude={write_list(lost)}" if len(left) > 1 else ""
        raise UnreadableDataError(
            f"no usable image is left of class {', '.join(map(repr, lost))}:\n{listed}\nRepair the files{way_out}."
        )


def sum_up_warnings(warnings_of_image: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each warning of the images once, with how many have it and the first that does.

    Warnings that differ in numbers alone are one; that of the first image is the example.
    """
    same_cause: dict[str, list[tuple[str, str]]] = {}
    for image_id, warnings in warnings_of_image.items():
        for warning in warnings:
            same_cause.setdefault(_strip_numbers(warning), []).append((warning, image_id))
    summed = []
    for cases in same_cause.values():
        warning, name = cases[0]
        images = count(len({image_id for _, image_id in cases}), "image")
        differ = len({text for text, _ in cases}) > 1
        summed.append(f"{warning} ({f'for example {name}; {images} in all' if differ else f'{images}, first {name}'})")
    return summed


def locate_below(root: Path, path: Path) -> str:
    """Return a POSIX path from the root, with `..` where it does not lie below it."""
    return PurePath(os.path.relpath(path, root)).as_posix()

"""The names that docs/metrics.md promises."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

PLACES = {
    "BASELINE": "(largest_class|metadata|logistic_training|logistic_all)",
    "SPLIT": "(validation|test)",
    "(?<=monitor/)FIGURE": "(unknown|novelty|pixel_size|mean_grey|contrast|noise|doubt)",
    r"FIGURE(?=_)": "(f_measure|accuracy|image_f_measure|image_accuracy)",
    r"(?<=sets_)PERCENT": r"\d+",
    r"(?<=[._])N\b": r"\d+",
    r"\b(CLASS|SOURCE|KIND)\b": r"[\w.\-]+",
    r"\\\.\\\.\\\.": r"[\w/.\-]+",
}


def read_names(*headings: str) -> dict[str, re.Pattern[str]]:
    """Return name -> what it stands for, of the tables below these headings."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    chosen = [section for section in sections if section.splitlines()[0] in headings]
    assert len(chosen) == len(headings)
    rows = [line.split("|")[1] for section in chosen for line in section.splitlines() if line.startswith("| `")]
    return {name: _compile(name) for row in rows for name in re.findall("`([^`]+)`", row)}


def _compile(name: str) -> re.Pattern[str]:
    pattern = re.escape(name)
    for place, stands_for in PLACES.items():
        pattern = re.sub(place, lambda _, text=stands_for: text, pattern)
    return re.compile(pattern)


def check_names(logged: set[str], *headings: str, unseen: frozenset[str] = frozenset()) -> None:
    """Hold what is logged against the page, both ways; `unseen` stands there and is rare."""
    documented = read_names(*headings)
    missing = {name for name in logged if not any(one.fullmatch(name) for one in documented.values())}
    assert not missing, f"not on the page: {missing}"
    vain = {name for name, one in documented.items() if not any(map(one.fullmatch, logged))}
    assert vain <= unseen, f"on the page, and not logged: {vain - unseen}"

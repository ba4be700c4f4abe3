"""The papers that a methods section cites, as BibTeX."""

import re
from importlib.resources import files

CITED = re.compile(r"@(\w+)")
ENTRY = re.compile(r"^@\w+\{(\w+),.*?^\}$", re.DOTALL | re.MULTILINE)


def build_bibliography(text: str, *, version: str) -> str:
    """Return the entries that a text cites as Pandoc does, `[@iwata2022]`, in the order of `references.bib`.

    Args:
        text: In Markdown.
        version: Of this package, when the study was made.

    Raises:
        ValueError: A cited paper has no entry.
    """
    written = (files("sem_search.tracking.kit") / "references.bib").read_text("utf-8").replace("VERSION", version)
    entries = {match[1]: match[0] for match in ENTRY.finditer(written)}
    cited = set(find_citations(text))
    if unknown := cited - entries.keys():
        raise ValueError(f"references.bib has no entry for {', '.join(sorted(unknown))}: write one.")
    return "\n\n".join(entry for key, entry in entries.items() if key in cited) + "\n"


def find_citations(text: str) -> list[str]:
    """Return the keys between square brackets in a text."""
    return [key for cited in re.findall(r"(?<!\\)\[(@[^\]]+)\]", text) for key in CITED.findall(cited)]

"""The settings of a search, written where users read them: MLproject's parameters and command, the README's table.

`sem_search/settings.py` is the one source. Both files keep marks between which this script writes; what stands outside
of the marks is written by hand.
"""

import re
import textwrap
from pathlib import Path

from sem_search.settings import AUTO, DEMO, SearchSettings, format_default

ROOT = Path(__file__).parents[1]

HEADINGS = {
    "data": "What is asked",
    "exclude": "The micrographs",
    "folds": "The search",
    "epochs": "The training",
    "study": "Where results go",
}
"""First setting of a part -> heading of the part."""

WRITTEN_DEFAULTS = {"data": DEMO, "backbone": "vgg16"}
"""Defaults that MLproject writes out; all others are `auto`: the preset's, or the program's."""


def main() -> None:
    """Write both files."""
    for name, text in build_files().items():
        (ROOT / name).write_text(text, encoding="utf-8")


def build_files() -> dict[str, str]:
    """Return file name -> its text as it should be."""
    mlproject = (ROOT / "MLproject").read_text(encoding="utf-8")
    mlproject = _replace(
        mlproject, begin="      # parameters: scripts/options", end="    command:", text=_build_parameters()
    )
    mlproject = _replace(mlproject, begin="      python -m sem_search search", end="\n  worker:", text=_build_command())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = _replace(readme, begin="| parameter |", end="\n\n", text=_build_table())
    return {"MLproject": mlproject, "README.md": readme}


def _replace(whole: str, *, begin: str, end: str, text: str) -> str:
    """Return the file with what stands from the line `begin` up to `end` replaced."""
    start = whole.index(begin)
    return whole[:start] + text + whole[whole.index(end, start) :]


def _build_parameters() -> str:
    lines = ["      # parameters: scripts/options writes them, from sem_search/settings.py"]
    for name, field in SearchSettings.model_fields.items():
        if name in HEADINGS:
            lines.append(f"      # -- {HEADINGS[name]} --")
        default = format_default(field)
        shown = f" [{default}]" if default and default != AUTO and name not in WRITTEN_DEFAULTS else ""
        comment = f"      # {field.description}{shown}"
        lines += textwrap.wrap(comment, width=120, subsequent_indent="      # ", break_on_hyphens=False)
        lines.append(f"      {name}: {{type: string, default: {WRITTEN_DEFAULTS.get(name, AUTO)}}}")
    return "\n".join(lines) + "\n"


def _build_command() -> str:
    words = [f"--{name.replace('_', '-')} {{{name}}}" for name in SearchSettings.model_fields]
    # A pair of option and value stays in one line: the hard blanks are restored afterwards.
    text = "python -m sem_search search " + " ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)
    lines = textwrap.wrap(text, width=120, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def _build_table() -> str:
    lines = ["| parameter | meaning | default |", "|---|---|---|"]
    for name, field in SearchSettings.model_fields.items():
        if name in HEADINGS:
            lines.append(f"| **{HEADINGS[name]}** | | |")
        default = format_default(field)
        meaning = re.sub(r"<(\w+)>", r"&lt;\1&gt;", field.description or "")
        lines.append(f"| `{name}` | {meaning} | {f'`{default}`' if default else ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

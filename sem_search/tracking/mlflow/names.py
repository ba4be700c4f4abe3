"""Any text as a name that MLflow, its databases and file systems take.

Class names come from folder names and may hold any character. MLflow takes few, some databases compare names without
case, and a name that is only shortened or replaced could collide with another: names are therefore made together.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import chain, count

OBJECTIVE = "objective"
"""The metric that a study compares its trials by."""

TAG_TRIAL_STATE = "sem_search.trial_state"
"""How a trial's run says what became of it: complete, pruned, failed; superseded where another run took over."""

TAG_KIND = "sem_search.kind"
"""What a run is about: study, trial, audit, morphology ..."""

TAG_TRIAL = "sem_search.trial"
"""Optuna's number of a trial. As a parameter it would be an axis of MLflow's charts."""

TAG_REFIT = "sem_search.refit"
"""Of the run of a trial that has won: model and scores of its heads that were trained again have been logged to it."""

OLD_TAG_TRIAL_STATE = "trial_state"
OLD_PARAM_TRIAL = "trial"
"""Where runs that were logged before these names hold the two."""

TAG_AUDIT = "sem_search.audit"
"""What a whole audit came to: good, unclear or bad."""

TAG_LEARNING_CURVE = "sem_search.learning_curve"
"""How many images a study needs, in words."""

TAG_SUPERSEDED_BY = "sem_search.superseded_by"
SUPERSEDED = "superseded"

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
"""MLflow's words for what is not there."""

NAME_LENGTH = 100
"""MLflow allows 250 characters for a whole key; this leaves room for what stands before the class."""

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.\-]+")


def make_metric_names(texts: Sequence[str]) -> Mapping[str, str]:
    """Return a name for each text, fit for metrics, tags and artifacts, no two alike even without case.

    Accents are dropped, Greek letters are spelt out, other characters become `_`, and a number is added where two
    names would fall together.

    Args:
        texts: Distinct texts, such as class names, in the order in which they get the plain name.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in texts:
        plain = make_safe_name(text)
        numbered = (f"{plain}_{number}" for number in count(2))
        name = next(name for name in chain([plain], numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        names[text] = name
    return names


def make_safe_name(text: str) -> str:
    """Return one text with all that MLflow or a file system might refuse replaced; never empty."""
    plain = "".join(_spell(character) for character in unicodedata.normalize("NFKD", text))
    name = _NOT_ALLOWED.sub("_", plain).strip("._")[:NAME_LENGTH].rstrip("._")
    return name or "_"


def quote(text: str) -> str:
    """Return a string for MLflow's filters, which know two kinds of quotes and no escape."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def _spell(character: str) -> str:
    """Return a Greek letter by its name, nothing for an accent, anything else as it is."""
    name = unicodedata.name(character, "")
    if name.startswith("GREEK ") and " LETTER " in name:
        return name.split(" LETTER ")[1].split(" ")[-1].lower()
    return "" if unicodedata.combining(character) else character

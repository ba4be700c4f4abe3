"""One thing that inspection found, and how findings of one kind become one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sem_search.words import count

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
ALLOWABLE_ERRORS = ("label_conflict",)
"""Kinds of errors with which a search can go on where `allow_errors` names them; too few images cannot be divided."""
CONFOUNDS = ("confounded_", "single_session")
"""What the kinds of findings about confounds begin with."""
UNSTATED = "no_"
"""What the kinds of findings about missing metadata begin with."""
MAX_EXAMPLES = 3  # of findings of one kind; the rest stands in `Finding.details`


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found, where, and what to do about it."""

    kind: str
    """One of the kinds that `inspection` lists."""
    severity: Severity
    """error: no search, or no meaning in it, until it is repaired; warning: look at it; note: good to know."""
    message: str
    """Sentences for people: what was found, in which files, what to do."""
    images: tuple[str, ...] = ()
    """All image ids concerned, sorted; none where the finding is about whole classes."""
    classes: tuple[str, ...] = ()
    """All classes concerned, sorted."""
    advice: str = ""
    """What to do about all findings of the kind; given once, at the end, also where each message ends with it."""
    details: tuple[str, ...] = ()
    """Where the message sums up many cases: each of them, in words, without the advice."""

    @property
    def is_confound(self) -> bool:
        """Whether it warns that how an image was taken gives its class away."""
        return self.severity == "warning" and self.kind.startswith(CONFOUNDS)

    @property
    def unstated(self) -> str:
        """What is not known of how images were taken: `session`, `pixel size` ...; empty where it is about else."""
        return self.kind.removeprefix(UNSTATED).replace("_", " ") if self.kind.startswith(UNSTATED) else ""


def join_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return one finding for all of one kind that have one advice, in the order of the first.

    It gives their number, a few examples, and what to do. Findings without an advice of their own are sums already.
    """
    kinds: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        key = (finding.kind, finding.severity, finding.advice) if finding.advice else number
        kinds.setdefault(key, []).append(finding)
    return [_join(same) if len(same) > 1 else same[0] for same in kinds.values()]


def _join(findings: Sequence[Finding]) -> Finding:
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

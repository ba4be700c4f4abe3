"""What to do next with a study, from its data: each step with its command, the most useful first."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.report.convergence import Convergence
from sem_search.tracking.report.fine_tuning import FineTuning

StepKind = Literal["weights", "confounds", "pixel_size", "simpler", "standard", "edge", "epochs", "images", "audit"]

GRID_SETTINGS = ("heads", "learning_rates", "batch_sizes", "epochs", "patience", "trials")
"""What makes a search small: given beside another preset, they would make it the same small search again."""

WITHOUT_IMAGENET = ("tiny",)
"""Backbones for which there are no ImageNet weights."""

ANY_BACKBONE = "mobilenet_v2"
"""The quickest that has them."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do; its words stand in `templates/verdict.html`."""

    kind: StepKind
    command: str


def list_steps(
    study: StudyOutcome,
    *,
    context: StudyContext,
    convergence: Convergence,
    fine_tuning: FineTuning | None,
    has_poor_weights: bool,
    needs_images: bool,
) -> tuple[Step, ...]:
    """Return what is worth doing next; at most seven steps, since `standard` stands for `edge` and `epochs`.

    Args:
        study: The study.
        context: How it was searched.
        convergence: Where its winner lies.
        fine_tuning: Its winner against logistic regression.
        has_poor_weights: Better weights than those used exist.
        needs_images: There is a class of which too little is known.
    """
    changes = _list_searches(study, context=context, convergence=convergence, has_poor_weights=has_poor_weights)
    steps = [Step(kind=kind, command=write_search(context, **change)) for kind, change in changes]
    if fine_tuning is not None and fine_tuning.gain == "worse":
        change = _list_simpler(context, is_linear=fine_tuning.is_linear)
        steps.insert(int(has_poor_weights), Step(kind="simpler", command=write_search(context, **change)))
    audit = f"{context.command} audit {shlex.quote(study.name)}"
    if context.confounds:
        steps.insert(int(has_poor_weights), Step(kind="confounds", command=audit))
    if "confounded_pixel_size" in context.confounds and context.has_common_pixel_size:
        wanted = None if context.settings.get("pixel_size_nm") else "common"
        steps.append(Step(kind="pixel_size", command=write_search(context, pixel_size_nm=wanted)))
    if needs_images:
        steps.append(Step(kind="images", command=f"{context.command} inspect {shlex.quote(context.data)}"))
    if not context.confounds and context.audit_light is None:
        steps.append(Step(kind="audit", command=audit))
    return tuple(steps)


def write_search(context: StudyContext, **changes: str | None) -> str:
    """Return the command of the study's search with some settings changed; None leaves one out.

    Args:
        context: What the search was given.
        changes: Settings by name.
    """
    given: Mapping[str, str | None] = {"data": context.data, **context.arguments, **changes}
    options = (f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given.items() if value is not None)
    return " ".join((context.command, "search", *options))


def _list_simpler(context: StudyContext, *, is_linear: bool) -> dict[str, str]:
    """Return the settings by which a search may do what logistic regression did, and more."""
    used = context.settings
    changes = {}
    if "linear" not in str(used.get("heads", "")).split(","):
        changes["heads"] = "linear,finetune"
    if not used.get("refit"):
        changes["refit"] = "true"
    if used.get("augment") != "dihedral":
        changes["augment"] = "dihedral"
    return changes or ({"augment": "none"} if is_linear else {"heads": "linear"})


def _list_searches(
    study: StudyOutcome, *, context: StudyContext, convergence: Convergence, has_poor_weights: bool
) -> Iterator[tuple[StepKind, dict[str, str | None]]]:
    """Yield the searches that are worth a trial, each with the settings that it changes."""
    if has_poor_weights:
        own = {"backbone": ANY_BACKBONE} if study.backbone in WITHOUT_IMAGENET else {}
        yield "weights", {**own, "weights": "imagenet"}
    if context.settings.get("preset") == "quick":
        yield "standard", {**dict.fromkeys(GRID_SETTINGS), "preset": "standard"}
        return
    if convergence.edges:
        grids = {f"{edge.parameter}s": ",".join(f"{value:g}" for value in edge.beyond) for edge in convergence.edges}
        yield "edge", dict(grids)
    if convergence.is_cut:
        yield "epochs", {"epochs": str(2 * convergence.max_epochs), "patience": None}

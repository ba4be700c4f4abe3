"""The gate: who may take the champion's place, and the sentence that says why or why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.registry.comparing import GateRule, VersionComparison, compare_measured
from sem_search.errors import NotComparableError, StoreError


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says of a newcomer."""

    is_better: bool
    reason: str
    comparison: Mapping[str, Any] | None
    """The figures behind it, as the history keeps them; None where nothing was compared."""


def judge(newcomer: ModelVersion, *, champion: ModelVersion, rule: GateRule) -> Verdict:
    """Return whether a version beats the champion on the same images; what cannot be compared does not.

    A champion whose record is damaged is not beaten by that: the reason says so, and `verify` tells more.
    """
    try:
        comparison = compare_measured(newcomer, champion, rule=rule)
    except (NotComparableError, StoreError) as error:
        return Verdict(
            is_better=False,
            reason=f"{str(error).rstrip('.')} (version {champion.version} is champion).",
            comparison=None,
        )
    return Verdict(is_better=comparison.is_better, reason=comparison.verdict, comparison=_summarise(comparison))


def _summarise(comparison: VersionComparison) -> dict[str, Any]:
    """Return the figures of both splits, and which of them decided."""
    return {
        "with": comparison.second,
        "select_on": comparison.select_on,
        "judged_on": comparison.judged_on,
        "n_images": comparison.n_images,
        "margin": comparison.margin,
        "confidence": comparison.confidence,
        "is_better": comparison.is_better,
        **{
            split.split: {
                "difference": split.f_measure.value,
                "low": split.f_measure.low,
                "high": split.f_measure.high,
                "p_over_folds": split.p_over_folds,
            }
            for split in comparison.splits
        },
    }

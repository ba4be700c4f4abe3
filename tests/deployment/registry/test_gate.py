import json
from typing import Any

import pytest
from scipy.stats import binom

from benchmarks.trust.gate import build_contest, simulate_gate
from sem_search.deployment.registry import GateRule
from sem_search.deployment.registry.comparing import get_judging_split
from sem_search.deployment.registry.gate import judge
from sem_search.evaluation.comparison import compare_trials


def get_version(laboratory: Any, version: str) -> Any:
    return laboratory.client.get_model_version(laboratory.name, version)


def test_the_better_one_passes_with_its_figures(old_laboratory: Any) -> None:
    verdict = judge(get_version(old_laboratory, "3"), champion=get_version(old_laboratory, "1"), rule=GateRule())
    assert verdict.is_better
    assert verdict.reason.startswith("version 3 beats version 1")
    assert {key: verdict.comparison[key] for key in ("with", "select_on", "n_images", "margin", "confidence")} == {
        "with": "1",
        "select_on": "validation",
        "n_images": 27,
        "margin": 0.0,
        "confidence": 0.95,
    }
    assert verdict.comparison["judged_on"] == "test"
    assert verdict.comparison["test"]["low"] > 0
    json.dumps(dict(verdict.comparison), allow_nan=False)


@pytest.mark.parametrize(("newcomer", "champion"), [("1", "3"), ("2", "1")])
def test_the_worse_and_the_equal_do_not_pass(old_laboratory: Any, newcomer: str, champion: str) -> None:
    verdict = judge(
        get_version(old_laboratory, newcomer), champion=get_version(old_laboratory, champion), rule=GateRule()
    )
    assert not verdict.is_better
    assert verdict.reason.startswith(f"version {newcomer} does not beat version {champion}")


def test_what_cannot_be_compared_does_not_pass(laboratory: Any) -> None:
    laboratory.register()
    laboratory.register(9.0, folds_seed=1)
    verdict = judge(get_version(laboratory, "2"), champion=get_version(laboratory, "1"), rule=GateRule())
    assert (verdict.is_better, verdict.comparison) == (False, None)
    assert verdict.reason == (
        "versions 2 and 1 were not measured on the same folds, so they were not compared (version 1 is champion)."
    )


def test_a_champion_with_a_damaged_record_is_not_beaten_by_that(laboratory: Any) -> None:
    laboratory.register()
    laboratory.register(9.0)
    (laboratory.find_model_folder("1") / "artifacts" / "record" / "out_of_fold.npz").unlink()
    verdict = judge(get_version(laboratory, "2"), champion=get_version(laboratory, "1"), rule=GateRule())
    assert not verdict.is_better
    assert "out_of_fold.npz of the model's record is missing or damaged" in verdict.reason
    assert verdict.reason.endswith("(version 1 is champion).")


def test_of_twenty_that_are_no_better_about_one_passes(laboratory: Any, make_record: Any) -> None:
    """The promise of the confidence, on answers of equal skill; decision 025 has the table of longer simulations."""
    rule, passed, split = GateRule(), 0, get_judging_split("validation")
    for seed in range(60):
        one, two = (make_record(laboratory.data, skill=1.5, seed=1000 + 2 * seed + i).out_of_fold for i in (0, 1))
        difference = compare_trials(
            one.trial,
            two.trial,
            tiles=one.tiles,
            split=split,
            level=rule.level,
            n_resamples=500,
        ).f_measure
        passed += difference.low > rule.margin
    assert passed <= 8  # 5 % of 60 are 3; more than 8 would happen in under 1 of 200 cases


def test_the_best_of_twenty_that_is_no_better_rarely_passes_against_a_single_one() -> None:
    """Judged on the tiles that chose it, it would in 34 of 100 cases."""
    n_studies = 40
    passed = simulate_gate(build_contest(1, 20), n_studies=n_studies)
    assert passed[get_judging_split("validation")] <= binom.ppf(0.999, n_studies, 0.05) / n_studies
    assert passed["validation"] > binom.ppf(0.999, n_studies, 0.05) / n_studies, "why it is not judged there"

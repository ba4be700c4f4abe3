"""What comes after a winner that logistic regression beats; the other steps are tested with the verdict."""

from dataclasses import replace

import pytest

from sem_search.evaluation.comparison import Difference
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.report.convergence import compute_convergence
from sem_search.tracking.report.fine_tuning import FineTuning
from sem_search.tracking.report.next_steps import Step, list_steps

ALL = {"heads": "linear,finetune", "refit": True, "augment": "dihedral"}


def list_for(
    study: StudyOutcome, context: StudyContext, *, high: float, is_linear: bool = False, has_poor_weights: bool = False
) -> tuple[Step, ...]:
    """Return the steps after a winner whose difference to logistic regression reaches up to this."""
    difference = Difference(first=0.4, second=0.5, low=-0.2, high=high)
    return list_steps(
        study,
        context=context,
        convergence=compute_convergence(study, context=context),
        fine_tuning=FineTuning(difference=difference, fair=difference, is_linear=is_linear, has_rivals=True),
        has_poor_weights=has_poor_weights,
        needs_images=False,
    )


@pytest.mark.parametrize(
    ("used", "is_linear", "options"),
    [
        ({}, False, "--heads linear,finetune --refit true --augment dihedral"),
        (
            {"heads": "finetune", "refit": False, "augment": "none"},
            False,
            "--heads linear,finetune --refit true --augment dihedral",
        ),
        ({**ALL, "heads": "linear_init"}, False, "--heads linear,finetune"),
        ({**ALL, "refit": False}, True, "--refit true"),
        (ALL, False, "--heads linear"),
        (ALL, True, "--augment none"),
    ],
)
def test_a_beaten_winner_is_followed_by_a_search_with_what_logistic_regression_has(
    study: StudyOutcome, context: StudyContext, used: dict[str, object], is_linear: bool, options: str
) -> None:
    searched = replace(context, settings=used, arguments={"preset": "standard"})
    step = list_for(study, searched, high=-0.01, is_linear=is_linear)[0]
    assert step.kind == "simpler"
    assert step.command == f"scripts/sem-search search --data 'a folder' --preset standard {options}"


@pytest.mark.parametrize(("high", "is_asked"), [(-0.01, True), (0.0, False), (0.01, False)])
def test_only_a_clear_difference_asks_for_it(
    study: StudyOutcome, context: StudyContext, high: float, is_asked: bool
) -> None:
    assert ("simpler" in [step.kind for step in list_for(study, context, high=high)]) is is_asked


def test_better_weights_and_a_confound_come_first(study: StudyOutcome, context: StudyContext) -> None:
    confounded = replace(context, confounds=("single_session",))
    steps = list_for(study, confounded, high=-0.01, has_poor_weights=True)
    assert [step.kind for step in steps][:3] == ["weights", "confounds", "simpler"]


@pytest.mark.parametrize(("used", "option"), [({}, " --pixel-size-nm common"), ({"pixel_size_nm": 50.0}, "")])
def test_a_study_whose_pixel_sizes_differ_by_class_is_held_against_one_with_the_other_choice(
    study: StudyOutcome, context: StudyContext, used: dict[str, object], option: str
) -> None:
    arguments = {"preset": "standard", **({"pixel_size_nm": "common"} if used else {})}
    searched = replace(
        context, settings=used, arguments=arguments, confounds=("confounded_pixel_size",), has_common_pixel_size=True
    )
    (step,) = [step for step in list_for(study, searched, high=0.1) if step.kind == "pixel_size"]
    assert step.command == f"scripts/sem-search search --data 'a folder' --preset standard{option}"
    assert not [step for step in list_for(study, context, high=0.1) if step.kind == "pixel_size"]

"""The verdict: the score against chance, which classes hold, the lights, and what comes next."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sem_search.evaluation.baselines import ComparedBaseline
from sem_search.evaluation.comparison import Comparison, Difference, ImageTest
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.records import Cell, StudyOutcome, TileTable, TrialOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.trust import StudyTrust, compute_trust
from sem_search.tracking.report.verdict import (
    Colour,
    Light,
    Score,
    Verdict,
    compute_score,
    compute_verdict,
    format_share,
)

N_FOLDS = 3


def answer(trial: TrialOutcome, *, tiles: TileTable, predicted: Sequence[int]) -> TrialOutcome:
    """Return the trial with every tile of an image predicted as the class given for the image."""
    rows = 0.05 / len(tiles.class_names) + 0.95 * np.eye(len(tiles.class_names))[np.asarray(predicted)]
    folds = (
        replace(fold, test_probabilities=rows[tiles.image_of_tile[fold.test_tiles]] / rows[0].sum())
        for fold in trial.folds
    )
    return replace(trial, folds=tuple(folds))


@pytest.fixture
def judge(make_tiles: Callable[..., TileTable], make_trial: Callable[..., TrialOutcome], context: StudyContext):
    """Return the verdict on a winner that predicted these classes, image by image."""

    def judge_answers(predicted: Sequence[int], *, names: Sequence[str] = ("a", "b"), n_images: int = 6) -> Verdict:
        tiles = make_tiles(names, n_images=n_images)
        trial = answer(make_trial(tiles), tiles=tiles, predicted=predicted)
        study = StudyOutcome(
            name="s", backbone="vgg16", select_on="validation", tiles=tiles, trials=(trial,), winner_number=0
        )
        return compute_verdict(study, trust=compute_trust(study), context=context)

    return judge_answers


def score(n_correct: int, n_images: int, *, chance: float) -> Score:
    accuracy = compute_share_interval(n_correct / n_images, n=n_images)
    return Score(n_correct=n_correct, n_images=n_images, accuracy=accuracy, chance=chance)


@pytest.mark.parametrize(
    ("found", "is_above", "headline"),
    [
        (
            score(44, 50, chance=0.1),
            True,
            "44 of 50 unseen images correctly classified: 88 % (76 to 95 %), chance 10 %",
        ),
        (
            score(30, 30, chance=0.5),
            True,
            "30 of 30 unseen images correctly classified: 100 % (89 to 100 %), chance 50 %",
        ),
        (score(1, 1, chance=1.0), False, "1 of 1 unseen image correctly classified: 100 % (15 to 100 %), chance 100 %"),
        (score(5, 50, chance=0.1), False, "5 of 50 unseen images correctly classified: 10 % (4 to 21 %), chance 10 %"),
        # One class far larger: whoever always names it is right in nine of ten.
        (
            score(92, 100, chance=0.9),
            False,
            "92 of 100 unseen images correctly classified: 92 % (85 to 96 %), chance 90 %",
        ),
        (score(0, 4, chance=0.5), False, "0 of 4 unseen images correctly classified: 0 % (0 to 49 %), chance 50 %"),
    ],
)
def test_a_score_is_held_against_chance(found: Score, is_above: bool, headline: str) -> None:
    assert found.is_above_chance is is_above
    assert found.to_text() == headline


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0 %"), (0.001, "<1 %"), (0.005, "<1 %"), (0.5, "50 %"), (0.994, "99 %"), (0.9999, ">99 %"), (1.0, "100 %")],
)
def test_none_and_all_are_said_of_nothing_else(share: float, words: str) -> None:
    assert format_share(share) == words


def test_chance_is_the_largest_class_over_images(study: StudyOutcome, trust: StudyTrust) -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    unequal = replace(study, tiles=replace(study.tiles, label_of_image=labels))
    assert compute_score(study, trust=trust).chance == 0.5
    assert compute_score(unequal, trust=trust).chance == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("predicted", "n_images", "states", "sentence", "colour"),
    [
        ([0] * 6 + [1] * 6, 6, ["holds", "holds"], "Usable for all 2 classes.", "green"),
        (
            [0] * 12 + [1] * 11 + [0],
            12,
            ["holds", "holds"],
            "Usable for all 2 classes.",
            "green",
        ),
        # 5 of 6 of a are right: the interval reaches below one half. All of b are, and 6 of 7 answers b are.
        (
            [0] * 5 + [1] * 7,
            6,
            ["not known", "holds"],
            "Usable for b; not known for a: too few images.",
            "amber",
        ),
        # 7 of 12 of a are right; 5 of the 17 answers b are wrong, which is less than one in three.
        (
            [0] * 7 + [1] * 17,
            12,
            ["does not hold", "holds"],
            "Usable for b; not for a.",
            "amber",
        ),
        # Always b: every image of b is right, and half of the answers b are wrong.
        (
            [1] * 12,
            6,
            ["does not hold", "does not hold"],
            "Not usable: these images do not show that the winner is better than chance.",
            "red",
        ),
        # Six images, all right: one who guesses is that lucky in more than one of forty cases.
        (
            [0] * 3 + [1] * 3,
            3,
            ["not known", "not known"],
            "Not usable: these images do not show that the winner is better than chance.",
            "red",
        ),
    ],
)
def test_classes_hold_or_do_not_or_it_is_not_known(
    judge, predicted: list[int], n_images: int, states: list[str], sentence: str, colour: Colour
) -> None:
    verdict = judge(predicted, n_images=n_images)
    assert [one.state for one in verdict.classes] == states
    assert (verdict.sentence, verdict.colour) == (sentence, colour)


def test_nothing_is_called_usable_where_a_confound_cannot_be_told_from_the_material(judge) -> None:
    verdict = judge([0] * 12 + [1] * 12, n_images=12)
    assert (verdict.sentence, verdict.colour) == ("Usable for all 2 classes.", "green")
    confounded = replace(verdict, lights=(Light(kind="confounds", colour="red"),))
    assert confounded.sentence.startswith("Cannot be judged: the network may have learnt how the images were taken (")
    assert confounded.colour == "red"


def test_no_class_may_hold_though_the_whole_is_better_than_chance(judge) -> None:
    half_right = [name for true in range(4) for name in [true] * 6 + [(true + 1) % 4] * 6]
    verdict = judge(half_right, names=("a", "b", "c", "d"), n_images=12)
    assert verdict.score.is_above_chance
    assert verdict.sentence == "Better than chance, but not usable for any of the 4 classes."


def test_three_images_of_a_class_can_show_nothing_of_it(judge) -> None:
    verdict = judge(np.repeat(range(4), 3).tolist(), names=("a", "b", "c", "d"), n_images=3)
    assert verdict.score.is_above_chance
    assert verdict.sentence == (
        "Not yet shown to be usable for any class; not known for a, b, c and d: too few images."
    )


def test_a_class_that_takes_the_images_of_others_does_not_hold(judge) -> None:
    """All of c are right, but only 6 of the 12 answers c."""
    verdict = judge([0] * 4 + [2] * 2 + [1] * 2 + [2] * 4 + [2] * 6, names=("a", "b", "c"))
    assert [(one.n_correct, one.n_predicted, one.state) for one in verdict.classes] == [
        (4, 4, "not known"),
        (2, 2, "does not hold"),
        (6, 12, "does not hold"),
    ]
    assert [one.label for one in verdict.needy] == ["b", "a", "c"]


def test_images_to_add_narrow_the_interval_to_20_points_and_lift_it_above_one_half(judge) -> None:
    (one, other) = judge([0] * 4 + [1] * 8).classes
    assert one.recall.value == pytest.approx(4 / 6)
    planned, fewer = (compute_share_interval(4 / 6, n=one.n_groups + one.n_more - less) for less in (0, 1))
    assert planned.high - planned.low <= 0.4
    assert fewer.low <= 0.5 < planned.low
    (hopeless, _) = judge([0] * 3 + [1] * 9).classes
    wide, narrow = (compute_share_interval(0.5, n=hopeless.n_groups + hopeless.n_more - less) for less in (1, 0))
    assert narrow.high - narrow.low <= 0.4 < wide.high - wide.low, "half are right: more images only narrow that"
    assert other.n_more == 9, "of a class without an error, 80 % are planned with"


def test_classes_of_which_too_little_is_known_have_not_enough_images(judge) -> None:
    verdict = judge([0] * 14 + [1] * 6 + [1] * 14 + [0] * 6, n_images=20)
    assert [one.state for one in verdict.classes] == ["not known", "not known"]
    assert verdict.lights[1].colour == "amber"
    assert "images" in [step.kind for step in verdict.steps]


def test_at_chance_no_class_holds(judge) -> None:
    assert "holds" not in [one.state for one in judge([0] * 12).classes]
    assert "holds" not in [one.state for one in judge([0] * 3 + [1] * 3, n_images=3).classes]


def light(study: StudyOutcome, trust: StudyTrust, context: StudyContext, kind: str) -> Colour:
    lights = compute_verdict(study, trust=trust, context=context).lights
    kinds = ["chance", "images", "confounds", "calibration", "weights", "simpler", "training"]
    assert [one.kind for one in lights] == kinds
    return next(one.colour for one in lights if one.kind == kind)


@pytest.mark.parametrize(
    ("changes", "kind", "colour"),
    [
        ({}, "confounds", "grey"),
        ({"audit_light": "good"}, "confounds", "green"),
        ({"audit_light": "unclear"}, "confounds", "amber"),
        ({"audit_light": "bad"}, "confounds", "red"),
        ({"confounds": ("confounded_session",), "audit_light": "good"}, "confounds", "amber"),
        ({"confounds": ("confounded_detector", "single_session")}, "confounds", "red"),
        ({}, "weights", "grey"),
        ({"settings": {"weights_used": "imagenet"}}, "weights", "green"),
        ({"settings": {"weights_used": "mine.weights.h5"}}, "weights", "green"),
        ({"settings": {"weights_used": "particles"}}, "weights", "amber"),
        ({"settings": {"weights_used": "random"}}, "weights", "red"),
    ],
)
def test_lights_that_the_context_decides(
    study: StudyOutcome, trust: StudyTrust, context: StudyContext, changes: dict[str, object], kind: str, colour: Colour
) -> None:
    assert light(study, trust, replace(context, **changes), kind) == colour


@pytest.mark.parametrize(("error", "colour"), [(0.1, "green"), (0.3, "amber")])
def test_the_confidence_of_the_served_model_is_judged(
    study: StudyOutcome, trust: StudyTrust, context: StudyContext, error: float, colour: Colour
) -> None:
    served = replace(trust.scaled_calibration, expected_calibration_error=error, highest_error_if_calibrated=0.2)
    assert light(study, replace(trust, scaled_calibration=served), context, "calibration") == colour


def compare_with(low: float, high: float) -> ComparedBaseline:
    """Return logistic regression, whose difference to the winner has this interval."""
    middle = (low + high) / 2
    difference = Difference(first=0.5 + middle, second=0.5, low=low, high=high)
    none = Difference(first=0.5, second=0.5, low=-0.1, high=0.1)
    comparison = Comparison(
        class_names=("a", "b"),
        n_images=6,
        n_groups=6,
        n_folds=3,
        f_measure=difference,
        tile_accuracy=none,
        image_f_measure=none,
        image_accuracy=none,
        f_measure_of_class=(none, none),
        fold_test=None,
        image_test=ImageTest(n_first_better=0, n_second_better=0, p_value=1.0),
    )
    return ComparedBaseline(name="logistic_all", comparison=comparison)


@pytest.mark.parametrize(
    ("baselines", "colour"),
    [
        ((), "grey"),
        ((ComparedBaseline(name="logistic_all", reason="too little"),), "grey"),
        ((compare_with(0.01, 0.05),), "green"),
        ((compare_with(-0.01, 0.05),), "green"),
        ((compare_with(-0.05, -0.01),), "amber"),
    ],
)
def test_a_winner_is_held_against_logistic_regression(
    study: StudyOutcome,
    trust: StudyTrust,
    context: StudyContext,
    baselines: tuple[ComparedBaseline, ...],
    colour: Colour,
) -> None:
    compared = replace(context, baselines=baselines)
    assert light(study, trust, compared, "simpler") == colour
    verdict = compute_verdict(study, trust=trust, context=compared)
    assert (verdict.fine_tuning is None) == (colour == "grey")
    assert ("simpler" in [step.kind for step in verdict.steps]) == (colour == "amber")


@pytest.mark.parametrize(("n_images", "colour"), [(3, "red"), (4, "amber"), (9, "amber"), (10, "green")])
def test_images_of_the_smallest_class_count(judge, n_images: int, colour: Colour) -> None:
    lights = judge([0] * n_images + [1] * n_images, n_images=n_images).lights
    assert next(one.colour for one in lights if one.kind == "images") == colour


def test_at_chance_the_first_light_is_red(judge) -> None:
    assert judge([1] * 12).lights[0].colour == "red"
    assert judge([0] * 6 + [1] * 6).lights[0].colour == "green"


@pytest.fixture
def inner(study: StudyOutcome) -> StudyOutcome:
    """The same study with its winner inside a grid of three learning rates and three batch sizes, and trained out."""
    others = tuple(
        replace(study.trials[0], number=number, cell=Cell(learning_rate=rate, batch_size=size))
        for number, (rate, size) in enumerate([(1e-1, 16), (1e-3, 64)], start=10)
    )
    ended = tuple(
        replace(fold, curves=replace(fold.curves, validation_loss=np.array([2, 1, 0.5, 0.4, 0.6, 0.7])))
        for fold in study.winner.folds
    )
    return replace(study, trials=(replace(study.winner, folds=ended), *others))


def test_a_winner_inside_the_grid_whose_folds_had_ended_is_green(
    inner: StudyOutcome, trust: StudyTrust, context: StudyContext
) -> None:
    verdict = compute_verdict(inner, trust=trust, context=replace(context, audit_light="good"))
    assert (verdict.convergence.edges, verdict.convergence.n_cut) == ((), 0)
    assert verdict.lights[-1].colour == "green"
    assert not {"standard", "edge", "epochs", "audit"} & {step.kind for step in verdict.steps}


def test_a_linear_winner_has_no_edge_and_is_not_cut(
    linear_study: StudyOutcome, trust: StudyTrust, context: StudyContext
) -> None:
    verdict = compute_verdict(linear_study, trust=trust, context=replace(context, settings={"epochs": 1}))
    assert (verdict.convergence.edges, verdict.convergence.n_cut) == ((), 0)
    assert verdict.lights[-1].colour == "green"


def test_a_trained_winner_beside_a_linear_head_still_lies_on_an_edge(
    linear_study: StudyOutcome, trust: StudyTrust, context: StudyContext
) -> None:
    trained = replace(linear_study, winner_number=1)
    (rate, size) = compute_verdict(trained, trust=trust, context=context).convergence.edges
    assert (rate.parameter, rate.side, rate.beyond) == ("learning_rate", "largest", (1e-3, 1e-2, 1e-1))
    assert (size.parameter, size.side, size.beyond) == ("batch_size", "largest", (16, 48, 96))


def test_a_diverged_fold_is_red(inner: StudyOutcome, trust: StudyTrust, context: StudyContext) -> None:
    first, *others = inner.winner.folds
    winner = replace(inner.winner, folds=(replace(first, is_diverged=True), *others))
    diverged = replace(inner, trials=(winner, *inner.trials[1:]))
    assert light(diverged, trust, context, "training") == "red"


@pytest.mark.parametrize(
    ("n_cut", "epochs", "is_cut"),
    [(0, 6, False), (1, 6, True), (3, 6, True), (3, 7, False)],
)
def test_folds_count_as_cut_whose_loss_fell_to_the_last_epoch_allowed(
    inner: StudyOutcome, trust: StudyTrust, context: StudyContext, n_cut: int, epochs: int, is_cut: bool
) -> None:
    falling = np.array([2, 1, 0.5, 0.4, 0.3, 0.2])
    folds = tuple(
        replace(fold, curves=replace(fold.curves, validation_loss=falling)) if place < n_cut else fold
        for place, fold in enumerate(inner.winner.folds)
    )
    cut = replace(inner, trials=(replace(inner.winner, folds=folds), *inner.trials[1:]))
    verdict = compute_verdict(cut, trust=trust, context=replace(context, settings={"epochs": epochs}))
    assert verdict.convergence.is_cut is is_cut
    commands = [step.command for step in verdict.steps if step.kind == "epochs"]
    assert [command.endswith("--epochs 12") for command in commands] == [True] * is_cut


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (Cell(learning_rate=1e-1, batch_size=48), "--learning-rates 0.001,0.01,0.1,1"),
        (Cell(learning_rate=1e-3, batch_size=48), "--learning-rates 0.0001,0.001,0.01,0.1"),
        (Cell(learning_rate=1e-2, batch_size=16), "--batch-sizes 8,16,48,64"),
        (
            Cell(learning_rate=1e-1, batch_size=64),
            "--learning-rates 0.001,0.01,0.1,1 --batch-sizes 16,48,64,128",
        ),
    ],
)
def test_a_winner_on_the_edge_is_followed_beyond_it(
    inner: StudyOutcome, trust: StudyTrust, context: StudyContext, cell: Cell, options: str
) -> None:
    trials = (*inner.trials, replace(inner.winner, number=20, cell=cell))
    moved = replace(inner, trials=trials, winner_number=20)
    found = compute_verdict(moved, trust=trust, context=replace(context, arguments={"backbone": "vgg16"}))
    assert found.lights[-1].colour == "amber"
    (step,) = (step for step in found.steps if step.kind == "edge")
    assert step.command == f"scripts/sem-search search --data 'a folder' --backbone vgg16 {options}"


@pytest.mark.parametrize("rate", [10.0, 1e-6])
def test_nothing_is_asked_for_that_settings_refuse_or_that_learns_nothing(
    inner: StudyOutcome, trust: StudyTrust, context: StudyContext, rate: float
) -> None:
    extreme = Cell(learning_rate=rate, batch_size=48)
    moved = replace(inner, trials=(*inner.trials, replace(inner.winner, number=20, cell=extreme)), winner_number=20)
    assert compute_verdict(moved, trust=trust, context=context).convergence.edges == ()


def test_all_steps_in_their_order(study: StudyOutcome, trust: StudyTrust, context: StudyContext) -> None:
    poor = replace(
        context,
        settings={"weights_used": "random", "epochs": 7},
        arguments={"backbone": "tiny", "weights": "random"},
        confounds=("single_session",),
    )
    steps = compute_verdict(study, trust=trust, context=poor).steps
    assert [step.kind for step in steps] == ["weights", "confounds", "edge", "images"]
    assert steps[0].command.endswith("--data 'a folder' --backbone mobilenet_v2 --weights imagenet")
    assert steps[1].command == "scripts/sem-search audit 'little study'"
    assert steps[-1].command == "scripts/sem-search inspect 'a folder'"


def test_after_a_first_look_comes_the_whole_grid(study: StudyOutcome, trust: StudyTrust, context: StudyContext) -> None:
    quick = replace(
        context,
        settings={"preset": "quick", "epochs": 6},
        arguments={
            "preset": "quick",
            "backbone": "vgg16",
            "heads": "linear",
            "epochs": "2",
            "learning_rates": "0.1",
            "exclude": "a,b",
        },
    )
    steps = compute_verdict(study, trust=trust, context=quick).steps
    assert [step.kind for step in steps] == ["standard", "images", "audit"]
    assert steps[0].command == (
        "scripts/sem-search search --data 'a folder' --preset standard --backbone vgg16 --exclude a,b"
    )


def test_a_wider_grid_holds_all_that_was_asked_for(
    inner: StudyOutcome, trust: StudyTrust, context: StudyContext
) -> None:
    """A sampler that draws some of the combinations only has not tried all values; sizes of a batch are whole."""
    trials = (*inner.trials, replace(inner.winner, number=20, cell=Cell(learning_rate=1e-2, batch_size=9)))
    moved = replace(inner, trials=trials, winner_number=20)
    drawn = replace(context, cells=(), settings={"batch_sizes": "9,16,48,256"})
    (edge,) = compute_verdict(moved, trust=trust, context=drawn).convergence.edges
    assert edge.beyond == (4, 9, 16, 48, 64, 256)

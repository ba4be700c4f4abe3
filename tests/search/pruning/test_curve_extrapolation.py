import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from benchmarks.endings import simulate_endings
from sem_search.records import EpochFigures, FoldOutcome, TrainingCurves
from sem_search.search.pruning.curve_extrapolation import (
    WINDOW,
    FoldExtrapolation,
    Incumbent,
    compute_allowance,
    extrapolate_accuracy,
    find_incumbent,
    is_worse,
    should_prune,
)
from sem_search.search.pruning.pruners import build_pruner
from sem_search.search.trials.attributes import ACCURACIES
from sem_search.settings import build_settings

N_EPOCHS = 100
N_TILES = 400
INCUMBENT = Incumbent(trial=3, accuracy=0.95)


def make_figures(accuracy: float) -> EpochFigures:
    return EpochFigures(training_loss=1.0, training_accuracy=0.5, validation_loss=2.0, validation_accuracy=accuracy)


def extrapolate(
    accuracies: list[float], *, incumbent: Incumbent | None = INCUMBENT, n_tiles: int = N_TILES
) -> int | None:
    """Return after how many epochs the fold was stopped; None where it was not."""
    fold = FoldExtrapolation(fold=1, n_epochs=N_EPOCHS, n_tiles=n_tiles)
    for number, accuracy in enumerate(accuracies, start=1):
        fold.add(make_figures(accuracy))
        try:
            fold.check(incumbent)
        except optuna.TrialPruned:
            return number
    return None


def test_a_line_is_drawn_to_the_last_epoch() -> None:
    rising = [0.1 + 0.005 * epoch for epoch in range(20)]
    assert extrapolate_accuracy(rising, n_epochs=N_EPOCHS) == pytest.approx(0.1 + 0.005 * 99)


def test_only_the_latest_epochs_count() -> None:
    latest = list(np.linspace(0.5, 0.6, WINDOW))
    assert extrapolate_accuracy([0.9, 0.0, *latest], n_epochs=50) == pytest.approx(
        extrapolate_accuracy([0.2, 0.4, *latest], n_epochs=50)
    )


def test_a_falling_curve_is_not_followed_down() -> None:
    falling = list(np.linspace(0.9, 0.8, WINDOW))
    assert extrapolate_accuracy(falling, n_epochs=N_EPOCHS) == pytest.approx(0.8)


def test_the_allowance_is_two_standard_errors_of_a_difference() -> None:
    shares = np.random.default_rng(0).binomial(N_TILES, 0.8, size=(100_000, 2)) / N_TILES
    spread = float(np.std(shares[:, 0] - shares[:, 1]))
    assert compute_allowance(0.8, n_tiles=N_TILES) == pytest.approx(2 * spread, rel=0.02)


@pytest.mark.parametrize("n_tiles", [4, 20, 60, 400])
def test_an_accuracy_of_one_or_none_has_an_error_too(n_tiles: int) -> None:
    at_one, beside = (compute_allowance(accuracy, n_tiles=n_tiles) for accuracy in (1.0, 1.0 - 1 / n_tiles))
    assert 1 / n_tiles < at_one <= beside
    assert compute_allowance(0.0, n_tiles=n_tiles) == pytest.approx(at_one)


@pytest.mark.parametrize(("n_wrong", "expected"), [(0, None), (1, None), (3, None), (8, WINDOW), (60, WINDOW)])
def test_a_perfect_fold_of_the_incumbent_prunes_only_clearly_worse_cells(n_wrong: int, expected: int | None) -> None:
    flat = [1 - n_wrong / 60] * N_EPOCHS
    assert extrapolate(flat, incumbent=Incumbent(trial=3, accuracy=1.0), n_tiles=60) == expected


def test_the_error_is_that_of_all_folds_that_are_compared() -> None:
    flat = [0.94] * N_EPOCHS
    perfect_here = Incumbent(trial=3, accuracy=1.0, before=(0.8, 0.8), leads=(0.06, 0.02))
    assert perfect_here.mean_accuracy == pytest.approx(2.6 / 3)
    assert compute_allowance(2.6 / 3, n_tiles=180) > 0.14 / 3 > compute_allowance(1.0, n_tiles=180)
    assert not should_prune([0.06, 0.02 - 0.06, 0.06], accuracy=2.6 / 3, n_tiles=60)
    assert (
        extrapolate(flat, incumbent=Incumbent(trial=3, accuracy=1.0, before=(0.8,), leads=(0.06,)), n_tiles=60) is None
    )


@pytest.mark.parametrize(
    ("shown", "true", "fewest", "most"),
    [
        # Truly better by 0.02, or as good: hardly ever pruned, whatever the incumbent shows on the fold.
        (0.8, 0.82, 0.0, 0.05),
        (0.95, 0.97, 0.0, 0.05),
        (59 / 60, 0.98, 0.0, 0.05),
        (1.0, 0.98, 0.0, 0.15),
        (0.95, 0.95, 0.0, 0.1),
        # Truly worse by much: pruned, or nothing would be saved.
        (0.8, 0.6, 0.95, 1.0),
        (0.95, 0.8, 0.95, 1.0),
        (1.0, 0.86, 0.95, 1.0),
    ],
)
def test_the_worse_are_pruned_and_the_better_are_spared(shown: float, true: float, fewest: float, most: float) -> None:
    assert fewest <= simulate_endings(shown=shown, true=true, n_cells=60) <= most


@pytest.mark.parametrize(
    ("accuracies", "n_tiles", "expected"),
    [
        ([0.1] * N_EPOCHS, N_TILES, WINDOW),
        # Rises slowly, but far enough until the last epoch.
        ([0.1 + 0.0085 * epoch for epoch in range(N_EPOCHS)], N_TILES, None),
        # Rises at first, then hardly: it is ended once the line through the flat part falls short.
        ([0.5 + 0.02 * epoch for epoch in range(20)] + [0.9] * 80, N_TILES, 30),
        # As good as the incumbent within the error of so many tiles, and not within that of more.
        ([0.93] * N_EPOCHS, N_TILES, None),
        ([0.93] * N_EPOCHS, 40 * N_TILES, WINDOW),
        ([0.99] * N_EPOCHS, N_TILES, None),
    ],
)
def test_a_fold_is_stopped_when_it_cannot_catch_up(accuracies: list[float], n_tiles: int, expected: int | None) -> None:
    ended = extrapolate(accuracies, n_tiles=n_tiles)
    assert ended == expected if expected is None or expected == WINDOW else 20 < (ended or 0) <= expected


def test_without_an_incumbent_nothing_is_pruned() -> None:
    assert extrapolate([0.0] * N_EPOCHS, incumbent=None) is None


def test_the_message_says_how_far_the_fold_came_and_what_it_was_compared_with() -> None:
    fold = FoldExtrapolation(fold=1, n_epochs=N_EPOCHS, n_tiles=N_TILES)
    with pytest.raises(optuna.TrialPruned, match=r"fold 2, after epoch 10 of 100.*0\.250.*0\.950 of trial 3"):
        for _ in range(N_EPOCHS):
            fold.add(make_figures(0.25))
            fold.check(INCUMBENT)
    assert fold.curves.validation_accuracy.tolist() == [0.25] * WINDOW
    assert fold.curves.validation_loss.tolist() == [2.0] * WINDOW
    assert fold.curves.training_loss.tolist() == [1.0] * WINDOW
    assert fold.curves.training_accuracy.tolist() == [0.5] * WINDOW


@pytest.mark.parametrize(
    "accuracies",
    [[0.1] * N_EPOCHS, [0.5 + 0.02 * epoch for epoch in range(20)] + [0.9] * 80, [0.99] * N_EPOCHS],
)
def test_a_fold_that_is_compared_afterwards_ends_at_the_epoch_where_it_would_have(accuracies: list[float]) -> None:
    ended = extrapolate(accuracies)
    live = FoldExtrapolation(fold=1, n_epochs=N_EPOCHS, n_tiles=N_TILES)
    for accuracy in accuracies:
        live.add(make_figures(accuracy))
    afterwards = FoldExtrapolation(fold=1, n_epochs=N_EPOCHS, n_tiles=N_TILES)
    afterwards.replace(live.curves)
    afterwards.check(None)
    afterwards.replace(live.curves)
    for fold in (live, afterwards):
        if ended is None:
            fold.check(INCUMBENT)
        else:
            with pytest.raises(optuna.TrialPruned, match=f"after epoch {ended} of"):
                fold.check(INCUMBENT)
        assert fold.curves.validation_accuracy.tolist() == accuracies[:ended]


def add_trial(
    study: optuna.Study, *, value: float | None, accuracies: list[float] | None, head: str | None = None
) -> None:
    state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
    attrs = {} if accuracies is None else {ACCURACIES: accuracies}
    params = {} if head is None else {"head": head}
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=value,
            user_attrs=attrs,
            params=params,
            distributions={name: CategoricalDistribution(("linear", "finetune")) for name in params},
        )
    )


def test_the_incumbent_is_the_best_complete_trial() -> None:
    study = optuna.create_study(direction="maximize")
    assert find_incumbent(study.get_trials(), fold=0, head="finetune") is None
    add_trial(study, value=None, accuracies=[1.0, 1.0])
    assert find_incumbent(study.get_trials(), fold=0, head="finetune") is None
    add_trial(study, value=0.7, accuracies=[0.9, 0.5])
    add_trial(study, value=0.8, accuracies=[0.6, 0.95])
    add_trial(study, value=0.8, accuracies=[0.1, 0.1])
    add_trial(study, value=0.99, accuracies=None)
    assert find_incumbent(study.get_trials(), fold=1, head="finetune") == Incumbent(trial=2, accuracy=0.95)


@pytest.mark.parametrize(
    ("leads", "expected"),
    [
        ((0.1, 0.1, 0.1), True),
        ((0.1, 0.1), False),  # two folds are granted
        ((0.1, 0.1, -0.05), False),
        ((0.1, 0.1, 0.1, -0.05), True),
        ((-0.1, -0.1, -0.1), False),
        ((0.0, 0.0, 0.0), False),
    ],
)
def test_a_cell_is_worse_when_the_pruner_says_so(leads: tuple[float, ...], expected: bool) -> None:
    assert is_worse(leads) is expected
    study = optuna.create_study(direction="maximize", pruner=build_pruner(build_settings({"pruner": "extrapolation"})))
    best = optuna.trial.create_trial(value=0.9, intermediate_values=dict.fromkeys(range(len(leads)), 0.9))
    study.add_trial(best)
    mine = {fold: 0.9 - lead for fold, lead in enumerate(leads)}
    running = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=mine)
    assert study.pruner.prune(study, running) is expected


def test_a_third_fold_is_ended_once_it_cannot_change_what_two_have_said() -> None:
    slow = [0.5 + 0.004 * epoch for epoch in range(N_EPOCHS)]  # on its way to 0.896: within the allowance of few tiles
    assert extrapolate(slow, n_tiles=40) is None
    behind = Incumbent(trial=3, accuracy=0.95, leads=(0.05, 0.05))
    assert extrapolate(slow, n_tiles=40, incumbent=behind) == WINDOW
    ahead_once = Incumbent(trial=3, accuracy=0.95, leads=(0.05, -0.06))
    assert extrapolate(slow, n_tiles=40, incumbent=ahead_once) is None


def test_a_cell_that_was_better_before_may_fall_behind_on_one_fold() -> None:
    flat = [0.85] * N_EPOCHS
    assert extrapolate(flat) == WINDOW
    assert extrapolate(flat, incumbent=Incumbent(trial=3, accuracy=0.95, leads=(-0.05, -0.05))) is None
    assert extrapolate(flat, incumbent=Incumbent(trial=3, accuracy=0.95, leads=(0.0,))) == WINDOW


def test_the_message_tells_of_the_folds_before() -> None:
    fold = FoldExtrapolation(fold=2, n_epochs=N_EPOCHS, n_tiles=40)
    for _ in range(WINDOW):
        fold.add(make_figures(0.9))
    with pytest.raises(
        optuna.TrialPruned, match=r"fold 3, after epoch 10 of 100.*trial 3, which led by 0\.100 on the folds"
    ):
        fold.check(Incumbent(trial=3, accuracy=0.95, leads=(0.1, 0.1)))


def test_a_cell_is_compared_with_the_best_of_its_own_head() -> None:
    """Views add more to the answers of fine-tuned heads than of linear ones, and curves do not show it."""
    study = optuna.create_study(direction="maximize")
    add_trial(study, value=0.9, accuracies=[0.95], head="linear")
    assert find_incumbent(study.get_trials(), fold=0, head="finetune") is None
    add_trial(study, value=0.7, accuracies=[0.8], head="finetune")
    assert find_incumbent(study.get_trials(), fold=0, head="finetune") == Incumbent(trial=1, accuracy=0.8)
    assert find_incumbent(study.get_trials(), fold=0, head="linear") == Incumbent(trial=0, accuracy=0.95)


def test_the_incumbent_leads_by_what_it_did_better_on_finished_folds() -> None:
    study = optuna.create_study(direction="maximize")
    add_trial(study, value=0.8, accuracies=[0.9, 0.7, 0.6])
    curve = np.array([0.2, 0.8, 0.4])
    folds = [
        FoldOutcome(
            fold=number,
            validation_tiles=np.arange(1),
            validation_probabilities=np.ones((1, 1)),
            test_tiles=np.arange(1),
            test_probabilities=np.ones((1, 1)),
            curves=TrainingCurves(
                training_loss=curve, training_accuracy=curve, validation_loss=curve, validation_accuracy=curve
            ),
            best_epoch=1,
            is_diverged=False,
            training_s=1.0,
        )
        for number in range(2)
    ]
    incumbent = find_incumbent(study.trials, fold=2, head="finetune", finished=folds)
    assert incumbent is not None
    assert (incumbent.accuracy, incumbent.before, incumbent.leads) == (0.6, (0.9, 0.7), pytest.approx((0.1, -0.1)))
    assert incumbent.mean_accuracy == pytest.approx(2.2 / 3)

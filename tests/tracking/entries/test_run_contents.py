"""What is logged of a fold, a trial and a study."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from sem_search.records import StudyOutcome, TileTable, TrialOutcome
from sem_search.tracking.entries.context import MistakeGallery, ShownImage, StudyContext
from sem_search.tracking.entries.mistakes import list_answers
from sem_search.tracking.entries.run_contents import (
    iter_fold_entries,
    iter_study_entries,
    iter_trial_entries,
)
from sem_search.tracking.entries.types import (
    ChartImage,
    Entry,
    FigureArtifact,
    JsonArtifact,
    Metrics,
    Params,
    Picture,
    PictureArtifact,
    Tags,
    TextArtifact,
)
from sem_search.tracking.figures import style as figure_style

MakeTiles = Callable[..., TileTable]
MakeTrial = Callable[..., TrialOutcome]


def collect_metrics(entries: Iterable[Entry]) -> dict[tuple[str, int], float]:
    points = [point for entry in entries if isinstance(entry, Metrics) for point in entry.points]
    assert len({(point.key, point.step) for point in points}) == len(points)
    return {(point.key, point.step): point.value for point in points}


def collect_tags(entries: Iterable[Entry]) -> dict[str, str]:
    return {key: value for entry in entries if isinstance(entry, Tags) for key, value in entry.values.items()}


def collect_paths(entries: Iterable[Entry]) -> list[str]:
    return [entry.path for entry in entries if not isinstance(entry, Params | Metrics | Tags | ChartImage)]


def test_a_fold_is_one_record_of_metrics(study: StudyOutcome) -> None:
    entries = list(iter_fold_entries(study.winner.folds[2], tiles=study.tiles))
    assert [type(entry) for entry in entries] == [Metrics]
    assert len(collect_metrics(entries)) == 7 + 4 * 6


def test_a_diverged_fold_loses_its_nans_and_says_so(study: StudyOutcome) -> None:
    fold = study.winner.folds[0]
    losses = np.array([1.0, np.inf, np.nan])
    curves = replace(fold.curves, training_loss=losses, validation_loss=losses)
    entries = list(iter_fold_entries(replace(fold, curves=curves, is_diverged=True), tiles=study.tiles))
    assert all(math.isfinite(value) for value in collect_metrics(entries).values())
    assert collect_tags(entries) == {
        "sem_search.not_finite.fold_0": "curves/fold_0/training_loss: 2, curves/fold_0/validation_loss: 2",
        "sem_search.diverged.fold_0": "true",
    }


def test_a_complete_trial_yields_scores_figures_and_predictions(study: StudyOutcome, context: StudyContext) -> None:
    entries = list(
        iter_trial_entries(study.winner, tiles=study.tiles, select_on="validation", heat_maps=context.heat_maps)
    )
    assert [entry.key for entry in entries if isinstance(entry, ChartImage)] == [
        "confusion_test_tiles",
        "confusion_test_images",
        "grad_cam",
    ]
    metrics = collect_metrics(entries)
    assert ("test/f_measure", 0) in metrics
    assert metrics["objective", 2] == metrics["validation/f_measure", 0]
    assert collect_paths(entries) == [
        "training/curves.png",
        "training/curves.json",
        "classes.json",
        "confusion_test_tiles.json",
        "confusion_test_images.json",
        "indices/test.png",
        "indices/test.json",
        "indices/test.csv",
        "predictions/tiles.parquet",
        "predictions/images.parquet",
        "predictions/images.json",
        "grad_cam.json",
    ]
    assert collect_tags(entries)["sem_search.trial_state"] == "complete"


@pytest.mark.parametrize(
    ("state", "n_finished", "paths"),
    [
        ("pruned", 2, ["pruned.txt", "training/curves.png", "training/curves.json"]),
        ("failed", 1, ["failed.txt", "training/curves.png", "training/curves.json"]),
        ("failed", 0, ["failed.txt"]),
    ],
)
def test_an_unfinished_trial_yields_its_reason_and_no_score_but_the_objective(
    tiles: TileTable, make_trial: MakeTrial, state: str, n_finished: int, paths: list[str]
) -> None:
    trial = make_trial(tiles, state=state, n_finished=n_finished)
    entries = list(iter_trial_entries(trial, tiles=tiles, select_on="test"))
    assert collect_paths(entries) == paths
    lengths = {(name, 0) for name in ("folds", "epochs", "training_s")} if n_finished else set()
    numbers = {key for key in collect_metrics(entries) if not key[0].startswith("curves/")}
    assert numbers == lengths | {("objective", fold) for fold in range(n_finished)}
    assert collect_tags(entries) == {"sem_search.trial_state": state}
    assert TextArtifact(path=f"{state}.txt", text=f"{state} for a reason") in entries


def test_a_trial_says_which_metric_stands_for_which_class(make_tiles: MakeTiles, make_trial: MakeTrial) -> None:
    tiles = make_tiles(["a b", "a/b", "乳糖", "β-form"])
    entries = list(iter_trial_entries(make_trial(tiles), tiles=tiles, select_on="validation"))
    names = [key.removeprefix("test/f_measure/") for key, _ in collect_metrics(entries) if "f_measure/" in key]
    (classes,) = (entry for entry in entries if isinstance(entry, JsonArtifact) and entry.path == "classes.json")
    assert names == [entry["metric_name"] for entry in classes.content] == ["a_b", "a_b_2", "beta-form", "_"]
    assert classes.content[3] == {"index": 3, "class": "乳糖", "metric_name": "_"}


def test_a_study_yields_the_winner_the_figures_and_the_report(study: StudyOutcome, context: StudyContext) -> None:
    entries = list(iter_study_entries(study, context=context))
    metrics = collect_metrics(entries)
    assert {("winner/test/f_measure", 0), ("selection_optimism", 0), ("trust/risk/area", 0)} <= metrics.keys()
    assert collect_tags(entries) == {
        "sem_search.winner": "lr1e-02_bs48",
        "sem_search.winner_run": "run1",
    }
    paths = collect_paths(entries)
    assert len(set(paths)) == len(paths)
    assert "baselines.csv" in paths
    last = ["trials.csv", "trials.json", "folds.csv", "mistakes/images.csv", "mistakes/doubtful_labels.csv"]
    assert paths[-6:] == [*last, "report.html"]
    figures = [entry.path for entry in entries if isinstance(entry, FigureArtifact)]
    assert len(figures) == 13
    for figure in figures:  # the numbers behind each picture stand beside it
        assert figure.rsplit(".", 1)[0] + ".json" in paths


def test_the_report_and_the_artifacts_share_one_drawing_of_each_figure(
    study: StudyOutcome, context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    render = figure_style.render_figure

    def count(figure: Figure, *, suffix: str) -> bytes:
        drawn.append(figure)
        return render(figure, suffix=suffix)

    monkeypatch.setattr(figure_style, "render_figure", count)
    figures = [entry for entry in iter_study_entries(study, context=context) if isinstance(entry, FigureArtifact)]
    assert len(figures) == len(drawn) > 5, "the report has drawn each, once"
    assert all(figure.picture.content for figure in figures)
    assert len(figures) == len(drawn)


@pytest.mark.parametrize(("n_wrong", "n_logged"), [(5, 6), (0, 0)])
def test_the_pictures_of_the_mistakes_are_logged_under_their_numbers_in_the_list(
    study: StudyOutcome, context: StudyContext, n_wrong: int, n_logged: int
) -> None:
    answers = list_answers(study.winner, tiles=study.tiles)[:2]
    picture = Picture(content=b"jpeg", width_in=1.0, media_type="image/jpeg")
    images = tuple(
        ShownImage(answer=answer, picture=picture, true_heat=picture, other_heat=picture, is_partly_unseen=False)
        for answer in answers
    )
    gallery = MistakeGallery(images=images, tiles=(), n_wrong=n_wrong, n_tested=6)
    entries = list(iter_study_entries(study, context=replace(context, mistakes=gallery)))
    paths = [entry.path for entry in entries if isinstance(entry, PictureArtifact)]
    assert len(paths) == n_logged
    assert paths[3:] == [
        f"mistakes/002_{name}.jpg" for name in ("image", "heat_of_true", "heat_of_predicted")[: n_logged // 2]
    ]


def test_parameters_are_left_to_the_trials(study: StudyOutcome, context: StudyContext) -> None:
    """A study that goes on may find a better winner, and MLflow never changes a parameter."""
    assert not [entry for entry in iter_study_entries(study, context=context) if isinstance(entry, Params)]

"""Figures for two and thirty classes, long and foreign names, one trial and many: drawn without a warning, and true."""

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sem_search.records import Cell, StudyOutcome, TileTable, TrialOutcome
from sem_search.tracking.entries.context import HeatMapSheet, StudyContext
from sem_search.tracking.entries.tables import (
    ConfusionTable,
    compute_fold_rows,
    compute_grid_tables,
    compute_index_table,
)
from sem_search.tracking.entries.trust import compute_trust
from sem_search.tracking.figures import study as study_figures
from sem_search.tracking.figures.catalogue import list_study_figures, list_trust_figures
from sem_search.tracking.figures.study import (
    draw_examples,
    draw_folds,
    draw_grid_heat_map,
    draw_tiling,
    find_score_limits,
    format_rate,
)
from sem_search.tracking.figures.style import render_figure
from sem_search.tracking.figures.trial import (
    draw_confusion_matrix,
    draw_grad_cam_sheet,
    draw_indices,
    draw_training_curves,
)

LONG_NAMES = [f"a very long name of a material that never ends, grade {number}" for number in range(25)]
NAME_SETS = {
    "two": ["fine", "rough"],
    "thirty": [*LONG_NAMES, "乳糖", "$x$ and $y$", "класс/β", "two\nlines", "\ue123"],
}


def collect_words(figure: Figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("names", NAME_SETS.values(), ids=NAME_SETS.keys())
def test_every_figure_is_drawn_without_a_warning(
    names: list[str],
    make_tiles: Callable[..., TileTable],
    make_study: Callable[..., StudyOutcome],
    make_context: Callable[..., StudyContext],
) -> None:
    study = make_study(make_tiles(names))
    figures = (*list_study_figures(study, context=make_context(study)), *list_trust_figures(compute_trust(study)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in figures:
            suffix = figure.artifact.path[-4:]
            content = render_figure(figure.artifact.draw(), suffix=suffix)
            with Image.open(io.BytesIO(content)) as picture:
                assert min(picture.size) > 150


@pytest.mark.parametrize(("n_classes", "n_confused", "limit"), [(10, 90, 200_000), (30, 80, 300_000)])
def test_a_confusion_matrix_is_a_small_file(n_classes: int, n_confused: int, limit: int) -> None:
    """Ten classes with a number in every field, as after a failed training; thirty with some confusions."""
    rng = np.random.default_rng(0)
    counts = np.diag(rng.integers(100, 200, n_classes))
    empty = np.flatnonzero(counts.flat == 0)
    counts.flat[rng.choice(empty, n_confused, replace=False)] = rng.integers(1, 30, n_confused)
    names = tuple(f"class number {place:02d}" for place in range(n_classes))
    table = ConfusionTable(class_names=names, counts=counts, unit="tiles")
    assert len(render_figure(draw_confusion_matrix(table), suffix=".png")) < limit


def test_the_confusion_matrix_shows_counts_and_percentages_where_there_are_cases() -> None:
    table = ConfusionTable(class_names=("a", "b"), counts=np.array([[199, 1], [0, 4]]), unit="tiles")
    figure = draw_confusion_matrix(table)
    assert collect_words(figure) == ["199\n>99%", "1\n0.5%", "4\n100%"]
    assert figure.axes[0].get_title() == "Test tiles: 203 of 204 correctly classified"
    assert figure.axes[0].get_ylabel() == "True class"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b"]


def test_the_grid_says_why_a_cell_has_no_full_score(study: StudyOutcome, context: StudyContext) -> None:
    _, table = compute_grid_tables(study, cells=context.cells)
    words = collect_words(draw_grid_heat_map([table]))
    scores = [cell.f_measure for cell in table.cells]
    assert words == [f"{scores[0]:.3f}", f"{scores[1]:.3f}", f"({scores[2]:.2f})\n1 fold", "not\ntried"]


def test_a_legend_tells_the_winner_and_cells_without_a_colour_apart(study: StudyOutcome, context: StudyContext) -> None:
    _, table = compute_grid_tables(study, cells=context.cells)
    figure = draw_grid_heat_map([table])
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert words == ["winner", "pruned: (mean of its finished folds)", "not tried"]
    shown = np.ma.masked_invalid(figure.axes[0].images[0].get_array())
    assert shown.mask.tolist() == [[False, False], [True, True]], "only complete cells have a colour"


@pytest.mark.parametrize(
    ("scores", "limits", "has_lower"),
    [
        ((0.82, 0.97), (0.8, 1.0), False),
        ((0.951, 0.953), (0.9, 1.0), False),
        ((0.05, 0.93), (0.65, 0.95), True),
        ((0.022, 0.027), (0.0, 0.1), False),
        ((1.0, 1.0), (0.9, 1.0), False),
    ],
)
def test_the_colours_of_the_grid_span_the_range_that_matters(
    study: StudyOutcome,
    context: StudyContext,
    scores: tuple[float, float],
    limits: tuple[float, float],
    has_lower: bool,
) -> None:
    _, table = compute_grid_tables(study, cells=context.cells)
    cells = [replace(cell, f_measure=score) for cell, score in zip(table.cells, scores, strict=False)]
    found, has_lower_found = find_score_limits([replace(table, cells=(*cells, *table.cells[2:]))])
    assert found == pytest.approx(limits)
    assert has_lower_found == has_lower


def test_both_splits_of_the_grid_share_one_colour_scale(study: StudyOutcome, context: StudyContext) -> None:
    tables = compute_grid_tables(study, cells=context.cells)
    figure = draw_grid_heat_map(tables)
    assert [axes.images[0].get_clim() for axes in figure.axes[:2]] == [find_score_limits(tables)[0]] * 2
    assert [axes.get_title() for axes in figure.axes[:2]] == ["Validation tiles", "Test tiles"]


def test_the_linear_head_is_a_field_below_the_grid_with_its_name_and_the_winner_s_frame(
    linear_study: StudyOutcome, context: StudyContext
) -> None:
    tables = compute_grid_tables(linear_study, cells=context.cells)
    figure = draw_grid_heat_map(tables)
    panels = figure.axes[:4]
    assert [axes.get_title() for axes in panels] == ["Validation tiles", "Test tiles", "", ""]
    assert [axes.get_xlabel() for axes in panels] == ["Batch size", "Batch size", "", ""]
    assert [label.get_text() for label in panels[2].get_yticklabels()] == ["linear head"]
    assert [axes.texts[0].get_text() for axes in panels[2:]] == [
        f"{table.cells[0].f_measure:.3f}" for table in tables[2:]
    ]
    assert [len(axes.patches) for axes in panels[2:]] == [1, 1], "the frame"
    assert {axes.images[0].get_clim() for axes in panels} == {find_score_limits(tables)[0]}


def test_the_grids_of_two_trained_heads_have_their_names(
    linear_study: StudyOutcome, context: StudyContext, make_trial: Callable[..., TrialOutcome]
) -> None:
    other = make_trial(linear_study.tiles, number=4, cell=Cell(head="linear_init", learning_rate=1e-2, batch_size=16))
    both = replace(linear_study, trials=(*linear_study.trials, other))
    figure = draw_grid_heat_map(compute_grid_tables(both, cells=context.cells)[1::2])
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes[:3]]
    assert titles == ["Test tiles fine-tuned", "fine-tuned from the linear head", ""]
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["Learning rate", "Learning rate", ""]


def test_a_study_of_the_linear_head_alone_has_one_field(linear_study: StudyOutcome) -> None:
    alone = replace(linear_study, trials=(linear_study.winner,))
    assert len(collect_words(draw_grid_heat_map(compute_grid_tables(alone, cells=())[1::2]))) == 1


def test_a_study_of_one_trial_has_a_grid_of_one_cell(tiles: TileTable, make_trial: Callable[..., TrialOutcome]) -> None:
    study = StudyOutcome(
        name="one", backbone="tiny", select_on="test", tiles=tiles, trials=(make_trial(tiles),), winner_number=0
    )
    figure = draw_grid_heat_map(compute_grid_tables(study, cells=())[1::2])
    assert len(collect_words(figure)) == 1


def test_a_failed_cell_without_a_fold_says_failed(
    study: StudyOutcome, context: StudyContext, make_trial: Callable[..., TrialOutcome]
) -> None:
    failed = make_trial(study.tiles, number=3, cell=context.cells[3], state="failed", n_finished=0)
    _, table = compute_grid_tables(replace(study, trials=(*study.trials, failed)), cells=context.cells)
    assert collect_words(draw_grid_heat_map([table]))[3] == "failed"


def test_no_index_axis_is_cut(study: StudyOutcome) -> None:
    figure = draw_indices(compute_index_table(study.winner, tiles=study.tiles))
    assert [axes.get_title() for axes in figure.axes] == ["One-vs-rest accuracy", "Precision", "Recall", "F-measure"]
    assert {axes.get_xlim() for axes in figure.axes} == {(0.0, 1.0)}


@pytest.mark.parametrize(("worst", "scale"), [(2.0, "linear"), (1e6, "log"), (np.inf, "linear"), (np.nan, "linear")])
def test_a_diverging_fold_does_not_flatten_the_others(study: StudyOutcome, worst: float, scale: str) -> None:
    fold = study.winner.folds[0]
    curves = replace(fold.curves, training_loss=np.array([1.0, 0.9, worst]))
    folds = [replace(fold, curves=curves, is_diverged=True), *study.winner.folds[1:]]
    figure = draw_training_curves(folds)
    figure.canvas.draw()
    assert figure.axes[0].get_yscale() == scale
    assert figure.get_suptitle() == "Training of 3 folds; diverged: fold 1"


def test_a_linear_loss_starts_at_zero(study: StudyOutcome) -> None:
    assert draw_training_curves(study.winner.folds).axes[0].get_ylim()[0] == 0


def test_the_kept_epoch_is_marked_on_the_validation_lines(study: StudyOutcome) -> None:
    folds = study.winner.folds
    axes = draw_training_curves(folds).axes[0]
    rings = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in rings] == [fold.best_epoch + 1 for fold in folds]


def test_the_sheet_says_where_a_map_is_zero_and_a_name_is_wrong(context: StudyContext) -> None:
    right, zero = context.heat_maps.pictures
    wrong = replace(right, predicted_label="rough", explained_label="rough")
    other = replace(right, predicted_label="rough", explained_label="fine")
    sheet = HeatMapSheet(convolution="conv_last", pictures=(right, zero, wrong, other, right))
    figure = draw_grad_cam_sheet(sheet)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels[1:8:2] == [
        "correct, p = 0.87",
        "correct, p = 0.87",
        "wrong, p = 0.87",
        "wrong, p = 0.87, predicted as\nrough",
    ]
    assert collect_words(figure) == ["the map is zero"]
    assert "conv_last" in figure.get_suptitle()
    assert [axes.get_title() for axes in figure.axes[4:6]] == ["true: fine", "for: rough"]


@pytest.mark.parametrize(
    ("pixel_size_nm", "words"),
    [(None, []), (12.5, ["200 nm"]), (1.0, ["20 nm"]), (620.0, ["10 µm"]), (1e5, ["2 mm"])],
)
def test_the_scale_bar_has_a_round_length(context: StudyContext, pixel_size_nm: float | None, words: list[str]) -> None:
    example = replace(context.examples[0], pixel_size_nm=pixel_size_nm)
    figure = draw_examples([example])
    assert collect_words(figure) == words
    if pixel_size_nm:
        bar = figure.axes[0].patches[0]
        length_nm = float(words[0].split()[0]) * {"nm": 1, "µm": 1e3, "mm": 1e6}[words[0].split()[1]]
        assert bar.get_width() * pixel_size_nm == pytest.approx(length_nm)
        assert 10 <= bar.get_width() <= 30


def test_the_tiling_numbers_the_tiles_and_darkens_the_rest(context: StudyContext) -> None:
    figure = draw_tiling(context.tiling)
    axes = figure.axes[0]
    assert collect_words(figure) == ["0", "1", "2", "3"]
    assert [patch.get_xy() for patch in axes.patches] == [(0, 0), (40, 0), (0, 40), (40, 40)]
    veil = axes.images[1].get_array()[..., 3]
    assert (veil[:80, :80] == 0).all()
    assert (veil[:, 80:] > 0).all()


def test_many_tiles_are_not_numbered(context: StudyContext) -> None:
    corners = tuple((top, left) for top in range(0, 40, 3) for left in range(0, 60, 3))
    assert len(corners) > 150
    assert collect_words(draw_tiling(replace(context.tiling, corners_px=corners))) == []


def test_the_folds_are_drawn_as_they_are(tiles: TileTable, context: StudyContext) -> None:
    rows = compute_fold_rows(context.folds, tiles=tiles)
    figure = draw_folds(rows)
    first = figure.axes[0].images[0].get_array().tolist()
    codes = {"left out": 0, "training": 1, "validation": 2, "test": 3}
    assert first == [[codes[row.splits[0]] for row in rows if row.label == name] for name in ("fine", "rough")]
    assert figure.axes[0].get_title() == "Fold 1"


@pytest.mark.parametrize(("n_images", "widths", "words"), [(4, 4, "Images of"), (5, 3, "One of 2 images of")])
def test_of_large_classes_every_few_images_are_drawn(
    make_tiles, make_context, make_study, monkeypatch: pytest.MonkeyPatch, n_images: int, widths: int, words: str
) -> None:
    monkeypatch.setattr(study_figures, "MOST_DRAWN", 4)
    tiles = make_tiles(n_images=n_images)
    rows = compute_fold_rows(make_context(make_study(tiles)).folds, tiles=tiles)
    figure = draw_folds(rows)
    assert figure.axes[0].images[0].get_array().shape == (2, widths)
    assert figure.get_supxlabel().startswith(words)


@pytest.mark.parametrize(
    ("rate", "text"), [(1e-3, "1e-3"), (0.1, "1e-1"), (2.5e-4, "2.5e-4"), (1.0, "1e0"), (3.16e-2, "3.16e-2")]
)
def test_learning_rates_read_as_people_write_them(rate: float, text: str) -> None:
    assert format_rate(rate) == text


def test_no_figure_needs_pyplot() -> None:
    """A global figure list would leak memory over a search, and is not safe in threads."""
    room = "sem_search.tracking.entries.run_contents"
    code = f"import sys, {room}; print('matplotlib.pyplot' in sys.modules, 'mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

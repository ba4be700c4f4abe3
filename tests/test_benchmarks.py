"""The benchmarks' own arithmetic: what is replayed over kept curves, and how figures are printed and written."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from click.testing import CliRunner

from benchmarks import monitor, scale
from benchmarks.__main__ import benchmarks
from benchmarks.classifier_results import Result, Task, append_result, read_results
from benchmarks.classifier_rows import LOGISTIC, ROWS, ImageSet
from benchmarks.classifiers import measure_classifiers
from benchmarks.known_images import _ask, _draw_case
from benchmarks.many_images import measure_many_images
from benchmarks.overlaps import measure_candidates, measure_overlaps
from benchmarks.replay import measure_replay, stop_fold
from benchmarks.scale_steps import STEPS, World, compute_exponent, measure_scale_steps
from benchmarks.searching import count_ended_epochs
from benchmarks.timing import measure_side_by_side
from benchmarks.trust.__main__ import main as simulate
from benchmarks.trust.magnification import COARSE_NM, WORLDS, score_features, write_images
from benchmarks.weights import average_curves, measure_weights
from sem_search.evaluation.answers import AnswerTable
from sem_search.evaluation.comparison import compare_answers
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.one_pixel_size import settle_pixel_size
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.rendering.materials import MATERIALS
from sem_search.micrographs.tiles import TileGrid, iter_image_tiles
from sem_search.records import Cell, EpochFigures, FinishedFold, FoldOutcome, TrainingCurves
from sem_search.search.folds.store import FoldStore
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent
from sem_search.search.trials.attributes import PRUNE_REASON
from sem_search.settings import build_settings
from tests.conftest import TINY_TILE_PX

N_EPOCHS = 40


def build_fold(*, fold: int = 0, losses: list[float], accuracies: list[float], n_tiles: int = 1) -> FoldOutcome:
    curve = np.array(losses, dtype=np.float64)
    return FoldOutcome(
        fold=fold,
        validation_tiles=np.zeros(n_tiles, dtype=np.int64),
        validation_probabilities=np.array([[0.5, 0.5]]),
        test_tiles=np.array([1]),
        test_probabilities=np.array([[0.5, 0.5]]),
        curves=TrainingCurves(
            training_loss=curve,
            training_accuracy=curve,
            validation_loss=curve,
            validation_accuracy=np.array(accuracies, dtype=np.float64),
        ),
        best_epoch=0,
        is_diverged=False,
        training_s=1.0,
    )


@pytest.mark.parametrize(
    ("patience", "n_epochs", "score"),
    [(0, 6, 0.6), (1, 3, 0.2), (2, 6, 0.5), (5, 6, 0.5)],
)
def test_a_replayed_patience_keeps_the_best_epoch_that_it_saw(patience: int, n_epochs: int, score: float) -> None:
    fold = build_fold(losses=[3, 2, 2.5, 1.5, 1, 1.2], accuracies=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    stopped = stop_fold(fold, patience=patience)
    assert (stopped.n_epochs, stopped.score) == (n_epochs, score)


def test_a_replay_charges_what_was_trained_and_measures_regret(tmp_path: Path) -> None:
    store = FoldStore(folder=tmp_path)
    for rate, level in ((1e-2, 0.9), (1e-3, 0.8), (1e-1, 0.1)):
        for fold in range(5):
            outcome = build_fold(
                fold=fold,
                losses=[2.0, 1.0, *[1.5] * (N_EPOCHS - 2)],
                accuracies=[level + 0.001 * fold] * N_EPOCHS,
            )
            store.write(FinishedFold(outcome=outcome, head_weights=()), cell=Cell(learning_rate=rate, batch_size=32))
    figures = measure_replay(tmp_path)
    assert figures["replay.plain_epochs"] == 3 * 5 * N_EPOCHS
    assert figures["replay.patience_0.none.share_of_epochs"] == 1
    assert figures["replay.patience_5.none.share_of_epochs"] == pytest.approx(7 / N_EPOCHS)
    assert figures["replay.patience_15.median.share_of_epochs"] < figures["replay.patience_15.none.share_of_epochs"]
    assert figures["replay.patience_15.wilcoxon_p0.2.regret"] == 0


def test_what_a_first_look_could_spare_is_what_ends_in_a_first_fold(tmp_path: Path) -> None:
    """The second cell ends after the ten epochs that are needed to draw a line."""
    store = FoldStore(folder=tmp_path)
    for rate, level in ((1e-2, 0.9), (1e-3, 0.1)):
        for fold in range(5):
            outcome = build_fold(fold=fold, losses=[1.0] * N_EPOCHS, accuracies=[level] * N_EPOCHS, n_tiles=100)
            store.write(FinishedFold(outcome=outcome, head_weights=()), cell=Cell(learning_rate=rate, batch_size=32))
    figures = measure_replay(tmp_path)
    spent = 10 / (2 * 5 * N_EPOCHS)
    assert figures["replay.patience_0.extrapolation.share_of_first_folds"] == pytest.approx(spent)
    assert figures["replay.patience_0.extrapolation.share_of_epochs"] == pytest.approx(0.5 + spent)


def test_a_timed_action_is_taken_at_its_word() -> None:
    calls: list[str] = []
    times_s = measure_side_by_side({"told": lambda: 3.5, "clocked": lambda: calls.append("x")}, n_repeats=2)
    assert times_s["told"] == 3.5
    assert times_s["clocked"] < 1
    assert len(calls) == 3, "once to warm up, and twice to be timed"


def test_figures_are_printed_and_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        benchmarks, ["pruners", "--curves", str(tmp_path / "none"), "--json", str(tmp_path / "f")]
    )
    assert done.exit_code != 0, "a folder without folds has no figures"
    done = CliRunner().invoke(benchmarks, ["start", "--help"])
    assert "--threads" in done.output


def test_json_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pruners.N_STUDIES", 1)
    done = CliRunner().invoke(benchmarks, ["pruners", "--threads", "1", "--json", str(tmp_path / "figures.json")])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["threads"] == 1
    assert all(isinstance(value, float) for value in figures.values())
    assert "pruners.median.share_of_folds" in done.output


def test_epochs_of_folds_that_were_ended_are_counted(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db")
    fold = FoldExtrapolation(fold=1, n_epochs=100, n_tiles=400)
    for _ in range(12):
        fold.add(EpochFigures(training_loss=1, training_accuracy=0, validation_loss=1, validation_accuracy=0.1))
    with pytest.raises(optuna.TrialPruned) as ended:
        fold.check(Incumbent(trial=0, accuracy=0.9))
    for reason in (str(ended.value), "after 3 of 5 folds: worse than the best cell on these folds"):
        state = optuna.trial.TrialState.PRUNED
        study.add_trial(optuna.trial.create_trial(state=state, user_attrs={PRUNE_REASON: reason}))
    assert count_ended_epochs(tmp_path, study="s") == 10


def test_weights_are_refused_where_no_network_looks() -> None:
    done = CliRunner().invoke(simulate, ["lots", "--weights", "random"])
    assert done.exit_code == 2
    words = "only rendered-lots, rendered-reference, magnification, labels look through a network."
    assert f"--weights has no effect on lots: {words}" in done.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("heat", "| both smooth, 4; 10 overlapping pairs of images |"),
        ("controls", "| 10 classes x 5, material seen |"),
        ("learning-curve", "| soon at its ceiling | 250 |"),
    ],
)
def test_simulations_print_the_tables_of_the_docs(name: str, words: str) -> None:
    done = CliRunner().invoke(benchmarks, ["trust", name, "--studies", "1"])
    assert done.exit_code == 0, done.output
    assert words in done.output


def test_only_what_ships_has_a_card() -> None:
    done = CliRunner().invoke(benchmarks, ["weights", "--weights", "random", "--in-card"])
    assert done.exit_code == 2
    assert "--in-card is for the weights that ship, --weights particles; random have no card." in done.output


def test_weights_that_there_are_not_are_refused_before_anything_is_rendered() -> None:
    for given, message in (
        (["--backbone", "densenet121"], "this version ships none for backbone 'densenet121'"),
        (["--weights", "lost.weights.h5"], "there is no such file here"),
    ):
        done = CliRunner().invoke(benchmarks, ["weights", *given])
        assert done.exit_code == 1
        assert message in done.output


def test_a_diverged_fold_keeps_the_accuracy_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.weights.EPOCHS", 3)
    assert average_curves([[0.1, 0.5, 0.9], [0.3]]) == pytest.approx([0.2, 0.4, 0.6])


def test_what_weights_are_worth(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seed has its folds; random weights tell stripes from grains well enough to be no chance."""
    cards: list[tuple[str, str, dict[str, float]]] = []
    monkeypatch.setattr(
        "benchmarks.weights.add_scores", lambda name, *, data, scores: cards.append((name, data, scores))
    )
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("benchmarks.weights.EPOCHS", 3)
    figures = measure_weights(
        "tiny", weights="random", data=str(tiny_folder), exclude="blobs", tile_px=TINY_TILE_PX, threads=1, in_card=True
    )
    key = "weights.tiny.random.real"
    means = {name: figures[f"{key}.{name}"] for name in ("probe_f", "head_accuracy", "epochs_to_95%")}
    assert cards == [("tiny", tiny_folder.name, means)]
    assert set(figures) == {
        f"{key}.{name}{end}" for name in ("probe_f", "head_accuracy", "epochs_to_95%") for end in ("", ".0", ".1", ".2")
    }
    assert figures[f"{key}.probe_f"] > 0.8
    assert 1 <= figures[f"{key}.epochs_to_95%"] <= 3
    assert figures[f"{key}.probe_f"] == pytest.approx(sum(figures[f"{key}.probe_f.{k}"] for k in range(3)) / 3)


@pytest.fixture
def points() -> dict[str, list[np.ndarray]]:
    """Nine sets of twelve images of four tiles, each number of features telling its set."""
    rng = np.random.default_rng(0)
    return {
        name: [40 * i + rng.normal(size=(4, 9)) * np.eye(9)[i] for _ in range(12)] for i, name in enumerate("abcdefghi")
    }


@pytest.mark.parametrize(
    ("kind", "n_classes", "n_mixed", "n_near"),
    [("materials", 7, 1, 2), ("materials_varied", 5, 3, 2), ("sets", 5, 1, 0), ("sets_varied", 5, 3, 0)],
)
def test_no_image_is_known_and_asked_and_no_stranger_is_known(
    points: dict[str, list[np.ndarray]], kind: str, n_classes: int, n_mixed: int, n_near: int
) -> None:
    rendered, others = (points, {}) if kind.startswith("materials") else ({"r": [np.zeros((1, 9))]}, points)
    case = _draw_case(
        kind,
        rendered=rendered,
        others=others,
        strangers={"photographs": [np.ones((1, 9))]},
        n_images=8,
        rng=np.random.default_rng(1),
    )
    known = [{id(image) for image in images} for images in case.classes]
    assert [len(images) for images in known] == [8] * n_classes
    assert len({round(float(image.mean()) / 40) for image in case.classes[0]}) == n_mixed
    asked = {id(image) for images in case.known for image in images}
    strange = {id(image) for images in (*case.near, *case.strangers.values()) for image in images}
    assert not set().union(*known) & (asked | strange)
    assert not asked & strange
    assert len(case.near) == n_near
    shares = dict(_ask(case, is_mixed=n_mixed > 1, rng=np.random.default_rng(2)))
    assert shares["4_tiles.false_known.photographs"] == 0
    assert ("4_tiles.false_unknown.varied_class" in shares) == (n_mixed > 1)
    assert shares["1_tiles.false_unknown.worst_class"] >= shares["1_tiles.false_unknown"]


def test_overlaps_are_found_where_there_are_some_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.overlaps.MATERIALS", MATERIALS[-1:])
    monkeypatch.setattr("benchmarks.overlaps.SHARES", (0.5, 0.2))
    monkeypatch.setattr("benchmarks.overlaps.FORMS", ("netted", "smooth", "ribbed"))
    assert measure_overlaps(n_per_form=1, n_per_share=1) == {
        "pairs_of_particles": 3.0,
        "taken_for_one_place": 0.0,
        "found_of_50%": 1.0,
        "found_of_20%": 1.0,
    }


def test_overlaps_are_found_in_a_set_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.overlaps.MATERIALS", MATERIALS[-1:])
    monkeypatch.setattr("benchmarks.overlaps.SHARES", (0.5, 0.3))
    figures = measure_candidates(n_per_share=1)
    assert figures.pop("candidates") < 2
    assert set(figures) == {f"{name}_of_{share}%" for name in ("registered", "found_in_set") for share in (50, 30)}
    assert set(figures.values()) == {1.0}


def test_many_images_are_measured_with_their_overlaps() -> None:
    figures = measure_many_images((22,))
    assert (figures["images.22.found"], figures["images.22.wrongly_found"]) == (1.0, 0.0)
    assert figures["images.22.again_s"] < figures["images.22.wall_s"]


def build_result(
    *, image_set: str = "demo", row: str, seed: int = 0, n_wrong: int, n_images: int = 12, minutes: float = 1.0
) -> Result:
    """A row of two classes and three folds, whose first images are wrong in all of their four tiles."""
    images = np.arange(n_images)
    labels = images % 2
    answers = np.where(images < n_wrong, 1 - labels, labels)
    return Result(
        task=Task(image_set=image_set, backbone="tiny", weights="random", seed=seed, row=row),
        minutes=minutes,
        features_minutes=0.5 if row in LOGISTIC else None,
        n_epochs=7,
        n_complete=2,
        winner="learning rate 0.01, batch size 16",
        answers=AnswerTable(
            n_classes=2,
            image_of_row=images,
            label_of_row=labels,
            fold_of_row=images // 2 % 3,
            group_of_row=images,
            tile_counts=4 * np.eye(2, dtype=np.int64)[answers],
            answer_of_row=answers,
        ),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("demo", ImageSet(name="demo", data="demo")),
        ("steel=/data/steel", ImageSet(name="steel", data="/data/steel")),
        ("steel=/data/steel:96", ImageSet(name="steel", data="/data/steel", tile_px="96")),
        ("c=/d:exclude=A,B", ImageSet(name="c", data="/d", exclude="A,B")),
        ("c=/d=e:f:96:exclude=A", ImageSet(name="c", data="/d=e:f", tile_px="96", exclude="A")),
        ("here=steel", ImageSet(name="here", data=str(Path.cwd() / "steel"))),
    ],
)
def test_a_set_has_a_name_a_folder_and_how_it_is_read(text: str, found: ImageSet) -> None:
    assert ImageSet.parse(text) == found


def test_a_set_without_a_name_is_refused() -> None:
    done = CliRunner().invoke(benchmarks, ["classifiers", "--set", "steel"])
    assert done.exit_code == 2
    assert "'steel' is neither demo nor NAME=FOLDER[:TILE_PX][:exclude=A,B]." in done.output


def test_each_step_of_the_rows_is_one_setting_more() -> None:
    usual = {name: build_settings({"engine": "tensorflow", **given}) for name, given in ROWS.items()}

    def list_changed(first: str, second: str) -> set[str]:
        """Return the names of the settings that differ."""
        one, two = (usual[name].model_dump() for name in (first, second))
        return {name for name in one if one[name] != two[name]}

    assert list_changed("before", "linear") == {"heads"}
    assert list_changed("linear", "refit") == {"refit"}
    assert list_changed("refit", "schedule") == {"schedule", "epochs", "patience"}
    assert list_changed("schedule", "standard") == {"augment"}
    assert list_changed("standard", "balanced") == {"class_weight"}
    assert list_changed("standard", "init") == {"heads"}
    assert list_changed("paper", "before") == {"preset", "pruner", "patience", "select_on", "precision"}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert read_results(file) == ()
    written = [build_result(row="logistic_80", n_wrong=2), build_result(row="standard", n_wrong=1)]
    for result in written:
        append_result(file, result=result)
    assert [json.loads(line)["image_f"] for line in file.read_text().splitlines()] == pytest.approx(
        [10 / 12, 0.916083], abs=1e-6
    )
    for one, other in zip(read_results(file), written, strict=True):
        assert one.to_json() == other.to_json()
        assert one.answers.tile_counts.dtype == np.int64


def test_tables_of_classifiers(tmp_path: Path) -> None:
    """Means over seeds, paired differences, ratios of minutes, and the set on which `standard` does worst."""
    file = tmp_path / "results.jsonl"
    for result in (
        build_result(row="logistic_80", n_wrong=2),
        build_result(row="logistic_80", n_wrong=4, seed=1),
        build_result(row="before", n_wrong=2, minutes=2.0),
        build_result(row="standard", n_wrong=0, minutes=3.0),
        build_result(row="standard", n_wrong=2, minutes=4.0, seed=1),
        build_result(row="logistic_80", n_wrong=0, image_set="steel", n_images=24),
        build_result(row="standard", n_wrong=6, image_set="steel", n_images=24),
    ):
        append_result(file, result=result)
    done = CliRunner().invoke(benchmarks, ["classifiers", "--table", str(file)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert "tiny, random: F-measure of tiles / images, mean over the seeds" in lines
    # Of 12 images of two classes, 2 wrong ones leave F 10/12 and 4 leave 8/12; in one fold 2 wrong of 4 leave 1/2.
    assert "| demo | 12 | 2 | 0.750 / 0.750 | 0.833 / 0.833 (1 of 2 seeds) | 0.917 / 0.917 |" in lines
    assert "| steel | 24 | 1 | 1.000 / 1.000 | - | 0.750 / 0.750 |" in lines
    assert "| demo | 0.5 | 2.1 | 4.0 (1.94) |" in lines
    assert "| steel | 0.5 | - | 1.5 |" in lines
    assert "| logistic_80 | 2 | -0.042 | -0.250 (steel) | +0.167 (demo) |" in lines
    assert "| before | 1 | +0.167 | +0.167 (demo) | +0.167 (demo) |" in lines
    [of_demo] = [line for line in lines if line.startswith("| demo | tiles |")]
    assert "| - | +0.167 (" in of_demo, "nobody has measured logistic regression on 60 %"


def test_what_the_results_lack_is_measured_once(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search and logistic regression answer the same images in the same folds."""
    monkeypatch.setitem(ROWS, "before", {**ROWS["before"], "epochs": "3", "patience": "0"})
    monkeypatch.chdir(tmp_path)
    image_set = ImageSet.parse(f"tiny={tiny_folder}:{TINY_TILE_PX}")
    known = build_result(image_set="tiny", row="logistic_60", n_wrong=0)
    append_result(Path("results"), result=known)

    def measure() -> list[Result]:
        """Return what the file lacked."""
        asked = {"backbone": "tiny", "weights": "random", "learning_rates": "0.01", "batch_sizes": "16", "threads": 1}
        return list(measure_classifiers([image_set], seeds=[0], rows=["before"], **asked, file=Path("results")))

    logistic, before = measured = measure()
    assert (logistic.task.row, before.task.row) == ("logistic_80", "before")
    assert (before.n_complete, before.n_epochs, before.winner) == (1, 15, "learning rate 0.01, batch size 16")
    assert before.features_minutes is None
    assert logistic.tile_f > 0.8
    assert compare_answers(logistic.answers, before.answers, class_names=("",) * 3).n_images == 15
    assert measure() == []
    assert [one.to_json() for one in read_results(Path("results"))] == [one.to_json() for one in (known, *measured)]
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "searches leave nothing where they are started"


def test_an_exponent_is_the_power_by_which_a_figure_grows_from_one_size_to_the_next() -> None:
    figures = {
        "scale.100.search.seconds": 10.0,
        "scale.500.search.seconds": 50.0,
        "scale.2000.search.seconds": 800.0,
        "scale.100.load.disk_mib": 0.0,
        "scale.500.load.disk_mib": 1.0,
    }
    assert scale.compute_exponents(figures, sizes=(100, 500, 2000)) == pytest.approx(
        {"exponent.100_500.search.seconds": 1, "exponent.500_2000.search.seconds": 2}
    )


def test_a_measurement_that_was_stopped_goes_on_with_the_step_that_it_was_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def measure(step: str, **_options: object) -> dict[str, float]:
        begun.append(step)
        if begun.count("search") == 1 and step == "search":
            raise RuntimeError("stopped")
        return {"seconds": float(len(begun))}

    monkeypatch.setattr(scale, "_measure_step", measure)
    given = {"folder": tmp_path, "backbone": "tiny", "weights": "random", "threads": 1}
    with pytest.raises(RuntimeError, match="stopped"):
        scale.measure_scale((10,), **given)
    figures = scale.measure_scale((10,), **given)
    assert begun == ["inspect", "inspect_again", "features", "search", "search", "search_again", "report", "load"]
    assert len(list((tmp_path / "10" / "images").rglob("*.png"))) == 10
    assert figures["scale.10.features.seconds"] == 3
    assert scale.measure_scale((10,), **given) == figures
    assert len(begun) == 8


def test_a_step_is_measured_in_a_process_of_its_own_at_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measure_scale_steps((50, 100), steps=("draw_folds",), threads=1, limit_s=60)
    assert set(figures) == {
        *(f"draw_folds.{n}.{name}" for n in (50, 100) for name in ("s", "processor_s", "more_mib", "written_mib")),
        "draw_folds.exponent",
    }
    assert figures["draw_folds.100.written_mib"] > 1.5 * figures["draw_folds.50.written_mib"]
    assert "draw_folds" in capsys.readouterr().out


def test_a_step_that_takes_too_long_is_ended() -> None:
    assert measure_scale_steps((20, 40), steps=("cut_tiles",), threads=1, limit_s=0.01) == {
        "cut_tiles.20.ended_after_s": 0.01
    }


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.15, 2.0])
def test_the_exponent_of_growth(exponent: float) -> None:
    assert compute_exponent((100, 3.0), (800, 3.0 * 8**exponent)) == pytest.approx(exponent)


@pytest.mark.parametrize("step", list(STEPS))
def test_every_step_can_be_measured(step: str) -> None:
    """With the fewest images that fill ten classes in five folds."""
    work = STEPS[step](World(50))
    assert callable(work)


def test_streams_of_the_monitor_benchmark_are_quiet_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up pictures and features: each material has a direction of its own."""

    class Seen:
        def __init__(self, *_args: object, **_options: object) -> None:
            self.rng, self.n_pools = np.random.default_rng(0), 0

        def embed(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
            own = self.n_pools // (1 + sum(change.alter is not None for change in monitor.CHANGES.values()))
            self.n_pools += 1
            return [self.rng.normal(scale=0.2, size=(4, 20)) + np.eye(20)[own] for _ in pictures]

    grey = np.random.default_rng(1)
    monkeypatch.setattr(monitor, "Embedding", Seen)
    monkeypatch.setattr(monitor, "SIDE_PX", 32)
    monkeypatch.setattr(monitor, "_render", lambda _: iter(grey.random((50, 32, 32), dtype=np.float32)))
    figures = monitor.measure_monitor(backbone="", weights="", n_streams=1)
    assert figures["quiet.even_mix.share_with_false_alarm"] == 0
    assert figures["contrast_less_by_30_percent.after_0_quiet.median_images"] < 10
    assert figures["magnified_1.6_and_stated.after_1000_quiet.share_instrument"] == 1
    assert figures["new_material.after_0_quiet.share_found"] == 1


def test_magnification_alone_is_told_as_the_images_are_and_not_at_one_pixel_size(tmp_path: Path) -> None:
    """A known truth: one powder, one sharpness and noise, two pixel sizes; seen by its power spectrum."""
    world, n_images, tile_px = WORLDS["one material, one sharpness and noise"], 24, 64
    write_images(world, folder=tmp_path, n_images=n_images, side_px=256)
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=tile_px))
    _, wanted_nm = settle_pixel_size(catalogue, asked="common", tile_px=tile_px)
    grid = TileGrid(size_px=tile_px, stride_px=tile_px, per_image=4)
    labels = np.repeat([0, 1], n_images)

    def score(pixel_size_nm: float | None) -> float:
        tiles = iter_image_tiles(catalogue.at_pixel_size(pixel_size_nm), grid=grid)
        return score_features(np.stack([compute_spectra(some) for _, some in tiles]), labels=labels)

    assert wanted_nm == COARSE_NM
    assert score(None) > 0.75
    assert score(wanted_nm) < 0.6


def compute_spectra(tiles: np.ndarray) -> np.ndarray:
    """Return the logarithm of the power in eight bands of wavelengths in pixels, shape (n_tiles, 8)."""
    side = tiles.shape[1]
    power = np.abs(np.fft.rfft2(tiles - tiles.mean(axis=(1, 2), keepdims=True))) ** 2
    waves = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) * side
    bands = np.digitize(waves, np.geomspace(1, side / 2, 9))
    return np.stack([np.log(power[:, bands == band].mean(axis=1) + 1e-9) for band in range(1, 9)], axis=1)

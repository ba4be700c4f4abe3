"""A publication kit: every file is there, and every number is the study's."""

import csv
import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import sem_search
from sem_search.errors import SemSearchWarning, SettingsError
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import compute_confusion_table, compute_grid_tables
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.entries.types import FigureArtifact, Picture
from sem_search.tracking.figures.journal import ColumnFit
from sem_search.tracking.kit import kit
from sem_search.tracking.kit.kit import build_kit, check_kit_folder
from sem_search.tracking.kit.methods import StudyRecord
from sem_search.tracking.mlflow.files import write_artifacts

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "exclude": "",
    "crop_bottom_px": 0,
    "tile_px": 40,
    "stride_px": 40,
    "tiles_per_image": None,
    "weights_used": "random",
    "hidden_units": 16,
    "dropout": 0.5,
    "momentum": 0.9,
    "schedule": "linear",
    "patience": 0,
    "epochs": 6,
    "augment": "none",
    "class_weight": "none",
    "learning_rates": "0.01,0.001",
    "batch_sizes": "16,48",
    "sampler": "grid",
    "pruner": "extrapolation",
    "engine_used": "tensorflow",
    "precision_used": "float32",
    "seed": 0,
}
NAMES = ("python", "sem_search", "keras", "tensorflow", "onnxruntime", "optuna", "mlflow", "scikit-learn", "numpy")
STEMS = [
    "figure_2_originals",
    "figure_3_grid",
    "figure_4a_confusion_tiles",
    "figure_4b_confusion_images",
    "figure_5_indices",
    "figure_6_grad_cam",
    "figure_s1_tiling",
    "figure_s2_folds",
    "figure_s3_training",
    "t1_intervals",
    "t2_selection",
    "t3_reliability",
    "t4_risk_coverage",
]


def build_record(study: StudyOutcome, *, context: StudyContext, trust: StudyTrust) -> StudyRecord:
    versions = {name: f"{place}.1" for place, name in enumerate(NAMES)}
    own = replace(context, settings=SETTINGS)
    return StudyRecord(study=study, context=own, trust=trust, versions=versions)


@pytest.fixture(scope="module")
def folder(
    study: StudyOutcome, context: StudyContext, trust: StudyTrust, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A kit whose pictures are empty; they are drawn in the tests of `figures/journal`."""
    place = tmp_path_factory.mktemp("a paper") / "Kit für alle"
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error", SemSearchWarning)
        patch.setattr(FigureArtifact, "picture", Picture(content=b"", width_in=1.0, media_type="image/png"))
        write_artifacts(build_kit(build_record(study, context=context, trust=trust)), folder=place)
    return place


def read(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "figures" / f"{name}.csv").read_text("utf-8"))))


def test_every_file_is_there(folder: Path) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    pictures = {f"figures/{stem}.{suffix}" for stem in STEMS for suffix in ("svg", "pdf", "tif", "csv")}
    assert found == pictures | {"captions.md", "trials.csv", "methods.md", "references.bib", "CITATION.cff"}
    captions = (folder / "captions.md").read_text("utf-8")
    assert captions.count("**Figure") == len(STEMS)
    assert "*(figures/figure_3_grid: 180 x 84 mm, letters of 7 pt)*" in captions


def test_the_tables_hold_the_numbers_of_the_figures(folder: Path, study: StudyOutcome, context: StudyContext) -> None:
    scores = compute_split_scores(study.winner, tiles=study.tiles, split="test")
    grid = [cell for table in compute_grid_tables(study, cells=context.cells) for cell in table.cells]
    assert [row["f_measure"] for row in read(folder, "figure_3_grid")] == [
        "" if cell.f_measure is None else str(cell.f_measure) for cell in grid
    ]
    for unit, name in (("tiles", "figure_4a_confusion_tiles"), ("images", "figure_4b_confusion_images")):
        counts = compute_confusion_table(study.winner, tiles=study.tiles, unit=unit).counts
        assert [[int(row[name]) for name in ("fine", "rough")] for row in read(folder, name)] == counts.tolist()
    indices = read(folder, "figure_5_indices")
    assert [float(row["mean_of_folds"]) for row in indices if row["index"] == "recall"] == list(scores.mean.recall)
    second = [float(row["fold_2"]) for row in indices if row["index"] == "precision"]
    assert second == list(scores.per_fold[1].precision)


def test_the_tables_of_training_and_folds(folder: Path, study: StudyOutcome, context: StudyContext) -> None:
    epochs = read(folder, "figure_s3_training")
    assert len(epochs) == sum(len(fold.curves.training_loss) for fold in study.winner.folds)
    last = study.winner.folds[-1]
    of_last = [row for row in epochs if row["fold"] == str(last.fold + 1)]
    assert [float(row["validation_loss"]) for row in of_last] == last.curves.validation_loss.tolist()
    assert [row["epoch"] for row in of_last if row["is_chosen"] == "True"] == [str(last.best_epoch + 1)]
    splits = {row["image_id"]: row["fold_1"] for row in read(folder, "figure_s2_folds")}
    assert {name for name, split in splits.items() if split == "test"} == set(context.folds[0]["test"])
    assert [row["left_px"] for row in read(folder, "figure_s1_tiling")] == ["0", "40", "0", "40"]
    assert [row["fold"] for row in read(folder, "figure_6_grad_cam")] == ["1", "1"]


def test_the_tables_of_trust(folder: Path, trust: StudyTrust) -> None:
    rows = {(row["class"], row["figure"]): row for row in read(folder, "t1_intervals")}
    headline = rows["all classes", "f_measure"]
    assert (float(headline["low"]), float(headline["high"])) == (trust.test.f_measure.low, trust.test.f_measure.high)
    assert float(rows["rough", "recall"]["value"]) == trust.test.of_class[1].recall.value
    chosen, _ = read(folder, "t2_selection")
    assert float(chosen["corrected_value"]) == trust.chosen_on_validation.corrected.value
    bins = read(folder, "t3_reliability")
    assert sum(int(row["n_answers"]) for row in bins if row["probabilities"] == "scaled") == trust.calibration.n_answers
    np.testing.assert_array_equal([float(row["risk"]) for row in read(folder, "t4_risk_coverage")], trust.risk.risk)


def test_a_crowded_figure_is_told(
    study: StudyOutcome, context: StudyContext, trust: StudyTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        kit, "fit_to_column", lambda _: ColumnFit(width_mm=180, height_mm=9, size_pt=5, is_crowded=True)
    )
    with pytest.warns(SemSearchWarning) as told:
        list(build_kit(build_record(study, context=context, trust=trust)))
    assert len(told) == len(STEMS)
    assert "Figure 2 has more text than fits into 180 mm at 5 pt: letters touch." in str(told[0].message)


def test_a_folder_that_holds_files_is_not_written_into(tmp_path: Path) -> None:
    check_kit_folder(tmp_path / "new one")
    check_kit_folder(tmp_path)
    (tmp_path / "methods.md").write_text("mine")
    with pytest.raises(SettingsError, match="this folder holds files, which are not written over"):
        check_kit_folder(tmp_path)
    with pytest.raises(SettingsError, match="this is a file"):
        check_kit_folder(tmp_path / "methods.md")


def test_the_citation_file_is_valid_and_of_this_version(folder: Path) -> None:
    """The keys that Citation File Format 1.2.0 asks for, and those of its article."""
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert (folder / "CITATION.cff").read_text("utf-8") == text
    cited = yaml.safe_load(text)
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "Apache-2.0")
    assert cited["version"] == sem_search.__version__
    assert cited["authors"] == [{"name": "The sem_search developers"}]
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    bibliography = (folder / "references.bib").read_text("utf-8")
    assert f"doi = {{{paper['doi']}}}" in bibliography
    assert all(f"{one['family-names']}, {one['given-names']}" in bibliography for one in paper["authors"])

"""How the steps around the network grow with the number of images: seconds, peak memory, and what they write.

The images are records without pictures (20 tiles each, ten classes, a session for ten images, some overlaps), so that
20,000 of them cost no disk; the answers are drawn. Each step runs in a process of its own, for its peak memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import compute_exponent

N_CLASSES, TILES_PER_IMAGE, N_FOLDS, N_TRIALS = 10, 20, 5, 3
IMAGES_PER_SESSION, IMAGES_PER_OVERLAP = 10, 20
SIDE_PX = (480, 640)
N_CHANNELS = 320
"""Of MobileNetV2's trunk; its last convolution makes 1,280 of them."""
N_POOLED = 1280
MIB = 2**20

Work = Callable[[], object]


class World:
    """What a search of so many images holds, each part made when it is asked for."""

    def __init__(self, n_images: int) -> None:
        self.n_images = n_images
        self.rng = np.random.default_rng(0)
        self.folder = Path(tempfile.gettempdir())

    @cached_property
    def catalogue(self) -> Any:
        """Records whose brightness, sessions and pixel sizes differ."""
        from sem_search.micrographs.catalogue import Catalogue, ImageRecord

        records = []
        for number in range(self.n_images):
            label = f"class {number * N_CLASSES // self.n_images}"
            name = f"{label}/{number:05d}.tif"
            day = number // IMAGES_PER_SESSION
            records.append(
                ImageRecord(
                    image_id=name,
                    path=Path("/nowhere") / name,
                    label=label,
                    group=name,
                    session=f"session {day:05d}",
                    sha256=f"{number:064x}",
                    pixels_sha256=f"{number:064x}",
                    width_px=SIDE_PX[1],
                    height_px=SIDE_PX[0],
                    bit_depth=8,
                    mode="L",
                    pixel_size_nm=(5.0, 10.0)[number % 2],
                    acquired_at=f"2026-01-01T{day // 3600 % 24:02d}:{day // 60 % 60:02d}:{day % 60:02d}",
                    detector="ETD",
                    voltage_kv=5.0,
                    mean_grey=float(self.rng.uniform(0.3, 0.7)),
                    contrast=float(self.rng.uniform(0.1, 0.2)),
                    noise=float(self.rng.uniform(0, 0.1)),
                )
            )
        return Catalogue(root=Path("/nowhere"), records=tuple(records))

    @cached_property
    def pairs(self) -> tuple[Any, ...]:
        """Neighbours that overlap."""
        from sem_search.micrographs.overlaps.similarity import SimilarPair

        ids = [record.image_id for record in self.catalogue.records]
        return tuple(
            SimilarPair(
                first=ids[at],
                second=ids[at + 1],
                kind="overlapping",
                overlap=0.5,
                shift_px=(0, 320),
                correlation=0.9,
                scale=1.0,
            )
            for at in range(0, len(ids) - 1, IMAGES_PER_OVERLAP)
        )

    @cached_property
    def folds(self) -> Any:
        """As a search draws them."""
        from sem_search.micrographs.folds import draw_folds

        return draw_folds(self.catalogue, n_folds=N_FOLDS, seed=0)

    @cached_property
    def tiles(self) -> Any:
        """The same number for each image."""
        from sem_search.records import TileTable

        records = self.catalogue.records
        names = self.catalogue.class_names
        return TileTable(
            class_names=names,
            image_ids=tuple(record.image_id for record in records),
            label_of_image=np.array([names.index(record.label) for record in records], dtype=np.int64),
            group_of_image=tuple(record.group for record in records),
            image_of_tile=np.repeat(np.arange(self.n_images), TILES_PER_IMAGE),
        )

    @cached_property
    def study(self) -> Any:
        """Complete trials, the first of them the winner, each right about four tiles of five."""
        from sem_search.records import Cell, StudyOutcome, TrialOutcome

        trials = tuple(
            TrialOutcome(
                number=number,
                cell=Cell(learning_rate=10.0 ** -(number + 1), batch_size=16),
                state="complete",
                folds=tuple(self._answer(fold) for fold in self.folds.folds),
                run_id=f"run {number}",
            )
            for number in range(N_TRIALS)
        )
        return StudyOutcome(
            name="steps",
            backbone="mobilenet_v2",
            select_on="validation",
            tiles=self.tiles,
            trials=trials,
            winner_number=0,
        )

    def _answer(self, fold: Any) -> Any:
        from sem_search.records import FoldOutcome, TrainingCurves

        curve = np.linspace(1, 0.1, 30)
        at = {split: self.tiles.get_tiles_of(getattr(fold, split)) for split in ("validation", "test")}
        return FoldOutcome(
            fold=fold.number,
            **{f"{split}_tiles": tiles for split, tiles in at.items()},
            **{f"{split}_probabilities": self._draw_probabilities(tiles) for split, tiles in at.items()},
            curves=TrainingCurves(
                training_loss=curve, training_accuracy=1 - curve, validation_loss=curve, validation_accuracy=1 - curve
            ),
            best_epoch=29,
            is_diverged=False,
            training_s=1.0,
        )

    def _draw_probabilities(self, at: Any) -> Any:
        logits = self.rng.normal(size=(len(at), N_CLASSES))
        logits[np.arange(len(at)), self.tiles.label_of_tile[at]] += 2.5
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    @cached_property
    def part_of_image(self) -> Any:
        """The fold that tests each image."""
        parts = np.zeros(self.n_images, dtype=np.int64)
        number_of = {image_id: number for number, image_id in enumerate(self.tiles.image_ids)}
        for fold in self.folds.folds:
            parts[[number_of[image_id] for image_id in fold.test]] = fold.number
        return parts

    def draw_features(self, n_features: int, *, labels: Any) -> Any:
        """Return features in which the classes differ, float32, shape (len(labels), n_features)."""
        means = self.rng.normal(size=(N_CLASSES, n_features)).astype(np.float32)
        features = self.rng.standard_normal((len(labels), n_features), dtype=np.float32)
        features += 0.3 * means[labels]
        return features


def measure_scale_steps(
    image_counts: Sequence[int], *, steps: Sequence[str], threads: int, limit_s: float
) -> dict[str, float]:
    """Return seconds, memory and written MiB of each step at each size, and the exponent between the two largest.

    The exponent is that of the processor's seconds, which other work on the machine lengthens least.

    Args:
        image_counts: Sizes, ascending.
        steps: Names; none stands for all.
        threads: Of the libraries' own products.
        limit_s: A step that takes longer, its preparation included, is ended; larger sizes of it are left out.
    """
    figures: dict[str, float] = {}
    for step in steps or tuple(STEPS):
        seconds: dict[int, float] = {}
        for n_images in image_counts:
            found = _run_in_process(step, n_images=n_images, threads=threads, limit_s=limit_s)
            if found is None:
                figures[f"{step}.{n_images}.ended_after_s"] = limit_s
                break
            figures |= {f"{step}.{n_images}.{name}": value for name, value in found.items()}
            seconds[n_images] = found["processor_s"]
            print(
                f"{step:24} {n_images:7} " + "  ".join(f"{name} {value:.3g}" for name, value in found.items()),
                flush=True,
            )
        if len(seconds) > 1:
            figures[f"{step}.exponent"] = compute_exponent(*list(seconds.items())[-2:])
    return figures


def _run_in_process(step: str, *, n_images: int, threads: int, limit_s: float) -> dict[str, float] | None:
    command = [sys.executable, "-m", "benchmarks.scale_steps", step, str(n_images)]
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS")}
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit_s, env=environment)
    except subprocess.TimeoutExpired:
        return None
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure_step(step: str, *, n_images: int) -> dict[str, float]:
    work = STEPS[step](World(n_images))
    before_mib = _get_peak_mib()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    result = work()
    figures = {
        "s": time.perf_counter() - begun,
        "processor_s": time.process_time() - begun_cpu,
        "more_mib": _get_peak_mib() - before_mib,
    }
    if isinstance(result, str | bytes):
        figures["written_mib"] = len(result if isinstance(result, bytes) else result.encode()) / MIB
    return figures


def _get_peak_mib() -> float:
    """Return the largest resident memory that this process has had; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read_catalogue_facts(world: World) -> Work:
    """Digest, table and JSON of the catalogue: the fingerprint, `data/catalogue.csv`, the model's record."""
    catalogue = world.catalogue
    return lambda: catalogue.digest + catalogue.table.to_csv() + catalogue.to_json()


def _draw_folds(world: World) -> Work:
    from sem_search.micrographs.folds import check_folds, draw_folds

    catalogue = world.catalogue

    def work() -> str:
        """Draw, check, and write the fold table."""
        folds = draw_folds(catalogue, n_folds=N_FOLDS, seed=0)
        check_folds(folds, catalogue=catalogue)
        return folds.digest + folds.to_json()

    return work


def _cut(world: World) -> Work:
    from sem_search.micrographs.tiles import TileGrid
    from sem_search.search.prepare.data import build_study_tiles

    catalogue = world.catalogue
    return lambda: build_study_tiles(catalogue, grid=TileGrid(size_px=112, stride_px=112))


def _survey(world: World) -> Work:
    """Pixels of images of 640 x 480 px; decoding is left out."""
    from sem_search.micrographs.catalogue import Catalogue, ImageRecord
    from sem_search.micrographs.inspection.data_bars import choose_bar_images
    from sem_search.micrographs.inspection.report import list_gallery
    from sem_search.micrographs.inspection.survey import survey_pixels

    pixels = world.rng.random(SIDE_PX, dtype=np.float32)

    class OnePicture(Catalogue):
        """All images look alike."""

        def read_image(self, _: ImageRecord) -> Any:
            return pixels

    catalogue = OnePicture(root=world.catalogue.root, records=world.catalogue.records)
    return lambda: survey_pixels(catalogue, edges_of=choose_bar_images(catalogue), shown=list_gallery(catalogue))


def _find(world: World) -> Work:
    """All findings but overlaps and those of the pixels."""
    from sem_search.micrographs.inspection import checks, confounds, file_names, finding, overlap_findings

    catalogue, pairs = world.catalogue, world.pairs

    def work() -> object:
        """Look for everything that records show."""
        found = confounds.compute_confounds(catalogue)
        return finding.join_findings(
            [
                *checks.find_reading_troubles(catalogue),
                *checks.find_small_classes(catalogue, pairs, n_folds=N_FOLDS),
                *overlap_findings.find_similar_images(catalogue, pairs),
                *overlap_findings.find_joined_groups(catalogue, pairs),
                *overlap_findings.find_same_moments(catalogue, pairs),
                *confounds.find_confounds(catalogue, found),
                *file_names.find_name_contradictions(catalogue),
                *confounds.find_mixtures(catalogue),
                *checks.find_missing_metadata(catalogue),
            ]
        )

    return work


def _inspect(world: World) -> Any:
    from sem_search.micrographs.inspection import checks, confounds, finding, overlap_findings
    from sem_search.micrographs.inspection.inspect import Inspection
    from sem_search.micrographs.inspection.report import list_gallery, list_suspects

    catalogue, pairs = world.catalogue, world.pairs
    found = confounds.compute_confounds(catalogue)
    findings = finding.join_findings(
        [
            *checks.find_small_classes(catalogue, pairs, n_folds=N_FOLDS),
            *overlap_findings.find_similar_images(catalogue, pairs),
            *overlap_findings.find_same_moments(catalogue, pairs),
            *confounds.find_confounds(catalogue, found),
        ]
    )
    thumbnail = world.rng.bytes(15_000)
    shown = (*list_gallery(catalogue), *list_suspects(pairs, findings=findings))
    return Inspection(
        catalogue=catalogue,
        pairs=pairs,
        findings=tuple(findings),
        confounds=found,
        thumbnails=dict.fromkeys(shown, thumbnail),
    )


def _write_inspection_html(world: World) -> Work:
    return _inspect(world).to_html


def _write_inspection_json(world: World) -> Work:
    return _inspect(world).to_json


def _write_fold_table(world: World) -> Work:
    """The fold table's figure, its numbers, and its CSV."""
    from sem_search.tracking.entries import json_values
    from sem_search.tracking.entries.tables import build_fold_table, compute_fold_rows
    from sem_search.tracking.entries.types import pair_figure
    from sem_search.tracking.figures.study import draw_folds

    tiles, folds = world.tiles, [fold.splits for fold in world.folds.folds]

    def work() -> bytes:
        """Draw and write."""
        rows = compute_fold_rows(folds, tiles=tiles)
        figure, numbers = pair_figure("folds.png", draw=lambda: draw_folds(rows), content=json_values.list_folds(rows))
        return figure.picture.content + _write(numbers) + _write(build_fold_table(rows, path="folds.csv"))

    return work


def _write(artifact: Any) -> bytes:
    from sem_search.tracking.mlflow.files import write_artifact

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "file")
        write_artifact(artifact, target=target)
        return target.read_bytes()


def _write_tile_predictions(world: World) -> Work:
    from sem_search.tracking.entries.predictions import tabulate_tile_predictions
    from sem_search.tracking.entries.types import FrameArtifact

    study = world.study
    return lambda: _write(
        FrameArtifact(path="tiles.parquet", frame=tabulate_tile_predictions(study.winner, tiles=study.tiles))
    )


def _write_image_predictions(world: World) -> Work:
    from sem_search.tracking.entries.predictions import build_evaluation_table, tabulate_image_predictions

    study = world.study

    def work() -> str:
        """Write the evaluation table as MLflow does."""
        import pandas as pd

        table = build_evaluation_table(tabulate_image_predictions(study.winner, tiles=study.tiles), path="images.json")
        return str(pd.DataFrame(table.rows, columns=list(table.columns)).to_json(orient="split"))

    return work


def _log_trial(world: World) -> Work:
    """Scores, figures and predictions of one trial, as files."""
    from sem_search.tracking.entries.run_contents import iter_fold_entries, iter_trial_entries
    from sem_search.tracking.entries.types import ChartImage, EvaluationTable, Metrics, Params, Tags

    study = world.study

    def work() -> bytes:
        """Write all that is a file."""
        entries = list(iter_trial_entries(study.winner, tiles=study.tiles, select_on="validation"))
        entries += [entry for fold in study.winner.folds for entry in iter_fold_entries(fold, tiles=study.tiles)]
        files = [
            entry.artifact if isinstance(entry, ChartImage) else entry
            for entry in entries
            if not isinstance(entry, EvaluationTable | Metrics | Params | Tags)
        ]
        return b"".join(map(_write, files))

    return work


def _pack_record(world: World) -> Work:
    """Out-of-fold answers that travel with a model, and what a server reads of its record when it starts."""
    from sem_search.deployment.package.record import OutOfFold, pack_out_of_fold, unpack_out_of_fold

    study = world.study

    def work() -> bytes:
        """Pack and unpack."""
        content = pack_out_of_fold(OutOfFold(trial=study.winner, tiles=study.tiles))
        unpack_out_of_fold(content)
        return content

    return work


def _read_pixel_hashes(world: World) -> Work:
    """What a server reads of the model's record when it starts."""
    from sem_search.micrographs.catalogue import Catalogue

    text, root = world.catalogue.to_json(), Path("/nowhere")
    return lambda: frozenset(record.pixels_sha256 for record in Catalogue.from_json(text, root=root).records)


def _store_fold(world: World) -> Work:
    from sem_search.records import FinishedFold
    from sem_search.search.folds.store import pack_fold, unpack_fold

    fold = FinishedFold(outcome=world.study.winner.folds[0], head_weights=())

    def work() -> bytes:
        """Pack and unpack."""
        content = pack_fold(fold)
        unpack_fold(content, fold=0)
        return content

    return work


def _compute_intervals(world: World) -> Work:
    from sem_search.evaluation.answers import tabulate_answers
    from sem_search.evaluation.intervals import compute_intervals

    study = world.study
    return lambda: compute_intervals(tabulate_answers(study.winner, tiles=study.tiles, split="test"))


def _correct_choice(world: World) -> Work:
    """BBC-CV."""
    from sem_search.evaluation.selection import compute_selection_bias

    study = world.study
    return lambda: compute_selection_bias(study, select_on="validation")


def _compare(world: World) -> Work:
    from sem_search.evaluation.comparison import compare_trials

    first, second = world.study.trials[:2]
    tiles = world.tiles
    return lambda: compare_trials(first, second, tiles=tiles)


def _calibrate(world: World) -> Work:
    from sem_search.evaluation.calibration import compute_calibration_scores, cross_fit_temperature
    from sem_search.tracking.entries.trust import gather_image_answers

    answers = gather_image_answers(world.study)

    def work() -> object:
        """Fit and judge."""
        cross_fit_temperature(answers.probabilities, labels=answers.labels, part_of_row=answers.fold_of_row)
        return compute_calibration_scores(
            answers.probabilities, labels=answers.labels, group_of_row=answers.group_of_row
        )

    return work


def _predict_sets(world: World) -> Work:
    from sem_search.evaluation.conformal import compute_risk_coverage, compute_set_scores, cross_predict_sets
    from sem_search.tracking.entries.trust import gather_image_answers

    answers = gather_image_answers(world.study)

    def work() -> object:
        """Calibrate and judge."""
        sets = cross_predict_sets(
            answers.probabilities,
            labels=answers.labels,
            coverage=0.9,
            part_of_row=answers.fold_of_row,
            group_of_row=answers.group_of_row,
        )
        compute_risk_coverage(answers.probabilities, labels=answers.labels)
        return compute_set_scores(sets, labels=answers.labels)

    return work


def _test_labels(world: World) -> Work:
    """The permutation test of an audit's negative control."""
    from sem_search.evaluation.answers import tabulate_answers
    from sem_search.evaluation.label_test import compute_label_test

    table = tabulate_answers(world.study.winner, tiles=world.tiles, split="test")
    return lambda: compute_label_test(table)


def _predict_from_metadata(world: World) -> Work:
    from sem_search.audits.metadata import list_metadata
    from sem_search.evaluation.metadata_model import predict_from_metadata

    columns, tiles, parts = list_metadata(world.catalogue.records), world.tiles, world.part_of_image
    return lambda: predict_from_metadata(columns, labels=tiles.label_of_image, n_classes=N_CLASSES, part_of_image=parts)


def _fit_novelty(world: World) -> Work:
    from sem_search.evaluation.novelty import fit_novelty

    tiles, parts = world.tiles, world.part_of_image
    features = world.draw_features(N_CHANNELS, labels=tiles.label_of_tile).astype(np.float64)
    return lambda: fit_novelty(
        features, image_of_tile=tiles.image_of_tile, label_of_image=tiles.label_of_image, part_of_image=parts
    )


def _compare_lots(world: World) -> Work:
    """Two lots of half of the images each; how small a difference could be seen is left out."""
    from sem_search.evaluation.lots.two_sample import compare_lots

    tiles = world.tiles
    features = world.draw_features(N_CHANNELS, labels=tiles.label_of_tile).astype(np.float64)
    return lambda: compare_lots(
        features,
        image_of_tile=tiles.image_of_tile,
        lot_of_image=np.arange(world.n_images) % 2,
        lot_names=["first", "second"],
        group_of_image=tiles.group_of_image,
        n_power_tests=0,
    )


def _correlate_heat(world: World) -> Work:
    """Heat on particles, four of them in each tile."""
    from sem_search.evaluation.heat_maps.correlation import correlate_heat

    tiles = world.tiles
    particle_maps = np.zeros((tiles.n_tiles, 14, 14), dtype=np.int64)
    numbers = np.arange(4 * tiles.n_tiles).reshape(-1, 2, 2) + 1
    particle_maps[:, 1:13:7, 1:13:7] = numbers
    maps = world.rng.random((tiles.n_tiles, 7, 7))
    measures = {"size": world.rng.random(4 * tiles.n_tiles)}
    return lambda: correlate_heat(
        maps, particle_maps=particle_maps, measures=measures, image_of_tile=tiles.image_of_tile
    )


def _fit_linear(world: World) -> Work:
    """Logistic regression on the training tiles of one fold, its penalty chosen."""
    from sem_search.transfer.heads.linear import fit_linear

    tiles = world.tiles
    at = tiles.get_tiles_of(world.folds.folds[0].training)
    labels = tiles.label_of_tile[at]
    groups = np.asarray(tiles.group_of_image)[tiles.image_of_tile[at]]
    features = world.draw_features(N_POOLED, labels=labels)
    return lambda: fit_linear(features, labels=labels, groups=groups, n_classes=N_CLASSES)


def _choose_sheet(world: World) -> Work:
    """The tiles of the Grad-CAM sheet, one of each class."""
    from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles

    tiles, folds = world.tiles, world.folds
    return lambda: choose_sheet_tiles(tiles, folds=folds)


def _list_mistakes(world: World) -> Work:
    from sem_search.tracking.entries.mistakes import build_mistake_table, list_worst_tiles

    study = world.study

    def work() -> bytes:
        """List them, and write the table."""
        list_worst_tiles(study.winner, tiles=study.tiles, n_most=12)
        return _write(build_mistake_table(study.winner, tiles=study.tiles, path="mistakes.csv"))

    return work


def _write_report(world: World) -> Work:
    """The report with its figures, without pictures of micrographs; `trust` is computed before."""
    from sem_search.tracking.entries.context import ExampleImage, StudyContext, TilingExample
    from sem_search.tracking.entries.trust import compute_trust
    from sem_search.tracking.report.study_page import render_report

    study = world.study
    trust = compute_trust(study)
    example = ExampleImage(
        image_id=study.tiles.image_ids[0],
        label=study.tiles.class_names[0],
        pixels=world.rng.random(SIDE_PX, dtype=np.float32),
        width_px=SIDE_PX[1],
        height_px=SIDE_PX[0],
    )
    inspection = _inspect(world)
    context = StudyContext(
        data="micrographs",
        cells=tuple(trial.cell for trial in study.trials),
        examples=(example,),
        tiling=TilingExample(image=example, tile_px=112, corners_px=((0, 0), (0, 112))),
        folds=[fold.splits for fold in world.folds.folds],
        findings=tuple(finding.message for finding in inspection.findings),
    )
    return lambda: render_report(study, context=context, trust=trust)


STEPS: Mapping[str, Callable[[World], Work]] = {
    "catalogue": _read_catalogue_facts,
    "draw_folds": _draw_folds,
    "cut_tiles": _cut,
    "survey_pixels": _survey,
    "find": _find,
    "inspection_html": _write_inspection_html,
    "inspection_json": _write_inspection_json,
    "fold_table": _write_fold_table,
    "tile_predictions": _write_tile_predictions,
    "image_predictions": _write_image_predictions,
    "log_trial": _log_trial,
    "store_fold": _store_fold,
    "model_record": _pack_record,
    "pixel_hashes": _read_pixel_hashes,
    "intervals": _compute_intervals,
    "correct_choice": _correct_choice,
    "compare": _compare,
    "calibrate": _calibrate,
    "prediction_sets": _predict_sets,
    "label_test": _test_labels,
    "metadata_model": _predict_from_metadata,
    "novelty": _fit_novelty,
    "linear_head": _fit_linear,
    "lots": _compare_lots,
    "morphology": _correlate_heat,
    "grad_cam_sheet": _choose_sheet,
    "mistakes": _list_mistakes,
    "report": _write_report,
}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(json.dumps(_measure_step(sys.argv[1], n_images=int(sys.argv[2]))))

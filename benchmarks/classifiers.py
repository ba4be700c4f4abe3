"""What each step of the search is worth beside logistic regression: real searches, row by row, on sets of micrographs.

Each search runs in a process and a folder of its own; the features are computed before it, once for each set.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.classifier_results import Result, Task, append_result, read_results
from benchmarks.classifier_rows import LOGISTIC, ROWS, ImageSet
from benchmarks.searching import build_environment, count_ended_epochs
from sem_search.evaluation.answers import AnswerTable, tabulate_answers, tabulate_tile_answers
from sem_search.places import CACHE_VARIABLE
from sem_search.search.api import search
from sem_search.search.prepare.prepared_search import PreparedSearch, prepare_search
from sem_search.settings import build_settings
from sem_search.tracking.mlflow.own_runs import RUN_ID_VARIABLE
from sem_search.transfer.heads.linear import fit_linear
from sem_search.transfer.heads.training import get_tile_splits


def measure_classifiers(
    image_sets: Sequence[ImageSet],
    *,
    seeds: Sequence[int],
    rows: Sequence[str],
    backbone: str,
    weights: str,
    threads: int,
    file: Path,
) -> Iterator[Result]:
    """Measure what the file of results lacks; yield each result once it is written.

    Cost: minutes to an hour for each search of the whole grid, with `paper` several times as long.

    Args:
        image_sets: What to classify.
        seeds: Of the folds, and of the demonstration set.
        rows: Names in `ROWS`.
        backbone: Its name.
        weights: As in a search.
        threads: Of each search.
        file: The results, one line of JSON each.
    """
    path = Path(weights)
    given: dict[str, Any] = {
        "backbone": backbone,
        "weights": str(path.absolute()) if path.is_file() else weights,
        "threads": threads,
        "precision": "float32",  # as `paper` has it
    }
    for image_set in image_sets:
        given |= {"data": image_set.data, "tile_px": image_set.tile_px, "exclude": image_set.exclude}
        task = Task(image_set=image_set.name, backbone=backbone, weights=path.name.split(".")[0], seed=0, row="")
        with tempfile.TemporaryDirectory() as cache:
            for seed in seeds:
                yield from _measure_rows(
                    replace(task, seed=seed), rows=rows, given={**given, "seed": seed}, file=file, cache=cache
                )


def _measure_rows(
    task: Task, *, rows: Sequence[str], given: Mapping[str, Any], file: Path, cache: str
) -> Iterator[Result]:
    known = {result.task for result in read_results(file)}
    missing = [row for row in rows if replace(task, row=row) not in known]
    logistic = [row for row in LOGISTIC if replace(task, row=row) not in known]
    if not missing and not logistic:
        return
    # Also where logistic regression is known: the searches find the features computed.
    for result in _run_alone(_measure_logistic, task, {**given, **ROWS["standard"]}, cache=cache):
        if result.task.row in logistic:
            append_result(file, result=result)
            yield result
    for row in missing:
        [result] = _run_alone(_measure_search, replace(task, row=row), {**given, **ROWS[row]}, cache=cache)
        append_result(file, result=result)
        yield result


def _run_alone(
    measure: Callable[[Task, dict[str, Any]], list[Result]], task: Task, given: dict[str, Any], *, cache: str
) -> list[Result]:
    """Return what a function measures in a new process, whose stores lie in a folder that is removed afterwards."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_settle, initargs=(folder, cache)
        ) as alone,
    ):
        return alone.submit(measure, task, given).result()


def _settle(folder: str, cache: str) -> None:
    os.chdir(folder)
    os.environ.pop(RUN_ID_VARIABLE, None)
    os.environ |= {CACHE_VARIABLE: cache, **build_environment(Path(folder))}


def _measure_search(task: Task, given: dict[str, Any]) -> list[Result]:
    """Return what the winner of a search answered."""
    begun = time.perf_counter()
    study = search(**given)
    minutes = (time.perf_counter() - begun) / 60
    outcome = study.outcome
    n_epochs = sum(len(fold.curves.training_loss) for trial in outcome.trials for fold in trial.folds)
    return [
        Result(
            task=task,
            minutes=minutes,
            n_epochs=n_epochs + count_ended_epochs(Path.cwd(), study=study.name),
            n_complete=sum(trial.state == "complete" for trial in outcome.trials),
            winner=outcome.winner.cell.to_text(),
            answers=tabulate_answers(outcome.winner, tiles=outcome.tiles, split="test"),
        )
    ]


def _measure_logistic(task: Task, given: dict[str, Any]) -> list[Result]:
    """Return what logistic regression answered, trained on the training images of each fold, and on all but its test
    images."""
    prepared = prepare_search(build_settings(given))
    begun = time.perf_counter()
    _ = prepared.features
    features_minutes = (time.perf_counter() - begun) / 60
    results = []
    for row in LOGISTIC:
        begun = time.perf_counter()
        answers = _answer_by_logistic(prepared, splits=LOGISTIC[row])
        minutes = (time.perf_counter() - begun) / 60
        task = replace(task, row=row)
        results.append(Result(task=task, minutes=minutes, features_minutes=features_minutes, answers=answers))
    return results


def _answer_by_logistic(prepared: PreparedSearch, *, splits: Sequence[str]) -> AnswerTable:
    """Return what is answered for the test images of each fold by what has learned from its other splits."""
    tiles, features = prepared.data.tiles, prepared.trainer.pooled  # view after view: a tile's index is that of view 0
    groups = np.asarray(tiles.group_of_image)[tiles.image_of_tile]
    answered = []
    for fold in prepared.data.folds.folds:
        own = get_tile_splits(fold, tiles=tiles)
        known = np.concatenate([getattr(own, name) for name in splits])
        labels, n_classes = tiles.label_of_tile[known], len(tiles.class_names)
        solution = fit_linear(features[known], labels=labels, groups=groups[known], n_classes=n_classes)
        answered.append((own.test, solution.predict(features[own.test])))
    return tabulate_tile_answers(answered, tiles=tiles)

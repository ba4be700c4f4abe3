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

from benchmarks.classifier_results import Result, Task, append_result, read_results
from benchmarks.classifier_rows import LOGISTIC, ROWS, ImageSet
from benchmarks.searching import build_environment, count_ended_epochs
from sem_search.evaluation.answers import tabulate_answers
from sem_search.places import CACHE_VARIABLE
from sem_search.search.api import search
from sem_search.search.prepare.prepared_search import prepare_search
from sem_search.search.results.baselines import get_baselines
from sem_search.settings import build_settings
from sem_search.tracking.mlflow.own_runs import RUN_ID_VARIABLE


def measure_classifiers(
    image_sets: Sequence[ImageSet],
    *,
    seeds: Sequence[int],
    rows: Sequence[str],
    backbone: str,
    weights: str,
    learning_rates: str,
    batch_sizes: str,
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
        learning_rates: Of every row, by commas; `auto` for those of its preset.
        batch_sizes: The same.
        threads: Of each search.
        file: The results, one line of JSON each.
    """
    path = Path(weights)
    given: dict[str, Any] = {
        "backbone": backbone,
        "weights": str(path.absolute()) if path.is_file() else weights,
        "learning_rates": learning_rates,
        "batch_sizes": batch_sizes,
        "threads": threads,
        "engine": "tensorflow",  # as `paper` has it, and the precision
        "precision": "float32",
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
    """Return what logistic regression answered, as every study has it among its baselines."""
    prepared = prepare_search(build_settings(given))
    begun = time.perf_counter()
    _ = prepared.trainer  # reads the features, or computes them
    features_minutes = (time.perf_counter() - begun) / 60
    begun = time.perf_counter()
    answers = {one.name: one.answers for one in get_baselines(prepared)}
    minutes = (time.perf_counter() - begun) / 60
    found = {row: answers[name] for row, name in LOGISTIC.items()}
    return [
        Result(task=replace(task, row=row), minutes=minutes, features_minutes=features_minutes, answers=table)
        for row, table in found.items()
        if table is not None
    ]

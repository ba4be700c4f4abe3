"""Faults that really happen: a search killed at any moment, a full disk, damaged files, an input that changes.

Whatever it is, the search that goes on ends with the winner and every logged number of one that was never disturbed.
"""

import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.test_end_to_end import LIMIT_S, TINY_PARAMETERS, Place

PARAMETERS = {**TINY_PARAMETERS, "batch_sizes": "8"}
"""Two cells of five folds."""

Numbers = dict[tuple[str, str, int], str]

LONG_KILLS, QUICK_KILLS = 25, 3


def read_numbers(place: Place) -> Numbers:
    """Return every number that was logged for a trial, each epoch and fold of it, to the last bit, by cell, key, step.

    Wall-clock times are left out, and runs that another has taken over.
    """
    query = """
        select cell.value, metrics.key, metrics.step, metrics.value from metrics
        join tags cell on cell.run_uuid = metrics.run_uuid and cell.key = 'sem_search.cell'
        join tags kind on kind.run_uuid = metrics.run_uuid and kind.key = 'sem_search.kind' and kind.value = 'trial'
        where metrics.run_uuid not in (select run_uuid from tags where key = 'sem_search.superseded_by')
        and metrics.key not like '%\\_s' escape '\\'
    """
    with sqlite3.connect(place.folder / "mlflow.db") as database:
        rows = list(database.execute(query))
    numbers = {(cell, key, step): float(value).hex() for cell, key, step, value in rows}
    assert len(numbers) == len(rows), "a number was logged twice"
    return numbers


def find_winner(printed: str) -> str:
    return next(line for line in printed.splitlines() if line.startswith("Winner"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Place, str, float]:
    """A search that ran through, its winner's line, and how many seconds it took."""
    place = Place(folder=tmp_path_factory.mktemp("undisturbed"))
    place.run_search(help="")  # the first process of all waits for TensorFlow's import, which is not to be counted
    begun_s = time.monotonic()
    done = place.run_search(data=str(tiny_folder), **PARAMETERS)
    assert done.returncode == 0, done.stderr[-4000:]
    return place, find_winner(done.stdout), time.monotonic() - begun_s


def kill_at(place: Place, *, after_s: float, data: Path) -> bool:
    """Start a search and kill it after so long; tell whether it was still at work."""
    process = place.start_search(data=str(data), **PARAMETERS)
    try:
        _, errors = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, errors[-4000:]
    return False


def check_same(place: Place, undisturbed: tuple[Place, str, float], *, data: Path, **more: str) -> str:
    """Let the search go on to its end, and hold all that it says against the undisturbed one; return its stderr."""
    done = place.run_search(data=str(data), **{**PARAMETERS, **more})
    assert done.returncode == 0, done.stderr[-4000:]
    assert find_winner(done.stdout) == undisturbed[1]
    assert read_numbers(place) == read_numbers(undisturbed[0])
    statuses = {run.info.status for run in place.get_runs("trial") + place.get_runs("study")}
    assert statuses <= {"FINISHED", "KILLED", "FAILED"}
    return done.stderr


def kill_and_resume(folder: Path, undisturbed: tuple[Place, str, float], *, n_kills: int, seed: int, data: Path) -> int:
    """Kill searches at so many random moments; each goes on, and ends as if nothing had been. Return the searches."""
    moments = random.Random(seed)
    n_killed = n_searches = 0
    while n_killed < n_kills:
        n_searches += 1
        place, kept = Place(folder=folder / str(n_searches)), {}
        place.folder.mkdir(parents=True)
        while n_killed < n_kills:
            if not kill_at(place, after_s=moments.uniform(0, undisturbed[2]), data=data):
                break
            n_killed += 1
            now = place.stamp_finished_folds()
            assert {path: now[path] for path in kept} == kept, "a finished fold was trained again"
            kept = now
        check_same(place, undisturbed, data=data)
        assert {path: place.stamp_finished_folds()[path] for path in kept} == kept
        assert place.count_finished_folds() == undisturbed[0].count_finished_folds(), "none lost, none more"
    return n_searches


@pytest.mark.slow
def test_a_search_killed_at_random_moments_is_as_if_nothing_had_been(
    tmp_path: Path, undisturbed: tuple[Place, str, float], tiny_folder: Path
) -> None:
    kill_and_resume(tmp_path, undisturbed, n_kills=QUICK_KILLS, seed=6, data=tiny_folder)


@pytest.mark.slow
@pytest.mark.long
def test_a_search_killed_at_twenty_five_random_moments(
    tmp_path: Path, undisturbed: tuple[Place, str, float], tiny_folder: Path
) -> None:
    n_searches = kill_and_resume(tmp_path, undisturbed, n_kills=LONG_KILLS, seed=25, data=tiny_folder)
    print(f"{LONG_KILLS} kills in {n_searches} searches")


def copy_place(undisturbed: tuple[Place, str, float], folder: Path) -> Place:
    """Return a copy of the finished search's folder: a place that damage is done to."""
    return Place(folder=Path(shutil.copytree(undisturbed[0].folder, folder)))


def flip_a_bit(path: Path, *, seed: int) -> None:
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


@pytest.mark.slow
def test_a_flipped_bit_in_every_kind_of_kept_file_changes_nothing(
    tmp_path: Path, undisturbed: tuple[Place, str, float], tiny_folder: Path
) -> None:
    place = copy_place(undisturbed, tmp_path / "damaged")
    (features,) = place.folder.glob("cache/features/*/features_0.npy")
    (manifest,) = place.folder.glob("cache/features/*/manifest.json")
    folds = sorted(place.folder.glob("studies/*/*/fold_*.bin"))
    tables = [*place.folder.glob("studies/*/study.json"), *place.folder.glob("studies/*/folds.json")]
    for number, path in enumerate([features, manifest, *tables, *folds[::4]]):
        flip_a_bit(path, seed=number)
    told = check_same(place, undisturbed, data=tiny_folder)
    assert "study.json was damaged" in told
    assert "folds.json was damaged" in told
    assert told.count("could not be read on this machine") == len(folds[::4])
    check_same(place, undisturbed, data=tiny_folder)


@contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Path]:
    """A disk in memory of this size, where that is allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def grow(folder: Path, *, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [pytest.param("300k", marks=pytest.mark.long), "1500k", pytest.param("3m", marks=pytest.mark.long)]
)
def test_a_full_disk_is_a_sentence_and_the_search_goes_on_from_there(
    tmp_path: Path, undisturbed: tuple[Place, str, float], tiny_folder: Path, size: str
) -> None:
    with small_disk(tmp_path / "disk", size=size) as folder:
        place = Place(folder=folder)
        stopped = place.run_search(data=str(tiny_folder), **PARAMETERS)
        last = stopped.stderr.strip().splitlines()[-1]
        assert last.startswith("Error: "), stopped.stderr[-4000:]
        is_foreseen = " of disk; " in last and "make room" in last.lower()
        assert stopped.returncode == (2 if is_foreseen else 1), stopped.stderr[-4000:]
        found = ("No space left", "disk is full", "disk I/O error", "GB left")
        assert is_foreseen or any(words in last for words in found), last
        kept = place.stamp_finished_folds()
        grow(folder, size="400m")
        check_same(place, undisturbed, data=tiny_folder)
        assert {path: place.stamp_finished_folds()[path] for path in kept} == kept


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["changed", pytest.param("gone", marks=pytest.mark.long)])
def test_an_input_that_changes_during_the_search_is_named_and_put_back_it_goes_on(
    tmp_path: Path, undisturbed: tuple[Place, str, float], tiny_folder: Path, loss: str
) -> None:
    data = Path(shutil.copytree(tiny_folder, tmp_path / "data"))
    place = Place(folder=tmp_path / "place")
    place.folder.mkdir()
    process = place.start_search(data=str(data), **PARAMETERS)
    ends_at = time.monotonic() + LIMIT_S
    while place.count_finished_folds() < 2 and process.poll() is None and time.monotonic() < ends_at:
        time.sleep(0.02)
    victims = [data / label / "0.png" for label in ("blobs", "grains", "stripes")]
    before = {path: path.read_bytes() for path in victims}
    for path in victims:
        path.unlink()
        if loss == "changed":
            shutil.copyfile(data / path.parent.name / "1.png", path)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2, errors[-4000:]
    named = "has changed since it was catalogued" if loss == "changed" else "there is no such file"
    colon = ":" if loss == "gone" else ""  # which of the three is read first, threads decide
    assert any(f"Error: {path.parent.name}/0.png{colon} {named}" in errors for path in victims), errors
    for path, content in before.items():
        path.write_bytes(content)
    kept = place.stamp_finished_folds()
    check_same(place, undisturbed, data=data)
    assert {path: place.stamp_finished_folds()[path] for path in kept} == kept


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file in the way")
    done = Place(folder=tmp_path).run_search(data=str(tiny_folder), **PARAMETERS)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: The ")
    assert "set SEM_SEARCH_CACHE to" in last
    assert "Traceback" not in done.stderr

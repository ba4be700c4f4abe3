"""Wrong files, tables and settings by the hundred: a clear sentence and exit code 2 for each, in time and in memory."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.bad_input import MEMORY_MB, build_playground, call_search, call_with_table, list_settings
from benchmarks.hostile_images import build_good_images, iter_hostile_images
from benchmarks.hostile_reading import ReadingOutcome, read_hostile_images
from benchmarks.hostile_settings import WRONG_SETTINGS
from benchmarks.hostile_tables import WRONG_TABLES
from sem_search.micrographs.reading.micrograph import read_micrograph

ROOT = Path(__file__).parents[1]
N_IMAGES = 400
SLOWEST_S = 10.0
"""For one file on a busy machine; the slowest took 1.5 s alone."""

LONGEST_MESSAGE = 400


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_playground(tmp_path_factory.mktemp("playground"))


@pytest.fixture(scope="module")
def outcomes() -> list[ReadingOutcome]:
    """What became of hundreds of hostile images in a process of its own."""
    return read_hostile_images(n=N_IMAGES, seed=0, memory_mb=MEMORY_MB, limit_s=180)


@pytest.mark.parametrize("name", list(build_good_images()))
def test_what_is_damaged_was_good_before(name: str) -> None:
    assert read_micrograph(build_good_images()[name]).pixels.shape in {(64, 64), (60, 64)}


def check_outcomes(outcomes: Sequence[ReadingOutcome], *, n: int) -> None:
    """Every file was read as a picture or refused in one sentence, in time; more than half were refused."""
    assert len(outcomes) == n
    fates = Counter(outcome.fate for outcome in outcomes)
    assert set(fates) == {"refused", "read"}, [one for one in outcomes if one.fate not in ("refused", "read")]
    assert fates["refused"] > n / 2
    for outcome in outcomes:
        assert outcome.took_s < SLOWEST_S, outcome
        if outcome.fate == "refused":
            assert outcome.message.startswith(f"{outcome.name}: ")
            assert "\n" not in outcome.message
            assert len(outcome.message) < LONGEST_MESSAGE, outcome
            assert "Traceback" not in outcome.message


def test_hundreds_of_hostile_images_are_pictures_or_refused(outcomes: list[ReadingOutcome]) -> None:
    check_outcomes(outcomes, n=N_IMAGES)
    assert Counter(outcome.fate for outcome in outcomes)["refused"] >= 200


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_hostile_images_are_pictures_or_refused(seed: int) -> None:
    check_outcomes(read_hostile_images(n=10_000, seed=seed, memory_mb=MEMORY_MB, limit_s=1200), n=10_000)


def test_a_search_lists_every_file_that_it_cannot_read_by_name(tmp_path: Path, outcomes: list[ReadingOutcome]) -> None:
    refused = {outcome.name for outcome in outcomes if outcome.fate == "refused"}
    for number, image in enumerate(iter_hostile_images(n=N_IMAGES, seed=0)):
        if image.name in refused:
            path = tmp_path / "data" / "xy"[number % 2] / image.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.content)
    ended = call_search(["--data", "data", "--backbone", "tiny", "--weights", "random"], folder=tmp_path)
    assert ended.exit_code == 2
    assert f"{len(refused)} of {len(refused)} files cannot be used" in ended.errors
    assert all(name in ended.errors for name in refused)
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("name", list(WRONG_TABLES))
def test_a_wrong_table_is_refused(name: str, playground: Path) -> None:
    content, named = WRONG_TABLES[name]
    ended = call_with_table(content, folder=playground)
    assert ended.is_clear(named=named), ended
    assert len(ended.errors) < 3000


@pytest.mark.parametrize(("words", "named"), list_settings())
def test_wrong_settings_are_refused(words: str, named: str, playground: Path) -> None:
    ended = call_search(words.split(), folder=playground)
    assert ended.is_clear(named=named), ended
    assert not (playground / "studies").exists()


def test_there_are_fifty_of_each() -> None:
    assert len(WRONG_TABLES) >= 50
    assert len(list_settings()) >= 50


SAMPLE = [pair for pair in WRONG_SETTINGS if "--data full" in pair[0]] + list(WRONG_SETTINGS[::16])


@pytest.mark.slow
@pytest.mark.parametrize(("words", "named"), SAMPLE)
def test_real_processes_refuse_alike(words: str, named: str, tmp_path: Path) -> None:
    folder = build_playground(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "sem_search", "search", *words.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEM_SEARCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr

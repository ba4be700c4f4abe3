import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sem_search.deployment.batch.resume import PredictionJournal
from sem_search.deployment.batch.table import Prediction

QUESTION = {"model": "models:/m/1", "coverage": 0.9}


def build(name: str, *, error: str | None = None) -> Prediction:
    return Prediction(
        image=name,
        model="models:/m/1",
        label="starch",
        probabilities={"lactose": 0.25, "starch": 0.75},
        prediction_set=("starch",),
        error=error,
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    return path


@pytest.fixture
def output(tmp_path: Path, picture: Path) -> Path:
    """A table whose journal knows one picture."""
    PredictionJournal(tmp_path / "p.csv", question=QUESTION).add(build("a.png"), path=picture)
    return tmp_path / "p.csv"


def test_what_was_stored_is_known_again_in_full(output: Path, picture: Path) -> None:
    journal = PredictionJournal(output, question=QUESTION)
    assert journal.n_known == 1
    assert journal.get(picture, shown_name="a.png") == build("a.png")
    assert journal.get(picture, shown_name="other.png") is None


def test_what_was_known_outlives_a_second_stop(output: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.png"
    other.write_bytes(b"picture")
    PredictionJournal(output, question=QUESTION).add(build("b.png"), path=other)
    journal = PredictionJournal(output, question=QUESTION)
    assert journal.get(picture, shown_name="a.png") == build("a.png")
    assert journal.get(other, shown_name="b.png") == build("b.png")


def test_a_table_on_standard_output_has_no_journal(picture: Path) -> None:
    journal = PredictionJournal(None, question=QUESTION)
    journal.add(build("a.png"), path=picture)
    journal.remove()
    assert (journal.n_known, journal.get(picture, shown_name="a.png")) == (0, None)


def test_a_file_that_has_changed_is_not_known(output: Path, picture: Path) -> None:
    picture.write_bytes(b"another picture")
    assert PredictionJournal(output, question=QUESTION).get(picture, shown_name="a.png") is None
    picture.write_bytes(b"picture")
    os.utime(picture, ns=(0, 0))
    assert PredictionJournal(output, question=QUESTION).get(picture, shown_name="a.png") is None
    picture.unlink()
    assert PredictionJournal(output, question=QUESTION).get(picture, shown_name="a.png") is None


@pytest.mark.parametrize("question", [{"model": "models:/m/2", "coverage": 0.9}, {"model": "models:/m/1"}])
def test_another_question_takes_nothing_over(output: Path, question: dict[str, object]) -> None:
    assert PredictionJournal(output, question=question).n_known == 0


def test_images_without_an_answer_are_tried_again(tmp_path: Path, picture: Path) -> None:
    PredictionJournal(tmp_path / "p.csv", question=QUESTION).add(build("a.png", error="is damaged"), path=picture)
    assert PredictionJournal(tmp_path / "p.csv", question=QUESTION).n_known == 0


@pytest.mark.parametrize(
    ("damage", "n_known"),
    [(lambda text: text[:-9], 0), (lambda text: text + "\n{torn", 1), (lambda text: text + "\n[1]", 1)],
)
def test_a_line_that_was_cut_short_does_not_count(
    output: Path, picture: Path, damage: Callable[[str], str], n_known: int
) -> None:
    path = output.with_name(".p.csv.journal")
    path.write_text(damage(path.read_text()))
    journal = PredictionJournal(output, question=QUESTION)
    assert journal.n_known == n_known
    journal.add(build("a.png"), path=picture)
    assert PredictionJournal(output, question=QUESTION).n_known == 1, "a line after it does"


def test_nothing_is_left_when_the_table_is_written(output: Path) -> None:
    PredictionJournal(output, question=QUESTION).remove()
    assert not output.with_name(".p.csv.journal").exists()

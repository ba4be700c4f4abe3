"""What was answered is found again, whichever version answered and when; a journal that is away costs no answer."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel
from sqlalchemy import text

from sem_search.deployment.batch import predict as predicting
from sem_search.deployment.batch.predict import predict_images
from sem_search.deployment.monitoring.journal import AnswerJournal, JournalRow, describe_answer
from sem_search.deployment.package.writing import LoggedClassifier
from sem_search.deployment.server.main import ServeSettings, run_server
from sem_search.errors import SettingsError, StoreError
from sem_search.micrographs.reading.micrograph import read_micrograph
from tests.servers.postgres import PASSWORD, find_obstacle, run_postgres

needs_postgres = pytest.mark.skipif(find_obstacle() is not None, reason=find_obstacle() or "")

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ANSWER = {
    "label": "starch",
    "probability": 0.9,
    "probabilities": {"starch": 0.9, "lactose": 0.1},
    "prediction_set": ["starch"],
    "is_known": True,
    "novelty": 0.7,
    "pixel_size_nm": 5.0,
    "pixel_size": "as trained",
    "is_training_image": False,
    "model_name": "m",
    "model_version": "3",
    "warnings": ["one"],
}


def describe(pictures: Any, *, seed: int = 0, at: datetime = NOON, **changed: Any) -> JournalRow:
    micrograph = read_micrograph(pictures.encode(pictures.draw(seed=seed)))
    return describe_answer(ANSWER | changed, micrograph=micrograph, duration_ms=12.5, answered_at=at)


def test_an_answer_is_read_as_it_was_written(tmp_path: Path, pictures: Any) -> None:
    journal = AnswerJournal.open(str(tmp_path / "answers.db"))
    journal.write([describe(pictures, novelty=float("inf")), describe(pictures, seed=1, is_known=None, novelty=None)])
    journal.write([])
    table = AnswerJournal.open(f"sqlite:///{tmp_path}/answers.db", is_new_allowed=False).read(
        model_name="m", model_version="3"
    )
    first, second = (row._asdict() for row in table.itertuples())
    assert first["label"] == "starch" and first["prediction_set"] == ["starch"] and first["novelty"] == float("inf")
    assert first["answered_at"].to_pydatetime() == NOON.replace(tzinfo=None)
    assert first["duration_ms"] == 12.5 and first["image_sha256"] != second["image_sha256"]
    assert second["is_known"] is None
    assert first["mean_grey"] == pytest.approx(pictures.draw().mean() / 255, abs=1e-6)
    assert first["contrast"] == pytest.approx(pictures.draw().std() / 255, abs=1e-6) and first["noise"] > 0


def test_the_same_pixels_in_another_file_have_the_same_hash(pictures: Any) -> None:
    pixels = pictures.draw()
    hashes = {
        describe_answer(ANSWER, micrograph=read_micrograph(pictures.encode(pixels, kind)), duration_ms=1.0).image_sha256
        for kind in ("PNG", "TIFF", "BMP")
    }
    assert len(hashes) == 1


def test_only_the_version_and_the_period_asked_for_are_read(tmp_path: Path, pictures: Any) -> None:
    journal = AnswerJournal.open(str(tmp_path / "answers.db"))
    days = [NOON + timedelta(days=number) for number in (3, 0, 1, 2)]
    journal.write([describe(pictures, seed=day.day, at=day) for day in days])
    journal.write([describe(pictures, at=NOON, model_version="4"), describe(pictures, model_name=None)])
    whole = journal.read(model_name="m", model_version="3")
    assert list(whole.answered_at) == sorted(whole.answered_at) and len(whole) == 4
    part = journal.read(model_name="m", model_version="3", since=days[2], until=days[0])
    assert [moment.day for moment in part.answered_at] == [3, 4]


def test_a_journal_that_cannot_be_written_is_a_warning_and_a_number(
    tmp_path: Path, pictures: Any, caplog: pytest.LogCaptureFixture
) -> None:
    journal = AnswerJournal.open(str(tmp_path / "answers.db"))
    with journal._engine.begin() as connection:
        connection.execute(text("DROP TABLE sem_search_answers"))
    with caplog.at_level(logging.WARNING):
        journal.write([describe(pictures), describe(pictures, seed=1)])
        journal.write([describe(pictures)])
    assert journal.n_lost == 3
    assert "3 answers are not in it" in caplog.text
    with pytest.raises(StoreError, match="cannot be read"):
        journal.read(model_name="m", model_version="3")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("postgresql://user:secret@host:abc/x", "cannot be opened"),
        ("no/such/folder/answers.db", "cannot be opened"),
        ("oracle9://user:secret@host/x", r"oracle9://user:\*+@host/x cannot be opened"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_place_that_is_no_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=message) as refused:
        AnswerJournal.open(place)
    assert "secret" not in str(refused.value)


def test_a_journal_to_be_read_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no such file"):
        AnswerJournal.open(str(tmp_path / "typo.db"), is_new_allowed=False)
    assert not (tmp_path / "typo.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(SettingsError, match="holds no answers"):
        AnswerJournal.open(str(tmp_path / "empty.db"), is_new_allowed=False)


@needs_postgres
def test_a_postgresql_that_was_away_loses_only_what_came_meanwhile(
    pictures: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with run_postgres() as server:
        url = server.get_url()
        journal = AnswerJournal.open(url)
        journal.write([describe(pictures, novelty=float("inf"))])
        server.stop()
        journal.write([describe(pictures, seed=1)])
        assert journal.n_lost == 1 and PASSWORD not in caplog.text
        server.start()
        journal.write([describe(pictures, seed=2, is_known=None)])
        rows = AnswerJournal.open(url, is_new_allowed=False).read(model_name="m", model_version="3")
    assert list(rows.novelty) == [float("inf"), 0.7] and list(rows.is_known) == [True, None]
    assert journal.n_lost == 1


def test_what_a_look_reads_is_found_by_an_index(tmp_path: Path) -> None:
    """A journal of years has millions of rows."""
    journal = AnswerJournal.open(str(tmp_path / "answers.db"))
    query = "SELECT * FROM sem_search_answers WHERE model_name = 'm' AND model_version = '3' AND answered_at >= '2026'"
    with journal._engine.connect() as connection:
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all()
    assert "USING INDEX" in plan[0].detail


def test_a_journal_needs_a_registered_model(
    tmp_path: Path, pictures: Any, logged: LoggedClassifier, tracking: mlflow.MlflowClient
) -> None:
    """Its rows could not be read: they are found by name and version."""
    (tmp_path / "one.png").write_bytes(pictures.encode(pictures.draw()))
    place = str(tmp_path / "answers.db")
    message = "is not registered, but --journal needs a registered model"
    with pytest.raises(SettingsError, match=message):
        predict_images([tmp_path], model_uri=logged.model_uri, output=tmp_path / "p.csv", journal=place)
    with pytest.raises(SettingsError, match=message):
        run_server(ServeSettings(model=logged.model_uri, port=0, journal=place))
    assert not Path(place).exists()


def test_predict_writes_each_new_answer_once(
    tmp_path: Path,
    pictures: Any,
    logged: LoggedClassifier,
    served: PyFuncModel,
    tracking: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predicting, "load_model", lambda _: served)
    version = mlflow.register_model(logged.model_uri, "noted")
    uri = f"models:/{version.name}/{version.version}"
    (tmp_path / "images").mkdir()
    for seed in range(3):
        (tmp_path / "images" / f"{seed}.png").write_bytes(pictures.encode(pictures.draw(seed=seed)))
    (tmp_path / "images" / "torn.png").write_bytes(b"no picture")
    place = str(tmp_path / "answers.db")
    predict_images([tmp_path / "images"], model_uri=uri, output=tmp_path / "p.csv", journal=place)
    with AnswerJournal.open(place)._engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM sem_search_answers")).mappings().all()
    assert len({row["image_sha256"] for row in rows}) == len(rows) == 3
    assert {row["label"] for row in rows} <= {"cellulose", "lactose", "starch"}
    assert all(row["duration_ms"] > 0 and row["novelty"] > 0 for row in rows)

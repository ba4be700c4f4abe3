"""A journal is compared with the training images and with an earlier period; what is found is said in plain words."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from sem_search.cli.main import commands
from sem_search.deployment.monitoring import comparison
from sem_search.deployment.monitoring.answer import build_drift_answer, list_metrics
from sem_search.deployment.monitoring.comparison import compare_period, select_images
from sem_search.deployment.monitoring.journal import AnswerJournal, JournalRow
from sem_search.errors import DataError, SettingsError
from sem_search.search.commands import monitor as monitoring
from sem_search.search.commands.monitor import run_monitor
from tests.metrics_page import check_names

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
LABELS = ("cellulose", "lactose", "starch")
URI = "models:/powders/3"


def draw_rows(n: int, *, first: int = 0, seed: int = 0, **changed: Any) -> list[JournalRow]:
    """Answers, ten a day; `changed` holds functions of the row's number and label, or values."""
    rng = np.random.default_rng([seed, first])
    rows = []
    for number in range(first, first + n):
        label = str(rng.choice(LABELS))
        novelty = float(rng.gamma(9, 1 / 12))
        values: dict[str, Any] = {
            "answered_at": (BEGIN + timedelta(hours=2.4 * number)).replace(tzinfo=None),
            "image_sha256": f"{rng.integers(2**60):064x}"[::-1],
            "label": label,
            "probability": float(rng.beta(20, 1)),
            "prediction_set": [label],
            "is_known": novelty <= 1,
            "novelty": novelty,
            "pixel_size_nm": 5.0,
            "pixel_size": "as trained",
            "mean_grey": float(rng.normal(0.5 + 0.05 * LABELS.index(label), 0.02)),
            "contrast": float(rng.normal(0.2, 0.02)),
            "noise": float(rng.normal(0.05, 0.005)),
            "is_training_image": False,
            "model_name": "powders",
            "model_version": "3",
            "duration_ms": 20.0,
        }
        values |= {name: change(values) if callable(change) else change for name, change in changed.items()}
        rows.append(JournalRow(**values))
    return rows


def farther(factor: float, *, of: tuple[str, ...] = LABELS) -> Callable[[dict[str, Any]], float]:
    return lambda values: values["novelty"] * (factor if values["label"] in of else 1.0)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Thirty training images, as a registered model would hold them."""
    rng = np.random.default_rng(99)
    novelty = rng.gamma(9, 1 / 12, 30)
    frame = pd.DataFrame(
        {
            "label": np.repeat(LABELS, 10),
            "novelty": novelty,
            "is_known": novelty <= 1,
            "pixel_size": "as trained",
            "mean_grey": rng.normal(np.repeat([0.5, 0.55, 0.6], 10), 0.02),
            "contrast": rng.normal(0.2, 0.02, 30),
            "noise": rng.normal(0.05, 0.005, 30),
            "ties": rng.random(30),
        }
    )
    monkeypatch.setattr(monitoring, "read_training", lambda _: frame)
    monkeypatch.setattr(monitoring, "resolve_model_uri", lambda uri: uri)
    return frame


@pytest.fixture
def look(
    tmp_path: Path, training: pd.DataFrame, tracking: mlflow.MlflowClient
) -> Callable[..., tuple[str, monitoring.DriftReport]]:
    """Write rows to a journal and look at them; return what is shown, and the report."""

    def run(rows: list[JournalRow], **given: Any) -> tuple[str, monitoring.DriftReport]:
        place = tmp_path / "answers.db"
        AnswerJournal.open(str(place)).write(rows)
        shown: list[str] = []
        report = run_monitor(str(place), output=tmp_path / "out", model_uri=URI, show=shown.append, **given)
        return "\n".join(shown), report

    return run


def test_a_quiet_journal_has_no_drift(look: Any, tmp_path: Path, tracking: mlflow.MlflowClient) -> None:
    shown, report = look(draw_rows(120))
    assert report.cause is None
    assert "No drift found. 120 images of this period gave no alarm." in shown
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"monitor.html", "monitor.json", "monitor.txt"}
    assert "Has something drifted?" in (tmp_path / "out" / "monitor.html").read_text(encoding="utf-8")
    experiments = [experiment.experiment_id for experiment in tracking.search_experiments()]
    (run,) = [run for run in tracking.search_runs(experiments) if run.data.tags.get("sem_search.kind") == "monitor"]
    assert run.data.metrics["monitor/has_drifted"] == 0 and run.data.metrics["monitor/images"] == 120
    assert run.data.metrics["monitor/unknown_low"] < run.data.metrics["monitor/unknown"]
    assert run.data.params["against"] == "training"


def test_few_images_cannot_show_that_nothing_has_drifted(look: Any) -> None:
    assert "Too few images to tell. 19 images of this period gave no alarm." in look(draw_rows(19))[0]


@pytest.mark.parametrize(
    ("changed", "verdict", "advice"),
    [
        ({"novelty": farther(2.0)}, "The instrument or its settings changed", "compare brightness, contrast"),
        (
            {"novelty": farther(3.0, of=("starch",))},
            "The material changed",
            "by novelty: images called starch have changed, the others have not",
        ),
        (
            {"contrast": lambda values: 0.7 * values["contrast"]},
            "The instrument or its settings changed",
            "by contrast: images of all labels have changed",
        ),
        ({"pixel_size": "far"}, "The magnification changed", "set it back"),
        (
            {"novelty": farther(3.0), "label": "lactose"},
            "Images unlike those before came",
            "take images of a sample that the model knows",
        ),
    ],
)
def test_a_change_is_named_with_its_day_and_what_to_do(
    look: Any, changed: dict[str, Any], verdict: str, advice: str
) -> None:
    shown, report = look([*draw_rows(60), *draw_rows(60, first=60, **changed)])
    assert re.search(rf"{verdict}\. Since about 2026-01-(09|1\d), found after \d\d images by ", shown)
    assert re.search(advice, shown.casefold())
    assert report.cause is not None


@pytest.mark.parametrize("seed", range(6))
def test_a_drift_that_has_passed_is_reported_with_its_own_day(training: pd.DataFrame, seed: int) -> None:
    """Sixty quiet images, forty that lie farther out, and four hundred quiet ones."""
    drift = draw_rows(40, first=60, seed=seed, novelty=farther(3.0))
    rows = [*draw_rows(60, seed=seed), *drift, *draw_rows(400, first=100, seed=seed)]
    period = select_images(pd.DataFrame([asdict(row) for row in rows]))
    report = compare_period(training, period)
    answer = build_drift_answer(report, subject="", reference="Training")
    assert report.cause == "instrument"
    assert re.search(r"Since about 2026-01-1[012],", answer.sentence)


def test_what_nobody_can_name_is_not_called_a_material(training: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels may differ from one another though none of them alone stands out."""
    monkeypatch.setattr(comparison, "find_cause", lambda *_: "material")
    monkeypatch.setattr(comparison, "MAX_P_VALUE", 0.0)
    period = select_images(pd.DataFrame([asdict(row) for row in draw_rows(60, novelty=farther(3.0))]))
    report = compare_period(training, period)
    assert (report.cause, report.moved_labels) == ("unclear", ())
    assert "cannot be told yet" in build_drift_answer(report, subject="", reference="Training").sentence


def test_labels_that_moved_are_named_by_p_values_for_all_of_them(training: pd.DataFrame) -> None:
    """With twenty labels, one that did not move is often below 5 % by a look at it alone."""
    labels = np.array([f"powder {number:02}" for number in range(20)])
    shares = np.array([0.24, *[0.04] * 19])
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(10):
        reference = pd.concat([training.head(10).assign(label=label) for label in labels])
        reference = reference.assign(novelty=rng.gamma(9, 1 / 12, 200), ties=rng.random(200))
        rows = [asdict(row) for row in draw_rows(400)]
        period = select_images(pd.DataFrame(rows)).assign(label=rng.choice(labels, 400, p=shares))
        novelty = rng.gamma(9, 1 / 12, 400) * np.where(period.label == labels[0], 3.0, 1.0)
        report = compare_period(
            reference, period.assign(novelty=novelty, mean_grey=np.nan, contrast=np.nan, noise=np.nan)
        )
        assert labels[0] in report.moved_labels
        wrong += len(report.moved_labels) > 1
    assert wrong <= 2


def test_images_without_a_finite_novelty_are_logged_as_such(look: Any, tmp_path: Path) -> None:
    _, report = look(draw_rows(5, novelty=float("inf")))
    assert report.cause is not None
    numbers = json.loads((tmp_path / "out" / "monitor.json").read_text(encoding="utf-8"))
    assert numbers["monitor/novelty_high"] == "inf" and numbers["monitor/images"] == 5


def test_other_labels_than_in_training_are_no_drift(look: Any) -> None:
    shown, report = look(draw_rows(150, label="lactose"))
    assert report.cause is None and "gives no alarm" in shown


def test_against_an_earlier_period_doubt_counts_too(look: Any) -> None:
    sure, unsure = draw_rows(80), draw_rows(80, first=80, probability=lambda values: values["probability"] - 0.2)
    shown, report = look([*sure, *unsure, sure[3]], against="2026-01-01..2026-01-13")
    assert len(report.reference) == 80 and len(report.period) == 80  # the image that came again counts once
    assert "Answers became less sure. Since about 2026-01-13" in shown
    assert report.mix_p_value is not None and report.mix_p_value > 0.05
    assert report.needed == 120
    names = {name for name, _, _ in list_metrics(report)}
    check_names(names, "Metrics of a look at the journal")


def test_repeated_and_training_images_count_once_and_not_at_all() -> None:
    rows = [*draw_rows(5), *draw_rows(5), *draw_rows(3, first=5, is_training_image=True)]
    frame = pd.DataFrame([asdict(row) for row in rows])
    assert len(select_images(frame)) == 5
    assert select_images(frame).ties.between(0, 1).all()


def test_what_is_not_known_gives_no_figure(training: pd.DataFrame) -> None:
    rows = draw_rows(20, novelty=None, is_known=None, pixel_size="unknown")
    report = compare_period(training, select_images(pd.DataFrame([asdict(row) for row in rows])))
    assert [one.period for one in report.figures[:3]] == [None, None, None]
    assert [one.p_value is None for one in report.figures] == [True, True, True, False, False, False]
    answer = build_drift_answer(report, subject="", reference="Training")
    assert [row.cells[1:4] for row in answer.overview[0].rows[:3]][1][1:] == ("not known", "not known")
    assert report.cause is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"since": "yesterday"}, SettingsError, "since=yesterday is no date"),
        ({"against": "2026-02-01"}, SettingsError, "give training, or a period"),
        ({"against": "2026-02-01..2026-01-01"}, SettingsError, "give training, or a period"),
        ({"against": "2026-01-01..2026-01-08", "since": "2026-01-07"}, SettingsError, "count twice"),
        ({"since": "2030-01-01"}, DataError, "no new images of models:/powders/3 in this period"),
        ({"against": "2020-01-01..2020-01-08"}, DataError, r"in 2020-01-01..2020-01-08"),
    ],
)
def test_a_look_at_nothing_is_refused(look: Any, given: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        look(draw_rows(30), **given)


def test_the_exit_code_tells_only_where_it_is_asked_for(
    tmp_path: Path, training: pd.DataFrame, tracking: mlflow.MlflowClient
) -> None:
    place = str(tmp_path / "answers.db")
    AnswerJournal.open(place).write(draw_rows(40, novelty=farther(3.0)))
    words = ["monitor", "--journal", place, "--model", URI, "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(commands, words, catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(commands, [*words, "--fail-on-drift"], catch_exceptions=False).exit_code == 3

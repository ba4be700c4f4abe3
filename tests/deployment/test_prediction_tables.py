import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sem_search.deployment.prediction_tables import CSV_COLUMNS, Prediction, write_predictions

GOOD = Prediction(
    image="a,b.tif",
    model="models:/m/1",
    label="starch",
    probability=0.75,
    probabilities={"lactose": 0.25, "starch": 0.75},
    n_tiles=20,
    warnings=("one", "two"),
    error=None,
)
BAD = Prediction(
    image="torn.png",
    model="models:/m/1",
    label=None,
    probability=None,
    probabilities=None,
    n_tiles=0,
    warnings=(),
    error="is damaged",
)
CLASSES = ("lactose", "starch")


def test_csv_columns_are_as_promised(tmp_path: Path) -> None:
    failed = write_predictions([GOOD, BAD], class_names=CLASSES, output=tmp_path / "p.csv", output_format="csv")
    assert failed == (BAD,)
    assert (tmp_path / "p.csv").read_text() == (
        "image,label,probability,n_tiles,model,warnings,error,p_lactose,p_starch\n"
        '"a,b.tif",starch,0.750000,20,models:/m/1,one; two,,0.250000,0.750000\n'
        "torn.png,,,0,models:/m/1,,is damaged,,\n"
    )
    with (tmp_path / "p.csv").open() as file:
        assert next(csv.reader(file))[: len(CSV_COLUMNS)] == list(CSV_COLUMNS)


def test_json_holds_the_same_in_full_precision(tmp_path: Path) -> None:
    write_predictions([GOOD, BAD], class_names=CLASSES, output=tmp_path / "p.json", output_format="json")
    good, bad = json.loads((tmp_path / "p.json").read_text())
    assert good["probabilities"] == {"lactose": 0.25, "starch": 0.75}
    assert good["warnings"] == ["one", "two"]
    assert bad == {
        "image": "torn.png",
        "model": "models:/m/1",
        "label": None,
        "probability": None,
        "probabilities": None,
        "n_tiles": 0,
        "warnings": [],
        "error": "is damaged",
    }


@pytest.mark.parametrize(("output_format", "wanted"), [("csv", "image,label"), ("json", "[\n]\n")])
def test_nothing_to_write_is_still_a_table(tmp_path: Path, output_format: str, wanted: str) -> None:
    write_predictions([], class_names=CLASSES, output=tmp_path / "p", output_format=output_format)
    assert (tmp_path / "p").read_text().startswith(wanted)


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_predictions([GOOD], class_names=CLASSES, output=None, output_format="csv")
    assert capsys.readouterr().out.count("\n") == 2


def test_a_table_is_there_in_full_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> Iterator[Prediction]:
        yield GOOD
        raise KeyboardInterrupt

    (tmp_path / "p.csv").write_text("of before")
    with pytest.raises(KeyboardInterrupt):
        write_predictions(fail(), class_names=CLASSES, output=tmp_path / "p.csv", output_format="csv")
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "of before"


def test_folders_of_the_output_are_made(tmp_path: Path) -> None:
    write_predictions([GOOD], class_names=CLASSES, output=tmp_path / "a" / "b.csv", output_format="csv")
    assert (tmp_path / "a" / "b.csv").stat().st_mode & 0o044

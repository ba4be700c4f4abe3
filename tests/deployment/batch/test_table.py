import codecs
import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sem_search.deployment.batch.table import CSV_COLUMNS, Prediction, WrittenTable, choose_format, write_predictions
from sem_search.errors import SettingsError

GOOD = Prediction(
    image="a,b.tif",
    model="models:/m/1",
    label="starch",
    probability=0.75,
    probabilities={"lactose": 0.25, "starch": 0.75},
    prediction_set=("starch", "lactose"),
    coverage=0.9,
    is_known=True,
    novelty=1.23456789012345678,
    novelty_threshold=3.0,
    is_training_image=False,
    agreement=0.8,
    spread=0.05,
    pixel_size_nm=134.896,
    pixel_size="as trained",
    n_tiles=20,
    warnings=("one", "two"),
)
STRANGER = Prediction.build(
    {"image": "c.tif", "model": "models:/m/1", "label": "starch", "probability": 0.5, "is_known": False}
)
BAD = Prediction(image="torn.png", model="models:/m/1", error="is damaged")
FORMULA = '=HYPERLINK("http://evil","x").tif'
HOSTILE = Prediction(
    image=FORMULA,
    model="models:/m/1",
    label="@SUM(1)",
    probability=0.5,
    probabilities={"@SUM(1)": 0.5},
    prediction_set=("@SUM(1)", "a"),
    coverage=0.9,
    pixel_size_nm=-1.5,
    warnings=("-1+cmd",),
    error="\t=1",
)
CLASSES = ("lactose", "starch")


def test_csv_columns_are_as_promised(tmp_path: Path) -> None:
    written = write_predictions(
        [GOOD, STRANGER, BAD], class_names=CLASSES, output=tmp_path / "p.csv", output_format="csv"
    )
    assert written == WrittenTable(failed=(BAD,), n_unknown=1, n_training=0)
    assert (tmp_path / "p.csv").read_bytes().startswith(codecs.BOM_UTF8), "Excel asks for it"
    assert (tmp_path / "p.csv").read_text(encoding="utf-8-sig") == (
        "image,label,is_known,nearest,probability,prediction_set,coverage,novelty,novelty_threshold,"
        "is_training_image,agreement,spread,pixel_size_nm,pixel_size,n_tiles,model,warnings,error,p_lactose,p_starch\n"
        '"a,b.tif",starch,true,,0.750000,"[""starch"", ""lactose""]",0.9,1.23457,3,false,0.800000,0.050000,'
        '134.896,as trained,20,models:/m/1,"[""one"", ""two""]",,0.250000,0.750000\n'
        "c.tif,unknown,false,starch,0.500000,,,,,,,,,,0,models:/m/1,,,,\n"
        "torn.png,,,,,,,,,,,,,,0,models:/m/1,,is damaged,,\n"
    )
    with (tmp_path / "p.csv").open(encoding="utf-8-sig") as file:
        assert next(csv.reader(file))[: len(CSV_COLUMNS)] == list(CSV_COLUMNS)


def test_images_that_the_model_learnt_from_are_counted(tmp_path: Path) -> None:
    learnt = replace(GOOD, is_training_image=True)
    written = write_predictions(
        [learnt, GOOD, learnt], class_names=CLASSES, output=tmp_path / "p.csv", output_format="csv"
    )
    assert written.n_training == 2


def test_lists_in_a_csv_can_be_taken_apart_whatever_the_classes_are_called(tmp_path: Path) -> None:
    names = ("Lactose; α", "MCC, 50 µm", 'the "fine" one', "starch")
    table = tmp_path / "p.csv"
    write_predictions(
        [Prediction(image="a.tif", model="m", prediction_set=names), BAD],
        class_names=names,
        output=table,
        output_format="csv",
    )
    with table.open(encoding="utf-8-sig", newline="") as file:
        good, bad = csv.DictReader(file)
    assert tuple(json.loads(good["prediction_set"])) == names
    assert bad["prediction_set"] == ""


def test_json_holds_the_same_in_full_precision(tmp_path: Path) -> None:
    write_predictions([GOOD, BAD], class_names=CLASSES, output=tmp_path / "p.json", output_format="json")
    good, bad = json.loads((tmp_path / "p.json").read_text())
    assert good["probabilities"] == {"lactose": 0.25, "starch": 0.75}
    assert good["warnings"] == ["one", "two"]
    assert bad == {
        **dict.fromkeys(good),
        "image": "torn.png",
        "model": "models:/m/1",
        "prediction_set": [],
        "n_tiles": 0,
        "warnings": [],
        "error": "is damaged",
    }


def test_parquet_holds_the_same_with_types(tmp_path: Path) -> None:
    written = write_predictions(
        [GOOD, BAD], class_names=CLASSES, output=tmp_path / "p.parquet", output_format="parquet"
    )
    assert (written.failed, written.n_unknown) == ((BAD,), 0)
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == [*CSV_COLUMNS, "p_lactose", "p_starch"]
    good, bad = table.to_pylist()
    assert (good["label"], good["prediction_set"], good["is_known"], good["p_starch"]) == (
        "starch",
        ["starch", "lactose"],
        True,
        0.75,
    )
    assert (bad["label"], bad["p_starch"], bad["n_tiles"], bad["error"]) == (None, None, 0, "is damaged")
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_excel_holds_numbers_and_no_formula(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    hostile = replace(HOSTILE, image="\x1b[2J.tif")
    written = write_predictions(
        [GOOD, BAD, HOSTILE, hostile], class_names=CLASSES, output=tmp_path / "p.xlsx", output_format="xlsx"
    )
    assert written.failed == (BAD, HOSTILE, hostile)
    sheet = openpyxl.load_workbook(tmp_path / "p.xlsx").active
    header, good, bad, formula, control = sheet.iter_rows(values_only=True)
    assert header == (*CSV_COLUMNS, "p_lactose", "p_starch")
    assert good[:9] == ("a,b.tif", "starch", True, None, 0.75, '["starch", "lactose"]', 0.9, 1.23457, 3)
    assert good[-2:] == (0.25, 0.75)
    assert (bad[0], bad[1], bad[len(CSV_COLUMNS) - 1]) == ("torn.png", None, "is damaged")
    assert formula[:2] == (f"'{FORMULA}", "'@SUM(1)")
    assert control[0] == "\\u001b[2J.tif"
    assert [path.name for path in tmp_path.iterdir()] == ["p.xlsx"]


def test_parquet_of_no_image_has_its_columns(tmp_path: Path) -> None:
    write_predictions([], class_names=CLASSES, output=tmp_path / "p.parquet", output_format="parquet")
    assert pq.read_table(tmp_path / "p.parquet").num_columns == len(CSV_COLUMNS) + 2


@pytest.mark.parametrize(
    ("told", "output", "chosen"),
    [
        (None, None, "csv"),
        (None, "p.csv", "csv"),
        (None, "p.JSON", "json"),
        (None, "p.parquet", "parquet"),
        (None, "p.xlsx", "xlsx"),
        (None, "p", "csv"),
        ("json", "p.txt", "json"),
        ("json", "p", "json"),
        ("json", None, "json"),
    ],
)
def test_the_format_is_told_or_follows_from_the_name(told: str | None, output: str | None, chosen: str) -> None:
    assert choose_format(told, output=None if output is None else Path(output)) == chosen


@pytest.mark.parametrize(
    ("told", "output", "message"),
    [
        ("parquet", None, r"format=parquet needs a file to write: give output=FILE\.parquet"),
        ("xlsx", None, "format=xlsx needs a file"),
        (None, "p.xls", r"output=p\.xls: no table can be written as \.xls; .*one of \.csv, \.json, \.parquet, \.xlsx"),
        ("tsv", None, "format=tsv: no table can be written so; choose one of csv, json, parquet, xlsx"),
        ("tsv", "p.csv", "format=tsv: no table"),
        ("csv", "p.xlsx", r"output=p\.xlsx contradicts format=csv"),
        ("json", "p.csv", r"output=p\.csv contradicts format=json"),
    ],
)
def test_a_format_that_cannot_be_is_refused(told: str | None, output: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_format(told, output=None if output is None else Path(output))


def test_a_line_is_built_from_what_an_answer_holds() -> None:
    built = Prediction.build({"image": "a", "model": "m", "prediction_set": ["x"], "overlay_png": "no column"})
    assert built == Prediction(image="a", model="m", prediction_set=("x",))
    again = Prediction.build(asdict(STRANGER))  # as a journal holds it
    assert again == STRANGER
    assert (again.label, again.nearest) == ("unknown", "starch")


@pytest.mark.parametrize(("output_format", "wanted"), [("csv", "image,label"), ("json", "[\n]\n")])
def test_nothing_to_write_is_still_a_table(tmp_path: Path, output_format: str, wanted: str) -> None:
    write_predictions([], class_names=CLASSES, output=tmp_path / "p", output_format=output_format)
    assert (tmp_path / "p").read_text(encoding="utf-8-sig").startswith(wanted)


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    write_predictions([GOOD], class_names=CLASSES, output=None, output_format="csv")
    shown = capsys.readouterr().out
    assert shown.count("\n") == 2
    assert shown.startswith("image,"), "the next program of a pipe wants no mark"


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


def test_no_cell_of_a_csv_is_a_formula_and_other_formats_are_as_they_were(tmp_path: Path) -> None:
    for output_format in ("csv", "json", "parquet"):
        write_predictions(
            [HOSTILE],
            class_names=["@SUM(1)"],
            output=tmp_path / f"p.{output_format}",
            output_format=output_format,  # type: ignore[arg-type]
        )
    with (tmp_path / "p.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["image"] == f"'{FORMULA}"
    assert (row["label"], row["prediction_set"], row["warnings"]) == ("'@SUM(1)", '["@SUM(1)", "a"]', '["-1+cmd"]')
    assert (row["error"], row["pixel_size_nm"], row["p_@SUM(1)"]) == ("'\t=1", "-1.5", "0.500000")
    (record,) = json.loads((tmp_path / "p.json").read_text())
    assert (record["image"], record["label"]) == (FORMULA, "@SUM(1)")
    assert pq.read_table(tmp_path / "p.parquet").to_pylist()[0]["image"] == FORMULA


@pytest.mark.parametrize("output_format", ["csv", "json"])
def test_a_terminal_is_sent_no_control_characters(
    output_format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = Prediction(image="\x1b[2J\x9bm.tif", model="m", error="a")
    for is_terminal, image in [(True, "\\u001b[2J\\u009bm.tif"), (False, hostile.image)]:
        monkeypatch.setattr("sys.stdout.isatty", lambda is_terminal=is_terminal: is_terminal)
        write_predictions([hostile], class_names=["\x1bc"], output=None, output_format=output_format)  # type: ignore[arg-type]
        shown = capsys.readouterr().out
        if output_format == "json":
            assert json.loads(shown)[0]["image"] == hostile.image
        else:
            assert image in shown
        assert ("\x9b" in shown) is not is_terminal
        assert "\x1b" not in shown or not is_terminal

"""How an artifact becomes a file."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from sem_search.tracking.entries.types import (
    FigureArtifact,
    FrameArtifact,
    JsonArtifact,
    Picture,
    PictureArtifact,
    TableArtifact,
    TextArtifact,
)
from sem_search.tracking.figures.style import make_figure
from sem_search.tracking.mlflow.files import write_artifact


def test_text_is_utf8_and_holds_no_password(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_artifact(TextArtifact(path="a.txt", text="µ\r\nsee db://u:hunter2@h"), target=target)
    assert target.read_bytes() == "µ\r\nsee db://u:***@h".encode()


def test_a_picture_is_written_as_it_is(tmp_path: Path) -> None:
    picture = Picture(content=b"\xff\xd8", width_in=1.0, media_type="image/jpeg")
    write_artifact(PictureArtifact(path="a.jpg", picture=picture), target=tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"\xff\xd8"


def test_json_keeps_letters_as_they_are(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_artifact(JsonArtifact(path="a.json", content={"class": "乳糖", "none": None}), target=target)
    text = target.read_text(encoding="utf-8")
    assert "乳糖" in text
    assert json.loads(text) == {"class": "乳糖", "none": None}


def test_json_has_no_word_for_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_artifact(JsonArtifact(path="a.json", content=[float("nan")]), target=tmp_path / "a.json")


def test_a_table_can_be_read_back(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    rows = (("with, comma", 1, None), ('with "quotes"\nand a line', 0.25, True))
    write_artifact(TableArtifact(path="a.csv", columns=("name", "value", "β"), rows=rows), target=target)
    with target.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["name", "value", "β"],
            ["with, comma", "1", ""],
            ['with "quotes"\nand a line', "0.25", "True"],
        ]


def test_a_table_of_many_rows_keeps_its_types_and_holds_no_password(tmp_path: Path) -> None:
    target = tmp_path / "a.parquet"
    frame = pd.DataFrame({"image_id": ["µ.tif", "db://u:hunter2@h", "µ.tif"], "tile": [0, 1, 2], "p": [0.1, 0.25, 1.0]})
    write_artifact(FrameArtifact(path="a.parquet", frame=frame), target=target)
    found = pd.read_parquet(target)
    assert found.to_dict("list") == {**frame.to_dict("list"), "image_id": ["µ.tif", "db://u:***@h", "µ.tif"]}
    assert frame["image_id"][1] == "db://u:hunter2@h", "what is logged is a copy"


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [(".png", b"\x89PNG"), (".jpg", b"\xff\xd8\xff"), (".svg", b"<?xml"), (".pdf", b"%PDF-"), (".tif", b"II*\0")],
)
def test_a_figure_is_drawn_when_it_is_written(tmp_path: Path, suffix: str, magic: bytes) -> None:
    target = tmp_path / f"a{suffix}"
    artifact = FigureArtifact(path=f"a{suffix}", draw=lambda: make_figure(width_in=1, height_in=1))
    write_artifact(artifact, target=target)
    assert target.read_bytes().startswith(magic)


def test_no_text_of_a_table_is_a_formula(tmp_path: Path) -> None:
    table = TableArtifact(path="a.csv", columns=("=class", "value"), rows=(("@SUM(1)", -1.5), ("+a", None)))
    write_artifact(table, target=tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "'=class,value\n'@SUM(1),-1.5\n'+a,\n"

"""A folder that was moved is named."""

from pathlib import Path

import pytest

from sem_search.tracking.mlflow.moved import describe_move, find_missing_folder


@pytest.mark.parametrize(
    ("location", "is_missing"),
    [
        ("{folder}", False),
        ("{folder}/gone", True),
        ("file://{folder}/gone", True),
        ("file://{folder}/is%20here", False),
        ("mlflow-artifacts:/0/gone", False),
        ("s3://bucket/gone", False),
        ("mlruns/gone", False),
    ],
)
def test_only_a_folder_of_this_machine_can_be_missing(tmp_path: Path, location: str, is_missing: bool) -> None:
    (tmp_path / "is here").mkdir()
    missing = find_missing_folder(location.format(folder=tmp_path))
    assert missing == (tmp_path / "gone" if is_missing else None)


def test_what_to_do_is_said(tmp_path: Path) -> None:
    assert f"should lie in {tmp_path / 'gone'}, which is not there" in describe_move(tmp_path / "gone")

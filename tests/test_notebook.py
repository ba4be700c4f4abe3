"""The notebook of the documentation runs, from images to a model that answers."""

import base64
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"

SMALL = """DATA = {data!r}
SETTINGS = dict(
    backbone="tiny", weights="random", tile_px=48, folds=3, epochs=2, patience=1, learning_rates=(0.1,),
    batch_sizes=(8,), pruner="none", engine="tensorflow", precision="float32", threads=1,
)"""
"""Instead of the notebook's own settings, with which it takes minutes."""


@pytest.mark.slow
def test_the_notebook_runs(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))  # no kernel of the user's: this environment's
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "ein Ordner für heute"
    folder.mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source = SMALL.format(data=str(tiny_folder))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert not [output for output in outputs if output["output_type"] == "stream" and output["name"] == "stdout"]
    assert "Audit of study tiny-standard-" in str(outputs)
    assert (folder / "report.html").read_text(encoding="utf-8").count("</html>") == 1
    assert [place.name for place in tmp_path.iterdir() if "%" in place.name] == [], "no folder of an encoded name"


def test_the_notebook_is_stored_without_what_it_printed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)

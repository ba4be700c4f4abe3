"""The paper's result in one command: backbones searched, compared, and shown on one page; again, nothing is trained."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from sem_search import settings as settings_room
from sem_search.errors import WeightsError
from sem_search.records import TileSplits
from sem_search.search.commands import paper as paper_room
from sem_search.search.commands.paper import PaperResult, collect_class_facts, run_paper
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.settings import SearchSettings
from sem_search.tracking.figures.catalogue import PATHS
from sem_search.tracking.mlflow.own_runs import RUN_ID_VARIABLE
from sem_search.transfer import backbones
from sem_search.transfer.heads.training import HeadTrainer
from tests.search.commands.stopped import change

OF_BOTH, OF_ONE = 6, 3
"""Figures of the paper that each backbone has, and those that depend on the data alone."""


@pytest.fixture
def searches(
    asked: SearchSettings, tracking: MlflowClient, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SearchSettings, SearchSettings]:
    """One cell of the tiny network, under its own name and under that of another backbone."""
    monkeypatch.delenv(RUN_ID_VARIABLE, raising=False)
    monkeypatch.setattr(prepare_room, "configure_tensorflow", lambda **_: None)
    other = dataclasses.replace(backbones.get_backbone("tiny"), name="tiny_two")
    monkeypatch.setattr(backbones, "BACKBONES", {**backbones.BACKBONES, other.name: other})
    monkeypatch.setattr(settings_room, "BACKBONE_NAMES", (*settings_room.BACKBONE_NAMES, other.name))
    first = change(asked, learning_rates=(0.1,), batch_sizes=(8,), precision="float32", epochs=2)
    return first, change(first, backbone=other.name, hidden_units=16)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The folds that are trained."""
    numbers: list[int] = []
    real: Callable[..., Any] = HeadTrainer.train_fold

    def train_fold(self: HeadTrainer, splits: TileSplits, **asked: Any) -> Any:
        numbers.append(splits.number)
        return real(self, splits, **asked)

    monkeypatch.setattr(HeadTrainer, "train_fold", train_fold)
    return numbers


def list_kinds(client: MlflowClient) -> list[str]:
    return sorted(run.data.tags["sem_search.kind"] for run in client.search_runs(list_experiments(client)))


def list_experiments(client: MlflowClient) -> list[str]:
    return [client.get_experiment_by_name("searches").experiment_id]


def test_two_backbones_are_searched_compared_and_shown_and_again_nothing_is_trained(
    searches: tuple[SearchSettings, ...], tracking: MlflowClient, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tracking.create_run(*list_experiments(tracking)).info.run_id
    monkeypatch.setenv(RUN_ID_VARIABLE, opened)
    result = run_paper(searches)
    check_page(result)
    assert tracking.get_run(opened).data.tags["sem_search.kind"] == "paper"
    assert {"paper.html", "paper.json"} == {file.path for file in tracking.list_artifacts(opened)}
    logged = Path(tracking.download_artifacts(opened, "paper.json")).read_text(encoding="utf-8")
    assert [one["n_images"] for one in json.loads(logged)] == [15]
    assert list_kinds(tracking) == ["paper", "study", "study", "trial", "trial"]
    assert sorted(trained) == [0, 0, 1, 1, 2, 2]
    monkeypatch.delenv(RUN_ID_VARIABLE)
    again = run_paper(searches)
    assert len(trained) == 6
    assert [one.was_finished for one in again.conclusions] == [True, True]
    assert list_kinds(tracking) == ["paper", "paper", "study", "study", "trial", "trial"]
    assert "which was finished" in again.to_text()


def check_page(result: PaperResult) -> None:
    """Hold the page and the last lines to the studies and their comparison."""
    page, (compared,) = result.page.read_text(encoding="utf-8"), result.comparisons
    names = [one.outcome.name for one in result.conclusions]
    assert (compared.first, compared.second) == tuple(names)
    assert result.page == Path("studies").absolute() / names[0] / "paper.html"
    assert page.count('src="data:image/') == 2 * OF_BOTH + OF_ONE
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert {(one.name, one.first, one.second) for one in compared.settings} >= {("backbone", "tiny", "tiny_two")}
    for one in result.conclusions:
        assert {PATHS[number] for number in PATHS} == {figure.path for figure in one.figures}
        assert f"{one.outcome.backbone} {one.test.f_measure:.3f}" in page
        assert one.verdict.headline in " ".join(result.to_text().split())
    assert "paper --data " in page and " --backbones tiny,tiny_two " in page


def test_the_data_are_described_class_by_class(prepared, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{name}.png,{name},{name} Ltd\n" for name in prepared.data.tiles.class_names]
    table.write_text("image,label,supplier\n" + "".join(rows), encoding="utf-8")
    plain = {"Size (px)": "96 x 96", "Pixel size (nm)": "not stated"}
    of_folder = collect_class_facts(prepared.data, settings=prepared.settings)
    of_csv = collect_class_facts(prepared.data, settings=change(prepared.settings, data=str(table)))
    assert of_folder == dict.fromkeys(("blobs", "grains", "stripes"), plain)
    assert of_csv == {name: {**plain, "supplier": f"{name} Ltd"} for name in of_folder}


def test_nothing_is_begun_where_one_backbone_s_weights_cannot_be_had(
    searches: tuple[SearchSettings, ...], trained: list[int], tmp_path: Path
) -> None:
    first, second = searches
    with pytest.raises(WeightsError, match="there is no such file"):
        run_paper((first, change(second, weights="no/such.h5")))
    assert not Path("studies").exists()
    assert trained == []


def test_backbones_with_better_and_worse_weights_are_not_compared(
    searches: tuple[SearchSettings, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"tiny": "imagenet", "tiny_two": "random"}

    def begin(settings: SearchSettings, **_: Any) -> SimpleNamespace:
        weights = SimpleNamespace(used=used[settings.backbone])
        return SimpleNamespace(settings=settings, network=SimpleNamespace(weights=weights))

    monkeypatch.setattr(paper_room, "begin_search", begin)
    with pytest.raises(WeightsError, match="tiny has imagenet, tiny_two has random"):
        run_paper([change(one, weights="auto") for one in searches])

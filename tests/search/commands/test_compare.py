"""Comparing studies: refused by name where they do not compare, logged below the first where they do."""

import json
from pathlib import Path

import optuna
import pytest
from mlflow.tracking import MlflowClient

from sem_search.errors import NotComparableError, StudyMismatchError
from sem_search.search.commands.compare import SAME_TILES, check_comparable, iter_differing_settings, run_comparison
from sem_search.search.commands.finished_study import check_same_data
from sem_search.search.prepare.study_folder import claim_study_folder
from sem_search.search.trials.attributes import FINGERPRINT, SETTINGS, STUDY_RUN_ID


def sign(study: optuna.Study, **fingerprint: object) -> optuna.Study:
    study.set_user_attr(
        FINGERPRINT, json.dumps({"data": "d" * 64, "fold_table": "f" * 64, "tile_px": 48, **fingerprint})
    )
    return study


def make_study(name: str, *, url: str | None = None) -> optuna.Study:
    return optuna.create_study(study_name=name, storage=url, direction="maximize")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data": "e" * 64}, r"differ in data \(d{12} and e{12}\)"),
        ({"fold_table": "0" * 64}, r"differ in folds \(f{12} and 0{12}\)"),
        ({"tile_px": 96}, r"differ in tile_px \(48 and 96\)"),
    ],
)
def test_other_data_or_folds_are_named(other: dict[str, object], words: str) -> None:
    with pytest.raises(NotComparableError, match=words):
        check_comparable(sign(make_study("a")), sign(make_study("b"), **other))


def test_another_backbone_is_what_one_compares() -> None:
    check_comparable(sign(make_study("a"), backbone="vgg16"), sign(make_study("b"), backbone="resnet50"))


def test_the_engine_and_the_precision_are_those_that_were_used(prepared) -> None:
    studies = sign(make_study("a"), engine="onnxruntime", precision="float32"), sign(make_study("b"))
    found = iter_differing_settings(studies, [prepared.settings] * 2)
    assert [(one.name, one.first, one.second) for one in found] == [
        ("engine", "onnxruntime", "tensorflow"),
        ("precision", "float32", "None"),
    ]


def test_data_that_have_changed_are_refused() -> None:
    check_same_data(sign(make_study("a")), digest="d" * 64)
    with pytest.raises(StudyMismatchError, match="The data of study 'a' have changed since"):
        check_same_data(sign(make_study("a")), digest="e" * 64)


def test_a_study_is_not_compared_with_itself() -> None:
    with pytest.raises(NotComparableError, match="name two studies"):
        run_comparison("a", "a", storage="sqlite:///nowhere.db")


def test_two_studies_of_one_storage_are_compared_and_logged(
    prepared, store_folds, run_id: str, tracking: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/compare.db"
    tracking.log_text(run_id, "as a search logs it", "report.html")
    store_folds(shares_right=(1.0, 1.0))
    folder = Path(prepared.settings.study_folder)
    (folder / prepared.name).rename(folder / "a")
    store_folds(shares_right=(1.0, 0.5))
    (folder / prepared.name).rename(folder / "b")
    for name in ("a", "b"):
        claim_study_folder(prepared.settings, name=name, fingerprint=prepared.fingerprint, folds=prepared.data.folds)
        study = make_study(name, url=url)
        study.set_user_attr(FINGERPRINT, json.dumps(dict(prepared.fingerprint)))
        study.set_user_attr(SETTINGS, prepared.settings.model_dump_json())
        study.set_user_attr(STUDY_RUN_ID, run_id)
        study.add_trial(
            optuna.trial.create_trial(
                value=1.0,
                params={"learning_rate": 0.1, "batch_size": 8},
                distributions={
                    "learning_rate": optuna.distributions.CategoricalDistribution([0.1]),
                    "batch_size": optuna.distributions.CategoricalDistribution([8]),
                },
                intermediate_values=dict.fromkeys(range(3), 1.0),
            )
        )
    compared = run_comparison("a", "b", storage=url, show=print)
    assert compared.comparison.f_measure.first == 1
    assert compared.comparison.f_measure.second < 0.7
    assert "First: a; second: b; 15 test images, 3 folds." in capsys.readouterr().out
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "comparison"]
    assert run.data.tags["mlflow.parentRunId"] == run_id
    assert len(tracking.list_artifacts(run.info.run_id, "comparison")) == 5


def test_another_pixel_size_is_compared_by_image_but_not_by_tile() -> None:
    pair = sign(make_study("a")), sign(make_study("b"), pixel_size_nm=50.0)
    check_comparable(*pair)
    with pytest.raises(NotComparableError, match=r"differ in pixel_size_nm \(None and 50.0\)"):
        check_comparable(*pair, must_agree=SAME_TILES)

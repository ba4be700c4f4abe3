"""What a study's run says of itself: enough to find data, weights and code again, and to see what fell back."""

import dataclasses
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

import sem_search
from sem_search.micrographs.inspection.inspect import Finding
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.unusable_files import SkippedFile
from sem_search.records import Cell
from sem_search.search.results import run_description as describing
from sem_search.search.results.run_description import (
    SHARED_PARAMS,
    STUDY_PARAMS,
    describe_hashes,
    describe_params,
    describe_tags,
    describe_trial_params,
    describe_used,
    describe_versions,
    log_study_start,
)
from sem_search.settings import INCOMPARABLE, SearchSettings
from tests.metrics_page import check_names, read_names

LOCAL = {"storage", "study_folder", "model_name", "trials", "timeout"}
"""Settings that say where results go or how far a search went."""


def test_every_setting_that_can_change_a_result_is_a_parameter(prepared) -> None:
    params = describe_params(prepared)
    assert {*INCOMPARABLE, "data", "weights", "select_on", "preset", "threads"} <= set(params)
    assert not LOCAL & set(params)
    assert params["learning_rates"] == "0.1,0.01"
    assert params["batch_sizes"] == "8,16"
    assert params["exclude"] == ""
    assert params["study"] == "a study"
    assert (params["n_classes"], params["n_images"], params["n_tiles"]) == (3, 15, 60)


def test_parameters_say_what_was_really_used(prepared) -> None:
    params = describe_params(prepared)
    assert params["weights"] == params["weights_used"] == "random"
    assert prepared.settings.stride_px is None
    assert params["stride_px"] == 48
    catalogue = dataclasses.replace(prepared.data.catalogue, reading=ReadingOptions(crop_bottom_px=7))
    cropped = dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, catalogue=catalogue))
    assert describe_params(cropped)["crop_bottom_px"] == 7, "the demonstration set's bar, which no setting names"


def test_a_trial_has_its_cell_and_at_most_eight_more_parameters(prepared) -> None:
    params = describe_trial_params(prepared, cell=Cell(learning_rate=1e-3, batch_size=48))
    assert params.keys() == {"head", "learning_rate", "batch_size", *SHARED_PARAMS}
    assert (params["learning_rate"], params["batch_size"], params["weights_used"]) == (1e-3, 48, "random")
    assert len(SHARED_PARAMS) <= 8
    assert describe_trial_params(prepared, cell=Cell(head="linear")).keys() == {"head", *SHARED_PARAMS}


def test_excluded_classes_are_listed_in_words(prepared) -> None:
    settings = prepared.settings.model_copy(update={"exclude": ("a", "b")})
    assert describe_params(dataclasses.replace(prepared, settings=settings))["exclude"] == "a,b"
    settings = prepared.settings.model_copy(update={"exclude": ("MCC, 50 um", "b")})
    assert describe_params(dataclasses.replace(prepared, settings=settings))["exclude"] == '"MCC, 50 um",b'


def test_tags_lead_back_to_data_folds_weights_and_code(prepared) -> None:
    tags = describe_tags(prepared)
    assert tags["sem_search.data_sha256"] == prepared.data.catalogue.digest
    assert tags["sem_search.folds_sha256"] == prepared.data.folds.digest
    assert tags["sem_search.weights_sha256"] == prepared.network.weights.sha256
    assert tags["sem_search.version"] == sem_search.__version__
    assert describe_hashes(prepared).items() <= tags.items()


def test_what_fell_back_and_what_was_found_is_tagged_but_notes_are_not(prepared) -> None:
    catalogue = dataclasses.replace(
        prepared.data.catalogue,
        warnings=("left out a.png",),
        skipped=(SkippedFile(path=Path("a.png"), reason="empty"),),
    )
    findings = tuple(
        Finding(kind=kind, severity=severity, message=f"{kind} in words")
        for kind, severity in (("label_conflict", "error"), ("single_session", "warning"), ("few_tiles", "note"))
    )
    data = dataclasses.replace(prepared.data, catalogue=catalogue, findings=findings)
    weights = dataclasses.replace(prepared.network.weights, warnings=("ImageNet weights could not be had",))
    network = dataclasses.replace(prepared.network, weights=weights)
    tags = describe_tags(dataclasses.replace(prepared, data=data, network=network))
    assert tags["sem_search.warnings"] == "left out a.png\nImageNet weights could not be had"
    assert tags["sem_search.skipped_files"] == "1"
    assert tags["sem_search.finding.label_conflict"] == "label_conflict in words"
    assert tags["sem_search.finding.single_session"] == "single_session in words"
    assert "sem_search.finding.few_tiles" not in tags


def test_two_findings_of_one_kind_both_stand_in_its_tag(prepared) -> None:
    findings = tuple(
        Finding(kind="label_conflict", severity="error", message=f"{name} has two labels")
        for name in ("a.png", "b.png")
    )
    tags = describe_tags(dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, findings=findings)))
    assert tags["sem_search.finding.label_conflict"] == "a.png has two labels\nb.png has two labels"


def test_a_search_without_trouble_has_no_tag_of_trouble(prepared) -> None:
    data = dataclasses.replace(prepared.data, findings=())
    tags = describe_tags(dataclasses.replace(prepared, data=data))
    assert not {"sem_search.warnings", "sem_search.skipped_files"} & set(tags)
    assert not [name for name in tags if name.startswith("sem_search.finding")]


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "LIBRARIES", ("numpy", "no-such-library"))
    assert describe_versions() == {
        "python": platform.python_version(),
        "sem_search": sem_search.__version__,
        "numpy": version("numpy"),
        "no-such-library": "not installed",
    }


@pytest.mark.parametrize("failure", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)])
def test_without_git_the_commit_is_said_to_be_unknown(
    prepared, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(describing.subprocess, "run", fail)
    assert describe_tags(prepared)["sem_search.git_commit"] == "not a git checkout"


def test_the_page_names_every_parameter_and_tag(prepared, tracking: MlflowClient, run_id: str) -> None:
    finding = Finding(kind="few_tiles", severity="warning", message="few")
    data = dataclasses.replace(prepared.data, findings=(finding,))
    log_study_start(dataclasses.replace(prepared, data=data), versions=describe_versions(), run_id=run_id)
    run = tracking.get_run(run_id)
    cell = describe_trial_params(prepared, cell=Cell(learning_rate=0.1, batch_size=8))
    check_names({*run.data.params, *cell}, "Parameters")
    tags = {name for name in run.data.tags if name.startswith("sem_search.")}
    documented = read_names("Tags")
    assert tags >= {"sem_search.finding.few_tiles", "sem_search.version"}
    assert [name for name in tags if not any(one.fullmatch(name) for one in documented.values())] == []


def test_a_search_that_still_runs_can_be_understood(prepared, tracking: MlflowClient, run_id: str) -> None:
    log_study_start(prepared, versions={"keras": "of then"}, run_id=run_id)
    run = tracking.get_run(run_id)
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/study/versions.json") == {"keras": "of then"}
    assert run.data.params.keys() == set(STUDY_PARAMS)
    assert run.data.params.items() <= {name: str(value) for name, value in describe_params(prepared).items()}.items()
    assert describe_tags(prepared).items() <= run.data.tags.items()
    names = {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    digest = prepared.data.catalogue.digest[:12]
    assert names == {("tiny", f"{digest}-{role}") for role in ("training", "validation", "test")}
    catalogue = mlflow.artifacts.load_text(f"runs:/{run_id}/data/catalogue.csv")
    assert len(catalogue.splitlines()) == 1 + 15
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/study/settings.json")
    settings = json.loads(text)
    assert SearchSettings.model_validate(settings["understood"]) == prepared.settings
    assert settings["used"] == describe_used(prepared)
    fingerprint = mlflow.artifacts.load_text(f"runs:/{run_id}/study/fingerprint.json")
    assert json.loads(fingerprint) == prepared.fingerprint


@pytest.mark.parametrize("password", ["s3cret", "s3/cret", "s3 cret"])
def test_the_settings_that_are_kept_hold_no_password(
    prepared, tracking: MlflowClient, run_id: str, password: str
) -> None:
    urls = {
        "storage": f"postgresql://me:{password}@host/db?sslpassword=s3cret",
        "shared": f"ftp://me:{password}@host/folder",
    }
    search = dataclasses.replace(prepared, settings=prepared.settings.model_copy(update=urls))
    vars(search)["views"] = prepared.views  # there is no such server that could be asked for them
    log_study_start(search, versions=describe_versions(), run_id=run_id)
    kept = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/study/settings.json"))["understood"]
    assert (kept["storage"], kept["shared"]) == (
        "postgresql://me:***@host/db?sslpassword=***",
        "ftp://me:***@host/folder",
    )
    assert search.settings.without_passwords.model_dump(mode="json") == kept


def test_what_mlflow_run_was_asked_for_stays_and_what_was_used_stands_beside_it(
    prepared, tracking: MlflowClient, run_id: str
) -> None:
    for name, value in {"epochs": "auto", "folds": "3", "backbone": "tiny", "other": "1"}.items():
        tracking.log_param(run_id, name, value)
    log_study_start(prepared, versions=describe_versions(), run_id=run_id)
    params = tracking.get_run(run_id).data.params
    assert (params["epochs"], params["epochs_used"]) == ("auto", "3")
    assert params["folds"] == "3"
    assert not {"folds_used", "backbone_used", "other_used"} & set(params)
    log_study_start(prepared, versions=describe_versions(), run_id=run_id)  # a run may be taken up again

"""The methods section says what a study did, in numbers of its record, and nothing that it did not do."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sem_search.records import StudyOutcome
from sem_search.settings import build_settings
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.trust import StudyTrust, compute_trust
from sem_search.tracking.kit.methods import NETWORKS, StudyRecord, write_methods
from sem_search.tracking.kit.references import build_bibliography, find_citations
from sem_search.transfer.names import BACKBONE_NAMES
from sem_search.words import write_list

LIBRARIES = ("tensorflow", "keras", "onnxruntime", "optuna", "mlflow", "numpy", "scikit-learn")
VERSIONS = {"python": "3.12.1", "sem_search": "0.1.0", **{name: f"{place}.5.0" for place, name in enumerate(LIBRARIES)}}
NUMBER_LISTS = ("learning_rates", "batch_sizes")

WriteMethods = Callable[..., str]


def describe(*, used: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a record, as `run_description.describe_params` writes them."""
    settings = build_settings({"data": "x", **given})
    lists = {name: write_list(value) for name, value in settings if isinstance(value, tuple) and name != "heads"}
    numbers = {name: ",".join(f"{value:g}" for value in getattr(settings, name)) for name in NUMBER_LISTS}
    found = {"weights_used": used, "engine_used": "onnxruntime", "precision_used": "float32"}
    return {**settings.model_dump(), **lists, **numbers, **found, "stride_px": settings.resolved_stride_px}


@pytest.fixture
def write(context: StudyContext) -> WriteMethods:
    def write_of(study: StudyOutcome, *, used: str = "imagenet", trust: StudyTrust | None = None, **given: Any) -> str:
        own = replace(context, settings=describe(used=used, given=given))
        record = StudyRecord(study=study, context=own, trust=trust or compute_trust(study), versions=VERSIONS)
        return " ".join(write_methods(record).split())

    return write_of


def test_the_standard_search_with_a_fine_tuned_winner(study: StudyOutcome, write: WriteMethods) -> None:
    refitted = replace(study, refitted=replace(study.winner, is_refit=True))
    text = write(refitted, epochs=7, hidden_units=31, dropout=0.25)
    trust = compute_trust(refitted)
    for words in (
        "The data were 6 scanning electron micrographs of 2 classes: fine (3), rough (3).",
        "(24 tiles)",
        "assigned to 3 folds",
        "In each fold 2 images trained, 2 validated and 2 tested",
        "a hidden layer of 31 units (ReLU), dropout (0.25)",
        "(momentum 0.9), the learning rate falling evenly towards 0, for 7 epochs.",
        "in one of its eight turns and mirrorings",
        "the chosen head of each fold was trained again",
        "compared 3 fine-tuned combinations of learning rate (0.1, 0.01, 0.001, 0.0001, 1e-05)",
        "Of these, 1 ended early, by extrapolated learning curves",
        "highest F-measure on the validation tiles",
        "was chosen: learning rate 0.01, batch size 48.",
        f"was {trust.test.f_measure.to_text()}, and a share of {trust.test.tile_accuracy.to_text()}",
        f"Corrected for the choice among 2 candidates (BBC-CV [@tsamardinos2018]) the F-measure was "
        f"{trust.choice.corrected.to_text()}, of the heads before",
        "Grad-CAM [@selvaraju2017] at the last convolution layer (conv_last)",
        "ONNX Runtime 2.5.0 [@onnxruntime] in float32",
        "- Class fine was imaged on a single day.",
    ):
        assert words in text
    assert "optimistic" not in text
    assert "Each class weighed the same" not in text


def test_the_paper_s_protocol(study: StudyOutcome, write: WriteMethods) -> None:
    complete = tuple(trial for trial in study.trials if trial.state == "complete")
    text = write(replace(study, select_on="test", trials=complete), preset="paper", backbone="resnet50")
    assert "at a constant learning rate, for 100 epochs." in text
    assert "The test tiles have thus chosen, as in Iwata et al. [@iwata2022]: scores on them are optimistic." in text
    for never in ("trained again", "mirrorings", "validation loss", "a linear head"):
        assert never not in text


def test_a_linear_winner(linear_study: StudyOutcome, write: WriteMethods) -> None:
    refitted = replace(linear_study, refitted=replace(linear_study.winner, is_refit=True))
    text = write(refitted, class_weight="balanced")
    for words in (
        "For fine-tuning, its fully connected layers were replaced",
        "For the linear head no layer of the network was trained",
        "The regression learnt from the tiles in all eight turns and mirrorings.",
        "compared a linear head and 3 fine-tuned combinations",
        "was chosen: linear head.",
        "on the fold's training and validation images; the test scores",
        "Each class weighed the same",
    ):
        assert words in text
    alone = replace(refitted, trials=tuple(trial for trial in refitted.trials if trial.cell.head == "linear"))
    text = write(alone, heads="linear")
    assert "compared a linear head." in text
    assert "For classification no layer of the network was trained" in text
    for never in ("Stochastic gradient descent", "stayed frozen", "epochs", "ended early"):
        assert never not in text


def test_heads_that_begin_at_the_linear_one(study: StudyOutcome, write: WriteMethods) -> None:
    begun = tuple(replace(trial, cell=replace(trial.cell, head="linear_init")) for trial in study.trials)
    assert "Training began at the solution" in write(replace(study, trials=begun))
    assert "Some of the trainings began at the solution" in write(replace(study, trials=(study.trials[0], *begun[1:])))


def test_no_refit_no_views_early_stopping_and_few_tiles(study: StudyOutcome, write: WriteMethods) -> None:
    given = {"refit": False, "augment": "none", "patience": 4, "epochs": 20, "tiles_per_image": 3, "stride_px": 100}
    text = write(study, used="mine.npz", sampler="tpe", trials=3, exclude="sand", **given)
    for words in (
        "at steps of 100 px from the upper left (24 tiles); of each image at most 3 tiles",
        "the weights of the file mine.npz",
        "for at most 20 epochs, ended after 4 without a lower validation loss",
        "drawn by a tree-structured Parzen estimator",
        "Left out: sand.",
    ):
        assert words in text
    for never in ("trained again", "mirrorings", "ImageNet"):
        assert never not in text


def test_a_fold_that_diverged_is_told(study: StudyOutcome, write: WriteMethods) -> None:
    first, *others = study.winner.folds
    winner = replace(study.winner, folds=(replace(first, is_diverged=True), *others))
    assert "Training diverged in 1 of the 3 folds." in write(replace(study, refitted=winner))
    assert "diverged" not in write(study)


def test_groups_and_one_candidate(
    study: StudyOutcome, make_tiles: Callable[..., Any], make_study: Callable[..., StudyOutcome], write: WriteMethods
) -> None:
    tiles = make_tiles(n_images=6)
    joined = replace(tiles, group_of_image=tuple(f"{place // 6} {place % 3}" for place in range(12)))
    grouped = replace(make_study(tiles), tiles=joined)
    assert "They formed 6 groups of images that were never divided" in write(grouped)
    lonely = replace(study, trials=tuple(trial for trial in study.trials if trial.number != 0))
    assert "is not known: no other candidate was trained in all folds" in write(lonely)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("used", ["imagenet", "particles", "random"])
def test_what_is_cited_is_given_and_nothing_else(
    study: StudyOutcome, trust: StudyTrust, write: WriteMethods, backbone: str, used: str
) -> None:
    text = write(replace(study, backbone=backbone), used=used, trust=trust)
    given = re.findall(r"^@\w+\{(\w+),", build_bibliography(text, version="0.1.0"), re.MULTILINE)
    assert sorted(given) == sorted(set(find_citations(text)))
    assert ("deng2009" in given) == (used == "imagenet")
    assert NETWORKS[backbone] in text
    own = re.compile(r"@software\{sem_search,.*version = \{0\.1\.0\}", re.DOTALL)
    assert own.search(build_bibliography(text, version="0.1.0"))


def test_a_paper_without_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no entry for nobody1900, nowhere2000"):
        build_bibliography("said [@iwata2022; @nobody1900] and [@nowhere2000]", version="1")


def test_words_of_the_user_are_neither_markup_nor_citations(
    make_tiles: Callable[..., Any], make_study: Callable[..., StudyOutcome], write: WriteMethods
) -> None:
    text = write(make_study(make_tiles(["*bold* [@me]", "plain @you"])))
    assert {"me", "you"}.isdisjoint(find_citations(text))
    assert "\\*bold\\* \\[\\@me\\]" in text
    assert "plain \\@you" in text

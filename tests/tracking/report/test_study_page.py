"""The report: complete, true, self-contained."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import Cell, Split, StudyOutcome, TileTable, TrialOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.report.study_page import render_report

VOID = {"meta", "img", "br"}


wordy = pytest.mark.usefixtures("without_drawing")


class Page(HTMLParser):
    """Collects text and addresses, and holds every tag to being closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.anchors: list[str] = []
        self.alternatives: list[str] = []
        self.levels: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.anchors += [value or "" for name, value in attrs if name == "id"]
        self.alternatives += [dict(attrs).get("alt") or ""] if tag == "img" else []
        self.levels += [int(tag[1])] if tag in ("h1", "h2", "h3", "h4") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read_page(html: str) -> Page:
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def page(study: StudyOutcome, context: StudyContext) -> Page:
    return read_page(render_report(study, context=context))


def test_the_page_needs_nothing_else(page: Page) -> None:
    assert page.tags.isdisjoint({"script", "link", "iframe", "object"})
    pictures = [address for address in page.addresses if not address.startswith("#")]
    assert len(pictures) == 13
    assert all(re.match(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", address) for address in pictures)


def test_every_link_leads_to_a_section_of_the_page(page: Page) -> None:
    links = {address.removeprefix("#") for address in page.addresses if address.startswith("#")}
    assert {"verdict", "next", "data", "findings", "warnings", "search", "results", "trust", "calibration"} <= links
    assert links <= set(page.anchors)
    assert len(page.anchors) == len(set(page.anchors))


def test_headings_are_in_order_and_every_picture_has_words(page: Page) -> None:
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(level - before <= 1 for before, level in pairwise(page.levels))
    assert all(page.alternatives)
    assert {"main", "header", "nav"} <= page.tags


@wordy
def test_the_page_starts_with_its_doctype(study: StudyOutcome, context: StudyContext) -> None:
    assert render_report(study, context=context).startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("number", ["2", "3", "4a", "4b", "5", "6", "S1", "S2", "S3", "T1", "T2", "T3", "T4"])
def test_every_figure_has_its_caption(page: Page, number: str) -> None:
    assert f"Figure {number}." in page.text


def test_the_headline_is_the_winner_on_test_tiles_and_images(page: Page, study: StudyOutcome) -> None:
    scores = compute_split_scores(study.winner, tiles=study.tiles, split="test")
    assert f"Verdict {scores.image_confusion.trace()} of 6 unseen images correctly classified: 100 % (" in page.text
    assert "to 100 %), chance 50 %" in page.text
    assert "learning rate 1e-2, batch size 48" in page.text
    assert f"test tiles {scores.f_measure:.3f}" in page.text


@pytest.mark.parametrize(
    "words",
    [
        "2 files were skipped.",
        "Class fine was imaged on a single day.",
        "1 of the cells asked for was not tried",
        "2 complete, 1 pruned (stopped early, because they would hardly have become the best), 0 failed",
        "Test tiles decide nothing: theirs is the score to quote",
        "mlflow ui --backend-store-uri",
        "scripts/sem-search predict IMAGES... --model models:/sem-search-tiny@champion",
        "mlflow models serve -m models:/sem-search-tiny@champion",
        "postgresql://user:***@host/db",
        "timeout not set",
        "python 3.11.7",
        "ab" * 32,
        "study-run",
    ],
)
def test_what_a_reader_looks_for_is_there(page: Page, words: str) -> None:
    assert words in page.text


def test_no_password_is_printed(page: Page) -> None:
    assert "hunter2" not in page.text


@wordy
def test_choosing_on_the_test_tiles_is_said_up_front(study: StudyOutcome, context: StudyContext) -> None:
    text = read_page(render_report(replace(study, select_on="test"), context=context)).text
    assert "chosen on the test tiles, as in the paper. Its test score is therefore too optimistic." in text
    assert "theirs is the score to quote" not in text


@wordy
def test_a_choice_among_pruned_trials_is_called_unknown(study: StudyOutcome, context: StudyContext) -> None:
    trials = tuple(trial for trial in study.trials if trial.state != "complete" or trial == study.winner)
    assert len(trials) > 1
    text = read_page(render_report(replace(study, trials=trials), context=context)).text
    assert "it is not known what a choice on the test tiles would have claimed" in text
    assert "would have claimed the same score" not in text
    text = read_page(render_report(study, context=context)).text
    assert f"Only the 2 complete trials, of {len(study.trials)}, are compared." in text


@wordy
def test_what_a_choice_on_the_test_tiles_adds_is_said(
    study: StudyOutcome, context: StudyContext, make_trial: Callable[..., TrialOutcome]
) -> None:
    text = read_page(render_report(study, context=context)).text
    assert "It is also the best on the test tiles" in text
    best = make_trial(study.tiles, number=9, cell=Cell(learning_rate=0.5, batch_size=8), skill=50.0)
    poor_on_validation = replace(
        best,
        folds=tuple(replace(fold, validation_probabilities=1 - fold.validation_probabilities) for fold in best.folds),
    )
    more = replace(study, trials=(*study.trials, poor_on_validation))
    text = read_page(render_report(more, context=context)).text
    assert "takes trial 9 and claims 1.000" in text


@wordy
def test_names_are_escaped(
    make_tiles: Callable[..., TileTable],
    make_study: Callable[..., StudyOutcome],
    make_context: Callable[..., StudyContext],
) -> None:
    study = make_study(make_tiles(["<script>alert(1)</script>", "a & b"]))
    context = replace(make_context(study), warnings=("<b>bold</b>",), findings=())
    html = render_report(study, context=context)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>bold</b>" in read_page(html).text


@wordy
def test_a_report_without_extras_still_reads_well(study: StudyOutcome, context: StudyContext) -> None:
    bare = replace(
        context,
        heat_maps=None,
        findings=(),
        warnings=(),
        settings={},
        hashes={},
        versions={},
        model_uri=None,
        run_id=None,
        tracking_uri=None,
    )
    text = read_page(render_report(study, context=bare)).text
    assert "No file was left out, and nothing was replaced" in text
    assert "No heat maps were computed for this study." in text
    assert "The winner was not registered as a model." in text
    assert "None" not in text


@wordy
def test_a_server_is_given_as_an_address(study: StudyOutcome, context: StudyContext) -> None:
    served = replace(context, tracking_uri="https://me:hunter2@mlflow.example/")
    text = read_page(render_report(study, context=served)).text
    assert "https://me:***@mlflow.example/" in text
    assert "--backend-store-uri" not in text


def test_the_same_study_gives_the_same_page(study: StudyOutcome, context: StudyContext, page: Page) -> None:
    again = read_page(render_report(study, context=context))
    assert (again.addresses, again.text) == (page.addresses, page.text)


@wordy
def test_trust_stands_before_the_details(study: StudyOutcome, context: StudyContext) -> None:
    text = read_page(render_report(study, context=context)).text
    section = text[text.index("How far the score can be trusted") : text.index("What the numbers mean")]
    assert "A choice on the test tiles, as in the paper" in section
    assert "scripts/sem-search audit 'little study'" in section


@wordy
def test_the_order_is_verdict_next_steps_data_search_results_trust_details(
    study: StudyOutcome, context: StudyContext
) -> None:
    html = render_report(study, context=context)
    places = [
        html.index(f'id="{anchor}"') for anchor in ("verdict", "next", "data", "search", "results", "trust", "details")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (datetime(2026, 11, 28, 9, 30, 40), "2026-11-28 09:30, 40 s from"),
        (datetime(2026, 11, 28, 9, 35, 10), "2026-11-28 09:30, 5 min 10 s from"),
        (datetime(2026, 11, 29, 10, 30, 0), "2026-11-28 09:30, 25 h 0 min from"),
    ],
)
@wordy
def test_when_how_long_and_on_which_machine(
    study: StudyOutcome, context: StudyContext, ended: datetime, words: str
) -> None:
    told = replace(
        context,
        began=datetime(2026, 11, 28, 9, 30, 0),
        ended=ended,
        machine="A processor, 2 cores",
        settings={"threads": 2},
        versions={"sem_search": "0.1.0"},
    )
    text = read_page(render_report(study, context=told)).text
    assert f"Searched {words} the first trial to the last Machine A processor, 2 cores; 2 threads used" in text
    assert "Version sem_search 0.1.0" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "○ not checked No confound The inspection found none. No whole audit has been run yet."),
        ({"unstated": ("session", "detector")}, "since not every file states them: by session or by detector."),
        ({"confounds": ("confounded_session",)}, "▲ look No confound How the images were taken predicts the class"),
        ({"confounds": ("single_session",)}, "■ bad No confound A class was imaged in one session only."),
        ({"audit_light": "good"}, "● good No confound The inspection found none, and the audit found nothing that"),
        ({"audit_light": "unclear"}, "▲ look No confound The inspection found none, but the audit has answers to look"),
        ({"audit_light": "bad"}, "■ bad No confound The inspection found none, but the audit casts doubt"),
        ({"learning_curve": "About 20 images. More."}, "How many images are needed: About 20 images. More. (The"),
        ({"settings": {"weights_used": "random"}}, "■ bad Pretrained weights The network began with random weights."),
        ({"settings": {"weights_used": "random"}}, "Use ImageNet weights. They are downloaded once"),
        ({"settings": {"weights_used": "particles"}}, "▲ look Pretrained weights The network began with the shipped"),
        ({"settings": {"weights_used": "imagenet"}}, "began with pretrained weights: imagenet."),
        ({}, "fine has 3 independent images; no class has fewer. So few can show nothing"),
        ({"settings": {"epochs": 6, "preset": "quick"}}, "Search the whole grid. This was a first look (preset quick)"),
        ({}, "Widen the grid. The winner has the largest learning rate that was tried (1e-2)"),
        ({}, "Run the audit. Has the network learnt the material"),
        ({}, "Was fine-tuning worth it? No difference to logistic regression is seen: F-measure over test tiles"),
        ({}, "Metadata alone, no picture training and validation images not fitted: no attribute differs"),
        ({}, "Logistic regression on the same features training and validation images 0."),
        ({"baselines": ()}, "○ not checked No simpler classifier is better There is no logistic regression to compare"),
    ],
)
@wordy
def test_lights_and_steps_have_their_words(
    study: StudyOutcome, context: StudyContext, changes: dict[str, object], words: str
) -> None:
    assert words in read_page(render_report(study, context=replace(context, **changes))).text


@pytest.mark.parametrize(
    ("ends", "light", "answer", "has_step"),
    [
        ((0.1, 0.2), "● good No simpler classifier is better The winner beats logistic regression", "Yes, it", False),
        ((-0.1, 0.2), "● good No simpler classifier is better The winner is not seen to be worse", "No diff", False),
        ((-0.2, -0.1), "▲ look No simpler classifier is better Logistic regression on the same", "No, log", True),
    ],
)
@wordy
def test_a_winner_is_held_against_logistic_regression(
    study: StudyOutcome, context: StudyContext, ends: tuple[float, float], light: str, answer: str, has_step: bool
) -> None:
    *others, last = context.baselines
    assert last.comparison is not None
    difference = Difference(first=0.5 + sum(ends) / 2, second=0.5, low=ends[0], high=ends[1])
    compared = replace(last, comparison=replace(last.comparison, f_measure=difference))
    refit = replace(study, refitted=replace(study.winner, is_refit=True))
    text = read_page(render_report(refit, context=replace(context, baselines=(*others, compared)))).text
    assert light in text
    assert f"Was fine-tuning worth it? {answer}" in text
    assert f" {difference.to_text()} " in text
    assert ("Search again with what logistic regression has" in text) is has_step


@pytest.mark.parametrize(("accuracy", "is_matched"), [(0.8, False), (0.9, True), (1.0, True)])
@wordy
def test_a_winner_is_held_against_metadata_alone(
    study: StudyOutcome, context: StudyContext, accuracy: float, is_matched: bool
) -> None:
    """The winner has 0.9 of the images; an equal score without a pixel is as bad as a better one."""
    first, metadata, *others = context.baselines
    assert first.comparison is not None
    images = Difference(first=0.9, second=accuracy, low=-0.5, high=0.5)
    compared = replace(metadata, comparison=replace(first.comparison, image_accuracy=images), reason=None)
    text = read_page(render_report(study, context=replace(context, baselines=(first, compared, *others)))).text
    words = "▲ look No simpler classifier is better Metadata alone, without a single pixel, classifies as many images"
    assert (words in text) is is_matched
    assert (f"({accuracy:.1%} against 90.0%)".replace("%", " %") in text) is is_matched


@pytest.mark.parametrize(
    ("refit", "select_on", "patience", "words", "unsaid"),
    [
        (False, "validation", 5, "which trial wins, and at which epoch each head is kept.", "is trained again"),
        (False, "validation", 0, "which trial wins. Test tiles decide nothing", "at which epoch"),
        (
            True,
            "validation",
            0,
            "is trained again on training and validation tiles: that one answers",
            "epoch each",
        ),
        (
            False,
            "test",
            0,
            "The winner was chosen on the test tiles, so no score of this study",
            "Validation tiles decide",
        ),
        (True, "test", 5, "Validation tiles decide at which epoch each head is kept. The winner was", "theirs is the"),
    ],
)
@wordy
def test_what_the_splits_decide_is_said_as_it_is(
    study: StudyOutcome,
    context: StudyContext,
    refit: bool,
    select_on: Split,
    patience: int,
    words: str,
    unsaid: str,
) -> None:
    changed = replace(context, settings={**context.settings, "patience": patience})
    refitted = replace(study.winner, is_refit=True) if refit else None
    text = read_page(render_report(replace(study, refitted=refitted, select_on=select_on), context=changed)).text
    text = text[text.index("What the numbers mean") :]
    assert words in text
    assert unsaid not in text


@wordy
def test_which_heads_a_figure_is_of_is_said_and_true(study: StudyOutcome, context: StudyContext) -> None:
    """The verdict and the winner's results are of the served heads; trials, choice and correction of the search's."""
    wrong = [replace(fold, test_probabilities=fold.test_probabilities[:, ::-1]) for fold in study.winner.folds]
    served = replace(study.winner, folds=tuple(wrong), is_refit=True)
    again = replace(study, refitted=served)
    before, after = (read_page(render_report(one, context=context)).text for one in (study, again))
    scores = {
        trial.is_refit: compute_split_scores(trial, tiles=study.tiles, split="test") for trial in (study.winner, served)
    }
    for text, is_refit in ((before, False), (after, True)):
        one = scores[is_refit]
        assert f"{one.image_confusion.trace()} of {one.image_confusion.sum()} unseen images correctly" in text
        assert f"test tiles {one.f_measure:.3f}" in text
        for words in (
            "Then its heads were trained again on training and validation images: these are served",
            "All scores of this section are of the heads of the search, which learnt from training images alone.",
            "Test scores are of the served heads, which were trained again on training and validation images (refit)",
            "The scores of this part are of the heads of the search.",
        ):
            assert (words in text) is is_refit, words
    for start, end in (("Test F, images", "F is the mean"), ("The winner is the best of", "The scores, drawn")):
        first, second = (text[text.index(start) : text.index(end)] for text in (before, after))
        assert first == second, "of the heads of the search in both reports"


@wordy
@pytest.mark.parametrize(("schedule", "is_said"), [("constant", True), ("linear", False)])
def test_only_a_training_that_could_go_on_is_said_to_have_stopped_improving(
    study: StudyOutcome, context: StudyContext, schedule: str, is_said: bool
) -> None:
    """With a rate that falls to 0 all training ends."""
    alone = replace(study, trials=(study.winner,), winner_number=study.winner.number)
    changed = replace(context, cells=(study.winner.cell,), settings={"schedule": schedule, "epochs": 100})
    text = read_page(render_report(alone, context=changed)).text
    assert "(there was only one cell)" in text
    assert ("most folds had stopped improving" in text) is is_said


@wordy
def test_a_study_of_before_has_no_such_table(study: StudyOutcome, context: StudyContext) -> None:
    assert "Compared with simpler classifiers" in read_page(render_report(study, context=context)).text
    text = read_page(render_report(study, context=replace(context, baselines=()))).text
    assert "Compared with simpler classifiers" not in text
    assert "Was fine-tuning worth it?" not in text


def test_one_pixel_size_is_named_with_what_it_leaves_open(study: StudyOutcome, context: StudyContext) -> None:
    settings = {**context.settings, "pixel_size_nm": 49.96}
    html = render_report(
        study,
        context=replace(context, settings=settings, confounds=("confounded_pixel_size",), has_common_pixel_size=True),
    )
    assert "All images were brought to one pixel size, 49.96 nm" in html
    assert "the size of things no longer tells the magnification, but sharpness and noise may" in html
    assert "See what one pixel size changes" in html
    assert "brought to one pixel size" not in render_report(study, context=context)

"""The report: complete, true, self-contained."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import Cell, StudyOutcome, TileTable, TrialOutcome
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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
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
    assert len(page.addresses) == 13
    assert all(re.match(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", address) for address in page.addresses)


@wordy
def test_the_page_starts_with_its_doctype(study: StudyOutcome, context: StudyContext) -> None:
    assert render_report(study, context=context).startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("number", ["2", "3", "4a", "4b", "5", "6", "S1", "S2", "S3", "T1", "T2", "T3", "T4"])
def test_every_figure_has_its_caption(page: Page, number: str) -> None:
    assert f"Figure {number}." in page.text


def test_the_headline_is_the_winner_on_test_tiles_and_images(page: Page, study: StudyOutcome) -> None:
    scores = compute_split_scores(study.winner, tiles=study.tiles, split="test")
    assert f"Mean F-measure {scores.f_measure:.3f} on test tiles" in page.text
    assert f"{scores.image_confusion.trace()} of 6 images were correctly classified" in page.text
    assert "learning rate 1e-2, batch size 48" in page.text
    assert "always predicting the largest class would be correct for 50.0 % of the tiles" in page.text


@pytest.mark.parametrize(
    "words",
    [
        "2 files were skipped.",
        "Class fine was imaged on a single day.",
        "1 of the combinations asked for was not tried",
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
    assert "There were no warnings" in text
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
def test_trust_stands_before_the_pictures(study: StudyOutcome, context: StudyContext) -> None:
    text = read_page(render_report(study, context=context)).text
    section = text[text.index("How far the score can be trusted") : text.index("Where the network looked")]
    assert "A choice on the test tiles, as in the paper" in section
    assert "scripts/sem-search audit 'little study'" in section

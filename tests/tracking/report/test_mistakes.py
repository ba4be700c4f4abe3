"""The mistakes in the report: all that a reader compares stands beside each picture, and what is left out is said."""

import re
from dataclasses import replace

import pytest

from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import MistakeGallery, ShownImage, ShownTile, StudyContext
from sem_search.tracking.entries.mistakes import Answer, AnsweredTile
from sem_search.tracking.entries.types import Picture
from sem_search.tracking.report.study_page import render_report

pytestmark = pytest.mark.usefixtures("without_drawing")

PICTURE = Picture(content=b"jpeg", width_in=3.75, media_type="image/jpeg")
FACTS = {
    "image": 0,
    "image_id": "fine/<00>.png",
    "fold": 1,
    "true_label": "fine",
    "predicted_label": "rough",
    "other_label": "rough",
    "true_probability": 0.171,
    "other_probability": 0.829,
}


def build_gallery(*, n_shown: int = 2, n_wrong: int = 2, is_partly_unseen: bool = False) -> MistakeGallery:
    facts = FACTS if n_wrong else FACTS | {"predicted_label": "fine"}
    image = ShownImage(
        answer=Answer(**facts),
        picture=PICTURE,
        true_heat=PICTURE,
        other_heat=PICTURE,
        is_partly_unseen=is_partly_unseen,
    )
    tile = ShownTile(answer=AnsweredTile(**facts, tile=3, place=3, log_loss=1.8), picture=PICTURE)
    return MistakeGallery(images=(image,) * n_shown, tiles=(tile,), n_wrong=n_wrong, n_tested=50)


def render(study: StudyOutcome, context: StudyContext, gallery: MistakeGallery | None) -> str:
    html = render_report(study, context=replace(context, mistakes=gallery))
    section = re.search(r'<h2 id="mistakes">.*?(?=<h2)', html, flags=re.DOTALL)
    return section.group() if section else ""


def read(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html).replace("&nbsp;", " "))


def test_each_image_stands_with_its_classes_probabilities_fold_and_three_pictures(study, context) -> None:
    html = render(study, context, build_gallery())
    assert html.count("<details>") == 2
    assert html.count("<img") == 2 * 3 + 1
    assert "1. fine/&lt;00&gt;.png" in html
    text = read(html)
    assert "2 of 50 test images were wrongly classified" in text
    assert "true: fine; predicted as: rough; fold 2" in text
    assert "for fine, p = 0.17" in text
    assert "for rough, p = 0.83" in text
    assert "tile 3 true: fine, p = 0.17 predicted as: rough, p = 0.83" in text
    assert "not shown" not in text
    assert "hatched" not in text


@pytest.mark.parametrize(
    ("gallery", "words"),
    [
        (build_gallery(n_shown=1, n_wrong=1), "1 of 50 test images was wrongly classified"),
        (build_gallery(n_shown=3, n_wrong=8), "5 more are not shown. The whole list is mistakes/images.csv"),
        (build_gallery(n_shown=15, n_wrong=15), "Show 3 more"),
        (build_gallery(n_wrong=0), "All 50 test images were correctly classified. These are the 2 of which"),
        (build_gallery(is_partly_unseen=True), "No tile covers the hatched parts: the network did not look at them."),
    ],
)
def test_what_is_shown_and_what_is_not_is_said(study, context, gallery: MistakeGallery, words: str) -> None:
    assert words in read(render(study, context, gallery)).replace(" ,", ",")


def test_a_report_without_pictures_has_no_such_section(study, context) -> None:
    assert render(study, context, None) == ""

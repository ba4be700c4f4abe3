"""Doubtful labels in the report: the sentence about chance, pictures of the mistakes where there are, inspection."""

import html
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sem_search.evaluation.label_errors import LabelDoubts, LabelNoise
from sem_search.evaluation.statistics import Interval
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import MistakeGallery, ShownImage, StudyContext
from sem_search.tracking.entries.doubtful_labels import DoubtfulLabel, DoubtfulLabels
from sem_search.tracking.entries.mistakes import list_answers
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.entries.types import Picture
from sem_search.tracking.report.study_page import MAX_DOUBTFUL, render_report

pytestmark = pytest.mark.usefixtures("without_drawing")

ONE = DoubtfulLabel(
    image_id="fine/<02>.png",
    group="fine/<02>.png",
    label="fine",
    other_label="rough",
    label_probability=0.012,
    other_probability=0.961,
    n_by_chance=0.034,
)


def build_doubts(*images: DoubtfulLabel) -> DoubtfulLabels:
    numbers = np.arange(len(images))
    doubts = LabelDoubts(
        self_confidence=np.zeros(50),
        others=np.zeros(50, dtype=np.int64),
        ranked=numbers,
        n_as_doubtful=np.zeros(len(images)),
        n_groups=len(images),
        n_groups_by_chance=Interval(value=0.4, low=0, high=2),
        noise=LabelNoise(share=Interval(value=0, low=0, high=0.04), p_value=0.3, temperature=1.0),
    )
    return DoubtfulLabels(images=images, n_images=50, is_grouped=False, doubts=doubts)


def render(study: StudyOutcome, context: StudyContext, trust: StudyTrust, *images: DoubtfulLabel, **more: Any) -> str:
    page = render_report(
        study, context=replace(context, **more), trust=replace(trust, doubtful_labels=build_doubts(*images))
    )
    section = re.search(r'<h2 id="labels">.*?(?=<h2)', page, flags=re.DOTALL)
    assert section is not None
    return section.group()


def read(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def test_each_image_stands_with_both_classes_chance_and_what_inspection_found(study, context, trust) -> None:
    page = render(study, context, trust, ONE, faults={ONE.image_id: ("clipped white",)})
    assert "fine/&lt;02&gt;.png" in page
    assert "<img" not in page
    text = read(page)
    assert "1 of 50 labels is doubtful." in text
    assert "of 0.4 images on average (0 to 2 in 95 of 100 cases). This does not" in text
    assert "show that any label is wrong (p = 0.3), nor that none is" in text
    assert "label: fine, p = 0.012 perhaps: rough , p = 0.96 by chance: 0.034 inspection: clipped white" in text


def test_the_picture_is_that_of_the_mistake(study, context, trust) -> None:
    answer = replace(list_answers(study.winner, tiles=study.tiles)[0], image_id=ONE.image_id)
    pictures = [Picture(content=name, width_in=1.0, media_type="image/jpeg") for name in (b"image", b"true", b"other")]
    shown = ShownImage(
        answer=answer, picture=pictures[0], true_heat=pictures[1], other_heat=pictures[2], is_partly_unseen=False
    )
    gallery = MistakeGallery(images=(shown,), tiles=(), n_wrong=1, n_tested=50)
    page = render(study, context, trust, ONE, replace(ONE, image_id="another.png"), mistakes=gallery)
    assert re.findall(r'src="([^"]*)"', page) == [pictures[0].data_uri]


def test_many_are_counted_and_none_is_said(study, context, trust) -> None:
    many = render(study, context, trust, *[ONE] * (MAX_DOUBTFUL + 3))
    assert many.count("label: fine") == MAX_DOUBTFUL
    assert "3 more are not shown." in many
    none = read(render(study, context, trust))
    assert "0 of 50 labels are doubtful" in none
    assert "By chance" not in none

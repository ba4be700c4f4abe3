"""The three reports say the same, keep their form, and let no file name out of its place."""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from sem_search.micrographs.inspection.confounds import compute_confounds
from sem_search.micrographs.inspection.finding import Finding
from sem_search.micrographs.inspection.inspect import Inspection
from sem_search.micrographs.inspection.report import (
    MAX_GALLERY,
    MAX_GALLERY_IMAGES,
    MAX_LISTED,
    MAX_NAMED_SHOWN,
    MAX_PAIRS_SHOWN,
    MAX_VALUES,
    TEXT_COLUMNS,
    choose_gallery,
    list_suspects,
)
from sem_search.micrographs.overlaps.similarity import SimilarPair

Make = Callable[..., Any]
EVIL = "salt/<script>alert('x')</script>&\"quoted\".png"
LONG = "sand/" + "very-long-name_" * 12 + ".png"
VOID = {"meta", "br", "img"}


def make_pair(first: str, second: str, **changes: Any) -> SimilarPair:
    values = {"kind": "overlapping", "overlap": 0.5, "shift_px": (0, 640), "correlation": 0.9}
    return SimilarPair(first=first, second=second, **{**values, **changes})


@pytest.fixture
def inspection(make_record: Make, make_catalogue: Make) -> Inspection:
    records = [
        make_record(EVIL, session="2020-01-01", pixel_size_nm=100.0, detector="ETD"),
        make_record("salt/1.png", session="2020-01-01", pixel_size_nm=100.0, detector="ETD"),
        make_record(LONG, session="2020-01-02", pixel_size_nm=50.0, acquired_at="2020-01-02T10:00:00"),
        make_record("sand/1.png", session="2020-01-02", pixel_size_nm=100.0, bit_depth=16),
    ]
    catalogue = make_catalogue(*records)
    return Inspection(
        catalogue=catalogue,
        pairs=(make_pair("salt/1.png", EVIL), make_pair(LONG, "sand/1.png", scale=2.0, overlap=1.0)),
        findings=(
            Finding(
                kind="label_conflict", severity="error", message=f"{EVIL} is wrong.", images=(EVIL, LONG, "sand/1.png")
            ),
            Finding(kind="overlapping_fields", severity="warning", message=f"{LONG} overlaps.", classes=("sand",)),
        ),
        confounds=compute_confounds(catalogue),
        thumbnails={record.image_id: b"jpeg" for record in catalogue.records},
    )


def test_the_json_has_the_form_that_is_promised(inspection: Inspection) -> None:
    content = json.loads(inspection.to_json())
    assert list(content) == [
        "schema", "data", "digest", "n_images", "n_fields", "classes", "pairs", "confounds", "findings",
    ]  # fmt: skip
    assert (content["schema"], content["data"], content["n_images"], content["n_fields"]) == (1, "data", 4, 2)
    assert content["digest"] == inspection.catalogue.digest
    assert content["classes"][1] == {
        "name": "sand",
        "n_images": 2,
        "n_fields": 1,
        "sessions": {"2020-01-02": 2},
        "pixel_sizes": {"100 nm": 1, "50 nm": 1},
        "bit_depths": {"16": 1, "8": 1},
        "image_sizes": {"1280 x 960": 2},
        "detectors": {"not known": 2},
    }
    assert content["pairs"][0] == {**dataclasses.asdict(inspection.pairs[0]), "shift_px": [0, 640]}
    assert content["findings"][0] == {
        "kind": "label_conflict",
        "severity": "error",
        "message": f"{EVIL} is wrong.",
        "images": [EVIL, LONG, "sand/1.png"],
        "classes": [],
        "details": [],
    }
    session = next(confound for confound in content["confounds"] if confound["attribute"] == "session")
    assert set(session) == {
        "attribute", "n_images", "n_right", "n_right_by_chance", "p_value", "given_away", "is_warning", "table",
    }  # fmt: skip
    assert session["given_away"] == ["salt", "sand"]
    assert session["table"] == {"salt": {"2020-01-01": 2}, "sand": {"2020-01-02": 2}}


def test_the_text_fits_the_terminal_and_names_everything(inspection: Inspection) -> None:
    text = inspection.to_text()
    assert max(map(len, text.splitlines())) <= TEXT_COLUMNS
    assert text.startswith("data: 4 images of 2 classes, 2 separate fields of view; 1 error, 1 warning, 0 notes.")
    assert "Errors (1)" in text
    assert "Notes" not in text
    assert LONG in text.replace("\n    ", "")
    assert re.search(r"^sand +2 +1 +1 +100 nm, 50 nm +16, 8 +1280 x 960$", text, re.MULTILINE)


def test_clean_data_are_called_clean(make_record: Make, make_catalogue: Make) -> None:
    clean = Inspection(catalogue=make_catalogue(make_record("a/1.png"), make_record("b/1.png")), pairs=(), findings=())
    assert "2 images of 2 classes; 0 errors, 0 warnings, 0 notes." in clean.to_text()
    assert "No problems were found." in clean.to_text()
    assert "No problems were found." in clean.to_html()


class Page(HTMLParser):
    """Collects tags and texts, and sees to it that all that is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_loads_nothing_runs_nothing_and_escapes_names(inspection: Inspection) -> None:
    html = inspection.to_html()
    page = Page(html)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "form", "base"}
    assert "://" not in html
    assert "@import" not in html
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all(str(attrs["src"]).startswith("data:image/jpeg;base64,") for tag, attrs in page.tags if tag == "img")
    assert "default-src 'none'" in html
    assert any(EVIL in text for text in page.texts)
    assert any(LONG in text for text in page.texts)


def test_pairs_stand_side_by_side_with_what_they_share(inspection: Inspection) -> None:
    boxes = [attrs["style"] for tag, attrs in Page(inspection.to_html()).tags if attrs.get("class") == "box"]
    assert boxes == [
        "top:0.00%;left:50.00%;height:100.00%;width:50.00%",
        "top:0.00%;left:0.00%;height:100.00%;width:50.00%",
        "top:0.00%;left:50.00%;height:100.00%;width:50.00%",
        "top:0.00%;left:0.00%;height:50.00%;width:25.00%",
    ]


def test_large_data_sets_do_not_make_a_page_without_end(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"{label}/{i:03}.png") for label in ("salt", "sand") for i in range(100)]
    pairs = tuple(make_pair(f"salt/{i:03}.png", f"sand/{i:03}.png") for i in range(90))
    html = Inspection(
        catalogue=make_catalogue(*records),
        pairs=pairs,
        findings=(),
        thumbnails={record.image_id: b"x" for record in records},
    ).to_html()
    assert html.count("<img") == 2 * MAX_PAIRS_SHOWN + 2 * MAX_GALLERY_IMAGES
    assert f"{90 - MAX_PAIRS_SHOWN} more pairs are in inspection.json" in html
    assert f"salt (100 images, {MAX_GALLERY_IMAGES} of them shown, evenly spaced)" in html


@pytest.mark.parametrize(
    ("n_classes", "n_images", "n_shown"),
    [(2, 10, 20), (2, 100, 48), (20, 100, 120), (100, 100, 120), (300, 2, 80)],
)
def test_the_gallery_is_bounded_and_spaced(
    n_classes: int, n_images: int, n_shown: int, make_record: Make, make_catalogue: Make
) -> None:
    records = [make_record(f"{label:03}/{i:03}.png") for label in range(n_classes) for i in range(n_images)]
    gallery = choose_gallery(make_catalogue(*records))
    assert sum(len(entry.shown) for entry in gallery) == n_shown <= MAX_GALLERY
    places = [int(record.image_id[4:7]) for record in gallery[0].shown]
    steps = [two - one for one, two in itertools.pairwise(places)]
    assert places[0] == 0 and max(steps) - min(steps) <= 1 and n_images - places[-1] <= max(steps) + 1


@pytest.mark.parametrize(
    ("severity", "light", "words"),
    [
        ("error", "bad", "A search refuses these data until 1 error is repaired."),
        ("warning", "unclear", "its score may not mean what it seems to: read the 1 warning below."),
        ("note", "good", "Ready for a search"),
    ],
)
def test_the_page_says_first_whether_a_search_can_start(
    severity: Any, light: str, words: str, make_record: Make, make_catalogue: Make
) -> None:
    catalogue = make_catalogue(make_record("a/1.png"), make_record("b/1.png"))
    finding = Finding(kind="x", severity=severity, message="Something.")
    inspection = Inspection(catalogue=catalogue, pairs=(), findings=(finding,))
    page = inspection.to_html(next_command="sem-search search --data 'my images'")
    assert f'<div class="verdict {light}">' in page
    assert words in page
    assert "<pre>sem-search search --data &#39;my images&#39;</pre>" in page
    assert "The search to start next" not in inspection.to_html()


def test_images_that_a_message_names_are_shown_below_it(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"{label}/{i:04}.png") for label in ("salt", "sand") for i in range(500)]
    ids = tuple(record.image_id for record in records)
    findings = (
        Finding(kind="x", severity="warning", message="2 images (salt/0334.png, sand/0077.png) are odd.", images=ids),
        Finding(kind="y", severity="note", message="The session is not known for all images.", images=ids),
    )
    assert list_suspects([make_pair("salt/0001.png", "salt/0002.png")], findings=findings) == (
        "salt/0001.png", "salt/0002.png", "salt/0334.png", "sand/0077.png",
    )  # fmt: skip
    catalogue = make_catalogue(*records)
    pictures = dict.fromkeys(("salt/0334.png", "sand/0077.png"), b"x")
    page = Inspection(catalogue=catalogue, pairs=(), findings=findings, thumbnails=pictures).to_html()
    alts = [attrs["alt"] for tag, attrs in Page(page).tags if tag == "img"]
    assert alts == ["salt/0334.png", "sand/0077.png"], "neither is in the gallery"


def test_no_more_named_images_are_shown_than_a_page_takes() -> None:
    findings = [
        Finding(kind=str(k), severity="note", message=" ".join(ids := tuple(f"{k}-{i}" for i in range(7))), images=ids)
        for k in range(10)
    ]
    assert len(list_suspects([], findings=findings)) == MAX_NAMED_SHOWN


def test_of_many_values_a_table_shows_the_first(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"a/{i:03}.png", session=f"day {i:03}<b>") for i in range(MAX_VALUES + 3)]
    catalogue = make_catalogue(*records, make_record("b/1.png", session="day 0"))
    inspection = Inspection(catalogue=catalogue, pairs=(), findings=(), confounds=compute_confounds(catalogue))
    page = inspection.to_html()
    assert page.count("&lt;b&gt; (1)") == 2 * MAX_VALUES, "of the class, and of the confound"
    assert page.count("3 more are in inspection.json") == 2
    assert all(f"day {i:03}<b>" in inspection.to_json() for i in range(MAX_VALUES + 3))


def test_long_lists_of_names_are_cut(make_record: Make, make_catalogue: Make) -> None:
    names = tuple(f"a/{i:04}<b>.png" for i in range(MAX_LISTED + 7))
    finding = Finding(kind="x", severity="note", message="Many.", images=names)
    catalogue = make_catalogue(make_record("a/1.png"), make_record("b/1.png"))
    page = Inspection(catalogue=catalogue, pairs=(), findings=(finding,)).to_html()
    assert page.count("&lt;b&gt;.png") == MAX_LISTED
    assert "<br>7 more are in inspection.json." in page

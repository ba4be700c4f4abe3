"""What the page does (`browser/page.js`), in a real browser."""

import pytest

from tests.app.conftest import PageBench

UNSURE = ["lactose", "starch"]


def test_one_image_gets_an_open_card_with_its_version_and_pictures(page: PageBench) -> None:
    page.choose(page.write("one.tif"))
    assert page.read_all("article h2") == ["lactose"]
    card = page.browser.read_text("article")
    for words in ("one.tif", "Possible materials", "for 90 % of images", "powders, version 1", "Where the model looks"):
        assert words in card
    assert page.stone.params == [{"explain": True, "on_error": "report", "coverage": 0.9}]
    page.browser.wait_for("[...document.querySelectorAll('figure img')].every((one) => one.naturalWidth === 12)")
    assert page.browser.run("return document.querySelector('#results').hidden")


@pytest.mark.parametrize(
    ("view", "shown"), [("image", ["image"]), ("overlay", ["overlay"]), ("both", ["image", "overlay"])]
)
def test_the_original_stands_beside_the_overlay_or_alone(page: PageBench, view: str, shown: list[str]) -> None:
    page.choose(page.write("one.tif"))
    page.browser.run(f"document.querySelector('.views [value={view}]').click()")
    visible = page.browser.run(
        "const all = [...document.querySelectorAll('.zoom')];"
        "return all.filter((one) => one.offsetParent).map((one) => one.dataset.picture)"
    )
    assert visible == shown


def test_a_click_enlarges_a_picture_and_another_exchanges_it(page: PageBench) -> None:
    page.choose(page.write("one.tif"))
    page.browser.run("document.querySelector('[data-picture=overlay]').click()")
    assert page.browser.read_text("#flip") == "Show the original"
    before = page.browser.run("return document.querySelector('#zoom img').src")
    page.browser.run("document.querySelector('#flip').click()")
    assert page.browser.run("return document.querySelector('#zoom img').src") != before
    page.browser.run("document.querySelector('#close').click()")
    assert page.browser.run("return document.querySelector('#zoom').open") is False


def test_an_unknown_material_gets_neither_set_nor_promise_nor_bars(page: PageBench) -> None:
    page.choose(page.write("strange.tif", is_known=False, novelty=7.0))
    card = page.browser.read_text("article")
    assert "Unknown material" in card
    for words in ("Possible materials", "calibrated", "60.0 %"):
        assert words not in card
    assert page.browser.run("return document.querySelector('figure').dataset.view") == "image"
    page.browser.run("document.querySelector('.closest').open = true")
    assert page.read_all(".closest b") == ["lactose"]
    assert "This is no answer." in page.browser.read_text(".closest")
    assert "60.0 %" in page.browser.read_text(".closest")


@pytest.mark.parametrize("told", [{"refusal": "is no image"}, {"error": "is no image"}])
def test_a_file_without_an_answer_says_why_and_may_be_asked_again(page: PageBench, told: dict[str, str]) -> None:
    page.choose(page.write("torn.png", **told), until="1 of 1 image done, 1 without an answer")
    assert "No answer\nThe image is no image." in page.browser.read_text(".failed")
    page.browser.run("document.querySelector('#continue').click()")
    page.wait("1 without an answer")
    assert page.read_all("article h2") == ["No answer"]


@pytest.mark.parametrize("n_others", [0, 4], ids=["open card", "closed card"])
def test_a_refusal_without_a_message_is_told_once_and_the_page_goes_on(page: PageBench, n_others: int) -> None:
    others = [page.write(f"{number}.tif") for number in range(n_others)]
    page.choose(page.write("torn.png", refusal=""), *others, until="1 without an answer")
    assert page.read_all("article h2") == ["No answer", *["lactose"] * n_others]
    assert "The server answered with status 400." in page.browser.run("return items[0].row.textContent")
    page.choose(page.write("good.tif"), until="1 without an answer")
    assert page.read_all("article h2")[0] == "lactose"


def test_many_images_stand_in_a_table_what_needs_a_look_first(page: PageBench) -> None:
    told = {
        "a/1.tif": {},
        "b/1.tif": {"is_known": False},
        "b/2.tif": {"prediction_set": UNSURE},
        "b/3.tif": {"refusal": "is no image"},
        "c/1.tif": {"is_training_image": True},
        "c/2.tif": {},
    }
    page.choose(*(page.write(name, **answer) for name, answer in told.items()), until="6 of 6 images done, 1 without")
    rows = page.browser.run(
        "return [...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    version = "powders, version 1"
    assert rows == [
        ["1.tif (2)", "Unknown material", "", "unknown material", version],
        ["3.tif", "No answer", "", "The image is no image.", ""],
        ["2.tif", "lactose or starch", "60.0 %", "several materials are possible", version],
        ["1.tif (3)", "lactose", "60.0 %", "training image", version],
        ["1.tif", "lactose", "60.0 %", "", version],
        ["2.tif (2)", "lactose", "60.0 %", "", version],
    ]
    assert [params["explain"] for params in page.stone.params] == [False] * 5


def test_the_pictures_of_many_come_when_a_card_is_opened(page: PageBench) -> None:
    page.choose(*(page.write(f"{number}.tif") for number in range(5)))
    page.browser.run("document.querySelector('td a').click()")
    page.browser.wait_for("document.querySelector('#image-1 figure') !== null")
    assert page.read_all("article:has(figure) .file") == ["0.tif, 0.0 MB"]
    assert page.stone.params[-1]["explain"] is True


def test_a_stopped_batch_can_be_continued(page: PageBench) -> None:
    page.stone.gate.clear()
    page.browser.choose_files("#file", *(page.write(f"{number}.tif") for number in range(5)))
    page.browser.wait_for("document.querySelectorAll('article').length === 5")
    assert page.read_all("article h2") == ["Looking …", *["Waiting"] * 4]
    page.browser.run("document.querySelector('#stop').click()")
    page.wait("0 of 5 images done")
    assert page.read_all("article h2") == ["Stopped"] * 5
    page.stone.gate.set()
    page.browser.run("document.querySelector('#continue').click()")
    page.wait("5 of 5 images done")
    assert page.read_all("article h2") == ["lactose"] * 5


def test_another_coverage_asks_again_where_it_matters(page: PageBench) -> None:
    page.choose(page.write("known.tif"), page.write("strange.tif", is_known=False))
    page.browser.run(
        "const chosen = document.querySelector('#coverage'); chosen.value = '0.99';"
        "chosen.dispatchEvent(new Event('change'))"
    )
    page.wait("2 of 2 images done")
    assert [params["coverage"] for params in page.stone.params] == [0.9, 0.9, 0.99]
    assert "for 99 % of images" in page.browser.read_text("article")
    assert page.browser.run("return document.querySelectorAll('figure').length") == 2


def test_a_changed_champion_is_announced_and_can_be_asked(page: PageBench) -> None:
    page.choose(page.write("one.tif"))
    page.stone.version = "2"
    page.browser.run("lookAtVersion()")
    page.browser.wait_for_text("#model", "powders, version 2")
    assert page.browser.read_text("#notice span") == (
        "The champion changed: version 2 answers from now on. The answers of earlier versions are marked."
    )
    assert "Version 1 answered, which version 2 has replaced." in page.browser.read_text("article")
    page.browser.run("document.querySelector('#outdated').click()")
    page.browser.wait_for("document.querySelector('article dl').innerText.includes('powders, version 2')")
    page.wait()
    assert "replaced" not in page.browser.read_text("article")
    assert page.browser.run("return document.querySelector('#outdated').hidden")
    page.browser.wait_for("document.querySelector('figure') !== null")


def test_an_answer_of_another_version_makes_the_page_look_anew(page: PageBench) -> None:
    page.stone.version = "2"
    page.choose(page.write("one.tif"))
    page.browser.wait_for_text("#model", "powders, version 2")


def test_the_page_goes_on_looking_and_says_when_the_server_is_away(page: PageBench) -> None:
    page.browser.run("globalThis.fetch = async () => { throw new Error('away'); }; return lookAtVersion()")
    assert page.browser.read_text("#model") == "the server does not answer"


def test_a_busy_server_is_asked_again(page: PageBench) -> None:
    page.stone.is_busy = True
    page.choose(page.write("one.tif"))
    assert page.read_all("article h2") == ["lactose"]


def test_a_folder_is_searched_for_images_whose_folders_tell_them_apart(page: PageBench) -> None:
    for name in ("lot/b/10.tif", "lot/b/2.tif", "lot/a/2.PNG", "lot/notes.txt", "lot/.hidden.tif"):
        page.write(name)
    page.browser.choose_files("#folder", page.folder / "lot")
    page.wait("3 of 3 images done")
    assert page.browser.read_text("#notice span") == "3 images found; 2 other files left out."
    assert page.read_all("td a") == ["lot/a/2.PNG", "lot/b/2.tif", "lot/b/10.tif"]


def test_a_dropped_folder_is_read_to_its_end(page: PageBench) -> None:
    found = page.browser.run(
        """
        const file = (path) => ({ isFile: true, fullPath: path, file: (take) => take(path.length) });
        const read = (parts) => ({ readEntries: (take) => take(parts.splice(0, 2)) });
        const folder = (...parts) => ({ isFile: false, createReader: () => read(parts) });
        const below = folder(file("/lot/a/3.tif"));
        return listEntry(folder(file("/lot/1.tif"), file("/lot/2.tif"), below, file("/lot/4.tif")));
        """
    )
    assert found == [["lot/1.tif", 10], ["lot/2.tif", 10], ["lot/a/3.tif", 12], ["lot/4.tif", 10]]


def test_the_table_is_downloaded_in_the_order_shown(page: PageBench) -> None:
    page.choose(page.write("sure.tif"), page.write("strange.tif", is_known=False))
    name, text = page.browser.run(
        """
        let taken;
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { taken = blob; return make.call(URL, blob); };
        HTMLAnchorElement.prototype.click = function () { this.ownerDocument.title = this.download; };
        document.querySelector("#download").click();
        return taken.text().then((text) => [document.title, text]);
        """
    )
    assert name == "predictions.csv"
    assert [line.split(",")[:2] for line in text.splitlines()[1:]] == [
        ["strange.tif", "Unknown material"],
        ["sure.tif", "lactose"],
    ]


def test_a_name_is_text_whatever_it_holds(page: PageBench) -> None:
    page.choose(page.write("<b onclick=x>.tif", warnings=["<i>odd</i>"]))
    assert "<b onclick=x>.tif" in page.browser.read_text("article .file")
    assert "<i>odd</i>" in page.browser.read_text("article .warnings")
    assert page.browser.run("return document.querySelectorAll('.file > *, .warnings li > *').length") == 0

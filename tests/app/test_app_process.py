"""The whole job in a real browser before the real program: from a folder to a classified micrograph.

One server and one browser serve all tests of this file, in the order of the file.
"""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.fuzz_page import fuzz_page, write_place
from benchmarks.servers import RunningServer, run_server
from tests.browsing import ENTER, TAB, Browser, open_browser
from tests.conftest import write_tiny_folder

SHARED = Path(__file__).parents[3] / "shared"
ROOMS = ("images", "search", "result", "models", "classify")
TINY = {
    "backbone": "tiny",
    "preset": "quick",
    "weights": "random",
    "tile_px": 32,
    "learning_rates": "1e-2",
    "batch_sizes": "8",
    "epochs": 2,
    "folds": 3,
    "threads": 1,
}

pytestmark = pytest.mark.slow


@dataclass
class Desk:
    """A page before a person, in a folder of its own."""

    browser: Browser
    server: RunningServer
    place: Path

    def go(self, room: str) -> None:
        self.browser.run(f"location.hash = {json.dumps(room)}")
        self.browser.wait_for(f"!byId('{room.split('/')[0]}-room').hidden")

    def click(self, selector: str) -> None:
        self.browser.run(f"document.querySelector({json.dumps(selector)}).click()")

    def wait_for_job(self, kind: str, *states: str) -> None:
        allowed = json.dumps(states or ("done",))
        self.browser.wait_for(f"{allowed}.includes(lastState?.jobs['{kind}']?.state)")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("Pl\u00e4tze a") / "my w\u00f6rk"
    write_tiny_folder(place / "my p\u00fclver", n_images=4)
    with (
        open_browser() as browser,
        run_server(
            ["app", "--no-browser", "--watch", "1"],
            folder=place,
            log=place.parent / "log.txt",
            cwd=place,
            ready="/livez",
        ) as server,
    ):
        browser.open(server.url)
        browser.wait_for("lastState !== null")
        yield Desk(browser=browser, server=server, place=place)


def test_a_page_without_a_model_says_so_and_begins_with_the_images(desk: Desk) -> None:
    assert "a search registers its winner" in desk.browser.run("return byId('no-champion').textContent")
    assert desk.browser.run("return !byId('images-room').hidden")
    desk.browser.wait_for_text("#folders", "my p\u00fclver")
    assert "3 classes" in desk.browser.read_text("#folders")


def test_a_folder_is_chosen_by_keyboard_alone(desk: Desk) -> None:
    desk.browser.run(
        "document.querySelector('#trail').scrollIntoView(); byId('chooser').querySelector('summary').focus()"
    )
    for _ in range(12):
        desk.browser.press(TAB)
        if desk.browser.run("return document.activeElement.getAttribute('aria-label')") == "Use my p\u00fclver":
            break
    desk.browser.press(ENTER)
    desk.browser.wait_for_text("#how-many", "12 images of 3 classes")
    desk.browser.wait_for("[...document.querySelectorAll('.tile img')].some((one) => one.naturalWidth === 96)")


def test_inspection_shows_what_it_found_beside_the_pictures(desk: Desk) -> None:
    desk.browser.run(f"Object.entries({json.dumps(TINY)}).forEach(([name, value]) => choose(name, value))")
    desk.click("#inspect")
    desk.wait_for_job("inspection")
    desk.browser.wait_for("byId('findings').children.length > 1")
    assert "pixel size" in desk.browser.read_text("#findings")


def test_an_image_and_a_class_are_left_out_and_taken_in_again(desk: Desk) -> None:
    desk.click(".tile .picture")
    desk.browser.wait_for("byId('image-dialog').open && byId('image-facts').textContent.includes('96 × 96 px')")
    desk.click("#image-out")
    assert "1 image left out" in desk.browser.read_text("#images-room .choices-made")
    assert desk.browser.run("return document.querySelectorAll('#gallery .tile.out').length") == 1
    desk.click("#gallery [data-leave-out]")
    assert desk.browser.run("return document.querySelectorAll('#gallery .tile.out').length") == 4
    desk.browser.run(
        "for (const undo of [...document.querySelectorAll('#images-room .choices-made button')]) undo.click()"
    )
    desk.browser.run(
        "for (const undo of [...document.querySelectorAll('#images-room .choices-made button')]) undo.click()"
    )
    assert desk.browser.run("return JSON.stringify([project.leftOut, project.settings.exclude ?? []])") == "[[],[]]"
    desk.browser.run("choose('folds', 3)")


def test_marked_images_are_kept_together(desk: Desk) -> None:
    desk.browser.run(
        "for (const box of [...document.querySelectorAll('#gallery .tile input')].slice(0, 2)) box.click()"
    )
    assert "2 images marked" in desk.browser.read_text("#chosen")
    desk.click("#together")
    assert desk.browser.run("return project.together.length") == 1
    desk.browser.run("project.together = []; keepProject()")


def test_the_data_bar_is_cut_off_with_a_line_that_can_be_moved(desk: Desk) -> None:
    desk.click("#crop")
    desk.browser.wait_for("byId('crop-dialog').open && byId('crop-picture').naturalWidth > 0")
    desk.browser.run("byId('crop-slider').focus()")
    for _ in range(3):
        desk.browser.press("\ue014")  # the right arrow
    assert desk.browser.run("return byId('crop-px').value") == "3"
    assert desk.browser.run("return byId('crop-line').style.top") == "96.875%"
    desk.click("#crop-keep")
    assert "data bar: 3 px cut off" in desk.browser.read_text("#images-room .choices-made")
    desk.browser.run("choose('crop_bottom_px', '')")


def test_a_folder_that_is_dropped_becomes_a_data_set(desk: Desk) -> None:
    desk.browser.run("byId('upload-data').value = 'dropped set'")
    desk.browser.choose_files("#upload-folder", desk.place / "my p\u00fclver")
    desk.browser.wait_for("byId('upload-line').textContent.includes('Received')")
    desk.browser.wait_for_text("#images-room .chosen-data", "uploads/dropped set")
    assert "12 images of 3 classes" in desk.browser.read_text("#how-many")
    own = json.dumps(str(desk.place / "my p\u00fclver"))
    desk.browser.run(f"openData({own})")
    desk.browser.wait_for_text("#images-room .chosen-data", "my p\u00fclver")
    desk.browser.run(f"Object.entries({json.dumps(TINY)}).forEach(([name, value]) => choose(name, value))")


def test_the_costs_are_told_before_a_search(desk: Desk) -> None:
    desk.go("search")
    desk.click("#estimate")
    desk.wait_for_job("estimate")
    told = desk.browser.wait_for_text("#estimate-line", "This search will take about")
    assert "of disk" in told


def test_a_search_is_stopped_and_goes_on_and_a_second_visitor_sees_it(desk: Desk) -> None:
    desk.click("#search-start")
    desk.wait_for_job("search", "running")
    desk.browser.wait_for("lastState.jobs.search.study !== null")
    desk.click("#search-stop")
    desk.wait_for_job("search", "stopped")
    assert "what is finished is kept" in desk.browser.wait_for_text("#search-state", "stopped")
    desk.browser.wait_for("!byId('search-again').hidden")
    desk.click("#search-again")
    desk.wait_for_job("search", "running")
    desk.browser.open("about:blank")  # a closed browser stops nothing
    with urllib.request.urlopen(f"{desk.server.url}/api/events", timeout=30) as events:
        assert json.loads(events.readline().decode().removeprefix("data: "))["jobs"]["search"]["state"] == "running"
    desk.browser.open(f"{desk.server.url}/#search")
    desk.wait_for_job("search")
    assert "2 of 2 cells done" in desk.browser.read_text("#search-state")
    assert desk.browser.run("return document.querySelectorAll('#grid td.best').length") == 1


def test_the_result_begins_with_the_verdict_and_opens_the_images_behind_a_number(desk: Desk) -> None:
    desk.click("#search-done")
    desk.browser.wait_for("study !== null && !byId('result-body').hidden")
    verdict = desk.browser.run("return byId('verdict').shadowRoot.textContent")
    assert "of 12 unseen images correctly classified" in verdict
    assert "Enough images" in verdict
    assert desk.browser.run("return study.images.length") == 12
    desk.click("#matrix td button")
    desk.browser.wait_for("[...document.querySelectorAll('#cell img')].length > 1")
    desk.browser.wait_for(
        "[...document.querySelectorAll('#cell img')].slice(0, 2).every((one) => one.naturalWidth > 0)"
    )
    address = desk.browser.run("return byId('download-predictions').href")
    with urllib.request.urlopen(address, timeout=60) as table:
        assert len(table.read().decode().strip().splitlines()) == 13


def test_the_kit_is_made_and_can_be_downloaded(desk: Desk) -> None:
    desk.click("#kit-start")
    desk.wait_for_job("kit")
    desk.browser.wait_for("!byId('download-kit').hidden")
    address = desk.browser.run("return byId('download-kit').href")
    with urllib.request.urlopen(address, timeout=60) as archive:
        assert archive.read(2) == b"PK"


def test_a_version_is_seen_and_answers(desk: Desk) -> None:
    desk.go("models")
    desk.browser.wait_for_text("#models", "sem-search-tiny")
    desk.browser.run(
        "[...document.querySelectorAll('#models button')].find((one) => one.textContent === 'Its card').click()"
    )
    desk.browser.wait_for("byId('card-dialog').open && byId('card-text').textContent.length > 500")
    desk.browser.run("byId('card-dialog').close()")
    choice = "[...document.querySelectorAll('#models button')].find((one) => /champion/.test(one.textContent))"
    if desk.browser.run(f"return {choice} !== undefined"):  # a score at chance makes no champion by itself
        desk.browser.run(f"{choice}.click()")
        desk.browser.run("byId('reason').value = 'for the test'")
        desk.click("#reason-go")
        desk.browser.wait_for_text("#models", "champion")
        desk.browser.wait_for("!byId('reason-dialog').open")
    desk.go("classify")
    desk.browser.wait_for_text("#model", "sem-search-tiny, version 1")


def test_a_micrograph_is_classified(desk: Desk, tmp_path: Path) -> None:
    picture = tmp_path / "n\u00e4w.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)).save(picture)
    desk.browser.choose_files("#file", picture)
    desk.browser.wait_for_text("#answers", "Answered by")
    assert picture.name in desk.browser.read_text("#answers")


def test_no_room_has_a_serious_barrier_in_light_or_dark_or_on_a_telephone(desk: Desk) -> None:
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        desk.go(room)
        time.sleep(0.5)
        found[room] = desk.browser.find_barriers()
    desk.browser.resize(width_px=390, height_px=800)
    wide = {}
    for room in ROOMS:
        desk.go(room)
        time.sleep(0.3)
        wide[room] = desk.browser.run(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
    desk.browser.resize(width_px=1200, height_px=1300)
    assert found == {room: [] for room in ROOMS}
    assert wide == dict.fromkeys(ROOMS, 0)
    with open_browser("--blink-settings=preferredColorScheme=0") as dark:
        dark.open(f"{desk.server.url}/")
        dark.wait_for("lastState !== null")
        assert dark.run("return matchMedia('(prefers-color-scheme: dark)').matches")
        for room in ROOMS:
            dark.run(f"location.hash = '{room}'")
            if room == "result":
                dark.wait_for("!byId('result-body').hidden")
            time.sleep(0.7)
            found[room] = dark.find_barriers()
    assert found == {room: [] for room in ROOMS}


def test_real_instrument_files_are_shown_and_inspected(desk: Desk) -> None:
    data = SHARED / "data" / "lung_cells_sem"
    if not data.is_dir():
        pytest.skip(f"{data} is not there")
    desk.browser.run("location.hash = '#images'")
    link = desk.place / "lung cells"
    link.mkdir()
    for folder in sorted(data.iterdir()):
        for file in sorted(folder.glob("*.tif"))[:3] if folder.is_dir() else ():
            (link / folder.name).mkdir(exist_ok=True)
            (link / folder.name / file.name).write_bytes(file.read_bytes())
    desk.browser.run(f"openData({json.dumps(str(link))})")
    desk.browser.wait_for_text("#images-room .chosen-data", "lung cells")
    desk.browser.wait_for("[...document.querySelectorAll('#gallery .tile img')].some((one) => one.naturalWidth > 100)")
    desk.click("#gallery .tile .picture")
    desk.browser.wait_for_text("#image-facts", "nm per pixel")
    desk.click("#image-dialog [data-close]")


def test_nothing_came_from_elsewhere_or_broke_the_policy(desk: Desk) -> None:
    places = desk.browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(place.startswith((desk.server.url, "blob:", "data:")) for place in places)
    assert [error for error in desk.browser.read_errors() if "policy" in error.lower()] == []


def test_hostile_requests_are_refused_in_a_sentence_and_read_nothing(tmp_path: Path) -> None:
    place = write_place(tmp_path)
    words = ["app", "--no-browser"]
    with run_server(words, folder=place, log=tmp_path / "log.txt", cwd=place, ready="/livez") as server:
        assert fuzz_page(server, place=place, n=100) == []

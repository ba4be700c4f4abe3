"""The pictures of docs/app.md: the whole job on the page, from a folder to a classified micrograph, as it is done."""

import io
import json
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.browsing import Browser, open_browser
from benchmarks.servers import run_server

SETTINGS = {"backbone": "mobilenet_v2", "preset": "quick", "weights": "particles"}
SIZE_PX = (1100, 1000)
QUALITY = 82
WAIT_S = 900.0


def shoot(browser: Browser, file: Path) -> None:
    """Write what is seen as a JPEG."""
    picture = io.BytesIO(browser.take_screenshot())
    Image.open(picture).convert("RGB").save(file, quality=QUALITY, optimize=True)


def wait_for_job(browser: Browser, kind: str) -> None:
    """Wait until a command of the page is done."""
    deadline_s = time.monotonic() + WAIT_S
    while (state := browser.run(f"return lastState?.jobs['{kind}']?.state")) != "done":
        if state == "failed" or time.monotonic() > deadline_s:
            raise RuntimeError(browser.run(f"return lastState.jobs['{kind}'].log"))
        time.sleep(0.5)


def film(output: Path, *, threads: int) -> dict[str, float]:
    """Do the whole job on the page with the demonstration set, write pictures of it, and return its minutes.

    Args:
        output: Folder of the pictures.
        threads: Of the search.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with (
            open_browser() as browser,
            run_server(
                ["app", "--no-browser", "--watch", "1"], folder=place, log=place / "log.txt", cwd=place, ready="/livez"
            ) as server,
        ):
            browser.resize(width_px=SIZE_PX[0], height_px=SIZE_PX[1])
            browser.open(server.url)
            browser.wait_for("lastState !== null")
            minutes = {"images": _film_images(browser, output)}
            minutes["search"] = _film_search(browser, output, threads=threads)
            _film_result(browser, output)
            _film_models(browser, output, place=place)
    return {f"film.{step}_min": took for step, took in minutes.items()}


def _film_images(browser: Browser, output: Path) -> float:
    begun_s = time.monotonic()
    browser.run("byId('demo').click()")
    browser.wait_for("classes.length > 0")
    browser.run("choose('crop_bottom_px', '')")
    browser.run("byId('inspect').click()")
    wait_for_job(browser, "inspection")
    browser.wait_for("byId('findings').children.length > 0")
    time.sleep(1)
    shoot(browser, output / "images.jpg")
    browser.run(
        "[...document.querySelectorAll('#findings button')].find((one) => /data bar/.test(one.textContent)).click()"
    )
    browser.wait_for("byId('crop-dialog').open && byId('crop-picture').complete")
    browser.run("byId('crop-slider').value = 48; byId('crop-slider').oninput()")
    time.sleep(0.5)
    shoot(browser, output / "crop.jpg")
    browser.run("byId('crop-keep').click()")
    return (time.monotonic() - begun_s) / 60


def _film_search(browser: Browser, output: Path, *, threads: int) -> float:
    begun_s = time.monotonic()
    browser.run("location.hash = '#search'")
    for name, value in {**SETTINGS, "threads": str(threads)}.items():
        browser.run(
            f"byId('set-{name}').value = {json.dumps(value)}; byId('set-{name}').dispatchEvent(new Event('change'))"
        )
    browser.run("byId('estimate').click()")
    wait_for_job(browser, "estimate")
    browser.run("byId('search-start').click()")
    deadline_s = time.monotonic() + WAIT_S
    while browser.run("return (lastState.grid?.cells ?? []).filter((cell) => cell.folds.length).length") < 3:
        if time.monotonic() > deadline_s:
            raise RuntimeError("the search does not go on")
        time.sleep(0.2)
    browser.run("byId('grid').scrollIntoView({ block: 'end' })")
    time.sleep(0.5)
    shoot(browser, output / "search.jpg")
    wait_for_job(browser, "search")
    return (time.monotonic() - begun_s) / 60


def _film_result(browser: Browser, output: Path) -> None:
    browser.run("byId('search-done').click()")
    browser.wait_for("study !== null && !byId('result-body').hidden")
    browser.run("scrollTo(0, 0)")
    time.sleep(1)
    shoot(browser, output / "result.jpg")
    browser.run(
        "(byId('matrix').querySelector('td.wrong button') ?? byId('matrix').querySelector('td button')).click()"
    )
    browser.wait_for("[...document.querySelectorAll('#cell img')].slice(0, 2).every((one) => one.naturalWidth)")
    time.sleep(3)
    browser.run("byId('cell').scrollIntoView({ block: 'end' })")
    time.sleep(0.5)
    shoot(browser, output / "mistakes.jpg")


def _film_models(browser: Browser, output: Path, *, place: Path) -> None:
    browser.run("location.hash = '#models'")
    browser.wait_for("byId('models').children.length > 0")
    time.sleep(0.5)
    shoot(browser, output / "models.jpg")
    browser.run("location.hash = '#classify'")
    browser.wait_for("/version/.test(byId('model').textContent)")
    browser.choose_files("#file", next(iter(sorted((place / "uploads" / "demonstration").rglob("*.png")))))
    browser.wait_for("[...document.querySelectorAll('#answers figure img')].some((one) => one.naturalWidth)")
    time.sleep(1)
    shoot(browser, output / "classify.jpg")

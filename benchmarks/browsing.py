"""A headless Chromium, driven over WebDriver's own protocol: no driver library is needed for four commands."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.ports import find_free_port

LIMIT_S = 90.0

JSON_HEADERS = {"Content-Type": "application/json"}

TAB, ENTER = "\ue004", "\ue007"
"""Keys as WebDriver names them."""

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1300"]


class Browser:
    """One window."""

    def __init__(self, address: str) -> None:
        self._address = address

    def open(self, url: str) -> None:
        """Go to a page."""
        _call("POST", f"{self._address}/url", {"url": url})

    def run(self, script: str) -> Any:
        """Return what a script returns."""
        return _call("POST", f"{self._address}/execute/sync", {"script": script, "args": []})

    def read_text(self, selector: str) -> str:
        """Return the text of the first element, empty where there is none."""
        found: str = self.run(f"return document.querySelector({selector!r})?.innerText ?? ''")
        return found

    def wait_for(self, condition: str) -> None:
        """Wait until a condition in the page's own words is true."""
        deadline_s = time.monotonic() + LIMIT_S
        while not self.run(f"return {condition}"):
            assert time.monotonic() < deadline_s, f"{condition} is not true; the page: {self.read_text('body')}"
            time.sleep(0.1)

    def wait_for_text(self, selector: str, text: str) -> str:
        """Return the text of the first element when it holds these words."""
        self.wait_for(f"(document.querySelector({selector!r})?.innerText ?? '').includes({json.dumps(text)})")
        return self.read_text(selector)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Put files, or a folder, into a file input, as a person would."""
        element = _call("POST", f"{self._address}/element", {"using": "css selector", "value": selector})
        _call(
            "POST",
            f"{self._address}/element/{next(iter(element.values()))}/value",
            {"text": "\n".join(map(str, paths))},
        )

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a person without a mouse does."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        _call("POST", f"{self._address}/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def find_barriers(self) -> list[str]:
        """Return what axe-core finds of serious or critical barriers for people who see, hear or point badly."""
        script = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
        self.run(script)
        found = _call(
            "POST",
            f"{self._address}/execute/async",
            {
                "script": "const done = arguments[0]; axe.run(document).then((found) => done(found.violations))",
                "args": [],
            },
        )
        grave = [one for one in found if one["impact"] in ("serious", "critical")]
        return [f"{one['id']}: {node['html'][:150]}" for one in grave for node in one["nodes"]]

    def resize(self, *, width_px: int, height_px: int) -> None:
        """Give the window another size."""
        _call("POST", f"{self._address}/window/rect", {"width": width_px, "height": height_px})

    def take_screenshot(self) -> bytes:
        """Return what is seen as the content of a PNG file."""
        return base64.b64decode(_call("GET", f"{self._address}/screenshot"))

    def read_errors(self) -> list[str]:
        """Return what the page or its policy complained of in the console."""
        entries = _call("POST", f"{self._address}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Give a browser, with further arguments of Chromium's.

    Raises:
        FileNotFoundError: There is none.
    """
    driver = shutil.which("chromedriver")
    if driver is None:
        raise FileNotFoundError("there is no chromedriver: apt-get install chromium chromium-driver")
    port = find_free_port()
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(address)
        options = {"goog:chromeOptions": {"args": [*ARGUMENTS, *arguments]}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = _call("POST", f"{address}/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        try:
            yield Browser(f"{address}/session/{session}")
        finally:
            _call("DELETE", f"{address}/session/{session}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_up(address: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        try:
            _call("GET", f"{address}/status")
            return
        except OSError:
            assert time.monotonic() < deadline_s, "the driver does not answer"
            time.sleep(0.1)


def _call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=JSON_HEADERS)  # noqa: S310 - our own driver
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:  # noqa: S310
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.read().decode()[:500]}") from error

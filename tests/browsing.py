"""A headless Chromium for tests, which are skipped where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import browsing
from benchmarks.browsing import ENTER, TAB, Browser

__all__ = ["ENTER", "TAB", "Browser", "open_browser"]


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Give a browser, with further arguments of Chromium's; the test is skipped where there is none."""
    try:
        with browsing.open_browser(*arguments) as browser:
            yield browser
    except FileNotFoundError as error:
        if "chromedriver" not in str(error):
            raise
        pytest.skip(str(error))

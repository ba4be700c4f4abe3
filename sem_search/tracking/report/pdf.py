"""A report as a PDF, printed by a browser of the Chromium family, which this machine has or has not."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from sem_search.errors import SettingsError, StoreError
from sem_search.files import write_atomically

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "chrome")
"""Programs that print without a window, as they are called on PATH."""

TIMEOUT_S = 180.0
PDF_START = b"%PDF-"


def find_browser() -> str:
    """Return the program that prints.

    Raises:
        SettingsError: There is none; the message says what to do.
    """
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise SettingsError(
        "--pdf needs Chromium or Chrome, and none is on PATH. Install one (on Debian: apt install chromium), or open "
        "the report in any browser and choose Print, Save as PDF."
    )


def print_pdf(page: Path, *, target: Path, browser: str) -> Path:
    """Print a page with all its details opened, and return the PDF.

    Args:
        page: An HTML file that needs nothing but itself.
        target: The PDF.
        browser: From `find_browser`.

    Raises:
        StoreError: The browser gives no PDF; the message ends with its last words.
    """
    # Beside the PDF: a Chromium that is installed as a snap sees no other /tmp than its own, and no hidden folder.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="printing-", ignore_cleanup_errors=True) as name:
        copy, printed = Path(name) / "report.html", Path(name) / "report.pdf"
        html = re.sub(r'<p class="printed">.*?</p>', "", page.read_text("utf-8"))  # what says what is not printed
        copy.write_text(html.replace("<details", "<details open"), "utf-8")
        words = _run(browser, f"--user-data-dir={name}/profile", f"--print-to-pdf={printed}", copy.as_uri())
        if not printed.is_file() or not printed.read_bytes().startswith(PDF_START):
            raise StoreError(f"{browser} has printed no PDF of {page}. Its last words: {words}")
        write_atomically(target, printed.read_bytes(), setting="output")
    return target


def _run(browser: str, *options: str) -> str:
    """Let the browser print, and return the last line it says."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    own = ["--no-sandbox"] if is_root else []  # root has no sandbox, and our own page has no script
    command = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", *own, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIMEOUT_S:g} s"
    except OSError as error:
        return str(error)
    return (done.stderr.strip().splitlines() or ["none"])[-1]

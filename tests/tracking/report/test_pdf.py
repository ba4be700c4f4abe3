"""A report printed as PDF: by the browser that is there, whole, or with a sentence on what to do."""

import stat
import sys
from pathlib import Path

import pytest

from sem_search.errors import SettingsError, StoreError
from sem_search.tracking.report import pdf
from sem_search.tracking.report.pdf import BROWSERS, find_browser, print_pdf

PAGE = '<p class="printed">The details are not printed.</p><details class="more"><p>Größe</p></details>'


def write_browser(folder: Path, *, name: str, lines: str) -> Path:
    """Write a program that stands for a browser; `$page` is what it shall print, `$target` where."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    decode = f'{sys.executable} -c "import sys, urllib.parse as p; print(p.unquote(sys.argv[1]))"'
    begin = (
        '#!/bin/sh\nfor word in "$@"; do case "$word" in\n'
        '--print-to-pdf=*) target="${word#*=}";; file://*) page=$('
        f'{decode} "${{word#file://}}"'
        ");;\nesac; done\n"
    )
    program.write_text(begin + lines)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_the_first_browser_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_browser(tmp_path, name=BROWSERS[2], lines="")
    assert Path(find_browser()) == tmp_path / BROWSERS[2]
    write_browser(tmp_path, name=BROWSERS[0], lines="")
    assert Path(find_browser()) == tmp_path / BROWSERS[0]


def test_folded_parts_are_printed_too(tmp_path: Path) -> None:
    page = tmp_path / "Bericht für alle" / "report.html"
    page.parent.mkdir()
    page.write_text(PAGE, "utf-8")
    lines = f'cp "$page" "{tmp_path}/seen.html"\nprintf "%%PDF-1.7 of it" > "$target"\n'
    browser = write_browser(tmp_path, name="chromium", lines=lines)
    target = print_pdf(page, target=page.with_suffix(".pdf"), browser=str(browser))
    assert target.read_bytes() == b"%PDF-1.7 of it"
    seen = (tmp_path / "seen.html").read_text("utf-8")
    assert seen == '<details open class="more"><p>Größe</p></details>'
    assert page.read_text("utf-8") == PAGE


@pytest.mark.parametrize("lines", ["echo no; echo no screen >&2; exit 1", 'echo > "$target"; echo no screen >&2'])
def test_a_browser_that_prints_nothing_is_quoted(tmp_path: Path, lines: str) -> None:
    (tmp_path / "report.html").write_text(PAGE, "utf-8")
    browser = write_browser(tmp_path, name="chromium", lines=lines)
    with pytest.raises(StoreError, match=r"has printed no PDF of .*report\.html\. Its last words: no screen"):
        print_pdf(tmp_path / "report.html", target=tmp_path / "report.pdf", browser=str(browser))
    assert not (tmp_path / "report.pdf").exists()


def test_a_browser_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text(PAGE, "utf-8")
    monkeypatch.setattr(pdf, "TIMEOUT_S", 0.2)
    browser = write_browser(tmp_path, name="chromium", lines="exec sleep 60")
    with pytest.raises(StoreError, match=r"Its last words: it did not end within 0\.2 s"):
        print_pdf(tmp_path / "report.html", target=tmp_path / "report.pdf", browser=str(browser))


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(PAGE, "utf-8")
    with pytest.raises(StoreError, match="No such file"):
        print_pdf(tmp_path / "report.html", target=tmp_path / "report.pdf", browser=str(tmp_path / "none"))


def test_without_a_browser_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        SettingsError, match=r"needs Chromium or Chrome, and none is on PATH\. Install one .* Save as PDF"
    ):
        find_browser()

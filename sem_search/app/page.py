"""The page for people: one HTML file that needs nothing from anywhere else, and a policy that holds it to that.

It is made of the files in `browser/`: `page.html`, its style `page.css`, what it says of an answer (`words.js`), which
images it asks about (`questions.js`), what it shows (`cards.js`) and what a person does (`page.js`).
"""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

FOLDER = "browser"

SCRIPTS = ("words.js", "questions.js", "cards.js", "page.js")


@dataclass(frozen=True, kw_only=True)
class Page:
    """HTML and the policy that the browser enforces on it."""

    html: str
    policy: str
    """Content-Security-Policy: the page's own script, calls to its own server, pictures that it was answered; no font,
    script, picture or call from or to anywhere else, whatever the page says."""


def read_page() -> Page:
    """Return the page, with a policy that admits its own script by hash."""
    script = "\n".join(['"use strict";', *(_read(name) for name in SCRIPTS)])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = _read("page.html").replace("<style></style>", f"<style>\n{_read('page.css')}</style>")
    return Page(
        html=html.replace("<script></script>", f"<script>{script}</script>"),
        policy=(
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    )


def _read(name: str) -> str:
    return files("sem_search.deployment.server").joinpath(FOLDER, name).read_text(encoding="utf-8")

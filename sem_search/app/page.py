"""The page for people: one HTML file that needs nothing from anywhere else, and a policy that holds it to that.

It is made of the files in `browser/`: `app.html`, its style `app.css`, and scripts: what is shared (`dom.js`), what was
chosen (`project.js`), and the rooms (`images.js`, `search.js`, `result.js`, `models.js`). For classification: what the
page says of an answer (`words.js`), which images it asks about (`questions.js`), what it shows (`cards.js`) and what a
person does (`classify.js`). `main.js` begins.
"""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

FOLDER = "browser"

SCRIPTS = (
    "dom.js",
    "project.js",
    "words.js",
    "questions.js",
    "cards.js",
    "classify.js",
    "images.js",
    "search.js",
    "result.js",
    "models.js",
    "main.js",
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """HTML and the policy that the browser enforces on it."""

    html: str
    policy: str
    """Content-Security-Policy: the page's own script, calls to its own server, pictures of its own server; no font,
    script, picture or call from or to anywhere else, whatever the page says."""


def read_page() -> Page:
    """Return the page, with a policy that admits its own script by hash."""
    script = "\n".join(['"use strict";', *(_read(name) for name in SCRIPTS)])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = _read("app.html").replace("<style></style>", f"<style>\n{_read('app.css')}</style>")
    return Page(
        html=html.replace("<script></script>", f"<script>{script}</script>"),
        policy=(
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    )


def _read(name: str) -> str:
    return files(__package__).joinpath(FOLDER, name).read_text(encoding="utf-8")

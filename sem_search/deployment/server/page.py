"""The page for people: one HTML file that needs nothing from anywhere else, and a policy that holds it to that."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

PAGE_FILE = "page.html"

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Page:
    """HTML and the policy that the browser enforces on it."""

    html: str
    policy: str
    """Content-Security-Policy: the page's own script, calls to its own server, pictures that it was answered; no font,
    script, picture or call from or to anywhere else, whatever the page says."""


def read_page() -> Page:
    """Return the page, with a policy that admits its own script by hash."""
    html = files("sem_search.deployment.server").joinpath(PAGE_FILE).read_text(encoding="utf-8")
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in SCRIPT.findall(html)]
    scripts = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return Page(
        html=html,
        policy=(
            f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    )

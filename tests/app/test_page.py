import base64
import hashlib
import re

from sem_search.app.page import read_page


def test_the_policy_admits_the_page_s_own_script_and_nothing_from_elsewhere() -> None:
    page = read_page()
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "http" not in page.policy
    assert "connect-src 'self'" in page.policy


def test_the_page_is_whole_and_names_no_other_place() -> None:
    html = read_page().html
    assert "<style></style>" not in html
    assert "http:" not in html
    assert "https:" not in html
    assert "//" not in re.sub(r"\s//[^\n]*", "", html)
    assert not re.search(r"@import|@font-face|<script src|<link rel=\"stylesheet\"", html)


def test_what_comes_from_files_and_models_is_never_taken_for_html() -> None:
    html = read_page().html
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in html

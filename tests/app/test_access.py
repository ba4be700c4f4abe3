"""Who may change something."""

import pytest
from starlette.requests import Request

from sem_search.app.access import Access, check_site
from sem_search.errors import RefusedRequestError, SettingsError

TOKEN = "a token of twelve"


def build_request(*, client: str = "127.0.0.1", **headers: str) -> Request:
    sent = {"host": "localhost:5002"} | {name.replace("_", "-"): text for name, text in headers.items()}
    raw = [(name.encode(), text.encode("latin-1")) for name, text in sent.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "client": (client, 1)})


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("host", ["localhost:5002", "127.0.0.1", "[::1]:5002", "LOCALHOST."])
def test_people_at_this_machine_may(client: str, host: str) -> None:
    assert Access().may_change(build_request(client=client, host=host))


AWAY: list[dict[str, str]] = [
    {"client": "192.0.2.7"},
    {"host": "sem.example.org"},
    {"x_forwarded_for": "192.0.2.7"},
    {"forwarded": "for=192.0.2.7"},
    {"client": "192.0.2.7", "x_sem_search_token": "wrong"},
    {"client": "192.0.2.7", "x_sem_search_token": "\u00e4"},
    {"client": "192.0.2.7", "authorization": f"Bearer {TOKEN}"},
    {"client": "192.0.2.7", "x_sem_search_token": ""},
    {"client": "no address"},
]


@pytest.mark.parametrize("number", range(len(AWAY)))
def test_others_may_not(number: int) -> None:
    access, request = Access(TOKEN), build_request(**AWAY[number])
    assert not access.may_change(request)
    with pytest.raises(RefusedRequestError, match="enter the token") as refusal:
        access.check_change(request)
    assert refusal.value.status == 403


def test_whoever_has_the_token_may_beside_the_password_of_a_proxy() -> None:
    given = {"host": "sem.example.org", "authorization": "Basic YTpi", "x_sem_search_token": TOKEN}
    Access(TOKEN).check_change(build_request(client="192.0.2.7", **given))


def test_a_token_is_made_anew_and_is_long() -> None:
    first, second = Access().token, Access().token
    assert first != second
    assert min(len(first), len(second)) >= 20


@pytest.mark.parametrize("token", ["", "short", "\u00e4" * 20, "a\nb" * 10])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(SettingsError, match="SEM_SEARCH_TOKEN must have 12"):
        Access(token)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_may_not_even_look(site: str) -> None:
    with pytest.raises(RefusedRequestError, match="other sites"):
        check_site(build_request(sec_fetch_site=site))


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_the_page_itself_and_programs_may_look(site: str) -> None:
    check_site(build_request(sec_fetch_site=site))
    check_site(build_request())

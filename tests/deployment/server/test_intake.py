"""Who may ask, and how much of what is sent may be in memory."""

import asyncio

import pytest

from sem_search.deployment.server.intake import (
    LOCAL_HOSTS,
    SMALL_BYTES,
    BodyBudget,
    PixelRoom,
    check_caller,
    read_allowed_hosts,
)
from sem_search.errors import RefusedRequestError, SettingsError

ALLOWED = read_allowed_hosts("sem.example.org", host="192.0.2.7")

ANSWERED: list[tuple[str, str | None]] = [
    ("localhost", None),
    ("localhost:5001", None),
    ("LocalHost:5001", None),
    ("localhost.", None),
    ("localhost.:5001", "http://localhost.:5001"),
    ("127.0.0.1:5001", "http://127.0.0.1:5001"),
    ("[::1]:5001", "http://[::1]:5001"),
    ("192.0.2.7:5001", "http://192.0.2.7:5001"),
    ("sem.example.org", "https://sem.example.org"),
    ("sem.example.org", "https://SEM.example.org:443"),
    ("sem.example.org:8443", "https://sem.example.org:8443"),
    ("sem.example.org:80", "http://sem.example.org"),
]

REFUSED: list[tuple[str | None, str | None, str]] = [
    (None, None, "does not answer to the host ''"),
    ("", None, "does not answer to the host ''"),
    ("evil.example", None, "does not answer to the host 'evil.example'; .*--allowed-hosts"),
    ("evil.example:5001", "http://evil.example:5001", "does not answer to the host"),
    ("localhost.evil.example", None, "does not answer to the host"),
    ("evil.example/localhost", None, "does not answer to the host"),
    ("localhost@evil.example", None, "does not answer to the host"),
    ("localhost..", None, "does not answer to the host"),
    ("evil.example.", None, "does not answer to the host"),
    ("localhost:5001x", None, "does not answer to the host"),
    ("localhost, evil.example", None, "does not answer to the host"),
    ("x" * 5000, None, "does not answer to the host"),
    ("localhost:5001", "http://evil.example", "Pages of 'http://evil.example' may not ask"),
    ("localhost:5001", "null", "Pages of 'null' may not ask"),
    ("localhost:5001", "", "Pages of '' may not ask"),
    ("localhost:5001", "localhost:5001", "may not ask"),
    ("localhost:5001", "ftp://localhost:5001", "may not ask"),
    ("localhost:5001", "http://localhost", "may not ask"),
    ("localhost:5001", "http://localhost:5002", "may not ask"),
    ("localhost:5001", "http://localhost:5001/x", "may not ask"),
    ("sem.example.org", "https://sem.example.org:8443", "may not ask"),
]


@pytest.mark.parametrize(("host", "origin"), ANSWERED)
def test_own_names_and_own_pages_are_answered(host: str, origin: str | None) -> None:
    check_caller(host=host, origin=origin, allowed_hosts=ALLOWED)


@pytest.mark.parametrize(("host", "origin", "message"), REFUSED)
def test_other_names_and_pages_of_other_places_are_refused(host: str | None, origin: str | None, message: str) -> None:
    with pytest.raises(RefusedRequestError, match=message) as caught:
        check_caller(host=host, origin=origin, allowed_hosts=ALLOWED)
    assert caught.value.status == 403
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "host", "names"),
    [
        ("", "127.0.0.1", set()),
        ("", "0.0.0.0", {"0.0.0.0"}),
        ("", "::1", set()),
        ("", "Lab-3", {"lab-3"}),
        (" A.example , b.example,, [2001:db8::1]", "::", {"[::]", "a.example", "b.example", "[2001:db8::1]"}),
        ("2001:db8::2", "127.0.0.1", {"[2001:db8::2]"}),
        ("2001:DB8:0::3,sem.example.org.", "127.0.0.1", {"[2001:db8::3]", "sem.example.org"}),
        ("::1", "127.0.0.1", set()),
    ],
)
def test_allowed_hosts(text: str, host: str, names: set[str]) -> None:
    assert read_allowed_hosts(text, host=host) == LOCAL_HOSTS | names


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "fade:80", "a b", "*", "größe.example"])
def test_what_is_no_name_of_a_host_is_reported(name: str) -> None:
    with pytest.raises(SettingsError, match=r"allowed-hosts: .* is no name of a host"):
        read_allowed_hosts(f"good.example,{name}", host="127.0.0.1")


def test_what_counts_is_what_has_arrived() -> None:
    budget = BodyBudget(total_bytes=100, kept_bytes=0)
    assert budget.take(60, body_bytes=100)
    assert budget.has_room(40, body_bytes=40)
    assert not budget.take(41, body_bytes=41)
    assert budget.take(40, body_bytes=100), "a refusal takes nothing"
    budget.give_back(100)
    assert budget.has_room(100, body_bytes=100)
    assert not budget.has_room(101, body_bytes=101)


def test_large_bodies_leave_room_for_small_ones() -> None:
    budget = BodyBudget(total_bytes=10 * SMALL_BYTES, kept_bytes=2 * SMALL_BYTES)
    large = 64 * SMALL_BYTES
    assert not budget.take(8 * SMALL_BYTES + 1, body_bytes=large)
    assert budget.take(8 * SMALL_BYTES, body_bytes=large)
    assert not budget.take(1, body_bytes=large), "it will be large, however little of it is there"
    assert not budget.take(1, body_bytes=SMALL_BYTES + 1)
    assert budget.take(2 * SMALL_BYTES - 1, body_bytes=SMALL_BYTES)
    assert budget.has_room(1, body_bytes=1)
    assert not budget.has_room(2, body_bytes=2)


def test_who_finds_no_room_waits_first_come_first_served() -> None:
    async def run() -> None:
        room = PixelRoom(10.0)
        order: list[float] = []

        async def decode(megapixels: float) -> None:
            taken = await room.take(megapixels)
            order.append(megapixels)
            await asyncio.sleep(0)
            room.give_back(taken)

        held = await room.take(6.0)
        waiting = [asyncio.create_task(decode(megapixels)) for megapixels in (5.0, 0.0, 2.0, 500.0, 3.0)]
        await asyncio.sleep(0.01)
        assert order == [], "a small request does not overtake a large one for ever"
        room.give_back(held)
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)
        assert order == [5.0, 0.0, 2.0, 500.0, 3.0]
        assert await room.take(10.0) == 10.0, "all is given back"

    asyncio.run(run())


def test_who_stops_waiting_leaves_the_room_as_it_was() -> None:
    async def run() -> None:
        room = PixelRoom(10.0)
        held = await room.take(10.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await room.take(1.0)
        room.give_back(held)
        async with asyncio.timeout(5):
            assert await room.take(10.0) == 10.0

    asyncio.run(run())


def test_every_request_takes_at_least_a_megapixel() -> None:
    async def run() -> None:
        room = PixelRoom(10.0)
        assert [await room.take(0.0), await room.take(4.5)] == [1.0, 4.5]

    asyncio.run(run())

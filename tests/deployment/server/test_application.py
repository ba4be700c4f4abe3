"""The application before a classifier of stone: what is answered, what is refused, and in what words."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from mlflow.pyfunc.scoring_server import predictions_to_json
from starlette.requests import Request
from starlette.responses import Response

from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server import application as application_module
from sem_search.deployment.server.application import ServerLimits
from sem_search.errors import RefusedRequestError
from tests.deployment.server.serving import GOOD, TABLE, Bench, StoneClassifier, encode_picture, open_bench, wait_for

Story = Callable[[Bench], Coroutine[Any, Any, None]]


def tell(story: Story, classifier: StoneClassifier | None = None, **options: Any) -> None:
    """Run a story at a bench."""

    async def run() -> None:
        async with open_bench(classifier, **options) as bench:
            await story(bench)

    asyncio.run(run())


def test_an_answer_names_the_version_that_gave_it() -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.post({"inputs": [GOOD, encode_picture(200)], "params": {"coverage": 0.8}})
        assert reply.status == 200
        answers = reply.to_json()["predictions"]
        assert [answer["label"] for answer in answers] == ["lactose", "starch"]
        assert {(answer["model_name"], answer["model_version"]) for answer in answers} == {("lactose", "7")}
        assert answers[0]["coverage"] == 0.8
        headers = reply.headers
        assert (headers["X-Model-Name"], headers["X-Model-Version"]) == ("lactose", "7")
        assert (headers["Server"], headers["X-Content-Type-Options"]) == ("sem-search", "nosniff")

    tell(story)


def test_an_answer_is_written_as_mlflow_writes_it() -> None:
    async def story(bench: Bench) -> None:
        content = (await bench.post({"inputs": [GOOD], "params": {"tiles": True}})).content.decode()
        written = io.StringIO()
        predictions_to_json(json.loads(content)["predictions"], written)
        assert content == written.getvalue()

    tell(story)


def test_a_csv_is_answered_alike() -> None:
    async def story(bench: Bench) -> None:
        as_csv = await bench.post(f"image\n{GOOD}\n".encode(), Content_Type="text/csv")
        assert as_csv.to_json() == (await bench.post(TABLE)).to_json()

    tell(story)


def test_a_model_that_is_not_registered_has_no_version() -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.post(TABLE)
        assert reply.headers["X-Model-Name"] == "runs:/0123/classifier"
        assert "X-Model-Version" not in reply.headers
        (answer,) = reply.to_json()["predictions"]
        assert (answer["model_name"], answer["model_version"]) == (None, None)

    tell(story, model_uri="runs:/0123/classifier")


def test_bad_rows_refuse_the_request_or_are_reported() -> None:
    async def story(bench: Bench) -> None:
        cells = [GOOD, "no base64!", GOOD[: len(GOOD) // 8 * 4]]
        reply = await bench.post({"inputs": cells})
        assert (reply.status, reply.to_json()["error_code"]) == (400, "BAD_REQUEST")
        message = reply.to_json()["message"]
        assert re.search(r"^2 of 3 images cannot be answered .*row 1: is not valid base64 .*row 2: ", message)
        assert reply.headers["X-Model-Version"] == "7"
        assert bench.classifier.batches == []
        reply = await bench.post({"inputs": cells, "params": {"on_error": "report"}})
        answers = reply.to_json()["predictions"]
        assert [answer["label"] for answer in answers] == ["lactose", None, None]
        assert answers[1]["error"].startswith("is not valid base64")
        assert (await bench.post({"inputs": ["x"], "params": {"on_error": "report"}})).status == 200
        assert bench.classifier.batches == [1], "a request without a picture is not computed"

    tell(story)


REFUSED: dict[str, tuple[Any, dict[str, str], int, str]] = {
    "no JSON": (b"{bad", {}, 400, "not valid JSON"),
    "a text": (TABLE, {"Content_Type": "text/plain"}, 415, "application/json or text/csv"),
    "compressed": (TABLE, {"Content_Encoding": "gzip"}, 415, "Compressed requests"),
    "large": (b"x" * 10_001, {}, 413, "has 0.01 MB, and at most 0.01 MB"),
    "parameter": (TABLE | {"params": {"coverge": 1}}, {}, 400, "no parameter 'coverge'; the model knows explain,"),
    "value": (TABLE | {"params": {"coverage": 2}}, {}, 400, "coverage must be a number above 0 and below 1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_not_computed(kind: str) -> None:
    request, headers, status, message = REFUSED[kind]

    async def story(bench: Bench) -> None:
        reply = await bench.post(request, **headers)
        assert reply.status == status
        assert set(reply.to_json()) == {"error_code", "message"}
        assert message in reply.to_json()["message"]
        assert bench.classifier.batches == []
        assert (await bench.post(TABLE)).status == 200

    tell(story)


def test_pictures_that_are_too_large_together_are_refused_with_the_server_s_own_limit() -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.post({"inputs": [encode_picture(side_px=100)] * 2})
        assert (reply.status, "at most 0.015 are answered" in reply.to_json()["message"]) == (413, True)

    tell(story, limits=ServerLimits(request=RequestLimits(max_request_megapixels=0.015)))


def test_a_body_that_tells_no_length_is_cut_off() -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.call("POST", "/invocations", pieces=[b"x" * 1000] * 11, is_chunked=True)
        assert reply.status == 413
        assert "larger than this server takes" in reply.to_json()["message"]
        assert (await bench.post(TABLE)).status == 200

    tell(story)


@pytest.mark.parametrize(("host", "status"), [("localhost", 413), ("evil.example", 403)])
def test_a_caller_who_asks_first_is_answered_before_sending(host: str, status: int) -> None:
    async def story(bench: Bench) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(
            f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n".encode()
        )
        assert f" {status} ".encode() in await reader.readline()
        writer.close()

    tell(story)


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_module, "READ_LIMIT_S", 0.05)

    async def story(bench: Bench) -> None:
        reply = await bench.call("POST", "/invocations", pieces=[b"{"], headers={"Content-Length": "99"})
        assert (reply.status, reply.headers["Connection"]) == (408, "close")

    tell(story)


@pytest.mark.parametrize("pause_s", [0.03, 5.0], ids=["slow", "still"])
def test_a_caller_who_sends_too_slowly_is_dropped(monkeypatch: pytest.MonkeyPatch, pause_s: float) -> None:
    monkeypatch.setattr(application_module, "PACE_S", 0.2)

    async def story(bench: Bench) -> None:
        reply = await bench.call("POST", "/invocations", pieces=[b"x"] * 100, pause_s=pause_s, is_chunked=True)
        assert (reply.status, reply.headers["Connection"]) == (408, "close")
        assert "slower than" in reply.to_json()["message"]
        assert (await bench.post(TABLE)).status == 200

    tell(story)


def test_a_caller_who_keeps_the_pace_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_module, "PACE_S", 0.3)
    monkeypatch.setattr(application_module, "PACE_BYTES", 100)
    body = json.dumps(TABLE).encode().ljust(1000)
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)]

    async def story(bench: Bench) -> None:
        headers = {"Content-Type": "application/json"}
        reply = await bench.call("POST", "/invocations", pieces=pieces, pause_s=0.05, headers=headers)
        assert reply.status == 200

    tell(story)


def test_a_caller_who_leaves_takes_nothing_with_him() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            writer.write(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n" + b"x" * 8000)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        budget = bench.application._budget
        assert budget.has_room(budget._total_bytes, body_bytes=1), "all is given back"

    tell(story)


def test_without_a_version_everything_waits_politely() -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.get("/ping")).to_json() == {"status": "ok"}
        bench.rotation.current = None
        for path in ("/ping", "/health", "/readyz"):
            reply = await bench.get(path)
            assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        assert (await bench.get("/livez")).status == 200
        reply = await bench.post(TABLE)
        assert (reply.status, reply.to_json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert (await bench.get("/version")).to_json()["version"] is None
        assert 'model_info{name="",version=""} 0' in (await bench.get("/metrics")).content.decode()

    tell(story)


def test_the_version_that_answers_is_reported() -> None:
    async def story(bench: Bench) -> None:
        told = (await bench.get("/version")).to_json()
        assert (told["address"], told["model"], told["version"]) == ("models:/lactose@champion", "lactose", "7")

    tell(story)


def test_bodies_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_module, "REQUESTS_HELD", 1)
    large = {"inputs": [GOOD], "padding": "A" * 8000}

    async def story(bench: Bench) -> None:
        bench.classifier.gate.clear()
        first = asyncio.create_task(bench.post(large))
        await wait_for(lambda: bench.classifier.batches)
        reply = await bench.post(large)
        assert (reply.status, reply.to_json()["message"]) == (503, application_module.NO_ROOM)
        bench.classifier.gate.set()
        assert (await first).status == 200
        assert (await bench.post(large)).status == 200

    tell(story)


def test_callers_who_announce_much_and_send_little_shut_nobody_out() -> None:
    async def story(bench: Bench) -> None:
        writers = []
        for _ in range(2 * application_module.REQUESTS_HELD):
            _, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            writer.write(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 64000000\r\n\r\n{")
            writers.append(writer)
        await asyncio.sleep(0.1)
        assert (await bench.post(TABLE)).status == 200
        assert (await bench.post({"inputs": [GOOD], "padding": "A" * 2_000_000})).status == 200
        for writer in writers:
            writer.close()

    tell(story, limits=ServerLimits())


def test_large_bodies_that_are_held_leave_room_for_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_module, "REQUESTS_HELD", 1)
    monkeypatch.setattr(application_module, "KEPT_SHARE", 0.5)
    large, small = ({"inputs": [GOOD], "padding": "A" * n} for n in (3_000_000, 900_000))

    async def story(bench: Bench) -> None:
        bench.classifier.gate.clear()
        waiting = [asyncio.create_task(bench.post(large))]
        await wait_for(lambda: bench.classifier.batches)
        assert (await bench.post(large)).status == 503
        reply = await bench.call("POST", "/invocations", pieces=[b"x" * 500_000] * 4, is_chunked=True)
        assert reply.status == 503, "its length is not told, and seen as it comes"
        waiting.append(asyncio.create_task(bench.post(small)))
        await asyncio.sleep(0.1)
        bench.classifier.gate.set()
        assert [reply.status for reply in await asyncio.gather(*waiting)] == [200, 200]
        assert (await bench.post(large)).status == 200

    tell(story, limits=ServerLimits(request=RequestLimits(max_bytes=8_000_000)))


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_requests_to_other_names_and_of_foreign_pages_are_refused(headers: dict[str, str]) -> None:
    async def story(bench: Bench) -> None:
        paths = [("GET", "/"), ("DELETE", "/ping"), ("GET", "/version"), ("GET", "/metrics"), ("POST", "/invocations")]
        for method, path in paths:
            reply = await bench.call(method, path, headers=headers)
            assert (reply.status, reply.to_json()["error_code"]) == (403, "PERMISSION_DENIED")
            assert "X-Model-Name" not in reply.headers
        assert bench.classifier.batches == []

    tell(story)


@pytest.mark.parametrize("headers", [{"Host": "10.1.2.3:5001"}, *FOREIGN])
@pytest.mark.parametrize("path", ["/ping", "/health", "/livez", "/readyz"])
def test_a_probe_may_ask_by_any_name_and_learns_nothing_else(headers: dict[str, str], path: str) -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.get(path, **headers)
        assert (reply.status, reply.to_json()) == (200, {"status": "ok"})
        assert not {"X-Model-Name", "X-Model-Version"} & set(reply.headers)

    tell(story)


def test_other_names_and_the_own_page_are_answered_where_they_are_allowed() -> None:
    async def story(bench: Bench) -> None:
        for name, status in [("sem.example.org", 200), ("127.0.0.1", 403)]:
            assert (await bench.post(TABLE, Host=name, Origin=f"https://{name}")).status == status

    tell(story, limits=ServerLimits(allowed_hosts=frozenset({"sem.example.org"})))


def test_requests_that_wait_are_computed_together() -> None:
    async def story(bench: Bench) -> None:
        bench.classifier.gate.clear()
        greys = [10, 240, 30, 220, 50, 200]
        first = asyncio.create_task(bench.post({"inputs": [encode_picture(greys[0])]}))
        await wait_for(lambda: bench.classifier.batches)
        others = [asyncio.create_task(bench.post({"inputs": [encode_picture(grey)]})) for grey in greys[1:]]
        await wait_for(lambda: len(bench.application._computing._waiting) == len(others))
        bench.classifier.gate.set()
        replies = await asyncio.gather(first, *others)
        found = [reply.to_json()["predictions"][0]["probabilities"]["starch"] for reply in replies]
        assert found == pytest.approx([grey / 255 for grey in greys], abs=1e-6), "each gets its own answer"
        assert bench.classifier.batches == [1, 5]
        metrics = (await bench.get("/metrics")).content.decode()
        assert "sem_search_batches_total 2\n" in metrics
        assert "sem_search_batch_requests_total 6\n" in metrics

    tell(story)


def test_an_answer_that_takes_too_long_is_refused() -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.post(TABLE)
        assert reply.status in (400, 504)
        assert "--timeout" in reply.to_json()["message"]

    tell(story, StoneClassifier(delay_s=0.3), limits=ServerLimits(timeout_s=0.2))


def test_a_request_waits_for_room_only_so_long() -> None:
    async def story(bench: Bench) -> None:
        room = bench.application._room
        taken = await room.take(1e9)
        reply = await bench.post(TABLE)
        assert (reply.status, reply.to_json()["message"]) == (503, "Too many requests are under way: try again soon.")
        room.give_back(taken)
        assert (await bench.post(TABLE)).status == 200

    tell(story, limits=ServerLimits(timeout_s=0.5))


def test_other_paths_and_methods_are_refused_in_one_sentence() -> None:
    async def story(bench: Bench) -> None:
        for method, path, status in [
            ("GET", "/", 404),
            ("GET", "/ping/", 404),
            ("GET", "/invocations", 405),
            ("DELETE", "/ping", 405),
        ]:
            reply = await bench.call(method, path)
            assert reply.status == status
            assert "this server knows POST /invocations" in reply.to_json()["message"]

    tell(story)


def test_a_failure_is_a_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.post(TABLE)
        assert reply.status == 500
        assert reply.to_json()["message"] == "The server failed on this request (KeyError); its log says why."
        bench.classifier.failure = None
        assert (await bench.post(TABLE)).status == 200

    tell(story, StoneClassifier(failure=KeyError("secret detail in /srv/secret/file.py")))
    assert "secret detail" in caplog.text


def test_a_refusal_of_the_classifier_is_passed_on() -> None:
    async def story(bench: Bench) -> None:
        reply = await bench.post(TABLE)
        assert (reply.status, reply.to_json()["message"]) == (400, "too many tiles.")

    tell(story, StoneClassifier(failure=RefusedRequestError("too many tiles.", status=400)))


def test_further_paths_are_answered_checked_and_logged_as_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def show(_: Request) -> Response:
        return Response("here")

    async def refuse(_: Request) -> Response:
        raise RefusedRequestError("It is there already.", status=409)

    async def story(bench: Bench) -> None:
        assert (await bench.get("/more")).content == b"here"
        assert (await bench.get("/more", Host="evil.example")).status == 403
        reply = await bench.get("/taken")
        assert (reply.status, reply.to_json()) == (
            409,
            {"error_code": "RESOURCE_CONFLICT", "message": "It is there already."},
        )
        assert (await bench.get("/less")).status == 404

    tell(story, routes={"/more": {"GET": show}, "/taken": {"GET": refuse}})
    assert "GET '/more' 200" in caplog.text


def test_every_request_has_one_line_in_the_log_with_the_number_that_its_caller_got(
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers = []

    async def story(bench: Bench) -> None:
        for reply in (await bench.post(TABLE), await bench.get("/ping"), await bench.get("/a%0Ab" + "c" * 500)):
            numbers.append(reply.headers["X-Request-Id"])

    caplog.set_level(logging.INFO, logger="sem_search")
    tell(story)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("server.application")]
    assert [line.split()[0] for line in lines] == numbers
    assert len(set(numbers)) == 3
    assert re.fullmatch(r"[0-9a-f]{16} POST '/invocations' 200 \d\.\d{3} s", lines[0])
    assert "\n" not in lines[2]
    assert len(lines[2]) < 200


def test_what_is_counted() -> None:
    async def story(bench: Bench) -> None:
        await bench.post({"inputs": [GOOD, encode_picture(200), "x"], "params": {"on_error": "report"}})
        await bench.post(b"{bad")
        await bench.get("/ping")
        reply = await bench.get("/metrics")
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = reply.content.decode().splitlines()
        for line in [
            'sem_search_requests_total{status="200"} 1',
            'sem_search_requests_total{status="400"} 1',
            "sem_search_request_seconds_count 2",
            'sem_search_rows_total{outcome="unsaid"} 2',
            'sem_search_rows_total{outcome="unanswered"} 1',
            'sem_search_labels_total{label="lactose"} 1',
            'sem_search_labels_total{label="starch"} 1',
            'sem_search_model_info{name="lactose",version="7"} 1',
        ]:
            assert line in lines

    tell(story)

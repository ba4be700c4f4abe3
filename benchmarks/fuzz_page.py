"""Requests that no page should send to the server of `sem-search app`, and what it answers.

A secret lies beside the folder that the page may read. Whatever is asked, the secret must not come back, nothing may be
written outside of the uploads, no answer may be a failure, and the server must go on.
"""

import io
import json
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from benchmarks.fuzz import ANYTHING, JSON_HEADERS, FuzzedRequest, iter_drawn, send
from benchmarks.servers import RunningServer, run_server

SECRET = "the secret that lies beside"  # noqa: S105 - of a file that nobody may read
EVIL_FILE = Path(tempfile.gettempdir()) / "sem-search-evil.png"
"""What a ZIP would write; it must not be there afterwards."""

BYTES_HEADERS = {"Content-Type": "application/octet-stream"}
ALLOWED = frozenset({200, 400, 403, 404, 405, 408, 409, 413, 415})
LEAKS = ("Traceback", "stack_trace", "site-packages", 'File "', "uvicorn", SECRET)

READS = {
    "/api/folder": ("path",),
    "/api/picture": ("path", "side"),
    "/api/facts": ("path",),
    "/api/inspection": ("id", "as"),
    "/api/study": ("name",),
    "/api/study/picture": ("name", "image", "side"),
    "/api/study/heat": ("name", "image", "label"),
    "/api/study/page": ("name", "page"),
    "/api/study/download": ("name", "what"),
    "/api/version-card": ("model", "version"),
}
"""Path -> the names of what it takes."""

CHANGES = ("/api/classes", "/api/start-job", "/api/stop-job", "/api/promote", "/api/roll-back", "/api/follow")

EVIL = (
    *(
        "/etc/passwd",
        "/proc/self/environ",
        "../secret/secret.txt",
        "..",
        "/",
        "\\\\host\\share",
        "C:\\",
        "~root",
        "link",
    ),
    *("a\0b", "x" * 5000, "%2e%2e/%2e%2e", "....//....//etc", "<script>alert(1)</script>", "'; drop table studies; --"),
    *("\u202e\u0000", "data/a/1.png\0.txt", "file:///etc/passwd", "http://169.254.169.254/", "", "models:/a@champion"),
)


def write_place(folder: Path) -> Path:
    """Return a folder with a data set, beside a secret to which a link leads."""
    place, beside = folder / "place", folder / "secret"
    beside.mkdir(parents=True)
    (beside / "secret.txt").write_text(SECRET)
    for label in ("a", "b"):
        (place / "data" / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (96, 96), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "data" / label / f"{number}.png")
    (place / "link").symlink_to(beside)
    (place / "evil.csv").write_text("image,label\n../secret/secret.txt,a\n/etc/passwd,b\n")
    return place


def iter_nasties(place: Path) -> Iterator[FuzzedRequest]:
    """Yield the requests that were written by hand."""
    for path, names in READS.items():
        for name in names:
            for evil in EVIL:
                query = {other: "small" if other == "side" else "data" for other in names} | {name: evil}
                yield FuzzedRequest(name=f"{path} {name}", method="GET", path=f"{path}?{urlencode(query)}")
    for path in CHANGES:
        for evil in EVIL:
            body = {"kind": "search", "data": evil, "model": evil, "version": evil, "study": evil, "settings": {}}
            yield FuzzedRequest(name=path, path=path, body=json.dumps(body).encode())
        for body in (b"", b"[]", b"{" * 100_000, b"\xff", b'{"kind": NaN}', b" " * 6_000_000):
            yield FuzzedRequest(name=path, path=path, body=body)
    for setting in ("weights", "exclude", "study", "model_name", "storage", "cluster", "learning_rates"):
        for evil in EVIL:
            body = {"kind": "inspection", "data": str(place / "data"), "settings": {setting: evil, "folds": 99}}
            yield FuzzedRequest(name=f"setting {setting}", path="/api/start-job", body=json.dumps(body).encode())
    asked = {"data": str(place / "evil.csv"), "settings": {"allow_outside": True}}
    yield FuzzedRequest(name="a CSV that leads out", path="/api/classes", body=json.dumps(asked).encode())
    for path in ("/api/start", "/api/studies", "/api/models"):
        for evil in EVIL:
            yield FuzzedRequest(name=path, method="GET", path=f"{path}?{urlencode({'a': evil})}")
    yield from _iter_uploads()
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        for path in (*CHANGES, "/api/upload?data=d&class=c&name=n.png"):
            yield FuzzedRequest(name="other site", path=path, body=b"{}", headers=JSON_HEADERS | headers)


def _iter_uploads() -> Iterator[FuzzedRequest]:
    for evil in EVIL:
        for name in ("data", "class", "name"):
            query = {"data": "d", "class": "c", "name": "n.png"} | {name: evil}
            path = f"/api/upload?{urlencode(query)}"
            yield FuzzedRequest(name=f"upload {name}", path=path, body=b"x", headers=BYTES_HEADERS)
    for number, (name, content) in enumerate(_build_archives().items()):
        path = f"/api/upload-zip?data={quote(f'zip {number}')}"
        yield FuzzedRequest(name=f"zip: {name}", path=path, body=content, headers=BYTES_HEADERS)


def _build_archives() -> dict[str, bytes]:
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    files: dict[str, list[tuple[str | zipfile.ZipInfo, bytes]]] = {
        "leads out": [("../../secret/a.png", b"x"), ("b/1.png", b"x")],
        "absolute": [(str(EVIL_FILE), b"x"), ("b/1.png", b"x")],
        "double": [("a/1.png", b"x"), ("a/ 1.png", b"y"), ("b/1.png", b"x")],
        "dot": [(".", b"x"), ("a/1.png", b"x"), ("b/1.png", b"x")],
        "bomb": [("a/1.png", bytes(200_000_000)), ("b/1.png", b"x")],
        "many": [(f"{number % 2}/{number}.png", b"") for number in range(60_000)],
        "link": [("a/1.png", b"x"), ("b/1.png", b"x"), (link, b"/etc/passwd")],
        "markup": [("<b>/<img src=x>.png", b"x"), ("b/1.png", b"x")],
        "deep": [("/".join(["a"] * 2000) + "/1.png", b"x"), ("b/1.png", b"x")],
    }
    archives = {"torn": b"PK\x03\x04 torn", "nothing": b"", "nested": b""}
    for name, members in files.items():
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members:
                archive.writestr(member, data)
        archives[name] = content.getvalue()
    archives["damaged"] = archives["link"][:40] + bytes(10) + archives["link"][50:]
    archives["nested"] = archives["bomb"] + archives["bomb"]
    return archives


def draw_page_requests() -> st.SearchStrategy[FuzzedRequest]:
    """Return how hypothesis draws a request to the page."""
    texts = st.one_of(st.sampled_from(EVIL), st.text(max_size=50), st.sampled_from(["data", "data/a/0.png", "small"]))
    keys = ("kind", "data", "settings", "left_out", "together", "study", "model", "version", "reason")
    values = st.one_of(texts, ANYTHING, st.lists(texts, max_size=3))
    bodies = st.one_of(ANYTHING, st.dictionaries(st.sampled_from(keys), values, max_size=5))
    paths = st.sampled_from([*READS, *CHANGES])
    return st.builds(_build_request, paths, st.lists(texts, min_size=3, max_size=3), bodies)


def _build_request(path: str, values: list[str], body: object) -> FuzzedRequest:
    if path not in READS:
        return FuzzedRequest(name=path, path=path, body=json.dumps(body).encode())
    query = urlencode(dict(zip(READS[path], values, strict=False)), errors="replace")
    return FuzzedRequest(name=path, method="GET", path=f"{path}?{query}")


def fuzz_page(server: RunningServer, *, place: Path, n: int) -> list[str]:
    """Send all requests, and return what is wrong with the answers."""
    complaints = []
    for request in [*iter_nasties(place), *iter_drawn(n, draw_page_requests())]:
        answer = send(server.port, request)
        leaked = [leak for leak in LEAKS if leak in answer.body]
        if answer.status not in ALLOWED or leaked:
            complaints.append(f"{request.name} {request.path[:80]}: {answer.status} {leaked} {answer.body[:200]}")
    beside = sorted(path.name for path in place.parent.rglob("*") if place not in (path, *path.parents))
    if EVIL_FILE.exists():
        complaints.append(f"{EVIL_FILE} was written")
    if beside != ["log.txt", "secret", "secret.txt"]:
        complaints.append(f"beside the place lie {beside}")
    return complaints


def measure_fuzz_page(*, n: int) -> dict[str, float]:
    """Return how many requests the server of the page bore; raises on any complaint."""
    with tempfile.TemporaryDirectory() as folder:
        place = write_place(Path(folder))
        with run_server(
            ["app", "--no-browser"], folder=place, log=Path(folder) / "log.txt", cwd=place, ready="/livez"
        ) as server:
            complaints = fuzz_page(server, place=place, n=n)
            memory_mb = server.measure_memory_mb()
    if complaints:
        raise AssertionError("\n".join(complaints[:20]))
    return {"fuzz.page.requests": float(len([*iter_nasties(place), *range(n)])), "fuzz.page.memory_after_mb": memory_mb}

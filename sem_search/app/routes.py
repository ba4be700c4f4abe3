"""What the page can ask for, and what it can do: one line for each."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import sem_search
from sem_search.app import models, uploads
from sem_search.app.access import Access, check_site
from sem_search.app.data_sets import (
    DataSet,
    hash_words,
    list_classes,
    read_data_set,
    write_arguments,
    write_inspection_arguments,
)
from sem_search.app.events import Events
from sem_search.app.folders import NOT_FOUND, Folders
from sem_search.app.jobs import NAMES, Jobs, Kind
from sem_search.app.page import Page
from sem_search.app.pictures import SIDES_PX, PictureCache, describe_file, render_file
from sem_search.app.requests import Desk, Query, get_text, receive, reply
from sem_search.app.results import Results
from sem_search.deployment.server.application import Routes
from sem_search.deployment.server.rotation import Rotation
from sem_search.errors import DataError, RefusedRequestError
from sem_search.micrographs.demo import DEMO_SIZES
from sem_search.search.prepare.data import DEMO_SIZE
from sem_search.settings import PRESETS, SearchSettings
from sem_search.transfer.names import OFFERED_BACKBONES

HTML_TYPE, JPEG_TYPE, CSV_TYPE, ZIP_TYPE = "text/html; charset=utf-8", "image/jpeg", "text/csv", "application/zip"

INSPECTION = re.compile("[0-9a-f]{8}")
"""What an inspection is called."""

DEMO_FOLDER = "demonstration"

OTHER_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups"
"""Of reports: they need no script, and run none, whatever is in them."""

KEEP_A_MINUTE = {"Cache-Control": "private, max-age=60"}
"""Of pictures of files, which may be exchanged."""

KEEP_A_DAY = {"Cache-Control": "private, max-age=86400"}
"""Of heat maps, whose address names the winner's run."""


@dataclass(frozen=True, kw_only=True)
class App:
    """What stands behind the page."""

    folders: Folders
    work: Path
    """Folder of logs, inspections, selections and kits."""
    uploads: Path
    jobs: Jobs
    results: Results
    rotation: Rotation
    access: Access
    page: Page


def build_routes(app: App, *, events: Events, desk: Desk) -> Routes:
    """Return everything that is answered beside the classifier."""
    pictures = PictureCache()
    return {
        "/": {"GET": lambda _: _show_page(app.page)},
        "/api/start": {"GET": lambda request: _describe_start(app, request)},
        "/api/events": {"GET": events.stream},
        "/api/folder": desk.read(lambda query: app.folders.view(query.get("path", ""))),
        "/api/classes": desk.ask(lambda given: list_classes(get_text(given, "data"), folders=app.folders)),
        "/api/picture": desk.read(lambda query: _draw_file(app, query, pictures=pictures), pool=desk.pictures),
        "/api/facts": desk.read(lambda query: describe_file(app.folders.find(get_text(query, "path")))),
        "/api/inspection": desk.read(lambda query: _read_inspection(app, query)),
        "/api/start-job": desk.change(lambda given: _start_job(app, given)),
        "/api/stop-job": desk.change(lambda given: app.jobs.stop(_get_kind(given))),
        "/api/studies": desk.read(lambda _: app.results.list_studies()),
        "/api/study": desk.read(lambda query: app.results.read_study(get_text(query, "name"))),
        "/api/study/picture": desk.read(lambda query: _draw_image(app, query), pool=desk.pictures),
        "/api/study/heat": desk.read(lambda query: _draw_heat(app, query), pool=desk.heat),
        "/api/study/page": desk.read(lambda query: _show_other_page(app, query)),
        "/api/study/download": desk.read(lambda query: _download(app, query)),
        "/api/models": desk.read(lambda _: models.describe_models()),
        "/api/version-card": desk.read(models.describe_version),
        "/api/promote": desk.change(models.promote, pool=desk.short),
        "/api/roll-back": desk.change(models.restore, pool=desk.short),
        "/api/follow": {"POST": lambda request: _follow(app, request, desk=desk)},
        "/api/upload": {"POST": lambda request: _upload(app, request, desk=desk)},
        "/api/upload-zip": {"POST": lambda request: _upload_zip(app, request, desk=desk)},
    }


async def _show_page(page: Page) -> Response:
    headers = {"Content-Security-Policy": page.policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return Response(page.html, media_type=HTML_TYPE, headers=headers)


async def _describe_start(app: App, request: Request) -> Response:
    """Answer what a page must know when it is opened."""
    check_site(request)
    fields = SearchSettings.model_fields
    return reply(
        {
            "version": sem_search.__version__,
            "may_change": app.access.may_change(request),
            "roots": [str(root) for root in _list_roots(app.folders)],
            "folder": str(Path.cwd()),
            "backbones": list(OFFERED_BACKBONES),
            "presets": list(PRESETS),
            "descriptions": {name: field.description for name, field in fields.items()},
        }
    )


def _list_roots(folders: Folders) -> list[Path]:
    """Return the folders to begin from: those named at the start, and the uploads if they lie in none of them."""
    uploaded = folders.uploads
    is_apart = uploaded.is_dir() and not any(uploaded.is_relative_to(root) for root in folders.roots)
    return [*folders.roots, *([uploaded] if is_apart else [])]


def _draw_file(app: App, query: Query, *, pictures: PictureCache) -> Response:
    path, side_px = app.folders.find(get_text(query, "path")), _get_side(query)
    status = path.stat()
    key = (path, side_px, status.st_mtime_ns, status.st_size)
    picture = pictures.get(key, make=lambda: render_file(path, side_px=side_px))
    return Response(picture, media_type=JPEG_TYPE, headers=KEEP_A_MINUTE)


def _draw_image(app: App, query: Query) -> Response:
    picture = app.results.draw_image(get_text(query, "name"), get_text(query, "image"), side_px=_get_side(query))
    return Response(picture, media_type=JPEG_TYPE, headers=KEEP_A_MINUTE)


def _draw_heat(app: App, query: Query) -> Response:
    picture = app.results.draw_heat(get_text(query, "name"), get_text(query, "image"), label=get_text(query, "label"))
    return Response(picture, media_type=JPEG_TYPE, headers=KEEP_A_DAY)


def _get_side(query: Query) -> int:
    side = query.get("side", "small")
    if side not in SIDES_PX:
        raise DataError(f"side must be one of {', '.join(SIDES_PX)}.")
    return SIDES_PX[side]


def _get_kind(given: Mapping[str, Any]) -> Kind:
    kind = get_text(given, "kind")
    if kind not in NAMES:
        raise DataError(f"kind must be one of {', '.join(NAMES)}.")
    return kind  # type: ignore[return-value]


def _start_job(app: App, given: Mapping[str, Any]) -> dict[str, str]:
    """Start a command; what it is about is returned, and shown with it."""
    kind = _get_kind(given)
    if given.get("again") is True:
        app.jobs.start_again(kind)
        return {}
    if kind == "demo":
        words, about = _write_demo_command(app)
    elif kind in ("search", "estimate", "inspection"):
        words, about = _write_data_command(app, kind, data_set=read_data_set(given, folders=app.folders))
    else:
        words, about = _write_study_command(app, kind, name=app.results.get_state(get_text(given, "study")).name)
    return {**about, "started_at": app.jobs.start(kind, words, about=about).started_at}


def _write_demo_command(app: App) -> tuple[list[str], dict[str, str]]:
    """Return the words of the command that renders the demonstration set among the uploads, and where it will lie."""
    place = app.uploads / DEMO_FOLDER
    bar_px = DEMO_SIZES[DEMO_SIZE].bar_height_px
    return ["demo-data", str(place), "--size", DEMO_SIZE], {"data": str(place.resolve()), "crop_bottom_px": str(bar_px)}


def _write_data_command(app: App, kind: Kind, *, data_set: DataSet) -> tuple[list[str], dict[str, str]]:
    """Return the words of a command about images, and what the page needs to know of it."""
    if kind == "inspection":
        words, data = write_inspection_arguments(data_set, folders=app.folders, work=app.work)
        number = hash_words([*words, data])
        output = str(app.work / "inspections" / number)
        return ["inspect", *words, "--output", output, "--", data], {"id": number, "data": data_set.data}
    return [kind, *write_arguments(data_set, folders=app.folders, work=app.work)], {"data": data_set.data}


def _write_study_command(app: App, kind: Kind, *, name: str) -> tuple[list[str], dict[str, str]]:
    """Return the words of a command about a finished study, and what the page needs to know of it."""
    if kind == "learning-curve":
        return [kind, name], {"study": name}
    folder = app.work / "kits" / name / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    return ["report", name, "--kit", str(folder)], {"study": name}


def _read_inspection(app: App, query: Query) -> Response:
    """Answer with the findings of an inspection, or with its whole page."""
    number = get_text(query, "id")
    name = {"json": "inspection.json", "html": "inspection.html"}.get(query.get("as", "json"), "")
    file = app.work / "inspections" / number / name
    if not INSPECTION.fullmatch(number) or not name or not file.is_file():
        raise RefusedRequestError("There is no such inspection here: inspect the images again.", status=NOT_FOUND)
    if name.endswith("html"):
        return _wrap_page(file.read_text("utf-8"))
    return Response(file.read_bytes(), media_type="application/json", headers={"Cache-Control": "no-store"})


def _show_other_page(app: App, query: Query) -> Response:
    return _wrap_page(app.results.read_page(get_text(query, "name"), query.get("page", "report")))


def _wrap_page(html: str) -> Response:
    headers = {"Content-Security-Policy": OTHER_PAGE_POLICY, "Referrer-Policy": "no-referrer"}
    return Response(html, media_type=HTML_TYPE, headers=headers)


def _download(app: App, query: Query) -> Response:
    name, what = get_text(query, "name"), query.get("what", "")
    if what == "report":
        return _attach(app.results.read_page(name, "report"), name=f"{name}.html", media_type=HTML_TYPE)
    if what == "predictions":
        return _attach(app.results.read_predictions(name), name=f"{name}-predictions.csv", media_type=CSV_TYPE)
    if what == "kit":
        return _attach(app.results.read_kit(name), name=f"{name}-kit.zip", media_type=ZIP_TYPE)
    raise DataError("what must be one of report, predictions, kit.")


def _attach(content: str | bytes, *, name: str, media_type: str) -> Response:
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in name)
    return Response(content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{plain}"'})


async def _follow(app: App, request: Request, *, desk: Desk) -> Response:
    answer = await desk.change(lambda given: {"address": models.find_address(given)}, pool=desk.short)["POST"](request)
    app.rotation.follow(json.loads(bytes(answer.body))["address"])
    return answer


async def _upload(app: App, request: Request, *, desk: Desk) -> Response:
    desk.check_change(request)
    query = request.query_params
    data, label, name = (get_text(query, each) for each in ("data", "class", "name"))
    with await desk.short.work(lambda: uploads.open_part(app.uploads)) as part:
        await receive(request, into=part, most_bytes=uploads.MAX_FILE_BYTES)
        part.flush()
        place = await desk.short.work(
            lambda: uploads.keep_file(Path(part.name), folder=app.uploads, data=data, label=label, name=name)
        )
    return reply({"path": str(place.resolve())})


async def _upload_zip(app: App, request: Request, *, desk: Desk) -> Response:
    desk.check_change(request)
    data = uploads.check_name(get_text(request.query_params, "data"), what="data set")
    with await desk.short.work(lambda: uploads.open_part(app.uploads)) as part:
        await receive(request, into=part, most_bytes=uploads.MAX_UPLOAD_BYTES)
        part.flush()
        place, n_pictures = await desk.short.work(
            lambda: uploads.unpack(Path(part.name), folder=app.uploads, data=data)
        )
    return reply({"path": str(place.resolve()), "n_pictures": n_pictures})

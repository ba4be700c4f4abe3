"""`sem-search app`: the server of one classifier, and before it the page for all that leads there."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import sem_search.deployment.server.main as server
from sem_search.app.access import TOKEN_VARIABLE, Access
from sem_search.app.events import Events
from sem_search.app.folders import Folders
from sem_search.app.jobs import Jobs
from sem_search.app.page import read_page
from sem_search.app.requests import Desk
from sem_search.app.results import Results
from sem_search.app.routes import App, build_routes
from sem_search.deployment.server.application import Routes
from sem_search.deployment.server.intake import LOCAL_HOSTS
from sem_search.deployment.server.main import ServeSettings
from sem_search.deployment.server.rotation import Rotation
from sem_search.progress import Show
from sem_search.settings import SearchSettings

WORK, UPLOADS = Path(".sem_search"), Path("uploads")
"""Of the current folder: logs, inspections, selections and kits; and what was dropped on the page."""

STORAGE = str(SearchSettings.model_fields["storage"].default)


def run_app(
    settings: ServeSettings,
    *,
    folders: Sequence[Path],
    show: Show,
    when_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until SIGTERM or Ctrl-C; a search that it has started goes on.

    Args:
        settings: How to serve, and which model.
        folders: What the page may read.
        show: Shows the token, where callers from elsewhere are answered.
        when_ready: Called once with the page's URL, when it answers.

    Raises:
        SettingsError: A folder is not there, the port is taken, or the token is too short.
    """
    readable, access = Folders(folders, uploads=UPLOADS), Access(os.environ.get(TOKEN_VARIABLE))
    if not settings.limits.allowed_hosts <= LOCAL_HOSTS and TOKEN_VARIABLE not in os.environ:
        show(f"To change something from another machine, the page asks for this token: {access.token}")

    def build(rotation: Rotation, is_ending: Callable[[], bool]) -> Routes:
        desk, jobs = Desk(access), Jobs(WORK)
        app = App(
            folders=readable,
            work=WORK,
            uploads=UPLOADS,
            jobs=jobs,
            results=Results(storage=STORAGE, folders=readable, kits=WORK / "kits"),
            rotation=rotation,
            access=access,
            page=read_page(),
        )
        events = Events(jobs=jobs, storage=STORAGE, rotation=rotation, desk=desk, is_ending=is_ending)
        return build_routes(app, events=events, desk=desk)

    server.run_server(settings, build_routes=build, when_ready=when_ready)

"""Links that open the right view of MLflow's pages.

Without the part `workflowType=machine_learning` MLflow opens an experiment among the traces of language models, where a
search has left nothing. A link begins with the tracking server's address; for a store on this machine, with the address
at which `mlflow ui` shows it once it is started.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import mlflow
from mlflow.tracking import MlflowClient

from sem_search.places import STORE_FILE, find_sqlite_file
from sem_search.programs import find_mlflow
from sem_search.secrets import mask_url

LOCAL_PAGES = "http://127.0.0.1:5000"
"""Where `mlflow ui` shows a store of this machine unless it is told otherwise."""

VIEW = "?workflowType=machine_learning"


def link_run(run_id: str, *, artifact: str | None = None) -> str:
    """Return the address of a run's page, or of one of its artifacts on it.

    Args:
        run_id: A run of the tracking store.
        artifact: Path of an artifact of the run.
    """
    return f"{find_pages()}/{link_run_within(run_id, artifact=artifact)}"


def link_version(name: str, version: str) -> str:
    """Return the address of a registered version's page."""
    return f"{find_pages()}/{link_version_within(name, version)}"


def link_run_within(run_id: str, *, artifact: str | None = None) -> str:
    """Return the same from one of MLflow's pages to another, whatever their address: for descriptions.

    Args:
        run_id: A run of the tracking store.
        artifact: Path of an artifact of the run.
    """
    experiment_id = MlflowClient().get_run(run_id).info.experiment_id
    shown = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{shown}{VIEW}"


def link_version_within(name: str, version: str) -> str:
    """Return the same for a registered version."""
    return f"#/models/{quote(name, safe='')}/versions/{version}{VIEW}"


def find_pages() -> str:
    """Return the address of MLflow's pages, without user and password."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("http"):
        return LOCAL_PAGES
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def format_links(links: Mapping[str, str]) -> str:
    """Return links as the last lines that a command prints: for a store of this machine, what starts the pages first.

    Args:
        links: Address by what it shows, such as `run`; short words, which stand before the addresses.
    """
    width = max(map(len, links)) + 2
    start = _describe_start()
    head = f"In MLflow, once it runs ({start}):" if start else "In MLflow:"
    return "\n".join([head, *(f"  {what:<{width}}{address}" for what, address in links.items())])


def _describe_start() -> str | None:
    """Return the command that starts MLflow's pages from here; None where a server shows them."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith("http"):
        return None
    if find_sqlite_file(uri) == Path.cwd() / STORE_FILE:
        return f"{find_mlflow()} ui"
    return f"{find_mlflow()} ui --backend-store-uri {shlex.quote(mask_url(uri))}"

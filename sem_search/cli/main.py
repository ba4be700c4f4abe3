"""The command line: one short command per entry point, the same as MLproject's.

Nothing heavy is imported before a command knows that it was called correctly, so that `--help` and refusals are quick.
"""

import logging
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import click

import sem_search
from sem_search.cli.audits import audit, compare, learning_curve, lots, lots_reference, morphology, report
from sem_search.cli.paper import paper
from sem_search.cli.registry import registry
from sem_search.cli.settings_options import BARE_SWITCH, add_settings_options, join_options
from sem_search.deployment.request_limits import MAX_REQUEST_MB, MAX_REQUEST_MEGAPIXELS
from sem_search.errors import InputError, StoreError
from sem_search.places import go_to_search_folder, write_store_plainly
from sem_search.secrets import mask_secrets
from sem_search.settings import AUTO
from sem_search.terminal import PlainFormatter, echo, interruptible, open_page, print_warnings
from sem_search.transfer.runtime import load_tensorflow, quieten_start

EXIT_INPUT_ERROR = 2
EXIT_STORE_ERROR = 1
EXIT_DRIFT = 3
"""Of `monitor --fail-on-drift`: no error, so that timers can tell it from a store that does not answer."""
EXIT_STOPPED = 130
"""As shells say of a program that Ctrl-C ended."""

MODEL_HELP = "Such as models:/sem-search-vgg16@champion.  [default: the champion, where only one model has one]"


def main() -> None:
    """Run the command line; wrong input ends with one sentence and exit code 2, a store that fails with exit code 1."""
    quieten_start()
    sys.excepthook = print_without_secrets
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())  # of warnings that are logged before logs are set up
    print_warnings()
    try:
        go_to_search_folder()
        write_store_plainly()
        commands(prog_name="sem-search", standalone_mode=True)
    except (InputError, StoreError) as error:
        end_own_run(error)
        echo(f"Error: {mask_secrets(str(error))}", err=True)
        sys.exit(EXIT_INPUT_ERROR if isinstance(error, InputError) else EXIT_STORE_ERROR)


def print_without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error with its traceback, but for passwords: the URL of a server may hold one."""
    end_own_run(error)
    echo(mask_secrets("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)


def end_own_run(error: BaseException) -> None:
    """Let the run that `mlflow run` opened for this command say why it failed, unless the command has used it."""
    if "MLFLOW_RUN_ID" in os.environ:  # loading MLflow takes seconds
        from sem_search.tracking.mlflow.own_runs import end_refused_run

        end_refused_run(error, command=next(iter(sys.argv[1:]), "sem-search"))


GOES_ON = ("search", "paper", "worker")
"""Commands whose finished work is on disk, so that the same command again goes on from there."""


class Commands(click.Group):
    """Commands that all end alike when Ctrl-C, or the batch system, stops them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was given."""
        try:
            with interruptible():
                return super().invoke(ctx)
        except click.UsageError as error:
            end_own_run(InputError(error.format_message()))
            raise
        except KeyboardInterrupt:
            kept = "What is finished is kept: the same command again goes on from there."
            echo(f"Stopped. {kept}" if ctx.invoked_subcommand in GOES_ON else "Stopped.", err=True)
            ctx.exit(EXIT_STOPPED)
        except Exception as error:
            if "mlflow" not in sys.modules:
                raise
            from sem_search.tracking.mlflow.availability import explain_store_error

            explained = explain_store_error(error)
            if explained is None:
                raise
            raise explained from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(sem_search.__version__)
def commands() -> None:
    """Find, prove, explain and serve the settings that recognise your materials in SEM micrographs."""


@commands.command()
@add_settings_options
def search(**given: str | None) -> None:
    """Search heads, learning rates and batch sizes for a backbone, and register the winner.

    A value of "auto" stands for the preset's. The preset is `quick` with data=demo, else `standard`.
    """
    from sem_search.settings import build_settings

    settings = build_settings(given)
    load_tensorflow()  # once the settings are known to be good: it takes seconds
    from sem_search.search.commands.search import run_search

    echo(run_search(settings, show=echo).to_text())


@commands.command()
@add_settings_options
def estimate(**given: str | None) -> None:
    """Say how much time and disk the search with these options would take here; nothing is trained."""
    from sem_search.settings import build_settings

    settings = build_settings(given)
    load_tensorflow()
    from sem_search.search.commands.search import run_estimate

    run_estimate(settings, show=echo)


def _read_threads(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None or value == AUTO:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is no number of threads: give 1 or more, or {AUTO}.")
    return int(value)


@commands.command()
@click.option("--study", required=True, help="Name of the study to help with, as the search printed it.")
@click.option("--storage", default="sqlite:///optuna.db", show_default=True, help="Optuna storage URL of the study.")
@click.option(
    "--threads",
    default=None,
    metavar="VALUE",
    callback=_read_threads,
    help="Processor threads.  [default: the search's]",
)
@click.option("--data", default=None, help="The images as this machine reaches them.  [default: the search's path]")
@click.option(
    "--study-folder", default=None, help="Finished folds, as reached from here.  [default: the search's path]"
)
@click.option("--shared", default=None, help="Shared storage as this machine reaches it.  [default: the search's]")
@click.option(
    "--wait",
    "wait_s",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for the study.",
)
def worker(study: str, storage: str, threads: int | None, wait_s: float, **places: str | None) -> None:
    """Help with a running study: claim its cells, and those of stale workers, until all have ended."""
    load_tensorflow()
    from sem_search.search.commands.worker import run_worker

    changes = {name: None if value == AUTO else value for name, value in places.items()}
    run_worker(study, storage=storage, changes={**changes, "threads": threads}, wait_s=wait_s, show=echo)


@commands.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "model_uri", default=None, metavar="ADDRESS", help=MODEL_HELP)
@click.option("--output", default=None, type=click.Path(path_type=Path), help="File to write; default: the terminal.")
@click.option(
    "--format",
    "output_format",
    default=None,
    type=click.Choice([AUTO, "csv", "json", "parquet", "xlsx"]),
    help="Of the table.  [default: by the file's name, else csv]",
)
@click.option(
    "--explain", "explain_folder", default=None, type=click.Path(path_type=Path), help="Folder for Grad-CAM overlays."
)
@click.option("--coverage", default=0.9, show_default=True, help="Of the prediction sets, above 0 and below 1.")
@click.option("--journal", default=None, metavar="FILE_OR_URL", help="Database of answers to add to, for `monitor`.")
def predict(images: tuple[Path, ...], output_format: str | None, **given: Any) -> None:
    """Classify whole micrographs, files or folders, with a registered model; a run that was stopped goes on."""
    from sem_search.deployment.batch.predict import predict_images

    sys.exit(predict_images(images, output_format=None if output_format == AUTO else output_format, **given))


@commands.command()
@click.option(
    "--journal",
    required=True,
    metavar="FILE_OR_URL",
    help="The answers, as --journal of serve, app and predict writes them.",
)
@click.option("--model", "model_uri", default=None, metavar="ADDRESS", help=MODEL_HELP)
@click.option("--since", default=None, metavar="DATE", help="First that counts; the same from look to look.")
@click.option("--until", default=None, metavar="DATE", help="First that does not count.  [default: all count]")
@click.option("--against", default="training", show_default=True, help="training, or an earlier period: DATE..DATE.")
@click.option("--output", default="monitor", type=click.Path(path_type=Path), show_default=True, help="Folder.")
@click.option("--fail-on-drift", is_flag=True, help="End with exit code 3 if something has drifted.")
def monitor(*, journal: str, output: Path, fail_on_drift: bool, **given: str) -> None:
    """Ask whether the instrument or the material has drifted, from the journal of answers.

    Look as often as you like: all looks together give a false alarm in at most 5 % of cases.
    """
    from sem_search.search.commands.monitor import run_monitor

    report = run_monitor(journal, output=output, **given, show=echo)
    if fail_on_drift and report.cause is not None:
        sys.exit(EXIT_DRIFT)


add_serving_options = join_options(
    click.option("--model", default=None, metavar="ADDRESS", help=f"{MODEL_HELP} An alias is watched."),
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option(
        "--allowed-hosts",
        default="",
        metavar="NAMES",
        help="Names by which callers may ask, beside localhost and --host; separated by commas.",
    ),
    click.option("--timeout", default=60, type=click.IntRange(1), show_default=True, help="Seconds a request."),
    click.option("--watch", default=5.0, show_default=True, help="Seconds between two looks at the alias."),
    click.option("--max-request-mb", default=MAX_REQUEST_MB, show_default=True, help="Larger requests get HTTP 413."),
    click.option(
        "--max-megapixels", default=MAX_REQUEST_MEGAPIXELS, show_default=True, help="Of all images of a request."
    ),
    click.option(
        "--journal", default=None, metavar="FILE_OR_URL", help="Database that notes each answer, for `monitor`."
    ),
)


@commands.command()
@add_serving_options
@click.option("--port", default=5001, type=click.IntRange(1, 65535), show_default=True)
def serve(port: int, **given: Any) -> None:
    """Serve a registered model, within limits; an alias is followed to each new version without losing a request."""
    from sem_search.deployment.server.main import ServeSettings, run_server

    run_server(ServeSettings(port=port, **given))


@commands.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@add_serving_options
@click.option("--port", default=5002, type=click.IntRange(1, 65535), show_default=True)
@click.option("--browser/--no-browser", default=True, help="Open the page.  [default: browser]")
def app(folders: tuple[Path, ...], port: int, browser: bool, **given: Any) -> None:
    """Open a page for the whole job: choose images, search, read the result, keep the models, classify.

    It may read FOLDERS and what lies in them; without any, the current folder.
    """
    from sem_search.app.main import run_app
    from sem_search.deployment.server.main import ServeSettings

    settings = ServeSettings(port=port, waits_for_model=True, **given)
    run_app(settings, folders=folders or (Path(),), show=echo, when_ready=open_page if browser else None)


@commands.command()
@click.argument("data")
@click.option("--output", default="inspection", type=click.Path(path_type=Path), show_default=True, help="Folder.")
@click.option("--folds", default=5, type=click.IntRange(min=3), show_default=True, help="Folds to be made.")
@click.option("--exclude", default="", help="Classes to leave out, by commas; a name that holds a comma in quotes.")
@click.option(
    "--overlaps",
    default="group",
    type=click.Choice([AUTO, "group", "report", "ignore"]),
    show_default=True,
    help="What a search does about images that show the same place; ignore: do not look for them.",
)
@click.option(
    "--allow-outside",
    default=None,
    metavar="VALUE",
    help="true: a CSV may name pictures that do not lie below its own folder.",
    **BARE_SWITCH,
)
@click.option("--crop-bottom-px", default=0, type=click.IntRange(min=0), show_default=True, help="Data bar in px.")
@click.option("--tile-px", default=224, type=click.IntRange(min=32), show_default=True, help="Side of a tile in px.")
@click.option("--pixel-size-nm", default=None, metavar="NM|common", help="Bring all images to one. [default: do not]")
@click.option("--max-megapixels", default=100.0, show_default=True, help="Larger pictures are not decoded.")
def inspect(*, data: str, output: Path, exclude: str, crop_bottom_px: int, **given: Any) -> None:
    """Say what is in a folder or CSV of micrographs, and what is wrong with it, before anything is trained."""
    from sem_search.search.commands.inspect import run_inspection
    from sem_search.settings import build_settings

    own = {"data": data, "exclude": exclude or None, "crop_bottom_px": crop_bottom_px or None}
    settings = build_settings({**given, **own})
    run_inspection(settings, output=output, show=echo)


@commands.command("demo-data")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--size", default="small", type=click.Choice(["small", "paper"]), show_default=True)
@click.option("--seed", default=0, type=click.IntRange(min=0), show_default=True)
def demo_data(folder: Path, size: str, seed: int) -> None:
    """Render the demonstration set: micrographs of ten materials that never existed."""
    from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data

    write_demo_data(folder, size=size, seed=seed, progress=True)
    bar_px = DEMO_SIZES[size].bar_height_px
    echo(f"Written to {folder}. The data bar is {bar_px} px high: search it with crop_bottom_px={bar_px}.")


for _command in (registry, audit, compare, learning_curve, lots, lots_reference, morphology, paper, report):
    commands.add_command(_command)


@commands.group()
def cache() -> None:
    """See and clear what is kept to save work: features, converted networks, overlaps and demonstration pictures."""


@cache.command("list")
def cache_list() -> None:
    """List what the cache holds."""
    load_tensorflow()
    from sem_search.micrographs.overlaps.store import measure_store
    from sem_search.places import get_cache_folder
    from sem_search.transfer.feature_store import list_stores

    folder = get_cache_folder()
    stores = list_stores(folder)
    echo(f"{folder}: {len(stores)} feature store(s)")
    for store in stores:
        echo(f"  {store}")
    n_bytes = measure_store(folder)
    if n_bytes:
        echo(f"what is known of overlapping images, {n_bytes / 1e6:.0f} MB")


@cache.command("clear")
def cache_clear() -> None:
    """Remove everything that can be computed again."""
    load_tensorflow()
    from sem_search.micrographs.overlaps.store import clear_store
    from sem_search.places import get_cache_folder
    from sem_search.transfer.engine import clear_graphs
    from sem_search.transfer.feature_store import clear_stores

    folder = get_cache_folder()
    overlaps = " and what was known of overlapping images" if clear_store(folder) else ""
    networks = f" and {clear_graphs(folder)} converted network(s)"
    click.echo(f"Removed {clear_stores(folder)} feature store(s){networks}{overlaps}.")

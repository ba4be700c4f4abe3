"""The command line of the paper's whole result.

Nothing heavy is imported before the command knows that it was called correctly.
"""

from functools import partial

import click

from sem_search.cli.settings_options import add_settings_options
from sem_search.terminal import echo
from sem_search.transfer.runtime import load_tensorflow


@click.command()
@click.option(
    "--backbones",
    default="vgg16,resnet50",
    show_default=True,
    metavar="NAMES",
    help="Networks to transfer from, by commas; the first is compared with each other one.",
)
@click.option(
    "--preset", default="paper", show_default=True, metavar="VALUE", help="As in a search: paper, standard or quick."
)
@partial(add_settings_options, but=("backbone", "preset"))
def paper(backbones: str, **given: str | None) -> None:
    """Repeat the whole paper: a search for each backbone, the winners compared, and one page with all figures.

    The same command again goes on where it was stopped. The other options are those of a search.
    """
    from sem_search.settings import build_paper_settings

    names = [name.strip() for name in backbones.split(",") if name.strip()]
    searches = build_paper_settings(given, backbones=names)
    load_tensorflow()  # once the settings are known to be good: it takes seconds
    from sem_search.search.commands.paper import run_paper

    echo(run_paper(searches, show=echo).to_text())

"""`scripts/pretrain BACKBONE`: train the weights that ship with the package, or go on where it was interrupted.

Recipe: every scan shows a powder of its own, drawn at random (`materials`), and the network says to which of eight
classes of each property it belongs (`properties`). A small twin of the backbone is trained, and laid into the whole
(`networks`). Where that is said to learn too slowly by itself, VGG16's twin is trained first, unless the folder has it,
and teaches it (`training`). What it costs and scores stands in docs/weights.md.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pretraining.training import TrainedTwin

DEFAULT_FOLDER = Path("pretraining-work")


@click.command()
@click.argument("name", metavar="BACKBONE")
@click.option("--folder", default=DEFAULT_FOLDER, type=click.Path(path_type=Path), show_default=True, help="Keeps all.")
@click.option(
    "--renderers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Processes that render while the network trains.",
)
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the recipe's rounds: less is a trial, in a folder of its own.",
)
@click.option("--pack", "target", default=None, type=click.Path(path_type=Path), help="Where to, if not the package.")
def main(name: str, folder: Path, renderers: int, share: float, target: Path | None) -> None:
    """Train BACKBONE on rendered particles: vgg16, resnet50 or mobilenet_v2. The same command goes on after a stop."""
    from pretraining.packing import pack
    from pretraining.recipe import RECIPES, shorten
    from sem_search.transfer.backbones import get_backbone

    if name not in RECIPES:
        raise click.BadParameter(f"{name!r} has no recipe; choose one of: {', '.join(RECIPES)}", param_hint="BACKBONE")
    twins = _train(name, folder=folder, renderers=renderers, share=share)
    if share < 1 and target is None:
        click.echo("A trial is not packed: give --pack FOLDER to have its weights.")
    else:
        facts = {"machine": f"{os.cpu_count()} processors, {platform.machine()}"}
        recipe = shorten(RECIPES[name], share=share)
        click.echo(f"Written: {pack(twins, backbone=get_backbone(name), recipe=recipe, facts=facts, folder=target)}")


def _train(name: str, *, folder: Path, renderers: int, share: float) -> list[TrainedTwin]:
    """Return the trained twins of a backbone; what the folder has of them, or their teacher, is not trained anew."""
    from pretraining.recipe import RECIPES, shorten
    from pretraining.scans import open_scans
    from pretraining.training import Teacher, train_twin
    from sem_search.transfer.backbones import get_backbone

    recipe = shorten(RECIPES[name], share=share)
    teacher = None
    if recipe.twin.teacher is not None:
        taught = _train(recipe.twin.teacher, folder=folder, renderers=renderers, share=share)
        teacher = Teacher(twin=taught[0].network, backbone=get_backbone(recipe.twin.teacher))
    twins = []
    for number, twin_recipe in enumerate(recipe.twins):
        with open_scans(folder, recipe=recipe.scans, n_processes=renderers) as pool:
            twins.append(
                train_twin(
                    pool,
                    backbone=get_backbone(name),
                    recipe=twin_recipe,
                    folder=folder / (f"{name}-{number}" if share == 1 else f"{name}-{number}-share-{share:g}"),
                    tell=lambda text, number=number: click.echo(
                        f"{time.strftime('%H:%M:%S')} {name}, twin {number + 1} of {len(recipe.twins)}, {text}"
                    ),
                    teacher=teacher,
                )
            )
    return twins


if __name__ == "__main__":
    main(prog_name="scripts/pretrain")

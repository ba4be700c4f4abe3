"""`scripts/pretrain BACKBONE`: train the weights that ship with the package, or go on where it was interrupted.

Recipe: every scan shows a powder of its own, drawn at random (`materials`), and the network predicts to which of eight
classes of each property it belongs (`properties`). A small twin of the backbone is trained, and laid into the whole
(`networks`). Where that would learn too slowly by itself, VGG16's twin is trained first, unless the folder has it,
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
    """Train BACKBONE on rendered particles: vgg16, resnet50 or mobilenet_v2. The same command goes on after a stop.

    The weights and the card that it ends with replace those of the package, unless --pack names another folder.
    """
    from filelock import FileLock, Timeout

    from pretraining.packing import pack
    from pretraining.recipe import RECIPES, shorten
    from sem_search.errors import SemSearchError
    from sem_search.transfer.backbones import get_backbone

    if name not in RECIPES:
        raise click.BadParameter(f"{name!r} has no recipe; choose one of: {', '.join(RECIPES)}", param_hint="BACKBONE")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            trained = _train(name, folder=folder, renderers=renderers, share=share)
            if share < 1 and target is None:
                click.echo("A trial is not packed: give --pack FOLDER to have its weights.")
                return
            recipe = shorten(RECIPES[name], share=share)
            file = pack(trained, backbone=get_backbone(name), recipe=recipe, facts=_describe_machine(), folder=target)
    except KeyboardInterrupt as error:
        raise click.ClickException("stopped; the same command goes on. What this round had learned is lost.") from error
    except Timeout as error:
        raise click.ClickException(f"another training runs in {folder}: wait for it, or give --folder.") from error
    except SemSearchError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Written: {file}")


def _train(name: str, *, folder: Path, renderers: int, share: float) -> TrainedTwin:
    """Return the trained twin of a backbone; what the folder has of it, or of its teacher, is not trained anew."""
    from pretraining.recipe import RECIPES, shorten
    from pretraining.scans import open_scans
    from pretraining.training import Teacher, train_twin
    from sem_search.transfer.backbones import get_backbone

    recipe = shorten(RECIPES[name], share=share)
    teacher = None
    if recipe.twin.teacher is not None:
        taught = _train(recipe.twin.teacher, folder=folder, renderers=renderers, share=share)
        teacher = Teacher(twin=taught.network, backbone=get_backbone(recipe.twin.teacher))
    with open_scans(folder, recipe=recipe.scans, n_processes=renderers) as pool:
        return train_twin(
            pool,
            backbone=get_backbone(name),
            recipe=recipe.twin,
            folder=folder / (name if share == 1 else f"{name}-share-{share:g}"),
            show=lambda text: click.echo(f"{time.strftime('%H:%M:%S')} {name}, {text}"),
            teacher=teacher,
        )


def _describe_machine() -> dict[str, str]:
    import keras

    device = keras.ops.zeros(1).device  # the word of each backend for it
    return {
        "machine": f"{os.cpu_count()} processors, {platform.machine()}; computed on {device}",
        "software": f"Keras {keras.__version__} on {keras.backend.backend()}",
    }


if __name__ == "__main__":
    main(prog_name="scripts/pretrain")

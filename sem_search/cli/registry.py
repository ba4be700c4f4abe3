"""The command line of the registry: which version is champion, why, since when, and whether anything was altered.

Nothing heavy is imported before a command knows that it was called correctly.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sem_search.cli.settings_options import Command
from sem_search.settings import DEFAULT_PROMOTE_CONFIDENCE, DEFAULT_PROMOTE_MARGIN
from sem_search.terminal import echo

if TYPE_CHECKING:
    from sem_search.deployment.registry.history import HistoryEntry

EXIT_NOT_SOUND = 1
"""Of `verify`, when something is not what was written; wrong input is 2, as everywhere."""

Answer = tuple[str, object]
"""What a command prints: for people, and for programs."""

_VERSION = click.argument("version")
_MARGIN = click.option(
    "--margin",
    type=click.FloatRange(0, 1, max_open=True),
    default=DEFAULT_PROMOTE_MARGIN,
    show_default=True,
    help="F-measure by which the champion must be beaten.",
)
_CONFIDENCE = click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=DEFAULT_PROMOTE_CONFIDENCE,
    show_default=True,
    help="How sure that must be, over the images.",
)


def _print_answer(act: Callable[..., Answer]) -> Command:
    """Print what a command returns, and give it the option --json."""

    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    @wraps(act)
    def command(*, as_json: bool, **given: Any) -> None:
        text, content = act(**given)
        echo(json.dumps(content, ensure_ascii=False, indent=1, default=asdict) if as_json else text)
        if isinstance(content, dict) and not content.get("is_sound", True):
            sys.exit(EXIT_NOT_SOUND)

    return command


def _for_model(act: Callable[..., Answer]) -> Command:
    """Give a command the option --model; where it is not given, the command is about the only model that there is."""

    @click.option("--model", default=None, metavar="NAME", help="Registered model.  [default: the only one]")
    @wraps(act)
    def command(*, model: str | None, **given: Any) -> Answer:
        from sem_search.deployment.registry import choose_model_name

        return act(model=choose_model_name(model), **given)

    return command


@click.group()
def registry() -> None:
    """See, judge and change which version of a model is champion. VERSION is a number, an alias or latest."""


@registry.command("list")
@click.option("--model", default=None, metavar="NAME", help="Registered model.  [default: all]")
@_print_answer
def list_command(model: str | None) -> Answer:
    """List versions and aliases.

    A warning names what is not as the history has it.
    """
    from sem_search.deployment.registry import choose_model_name, views

    overviews = views.list_models() if model is None else (views.list_versions(choose_model_name(model)),)
    return views.format_overviews(overviews), overviews


@registry.command()
@_VERSION
@_print_answer
@_for_model
def show(version: str, model: str) -> Answer:
    """Print a version's model card.

    Data, folds, scores with intervals, confusion, warnings, hashes, how to cite, and what happened to it since.
    """
    from sem_search.deployment.registry import views

    view = views.show_version(model, version)
    return views.format_view(view), view


@registry.command()
@_print_answer
@_for_model
def history(model: str) -> Answer:
    """Print every move of an alias.

    Who, when, from, to, why, by which scores, and the hash of each entry.
    """
    from sem_search.deployment.registry import views

    entries = views.list_moves(model)
    return views.format_moves(entries), entries


@registry.command()
@_VERSION
@click.option("--reason", default=None, help="Make it champion even if the gate refuses, and record why.")
@_MARGIN
@_CONFIDENCE
@_print_answer
@_for_model
def promote(*, version: str, model: str, reason: str | None, margin: float, confidence: float) -> Answer:
    """Make a version champion.

    It must beat the champion on the same images and folds, paired by image; or give a reason, and it is made champion
    by hand.
    """
    from sem_search.deployment.registry import GateRule, promote_version

    rule = GateRule(margin=margin, confidence=confidence)
    return _describe_move(promote_version(model, version, reason=reason, rule=rule))


@registry.command()
@click.option("--reason", default=None, help="Why; written down.")
@_print_answer
@_for_model
def rollback(model: str, reason: str | None) -> Answer:
    """Go back to the champion before.

    Given again, it goes one step further back.
    """
    from sem_search.deployment.registry import roll_back

    return _describe_move(roll_back(model, reason=reason))


@registry.command()
@click.argument("a")
@click.argument("b")
@_MARGIN
@_CONFIDENCE
@_print_answer
@_for_model
def compare(*, a: str, b: str, model: str, margin: float, confidence: float) -> Answer:
    """Compare two versions, image by image.

    Refused where A and B were not measured on the same data, folds, tiles and split.
    """
    from sem_search.deployment.registry import GateRule, compare_versions, views

    comparison = compare_versions(model, a, b, rule=GateRule(margin=margin, confidence=confidence))
    return views.format_comparison(comparison), comparison.to_dict()


@registry.command()
@_VERSION
@click.option(
    "--data",
    default=None,
    type=click.Path(path_type=Path),
    help="Folder or CSV of the images, to be rehashed, too.  [default: where the run says]",
)
@click.option("--expect-head", default=None, metavar="HASH", help="Hash of an entry that was written down earlier.")
@_print_answer
@_for_model
def verify(*, version: str, model: str, data: Path | None, expect_head: str | None) -> Answer:
    """Check history, files and data by hash.

    Exit code 1 if something is not what was written; the first such thing is named.
    """
    from sem_search.deployment.registry import verify_version, views

    found = verify_version(model, version, data=data, expect_head=expect_head)
    return views.format_verification(found), asdict(found) | {"is_sound": found.is_sound}


@registry.command()
@_VERSION
@click.argument("folder", type=click.Path(path_type=Path))
@_print_answer
@_for_model
def export(*, version: str, folder: Path, model: str) -> Answer:
    """Write a version's ONNX graphs into FOLDER, for programs that are not Python.

    With labels and preprocessing as JSON, an example, and a page that says how to use them from JavaScript, C# or C++.
    """
    from sem_search.deployment.registry import export_version

    files = export_version(model, version, folder=folder)
    return "\n".join(str(folder / name) for name in files), {"folder": str(folder), "files": files}


def _describe_move(entry: "HistoryEntry") -> Answer:
    """Return a move that was just made, the hash to write down, and what is not as it should be since."""
    from sem_search.deployment.registry import views

    warnings = views.list_versions(entry.model).remarks
    return views.format_move(entry, warnings=warnings), asdict(entry) | {"warnings": warnings}

"""Commands as a user would type them, to be shown where their results are."""

import shlex
from collections.abc import Sequence

from sem_search.programs import find_command
from sem_search.secrets import mask_url
from sem_search.settings import SearchSettings, build_settings, write_value

STORAGE = str(SearchSettings.model_fields["storage"].default)


def write_command(name: str, *arguments: str, storage: str = STORAGE, **options: str | Sequence[str] | None) -> str:
    """Return a command that a shell takes in the current folder.

    Args:
        name: Of the command: `audit`.
        arguments: What stands after it.
        storage: Optuna storage; its password is masked.
        options: By their names with underscores; None leaves one out, several values are joined by commas.
    """
    given = {"storage": None if storage == STORAGE else mask_url(storage), **options}
    words = [name, *arguments]
    for option, value in given.items():
        if value is not None:
            words += [f"--{option.replace('_', '-')}", value if isinstance(value, str) else ",".join(value)]
    return f"{find_command()} {shlex.join(words)}"


def write_search_command(settings: SearchSettings) -> str:
    """Return the search with these settings; what is as in the preset, or belongs to this machine, is left out."""
    return write_command("search", storage=settings.storage, data=settings.data, **_list_options(settings))


def write_paper_command(searches: Sequence[SearchSettings]) -> str:
    """Return the command that makes these searches: alike, but for the backbone and the study's name."""
    first = searches[0]
    options = _list_options(first) | {"preset": first.preset}
    options.pop("backbone", None)
    if first.study is not None:
        options["study"] = first.study.removesuffix(f"-{first.backbone}")
    backbones = [settings.backbone for settings in searches]
    return write_command("paper", storage=first.storage, data=first.data, backbones=backbones, **options)


def _list_options(settings: SearchSettings) -> dict[str, str]:
    """Return the options that differ from the preset's and do not belong to this machine."""
    presets = (build_settings({"data": settings.data}), build_settings({"preset": settings.preset}))
    usual = {**presets[1].model_dump(), "preset": presets[0].preset}
    return {
        name: write_value(value)
        for name in SearchSettings.model_fields
        if name not in ("data", "threads", "storage") and (value := getattr(settings, name)) != usual[name]
    }

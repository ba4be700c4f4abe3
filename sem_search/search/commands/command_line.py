"""Commands as a user would type them, to be shown where their results are."""

import shlex
from collections.abc import Sequence

from sem_search.search.results.conclusion import find_command
from sem_search.secrets import mask_url
from sem_search.settings import SearchSettings

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

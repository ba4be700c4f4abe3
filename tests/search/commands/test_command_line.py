"""A command as a user would type it."""

from typing import Any

import pytest

from sem_search.search.commands import command_line
from sem_search.search.commands.command_line import write_command


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("a study",), {}, "audit 'a study'"),
        (("a",), {"storage": "sqlite:///optuna.db", "study_folder": None}, "audit a"),
        (("a",), {"study_folder": "my studies"}, "audit a --study-folder 'my studies'"),
        (("a",), {"only": ("leak", "nested")}, "audit a --only leak,nested"),
        (("a",), {"storage": "postgresql://me:secret@host/db"}, "audit a --storage 'postgresql://me:***@host/db'"),
    ],
)
def test_only_what_differs_from_the_default_is_written(
    arguments: tuple[str, ...], options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "find_command", lambda: "sem-search")
    assert write_command("audit", *arguments, **options) == f"sem-search {words}"

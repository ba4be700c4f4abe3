"""A command as a user would type it."""

import shlex
from typing import Any

import pytest

from sem_search.search.commands import command_line
from sem_search.search.commands.command_line import write_command, write_paper_command, write_search_command
from sem_search.settings import build_paper_settings, build_settings

EXCLUDED = """--data x --exclude 'a,"b, c"' --skip-unreadable true"""


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


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": "demo"}, "--data demo"),
        ({"data": "demo", "preset": "paper"}, "--data demo --preset paper"),
        ({"data": "my images", "threads": "3"}, "--data 'my images'"),
        ({"data": "x", "exclude": 'a,"b, c"', "skip_unreadable": "true"}, EXCLUDED),
        ({"data": "x", "learning_rates": "0.1,0.01", "folds": "3"}, "--data x --folds 3 --learning-rates 0.1,0.01"),
    ],
)
def test_a_search_is_written_as_it_is_meant(given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "find_command", lambda: "sem-search")
    settings = build_settings(given)
    command = write_search_command(settings)
    assert command == f"sem-search search {words}"
    again = [word.removeprefix("--").replace("-", "_") for word in shlex.split(command)[2:]]
    typed = build_settings(dict(zip(again[::2], again[1::2], strict=True)))
    assert typed == settings.model_copy(update={"threads": typed.threads})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": "x"}, "--data x --backbones vgg16,tiny --preset paper"),
        ({"data": "demo", "preset": "quick"}, "--data demo --backbones vgg16,tiny --preset quick"),
        ({"data": "x", "study": "mine"}, "--data x --backbones vgg16,tiny --preset paper --study mine"),
    ],
)
def test_the_paper_is_written_as_one_command(
    given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "find_command", lambda: "sem-search")
    searches = build_paper_settings(given, backbones=["vgg16", "tiny"])
    assert write_paper_command(searches) == f"sem-search paper {words}"

"""The errors that are raised on purpose: the drawn tree is the real one, and who catches what."""

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from sem_search import errors
from sem_search.cli import main as cli
from sem_search.errors import InputError, SemSearchError, StoreError

PACKAGE = Path(errors.__file__).parent
TREE_LINE = re.compile(r"^    (?P<indent>[│ ]*)(?:[├└]── )?(?P<name>\w+Error)\b(?P<meaning>.*)$")
INDENT = 4
"""Characters that one level of the drawn tree is deep."""


def list_error_classes() -> list[type[Exception]]:
    found = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]
    return [each for each in found if not issubclass(each, Warning)]


def parse_drawn_tree() -> dict[str, str | None]:
    """Return each error of the docstring with the one that it hangs below."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if (match := TREE_LINE.match(line)) is None:
            continue
        is_root = "──" not in line
        depth = 0 if is_root else 1 + len(match["indent"]) // INDENT
        path = [*path[:depth], match["name"]]
        parents[match["name"]] = path[depth - 1] if depth else None
    return parents


def build_error(error: type[Exception], message: str) -> Exception:
    """Return an error with this message; what else it must know is a number."""
    parameters = inspect.signature(error.__init__).parameters.values()
    return error(message, **{one.name: 400 for one in parameters if one.kind is one.KEYWORD_ONLY})


@cache
def list_raised_names() -> frozenset[str]:
    """Return the names of all that the package raises by calling it."""
    names = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                names.add(ast.unparse(node.exc.func).rsplit(".", 1)[-1])
    return frozenset(names)


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {
        found.__name__: None if found is SemSearchError else found.__bases__[0].__name__
        for found in list_error_classes()
    }
    assert parse_drawn_tree() == real


def test_the_tree_is_drawn_in_the_order_of_the_code() -> None:
    lines = {found.__name__: inspect.getsourcelines(found)[1] for found in list_error_classes()}
    assert list(parse_drawn_tree()) == sorted(lines, key=lambda name: lines[name])


def test_every_error_has_one_parent_and_a_sentence() -> None:
    for found in list_error_classes():
        assert len(found.__bases__) == 1, found.__name__
        assert (found.__doc__ or "").split("\n\n")[0].endswith("."), found.__name__


def test_no_error_is_without_a_user() -> None:
    leaves = {found.__name__ for found in list_error_classes() if not found.__subclasses__()}
    assert leaves - list_raised_names() == set()


def test_nothing_is_raised_that_says_nothing() -> None:
    assert not {"Exception", "BaseException", "SemSearchError", "InputError"} & list_raised_names()


@pytest.mark.parametrize("error", [found for found in list_error_classes() if issubclass(found, InputError)])
def test_wrong_input_ends_the_command_with_one_sentence_and_exit_code_2(
    error: type[InputError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise build_error(error, "what is wrong, what was found, what to do")

    monkeypatch.setattr(cli, "commands", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "Error: what is wrong, what was found, what to do\n"


@pytest.mark.parametrize("error", [found for found in list_error_classes() if issubclass(found, StoreError)])
def test_a_store_that_fails_ends_with_its_message_and_exit_code_1(
    error: type[StoreError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise build_error(error, "the disk is full: free it")

    monkeypatch.setattr(cli, "commands", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "Error: the disk is full: free it\n"


@pytest.mark.parametrize(
    "error", [found for found in list_error_classes() if not issubclass(found, InputError | StoreError)]
)
def test_every_other_error_keeps_its_traceback(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise build_error(error, "a fault")

    monkeypatch.setattr(cli, "commands", fail)
    with pytest.raises(error, match="a fault"):
        cli.main()

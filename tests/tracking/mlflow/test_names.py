"""Any text as a name."""

import pytest

from sem_search.tracking.entries.types import TextArtifact
from sem_search.tracking.mlflow.names import NAME_LENGTH, make_metric_names, make_safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lactose-coarse", "lactose-coarse"),
        ("lactose coarse/2", "lactose_coarse_2"),
        ("Ångström", "Angstrom"),
        ("α-lactose", "alpha-lactose"),
        ("10 µm", "10_mum"),
        ("乳糖", "_"),
        ("..", "_"),
        ("", "_"),
        ("../../etc", "etc"),
        ("a" * 300, "a" * NAME_LENGTH),
    ],
)
def test_a_text_becomes_a_plain_name(text: str, name: str) -> None:
    assert make_safe_name(text) == name


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["a b", "a/b", "a_b"], ["a_b", "a_b_2", "a_b_3"]),
        (["Starch", "starch"], ["Starch", "starch_2"]),
        (["乳糖", "淀粉"], ["_", "__2"]),
        (["a" * 200, "a" * 199 + "b"], ["a" * 100, "a" * 100 + "_2"]),
        (["x", "x_2", "x?"], ["x", "x_2", "x_3"]),
    ],
)
def test_no_two_names_are_alike(texts: list[str], names: list[str]) -> None:
    made = make_metric_names(texts)
    assert [made[text] for text in texts] == names
    for name in made.values():
        assert TextArtifact(path=f"test/f_measure/{name}", text="")

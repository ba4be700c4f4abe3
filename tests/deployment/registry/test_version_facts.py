from types import SimpleNamespace

import pytest

from sem_search.deployment.registry.version_facts import describe_hashes, describe_scores, read_number

VERSION = SimpleNamespace(
    version=2,
    tags={
        "sem_search.score": "0.75",
        "sem_search.test_f_measure": "0.5",
        "sem_search.data_sha256": "d",
        "sem_search.files_sha256": "f",
        "other": "x",
    },
)


def test_scores_by_version() -> None:
    bare = SimpleNamespace(version="3", tags={})
    assert describe_scores(VERSION, None, bare) == {"2": {"score": 0.75, "test_f_measure": 0.5}, "3": {}}


def test_hashes_that_there_are() -> None:
    assert describe_hashes(VERSION) == {"data_sha256": "d", "files_sha256": "f"}


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("nan", None), ("inf", None), ("good", None), ("", None)])
def test_a_tag_is_a_number_or_nothing(text: str, value: float | None) -> None:
    assert read_number(SimpleNamespace(tags={"t": text}), tag="t") == value
    assert read_number(SimpleNamespace(tags={}), tag="t") is None

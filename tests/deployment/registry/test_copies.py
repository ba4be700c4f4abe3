import json
from typing import Any

from sem_search.deployment.registry.copies import iter_copy_problems
from sem_search.deployment.registry.versions import list_model_versions


def find_problems(laboratory: Any) -> list[str]:
    versions = list_model_versions(laboratory.client, name=laboratory.name)
    return list(iter_copy_problems(laboratory.client, journal=laboratory.read_journal(), versions=versions))


def test_untouched_copies_agree(old_laboratory: Any) -> None:
    assert find_problems(old_laboratory) == []


def test_a_copy_of_another_model_in_a_folder_of_the_same_name_is_none_of_ours(laboratory: Any) -> None:
    laboratory.register()
    entry = laboratory.read_journal().history.entries[0]
    path = "registry/sem-search-tiny/000001.00000000.json"
    other = json.dumps({**json.loads(entry.to_json()), "model": "sem search tiny"})
    laboratory.client.log_text(entry.run_id, other, path)
    assert find_problems(laboratory) == []
    laboratory.client.log_text(entry.run_id, "{", path)
    assert find_problems(laboratory) == [
        f"the run {entry.run_id} holds a copy of the entry {path}, which the history lacks: it was removed."
    ]


def test_what_was_found_is_copied_into_the_run_of_the_next_move(laboratory: Any) -> None:
    from sem_search.deployment.registry import promote_version

    laboratory.register()
    laboratory.register()
    laboratory.client.delete_registered_model_alias(laboratory.name, "champion")
    promote_version(laboratory.name, "2")
    run_id = laboratory.client.get_model_version(laboratory.name, "2").run_id
    copies = [file.path for file in laboratory.client.list_artifacts(run_id, "registry/sem-search-tiny")]
    assert [path.split("/")[-1][:6] for path in copies] == ["000002", "000003", "000004"]
    assert find_problems(laboratory) == []
    found = laboratory.read_journal().history.entries[2]
    assert found.action == "found"
    laboratory.client.delete_registered_model_tag(laboratory.name, found.key)
    assert any("which the history lacks: it was removed" in problem for problem in find_problems(laboratory))


def test_a_run_that_is_gone_for_good_tells_nothing(laboratory: Any, monkeypatch: Any) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    laboratory.register()

    def fail(*_: Any) -> None:
        raise MlflowException("gone", error_code=RESOURCE_DOES_NOT_EXIST)

    monkeypatch.setattr(laboratory.client, "list_artifacts", fail)
    assert find_problems(laboratory) == []

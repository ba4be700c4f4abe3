"""The whole story once more over HTTP: MLflow's own server, which keeps the artifacts, too."""

from pathlib import Path
from typing import Any

import pytest

from sem_search.deployment.registry import (
    compare_versions,
    list_versions,
    promote_version,
    roll_back,
    show_version,
    verify_version,
)
from tests.servers.tracking import run_tracking_server


@pytest.mark.slow
def test_the_whole_story_behind_a_server(
    tmp_path: Path, make_laboratory: Any, make_mlflow_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path / "cache"))
    with (
        run_tracking_server(make_mlflow_store(tmp_path), folder=tmp_path) as server,
        make_laboratory(tmp_path, uri=server.uri) as laboratory,
    ):
        laboratory.register(0.5)
        assert laboratory.register(9.0, seed=1).alias == "champion"
        assert laboratory.register(0.5, seed=2).alias == "challenger"
        assert promote_version(laboratory.name, "challenger", reason="größer: 5 µm").reason == "größer: 5 µm"
        assert roll_back(laboratory.name).to_version == "2"
        overview = list_versions(laboratory.name)
        assert (overview.champion, overview.n_moves, overview.remarks) == ("2", 5, ())
        assert compare_versions(laboratory.name, "2", "1").is_better
        assert show_version(laboratory.name, "champion").card is not None
        verification = verify_version(laboratory.name, "champion", expect_head=overview.head_sha256)
        assert [check.outcome for check in verification.checks] == ["ok"] * 9, verification
        entry = laboratory.read_history().entries[1]
        laboratory.client.set_registered_model_tag(laboratory.name, entry.key, entry.to_json().replace("iwata", "i"))
        failure = verify_version(laboratory.name, "1").first_failure
        assert failure.detail.startswith("entry 2 was altered")

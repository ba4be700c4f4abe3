from typing import Any

from sem_search.deployment.description import compute_file_sha256
from sem_search.deployment.registry.contents import RECORD_PATH, fetch_files, read_files_sha256


def test_the_files_of_a_version_are_copied_and_removed(old_laboratory: Any) -> None:
    version = old_laboratory.client.get_model_version(old_laboratory.name, "1")
    with fetch_files(version) as folder:
        assert (folder / "artifacts" / "classifier" / "head_0.npz").read_bytes() == bytes(range(256))
        assert folder != old_laboratory.find_model_folder("1")
        (folder / "MLmodel").write_text("altered")
    assert not folder.exists()
    assert (old_laboratory.find_model_folder("1") / "MLmodel").read_text() == "flavors: {}\n"


def test_a_part_of_the_files(old_laboratory: Any) -> None:
    version = old_laboratory.client.get_model_version(old_laboratory.name, "1")
    with fetch_files(version, path=RECORD_PATH) as folder:
        assert {path.name for path in folder.iterdir()} >= {"card.json", "catalogue.json"}
    with fetch_files(version, path="artifacts/other") as folder:
        assert folder is None


def test_the_hash_of_a_logged_model(laboratory: Any) -> None:
    laboratory.register()
    source = laboratory.client.get_model_version(laboratory.name, "1").source
    expected = compute_file_sha256(laboratory.find_model_folder("1") / "files.json")
    assert read_files_sha256(source) == expected
    (laboratory.find_model_folder("1") / "files.json").unlink()
    assert read_files_sha256(source) is None

from dataclasses import replace
from typing import Any

import pytest

from sem_search.deployment.package.card_text import LEFT_OUT
from sem_search.deployment.registry import compare_versions, verify_version
from sem_search.deployment.registry.history import HistoryEntry
from sem_search.deployment.registry.verification import Check, Verification
from sem_search.deployment.registry.views import (
    DESCRIPTION_LENGTH,
    NO_CARD,
    VersionView,
    describe_version,
    format_comparison,
    format_move,
    format_moves,
    format_overviews,
    format_verification,
    format_view,
    list_models,
    list_moves,
    list_versions,
    show_version,
)
from sem_search.errors import StoreError

ENTRY = HistoryEntry(
    number=2,
    previous=("a" * 64,),
    model="m",
    at="2025-01-02T03:04:05.678+00:00",
    who="hayashi",
    action="promoted by hand",
    alias="champion",
    from_version="1",
    to_version="10",
    reason="a new lot",
    scores={"10": {"score": 0.9}, "1": {"score": 0.8, "test_f_measure": 0.75}},
    run_id="r",
).seal()


def test_versions_with_their_aliases_and_scores(three: Any) -> None:
    overview = list_versions(three.name)
    assert (overview.name, overview.champion, overview.n_moves, overview.remarks) == (three.name, "1", 3, ())
    assert [(row.version, row.aliases) for row in overview.versions] == [
        ("1", ("champion",)),
        ("2", ()),
        ("3", ("challenger",)),
    ]
    last = overview.versions[-1]
    assert (last.score, last.validation_f_measure, last.test_f_measure) == (1.0, 1.0, 1.0)
    assert last.study == "tiny-quick-0123"
    assert last.decision.startswith("challenger: version 3 does not beat version 1")
    assert last.registered_at.endswith("+00:00")
    assert overview.head_sha256 == three.read_history().heads[0]


def test_a_version_that_no_search_registered_has_no_scores(three: Any) -> None:
    source = three.client.get_model_version(three.name, "1").source
    three.client.create_model_version(three.name, source)
    row = list_versions(three.name).versions[-1]
    assert (row.version, row.score, row.study, row.decision) == ("4", None, None, None)


def test_an_alias_elsewhere_than_the_history_says_is_a_remark(three: Any) -> None:
    three.client.delete_registered_model_alias(three.name, "champion")
    assert list_versions(three.name).remarks == (
        "by the history version 1 is champion, but the alias is gone: a move was interrupted, or another program made "
        "one.",
    )


def test_an_altered_history_is_reported(three: Any) -> None:
    entry = three.read_history().entries[1]
    three.client.set_registered_model_tag(three.name, entry.key, entry.to_json().replace("iwata", "other"))
    assert list_versions(three.name).remarks[0].startswith("the history is not sound: entry 2 was altered")


def test_a_model_without_champion_cannot_be_loaded_by_that_name(laboratory: Any) -> None:
    laboratory.client.create_registered_model(laboratory.name)
    assert list_versions(laboratory.name).remarks == ()
    laboratory.client.create_model_version(laboratory.name, (laboratory.folder / "model").as_uri())
    assert list_versions(laboratory.name).remarks == (
        "there is no champion: models:/sem-search-tiny@champion cannot be loaded.",
    )
    assert list_moves(laboratory.name) == ()


def test_all_models_by_name(three: Any) -> None:
    three.client.create_registered_model("another")
    assert [overview.name for overview in list_models()] == ["another", three.name]


def test_a_version_with_its_card_and_its_moves(old_laboratory: Any) -> None:
    view = show_version(old_laboratory.name, "3")
    run_id = old_laboratory.client.get_model_version(old_laboratory.name, "3").run_id
    assert (view.name, view.version, view.aliases) == (old_laboratory.name, "3", ("champion",))
    assert view.card == old_laboratory.records[run_id].card
    assert [(entry.action, entry.from_version, entry.to_version) for entry in view.moves] == [
        ("registered", "1", "3"),
        ("promoted by hand", "3", "2"),
        ("rolled back", "2", "3"),
    ]
    assert show_version(old_laboratory.name, "champion") == view


def test_a_version_without_a_card(laboratory: Any) -> None:
    laboratory.register(run_id=laboratory.log_run(with_record=False))
    assert show_version(laboratory.name, "1").card is None
    assert describe_version(laboratory.client.get_model_version(laboratory.name, "1")) == NO_CARD


def test_a_description_is_no_longer_than_a_database_keeps(laboratory: Any) -> None:
    names = tuple(f"a material with a long name, number {number:03d}" for number in range(40))
    run_id = laboratory.log_run(class_names=names, n_images=3)
    laboratory.register(run_id=run_id)
    description = laboratory.client.get_model_version(laboratory.name, "1").description
    assert len(description) <= DESCRIPTION_LENGTH
    assert description.endswith(LEFT_OUT)


def test_a_damaged_card_is_named(laboratory: Any) -> None:
    laboratory.register()
    path = laboratory.find_model_folder("1") / "artifacts" / "record" / "card.json"
    path.write_text("{")
    with pytest.raises(StoreError, match=r"card\.json is damaged"):
        show_version(laboratory.name, "1")
    assert describe_version(laboratory.client.get_model_version(laboratory.name, "1")).startswith(
        "card.json is damaged"
    )


def test_the_list_of_versions(old_laboratory: Any) -> None:
    lines = format_overviews(list_models()).splitlines()
    assert lines[0] == "sem-search-tiny: 3 versions, champion 3, 5 moves in the history"
    assert lines[1].split("|")[1:4] == [" version ", " alias    ", " registered "]
    assert lines[5].startswith("| 3       | champion |")
    assert " 1.0000 | 1.0000       | 1.0000 | tiny-quick-0123 |" in lines[5]


def test_what_is_not_as_it_should_be_stands_above_the_list(three: Any) -> None:
    three.client.delete_registered_model_alias(three.name, "champion")
    lines = format_overviews([list_versions(three.name)]).splitlines()
    assert lines[0] == "sem-search-tiny: 3 versions, champion none, 3 moves in the history"
    assert lines[1].startswith("Warning: by the history version 1 is champion, but the alias is gone")


def test_an_empty_registry() -> None:
    assert format_overviews([]) == "The registry holds no model."


def test_a_move_in_words() -> None:
    assert format_moves([ENTRY]).splitlines() == [
        "2. 2025-01-02T03:04:05 UTC, hayashi: promoted by hand; champion: version 1 -> version 10",
        "   a new lot",
        "   version 1: score 0.8000, test_f_measure 0.7500; version 10: score 0.9000",
        f"   run r, hash {ENTRY.sha256[:16]}",
    ]
    assert format_moves([]) == "No alias was moved yet."


def test_a_move_that_was_just_made_gives_the_hash_to_keep_and_its_warnings() -> None:
    lines = format_move(ENTRY, warnings=("look",)).splitlines()
    assert lines[-2:] == [f"Hash of this entry, to be kept in another place: {ENTRY.sha256}", "Warning: look"]


def test_the_history(old_laboratory: Any) -> None:
    text = format_moves(list_moves(old_laboratory.name))
    assert "champion: none -> version 1" in text
    assert "iwata: rolled back; champion: version 2 -> version 3\n   the client was wrong" in text


def test_the_card_and_what_happened_since(old_laboratory: Any) -> None:
    text = format_view(show_version(old_laboratory.name, "3"))
    assert text.startswith("# sem-search-tiny, version 3\n")
    assert "## In the registry\n\nAliases: champion.\n\n3. " in text
    view = VersionView(name="m", version="1", aliases=(), card=None, moves=())
    assert format_view(view) == f"{NO_CARD}\n\n## In the registry\n\nAliases: none.\n\nNo alias was moved yet."


def test_a_comparison_split_by_split(old_laboratory: Any) -> None:
    comparison = compare_versions(old_laboratory.name, "3", "1")
    text = format_comparison(comparison)
    lines = text.splitlines()
    assert lines[0] == (
        "sem-search-tiny: 27 images, paired. In brackets: 90 % interval, whose lower end is passed with 95 % "
        "confidence."
    )
    assert lines[1].startswith("| split      | score ")
    assert "| version 3 | version 1 | difference" in lines[1]
    assert lines[-1].startswith("Version 3 beats version 1: F-measure 1.0000 against 0.")
    assert "On the test split: p = 0." in text
    assert "for whole images correctly classified (McNemar)." in text
    assert [line.split("|")[2].strip() for line in lines if line.startswith("| test")] == [
        "macro F-measure of tiles, mean over the folds",
        "macro F-measure of images",
        "accuracy of images",
        "F-measure of tiles of cellulose",
        "F-measure of tiles of lactose",
        "F-measure of tiles of starch",
    ]
    splits = {split: replace(found, fold_test=None) for split, found in comparison.splits.items()}
    alike = replace(comparison, splits=splits)
    assert "On the test split: no p-value (fewer than two folds, or all differ alike) for" in format_comparison(alike)


def test_a_verification_ends_with_its_verdict_and_the_hash_to_keep(old_laboratory: Any) -> None:
    lines = format_verification(verify_version(old_laboratory.name, "3")).splitlines()
    assert lines[0].startswith("ok           history  ")
    assert lines[-2] == "sem-search-tiny, version 3: nothing that was checked differs from what was written."
    head = old_laboratory.read_history().heads[0]
    assert lines[-1] == f"Hash of the last entry, to be kept in another place: {head}"


def test_a_failure_is_named_at_the_end() -> None:
    checks = (
        Check(name="history", outcome="ok", detail="fine"),
        Check(name="files", outcome="failed", detail="a is missing."),
        Check(name="images", outcome="failed", detail="b is missing."),
    )
    text = format_verification(Verification(model="m", version="1", checks=checks, head_sha256=None))
    assert text.splitlines()[-2:] == [
        "m, version 1 is not what was written. First: files: a is missing.",
        "Hash of the last entry, to be kept in another place: none, no alias was moved yet",
    ]


def test_what_a_tag_holds_is_neither_a_command_to_the_terminal_nor_a_further_line() -> None:
    entry = replace(ENTRY, who="\x1b[2Jme", reason="\x1b]0;pwned\x07 ok\n3. 2026-01-01T00:00:00 UTC, boss: promoted")
    for text in (format_moves([entry]), format_move(entry, warnings=("a\x9bb\nc",))):
        assert not set(text) & {"\x1b", "\x07", "\x9b"}
        assert "\\u001b[2Jme" in text
        assert not any(line.startswith("3.") for line in text.splitlines())
    check = Check(name="tags", outcome="failed", detail="score is '\x1b[2J'\nok")
    text = format_verification(Verification(model="m\x1b", version="1", checks=(check,), head_sha256=None))
    assert "\x1b" not in text
    assert "\nok" not in text
    view = VersionView(name="m\x1b", version="1", aliases=("a\x1b",), card=None, moves=(entry,))
    assert "\x1b" not in format_view(view)

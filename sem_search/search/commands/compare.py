"""`sem-search compare`: the winners of two studies, image by image."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from sem_search.audits.study_comparison import (
    SettingDifference,
    StudyComparison,
    compare_studies,
    iter_comparison_entries,
)
from sem_search.errors import NotComparableError
from sem_search.progress import Show, show_nothing
from sem_search.records import StudyOutcome
from sem_search.search.commands.command_line import write_command
from sem_search.search.commands.finished_study import (
    check_same_data,
    check_study_folder,
    check_study_run,
    open_question_run,
    read_settings,
)
from sem_search.search.prepare.data import prepare_data
from sem_search.search.prepare.fingerprint import COMPUTATION, read_computation
from sem_search.search.results.outcome import read_stored_outcome
from sem_search.search.trials.attributes import FINGERPRINT, STUDY_RUN_ID
from sem_search.search.trials.study import load_study
from sem_search.settings import INCOMPARABLE, SearchSettings
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries

MUST_AGREE: Mapping[str, str] = {
    "data": "data",
    "fold_table": "folds",
    "folds": "number of folds",
    "seed": "seed",
    "tile_px": "tile_px",
    "stride_px": "stride_px",
    "tiles_per_image": "tiles_per_image",
    "crop_bottom_px": "crop_bottom_px",
}
"""What must be the same in both fingerprints, and what a message calls it."""

SAME_TILES: Mapping[str, str] = {**MUST_AGREE, "pixel_size_nm": "pixel_size_nm"}
"""The same where tiles are compared one by one, too: another pixel size cuts other tiles from the same images."""


def run_comparison(
    first: str, second: str, *, storage: str, study_folder: str | None = None, show: Show = show_nothing
) -> StudyComparison:
    """Compare two studies of one storage, show the table, and log it below the run of the first.

    Nothing is trained and no network is built.

    Args:
        first: The name of one study.
        second: The name of the other.
        storage: Their Optuna storage.
        study_folder: Where finished folds lie; the searches' own by default.
        show: Shows the table.

    Raises:
        InputError: A study is missing, or the two do not have the same data and folds; each difference is named.
    """
    studies = check_pair(first, second, storage=storage)
    settings = [read_settings(study, storage=storage, changes={"study_folder": study_folder}) for study in studies]
    for name, own in zip((first, second), settings, strict=True):
        check_study_folder(own, name=name)
    check_study_run(studies[0])
    data = prepare_data(settings[0])
    one, two = (_read_fingerprint(study).get("pixel_size_nm") for study in studies)
    has_same_tiles = one == two
    data_of_each = (data, data if has_same_tiles else prepare_data(settings[1]))
    check_same_data(studies[0], digest=data.catalogue.digest)
    outcomes: list[StudyOutcome] = [
        read_stored_outcome(study, name=study.study_name, settings=own, data=cut)
        for study, own, cut in zip(studies, settings, data_of_each, strict=True)
    ]
    differing = tuple(iter_differing_settings(studies, settings))
    compared = compare_studies(*outcomes, settings=differing, has_same_tiles=has_same_tiles)
    command = write_command("compare", first, second, storage=storage, study_folder=study_folder)
    with open_question_run(
        study=first,
        kind="comparison",
        parent_run_id=str(studies[0].user_attrs[STUDY_RUN_ID]),
        name=f"{first} against {second}",
    ) as run_id:
        log_entries(iter_comparison_entries(compared, command=command), run_id=run_id)
    show(compared.to_text())
    show(format_links({"comparison": link_run(run_id, artifact="comparison/comparison.html")}))
    return compared


def check_pair(
    first: str, second: str, *, storage: str, must_agree: Mapping[str, str] = MUST_AGREE
) -> tuple[optuna.Study, optuna.Study]:
    """Return two studies of one storage that can be compared: they have in common what `must_agree`.

    Raises:
        InputError: A study is missing, they are one, or they do not have the same data and folds.
    """
    if first == second:
        raise NotComparableError(f"{first!r} cannot be compared with itself: name two studies.")
    one, two = (load_study(name=name, storage=storage) for name in (first, second))
    check_comparable(one, two, must_agree=must_agree)
    return one, two


def check_comparable(first: optuna.Study, second: optuna.Study, *, must_agree: Mapping[str, str] = MUST_AGREE) -> None:
    """Raise NotComparableError unless both studies were made of the same data, tiles and folds."""
    one, two = (_read_fingerprint(study) for study in (first, second))
    differences = [
        f"{words} ({_shorten(one.get(key))} and {_shorten(two.get(key))})"
        for key, words in must_agree.items()
        if one.get(key) != two.get(key)
    ]
    if differences:
        raise NotComparableError(
            f"Studies {first.study_name!r} and {second.study_name!r} differ in {', '.join(differences)}: only answers "
            "to the same images in the same folds can be compared. Search both with the same data, seed and folds."
        )


def iter_differing_settings(
    studies: tuple[optuna.Study, optuna.Study], settings: Sequence[SearchSettings]
) -> Iterator[SettingDifference]:
    """Yield the settings that decide results and that two studies do not share; weights by name and by hash."""
    one, two = (
        own.model_dump(mode="json", include={*INCOMPARABLE, "weights"})
        | dict.fromkeys(COMPUTATION)  # the oldest studies have no precision
        | read_computation(stored := _read_fingerprint(study))
        | {"hash of the weights": _shorten(stored.get("weights")), "pixel_size_nm": stored.get("pixel_size_nm")}
        for study, own in zip(studies, settings, strict=True)
    )
    for name, value in one.items():
        if value != two[name]:
            yield SettingDifference(name=name, first=_format(value), second=_format(two[name]))


def _format(value: object) -> str:
    """Return a setting as it is given, several values by commas, and of a path the file's name alone."""
    return ", ".join(map(str, value)) if isinstance(value, list) else Path(str(value)).name


def _read_fingerprint(study: optuna.Study) -> Mapping[str, Any]:
    stored: Mapping[str, Any] = json.loads(study.user_attrs[FINGERPRINT])
    return stored


def _shorten(value: object) -> str:
    """Return a value with hashes cut to what people compare."""
    return str(value)[:12]

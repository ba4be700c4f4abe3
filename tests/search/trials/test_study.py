"""The study: every cell queued once, differences named."""

from pathlib import Path

import optuna
import pytest

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.search.trials.space import order_cells, suggest_cell
from sem_search.search.trials.study import (
    SETTINGS,
    STUDY_RUN_ID,
    count_waiting,
    enqueue_cells,
    load_study,
    open_study,
)
from sem_search.settings import SearchSettings, build_settings


@pytest.fixture
def settings(tmp_path: Path) -> SearchSettings:
    return build_settings({"storage": f"sqlite:///{tmp_path}/optuna.db"})


def open_it(settings: SearchSettings, **fingerprint: object) -> optuna.Study:
    return open_study(settings, name="a", fingerprint=fingerprint or {"seed": 0})


def test_every_cell_is_queued_once_however_often_the_study_is_opened(settings: SearchSettings) -> None:
    for _ in range(3):
        enqueue_cells(open_it(settings), settings=settings)
    study = open_it(settings)
    queued = [trial.system_attrs["fixed_params"] for trial in study.get_trials()]
    assert [(cell.learning_rate, cell.batch_size) for cell in order_cells(settings)] == [
        (params["learning_rate"], params["batch_size"]) for params in queued
    ]


def test_fewer_trials_than_cells_queue_the_likely_ones(settings: SearchSettings) -> None:
    few = settings.model_copy(update={"trials": 2})
    study = open_it(few)
    enqueue_cells(study, settings=few)
    assert count_waiting(study) == 2


def test_a_changed_setting_is_refused_and_named(settings: SearchSettings) -> None:
    open_study(settings, name="a", fingerprint={"seed": 0, "epochs": 8})
    with pytest.raises(StudyMismatchError, match="epochs was 8 and is now 9") as caught:
        open_study(settings, name="a", fingerprint={"seed": 0, "epochs": 9})
    assert "seed" not in str(caught.value)


def test_the_same_settings_are_taken_up(settings: SearchSettings) -> None:
    open_study(settings, name="a", fingerprint={"rates": (0.1, 0.2)})
    assert open_study(settings, name="a", fingerprint={"rates": (0.1, 0.2)}).study_name == "a"


def test_a_missing_study_is_refused_with_those_that_there_are(settings: SearchSettings) -> None:
    open_it(settings)
    with pytest.raises(StudyMismatchError, match="there are: a"):
        load_study(name="b", storage=settings.storage)


@pytest.mark.parametrize("signed", [(), (SETTINGS,), (STUDY_RUN_ID,), (SETTINGS, STUDY_RUN_ID)])
def test_a_worker_gets_a_study_only_once_its_search_has_signed_it(
    settings: SearchSettings, signed: tuple[str, ...]
) -> None:
    study = open_it(settings)
    for name in signed:
        study.set_user_attr(name, "said")
    if len(signed) == 2:
        assert load_study(name="a", storage=settings.storage).user_attrs[SETTINGS] == "said"
        return
    with pytest.raises(StudyMismatchError, match="'a' is not signed by a search yet"):
        load_study(name="a", storage=settings.storage)


@pytest.mark.parametrize("options", ["", "?timeout=5"])
def test_a_worker_makes_no_database_where_there_is_none(tmp_path: Path, options: str) -> None:
    path = tmp_path / "no" / "optuna.db"
    path.parent.mkdir()
    with pytest.raises(SettingsError, match=r"there is no such file here \(.*optuna\.db\)\. Give this command in"):
        load_study(name="a", storage=f"sqlite:///{path}{options}")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/optuna.db", "nonsense:secret", "redis://me:secret@h"])
def test_a_storage_that_cannot_be_opened_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="storage=") as caught:
        open_it(build_settings({"storage": url}))
    assert "secret" not in str(caught.value)


def test_a_resumed_sampler_suggests_what_an_undisturbed_one_would(settings: SearchSettings) -> None:
    tpe = settings.model_copy(update={"sampler": "tpe", "learning_rates": (1e-1, 1e-2, 1e-3, 1e-4)})

    def draw(study: optuna.Study) -> list[float]:
        drawn = []
        for _ in range(6):
            trial = study.ask()
            drawn.append(trial.suggest_categorical("learning_rate", list(tpe.learning_rates)))
            study.tell(trial, drawn[-1])
        return drawn

    one = draw(open_study(tpe, name="one", fingerprint={}))
    interrupted = open_study(tpe, name="two", fingerprint={})
    assert one == draw(interrupted)
    assert len(set(one)) > 1


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_workers_that_begin_at_one_moment_do_not_draw_alike(settings: SearchSettings, sampler: str) -> None:
    settings = settings.model_copy(update={"sampler": sampler})
    workers = [open_it(settings) for _ in range(3)]
    drawn = [[suggest_cell(worker.ask(), settings=settings) for worker in workers] for _ in range(4)]
    assert sum(len(set(cells)) == 1 for cells in drawn) <= 1, drawn
    again = settings.model_copy(update={"storage": settings.storage.replace("optuna.db", "again.db")})
    alone = open_it(again)
    assert [suggest_cell(alone.ask(), settings=again) for _ in range(12)] == [cell for cells in drawn for cell in cells]

"""The study: opened again as it was, differences named."""

from pathlib import Path

import optuna
import pytest

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.search.trials.attributes import SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.ranks import enqueue_rank
from sem_search.search.trials.space import suggest_cell
from sem_search.search.trials.study import load_study, open_study
from sem_search.settings import SearchSettings, build_settings


@pytest.fixture
def settings(tmp_path: Path) -> SearchSettings:
    return build_settings({"storage": f"sqlite:///{tmp_path}/optuna.db"})


def open_it(settings: SearchSettings, **fingerprint: object) -> optuna.Study:
    return open_study(settings, name="a", fingerprint=fingerprint or {"seed": 0})


def test_a_changed_setting_is_refused_and_named(settings: SearchSettings) -> None:
    open_study(settings, name="a", fingerprint={"seed": 0, "epochs": 8})
    with pytest.raises(StudyMismatchError, match="epochs was 8 and is now 9") as caught:
        open_study(settings, name="a", fingerprint={"seed": 0, "epochs": 9})
    assert "seed" not in str(caught.value)


def test_the_same_settings_are_taken_up(settings: SearchSettings) -> None:
    open_study(settings, name="a", fingerprint={"rates": (0.1, 0.2)})
    assert open_study(settings, name="a", fingerprint={"rates": (0.1, 0.2)}).study_name == "a"


def test_the_objective_has_its_name_also_in_a_study_that_was_begun_without(
    settings: SearchSettings, recwarn: pytest.WarningsRecorder
) -> None:
    study = open_it(settings)
    assert study.metric_names == ["objective"]
    assert not [one for one in recwarn if "metric_names" in str(one.message)]
    earlier = optuna.create_study(storage=settings.storage, study_name="begun before", direction="maximize")
    assert earlier.metric_names is None
    resumed = open_study(settings, name="begun before", fingerprint={"seed": 0})
    assert resumed.metric_names == ["objective"]


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
    with pytest.raises(StudyMismatchError, match="'a' has no settings yet"):
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


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sampler_draws_by_rank_whatever_worker_asks(settings: SearchSettings, sampler: str) -> None:
    """Three workers at one moment do not draw alike, and draw what one alone would."""
    settings = settings.model_copy(update={"sampler": sampler})

    def draw(workers: list[optuna.Study]) -> list[object]:
        drawn = []
        for rank in range(12):
            enqueue_rank(workers[0], rank=rank, settings=settings)
            drawn.append(suggest_cell(workers[rank % len(workers)].ask(), settings=settings))
        return drawn

    three = draw([open_it(settings) for _ in range(3)])
    again = settings.model_copy(update={"storage": settings.storage.replace("optuna.db", "again.db")})
    other = open_it(again)
    other.tell(other.ask(), state=optuna.trial.TrialState.FAIL)  # of a worker that was killed: numbers are others now
    assert draw([other]) == three
    assert len(set(three)) > 2

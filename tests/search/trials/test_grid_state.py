"""How far a study is, from its database alone."""

import optuna
import pytest
from optuna.trial import TrialState

from sem_search.errors import StudyMismatchError
from sem_search.records import Cell
from sem_search.search.trials.attributes import PRUNE_REASON, RANK, REASON, SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.grid_state import list_grid_states, read_grid_state
from sem_search.search.trials.storage import open_storage
from sem_search.settings import SearchSettings, build_settings

GRID = {"heads": "linear,finetune", "learning_rates": "0.1,0.01", "batch_sizes": "8", "folds": 3}


def begin(url: str, *, name: str = "powders", **given: object) -> optuna.Study:
    settings = build_settings({**GRID, **given})
    study = optuna.create_study(study_name=name, storage=open_storage(url), direction="maximize")
    study.set_user_attr(SETTINGS, settings.model_dump_json())
    study.set_user_attr(STUDY_RUN_ID, "run")
    return study


def add(
    study: optuna.Study, cell: Cell, *, state: TrialState, folds: list[float], rank: int, **attributes: str
) -> None:
    choices = {"head": ["linear", "finetune"], "learning_rate": [0.1, 0.01], "batch_size": [8]}
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=sum(folds) / len(folds) if state == TrialState.COMPLETE else None,
            params=cell.params,
            distributions={name: optuna.distributions.CategoricalDistribution(choices[name]) for name in cell.params},
            intermediate_values=dict(enumerate(folds)),
            user_attrs={RANK: rank, **attributes},
        )
    )


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('storage')}/optuna.db"


LINEAR, FIRST, SECOND = (
    Cell(head="linear"),
    Cell(learning_rate=0.01, batch_size=8),
    Cell(learning_rate=0.1, batch_size=8),
)


def test_every_cell_of_the_grid_stands_in_its_order_with_its_folds(url: str) -> None:
    study = begin(url)
    add(study, LINEAR, state=TrialState.COMPLETE, folds=[0.5, 0.6, 0.7], rank=0)
    add(study, FIRST, state=TrialState.PRUNED, folds=[0.1], rank=1, **{PRUNE_REASON: "far behind"})
    state = read_grid_state("powders", storage=url)
    assert state is not None
    assert [(view.cell, view.state) for view in state.cells] == [
        (LINEAR, "complete"),
        (FIRST, "pruned"),
        (SECOND, "waiting"),
    ]
    assert state.cells[0].value == pytest.approx(0.6)
    assert (state.cells[1].folds, state.cells[1].value, state.cells[1].reason) == ((0.1,), None, "far behind")
    assert state.best is state.cells[0]
    assert not state.is_trained
    assert (state.run_id, state.n_folds, state.settings.study) == ("run", 3, "powders")


def test_a_running_cell_shows_its_folds_and_is_not_the_best(url: str) -> None:
    study = begin(url)
    add(study, FIRST, state=TrialState.RUNNING, folds=[0.9, 0.9], rank=1)
    state = read_grid_state("powders", storage=url)
    assert state is not None
    assert [view.state for view in state.cells] == ["waiting", "running", "waiting"]
    assert state.cells[1].folds == (0.9, 0.9)
    assert state.best is None


def test_a_trial_that_was_killed_and_taken_up_again_counts_once(url: str) -> None:
    study = begin(url)
    add(study, FIRST, state=TrialState.FAIL, folds=[0.3], rank=1)  # without a reason: its process was killed
    state = read_grid_state("powders", storage=url)
    assert state is not None
    assert state.cells[1].state == "waiting"
    add(study, FIRST, state=TrialState.COMPLETE, folds=[0.3, 0.4, 0.5], rank=1)
    add(study, SECOND, state=TrialState.FAIL, folds=[], rank=2, **{REASON: "no number"})
    add(study, LINEAR, state=TrialState.COMPLETE, folds=[0.4, 0.4, 0.4], rank=0)
    state = read_grid_state("powders", storage=url)
    assert state is not None
    assert [view.state for view in state.cells] == ["complete", "complete", "failed"]
    assert state.cells[2].reason == "no number"
    assert state.is_trained
    assert state.best is state.cells[0], "of equal cells the earliest"


def test_of_a_sampler_the_cells_that_were_drawn_stand_there(url: str) -> None:
    study = begin(url, sampler="random", trials=2, heads="finetune")
    begun = read_grid_state("powders", storage=url)
    assert begun is not None
    assert (begun.cells, begun.n_cells, begun.is_trained) == ((), 2, False)
    add(study, SECOND, state=TrialState.COMPLETE, folds=[0.1, 0.1, 0.1], rank=0)
    state = read_grid_state("powders", storage=url)
    assert state is not None
    assert [view.cell for view in state.cells] == [SECOND]


def test_what_is_not_there_or_has_not_begun_is_none(url: str) -> None:
    assert read_grid_state("powders", storage=url) is None
    assert list_grid_states(url) == ()
    optuna.create_study(study_name="strange", storage=open_storage(url))
    assert read_grid_state("strange", storage=url) is None
    assert read_grid_state("powders", storage=url) is None
    assert list_grid_states(url) == ()


def test_studies_are_listed_the_latest_first(url: str) -> None:
    for name in ("first", "second"):
        add(begin(url, name=name), LINEAR, state=TrialState.COMPLETE, folds=[0.5, 0.5, 0.5], rank=0)
    begin(url, name="third")
    assert [state.name for state in list_grid_states(url)] == ["second", "first", "third"]
    assert isinstance(list_grid_states(url)[0].settings, SearchSettings)


def test_a_study_of_another_version_hides_no_other(url: str) -> None:
    add(begin(url), LINEAR, state=TrialState.COMPLETE, folds=[0.5, 0.5, 0.5], rank=0)
    later = begin(url, name="later")
    later.set_user_attr(SETTINGS, '{"a_setting_of_tomorrow": 1}')
    assert [state.name for state in list_grid_states(url)] == ["powders"]
    with pytest.raises(StudyMismatchError, match="another version"):
        read_grid_state("later", storage=url)

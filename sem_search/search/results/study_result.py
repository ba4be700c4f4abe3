"""A finished study as a notebook has it: tables, figures and the report, out of its finished folds."""

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import pandas as pd

from sem_search.evaluation.baselines import compare_baselines
from sem_search.places import REPORT
from sem_search.records import StudyOutcome
from sem_search.search.prepare.study_folder import get_study_folder
from sem_search.search.results.baselines import read_baselines
from sem_search.search.trials.space import order_cells
from sem_search.settings import SearchSettings
from sem_search.tracking.entries.baselines import build_baseline_table
from sem_search.tracking.entries.doubtful_labels import build_doubt_table
from sem_search.tracking.entries.predictions import tabulate_image_predictions, tabulate_tile_predictions
from sem_search.tracking.entries.tables import build_trial_table, compute_trial_rows
from sem_search.tracking.entries.trust import compute_trust
from sem_search.tracking.entries.types import TableArtifact
from sem_search.tracking.figures.catalogue import Figures, draw_study
from sem_search.tracking.mlflow.files import read_text_artifact


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """A study with a winner; a notebook shows its trials."""

    settings: SearchSettings
    """With which it was searched, and where it lies."""
    outcome: StudyOutcome
    """Every trial with its finished folds."""
    run_id: str
    """MLflow's run of the study."""
    model_uri: str
    """The winner's model, for `load_model`."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.outcome.name

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial: its cell, its state and its scores, means over the folds."""
        return _to_frame(build_trial_table(compute_trial_rows(self.outcome), path="trials.csv"))

    @property
    def best(self) -> pd.Series:
        """The winner's row of `trials`: of the heads of the search. `predictions` are those of the served heads."""
        return self.trials[self.trials["is_winner"]].iloc[0]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The winner's out-of-fold answers, one row for each image of each split it was not trained on."""
        return tabulate_image_predictions(self.outcome.winner, tiles=self.outcome.tiles)

    @cached_property
    def tile_predictions(self) -> pd.DataFrame:
        """The same, one row for each tile."""
        return tabulate_tile_predictions(self.outcome.winner, tiles=self.outcome.tiles)

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """Simple classifiers in the same folds, one row for each and each figure over the test split: the winner's, its
        own, their difference with its 95 % interval. It has no row where the study has none: `report --new` adds them.
        """
        kept = read_baselines(self.settings, name=self.name) or ()
        return _to_frame(
            build_baseline_table(compare_baselines(kept, winner=self.outcome.winner, tiles=self.outcome.tiles))
        )

    @cached_property
    def doubtful_labels(self) -> pd.DataFrame:
        """Images whose label the winner's networks doubt, the most doubtful first; `attrs["chance"]` says how many such
        images chance alone would show. What inspection found in them stands in the report.
        """
        found = compute_trust(self.outcome).doubtful_labels
        frame = _to_frame(build_doubt_table(found, path="doubtful_labels.csv", faults={})).drop(columns="inspection")
        frame.attrs["chance"] = found.to_text()
        return frame

    @property
    def figures(self) -> Figures:
        """The figures by name: `grid`, `confusion_tiles`, `confusion_images`, `indices`, `training_curves`."""
        cells = order_cells(self.settings) if self.settings.sampler == "grid" else ()
        return draw_study(self.outcome, cells=cells)

    @cached_property
    def report(self) -> str:
        """The study's report as one HTML page, from beside its folds or else from its run in MLflow.

        Raises:
            StoreError: The tracking store does not give it.
        """
        file = get_study_folder(self.settings, name=self.name) / REPORT
        return file.read_text("utf-8") if file.is_file() else read_text_artifact(run_id=self.run_id, path=REPORT)

    def __repr__(self) -> str:
        return f"<Study {self.name}: winner {self.outcome.winner.cell.to_text()}; {self.model_uri}>"

    def write_kit(self, folder: str | PathLike[str]) -> Path:
        """Write what a paper about the study needs into a new folder, and return it; as `report --kit` does.

        Args:
            folder: New, or empty.

        Raises:
            InputError: The folder holds files, or data and weights are not the study's own any more.
            StoreError: The tracking store does not answer, or finished folds are lost or damaged.
        """
        from sem_search.search.commands.report import run_kit  # it needs this module

        places = {name: getattr(self.settings, name) for name in ("storage", "study_folder", "threads")}
        return run_kit(self.name, folder=Path(folder), **places)

    def _repr_html_(self) -> str:
        columns = ["trial", "head", "learning_rate", "batch_size", "state", "validation_f_measure", "test_f_measure"]
        trials = self.trials.sort_values(["is_winner", "validation_f_measure"], ascending=False)[columns]
        return f"<p>Study <b>{self.name}</b>, the winner first</p>" + trials.to_html(index=False)


def _to_frame(table: TableArtifact) -> pd.DataFrame:
    return pd.DataFrame(list(table.rows), columns=list(table.columns))

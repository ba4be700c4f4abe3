"""What a search hands out to a cluster: it joins the study, its data and its network to the hands that work."""

from dataclasses import dataclass
from functools import cached_property

import optuna

from sem_search.errors import SettingsError
from sem_search.search.cluster.object_store import SharedStore, open_shared
from sem_search.search.cluster.tasks import Hands, RemoteFolds, compute_shards
from sem_search.search.cluster.worker_context import publish_bench
from sem_search.search.folds.store import FoldStore
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.features import get_feature_key, read_shard_tiles
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.search.pruning.curve_extrapolation import Incumbent, find_incumbent
from sem_search.search.pruning.pruners import EXTRAPOLATION
from sem_search.search.trials.ranks import list_next_cells
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.settings import SearchSettings


@dataclass(frozen=True, kw_only=True)
class Share:
    """One search's use of a cluster."""

    hands: Hands
    settings: SearchSettings
    study: str
    data: PreparedData
    network: PreparedNetwork

    @cached_property
    def shared(self) -> SharedStore:
        """Where results lie."""
        shared = open_shared(self.settings.shared)
        if shared is None:
            raise SettingsError("cluster needs shared=FOLDER_OR_URL, a place that every worker of it reaches.")
        return shared

    @cached_property
    def bench(self) -> str:
        """Name of what workers need to know, written when it is first asked for."""
        return publish_bench(self.settings, study=self.study, data=self.data, network=self.network, shared=self.shared)

    def compute_shards(self) -> None:
        """Let the cluster compute the features that shared storage lacks; errors as `executing.compute_shards`."""
        compute_shards(
            self.hands,
            bench=self.bench,
            shared=self.shared,
            key=get_feature_key(self.data, network=self.network),
            n_tiles=self.data.tiles.n_tiles,
            read_tiles=lambda index: read_shard_tiles(self.data, index=index),
        )

    def open_folds(self, study: optuna.Study, *, store: FoldStore, progress: SearchProgress) -> RemoteFolds:
        """Return where the study's folds come from."""
        return RemoteFolds(
            hands=self.hands,
            bench=self.bench,
            shared=self.shared,
            store=store,
            folds=self.data.folds.folds,
            progress=progress,
            list_next=lambda: list_next_cells(study, settings=self.settings),
            find_incumbent=lambda fold: self._find_incumbent(study, fold=fold),
        )

    def _find_incumbent(self, study: optuna.Study, *, fold: int) -> Incumbent | None:
        if self.settings.pruner != EXTRAPOLATION:
            return None
        return find_incumbent(study.get_trials(deepcopy=False), fold=fold)

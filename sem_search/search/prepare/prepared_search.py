"""The one way from settings to a search that is ready to train, for searches, workers and audits alike."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna

from sem_search.evaluation.novelty import NoveltyModel
from sem_search.progress import Show, show_nothing
from sem_search.search.folds.store import FoldStore
from sem_search.search.prepare.data import PreparedData, check_findings, prepare_data
from sem_search.search.prepare.disk_space import check_disk_space
from sem_search.search.prepare.features import compute_views, list_missing_views
from sem_search.search.prepare.fingerprint import (
    COMPUTATION,
    check_study_name,
    compute_fingerprint,
    describe_computation,
    name_study,
    read_computation,
)
from sem_search.search.prepare.known_images import fit_known_images
from sem_search.search.prepare.network import PreparedNetwork, build_trainer, prepare_network
from sem_search.search.prepare.study_folder import claim_study_folder, open_fold_store
from sem_search.search.trials.attributes import FINGERPRINT
from sem_search.search.trials.study import OTHER_STUDY, check_fingerprint, read_stored_fingerprint
from sem_search.settings import SearchSettings
from sem_search.terminal import warn
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads.linear import check_hidden_units
from sem_search.transfer.heads.training import HeadTrainer
from sem_search.transfer.runtime import configure_tensorflow
from sem_search.transfer.trunk import list_computations
from sem_search.transfer.weights.choice import check_weights


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """A search that is ready to train. Features and trainer are made when they are first asked for."""

    settings: SearchSettings
    name: str
    fingerprint: Mapping[str, Any]
    data: PreparedData
    network: PreparedNetwork
    repaired: tuple[str, ...] = ()
    """A warning for each file of the study's folder that was damaged and has been written again."""
    elsewhere: Callable[[], None] | None = None
    """Lets a cluster compute the features that shared storage lacks; by default this process does."""

    @property
    def store(self) -> FoldStore:
        """The store of the study's finished folds."""
        return open_fold_store(self.settings, name=self.name)

    @cached_property
    def views(self) -> tuple[FeatureStore, ...]:
        """The trunk's outputs for every view of every tile, read or computed; see `compute_views`."""
        return compute_views(self.settings, data=self.data, network=self.network, elsewhere=self.elsewhere)

    @property
    def features(self) -> FeatureStore:
        """Those of view 0, the tiles as they are: what is looked at wherever a tile is shown or explained."""
        return self.views[0]

    @cached_property
    def trainer(self) -> HeadTrainer:
        """The trainer that every fold of every cell shares in this process."""
        settings = self.settings.model_dump()
        return build_trainer(settings, cut=self.network.cut, tiles=self.data.tiles, views=self.views)

    @cached_property
    def novelty(self) -> NoveltyModel:
        """What the study's materials look like to the trunk."""
        return fit_known_images(self.data, features=self.features)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that was skipped, replaced or fell back."""
        of_features = [warning for view in self.views for warning in view.warnings]
        return (*self.data.catalogue.warnings, *self.network.warnings, *of_features)


def prepare_search(
    settings: SearchSettings,
    *,
    begun: optuna.Study | None = None,
    remedy: str = OTHER_STUDY,
    show: Show = show_nothing,
) -> PreparedSearch:
    """Return the search that the settings describe, its study folder written or found to be its own.

    What can be refused is refused in the order of its cost, before anything is written. No database is made.

    Args:
        settings: What to search.
        begun: The study that a search has begun, for workers and audits: its engine and precision are kept, whatever
            would be chosen here, and data, weights and settings must be its own. By default a study in the storage
            that has the same fingerprint goes on.
        remedy: What to do where they are not, as a sentence.
        show: Shows what the data and the weights are.

    Raises:
        InputError: Data, weights or settings cannot be used.
        StudyMismatchError: The study was made with something else; each difference is named.
        StoreError: A store does not answer, or a file cannot be written.
    """
    if settings.study is not None:
        check_study_name(settings.study)
    check_weights(settings.weights, backbone=settings.backbone)
    data = prepare_data(settings)
    check_findings(data.findings, allowed=settings.allow_errors)
    if set(settings.heads) - {"finetune"}:
        check_hidden_units(settings.hidden_units, n_classes=len(data.tiles.class_names))
    if begun is None:
        show(data.describe())
        warn(*data.warnings)
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    if begun is None:
        network = _prepare_new_network(settings, data=data, show=show)
        warn(*data.catalogue.warnings, *network.warnings)
        if missing := list_missing_views(settings, data=data, network=network):
            show(check_disk_space(data=data, network=network, n_views=len(missing)))
        fingerprint = compute_fingerprint(settings, data=data, network=network)
    else:
        network, fingerprint = _prepare_begun_network(settings, begun=begun, data=data, remedy=remedy)
    name = name_study(settings, fingerprint=fingerprint)
    repaired = claim_study_folder(settings, name=name, fingerprint=fingerprint, folds=data.folds)
    warn(*repaired)
    return PreparedSearch(
        settings=settings, name=name, fingerprint=fingerprint, data=data, network=network, repaired=repaired
    )


def _prepare_begun_network(
    settings: SearchSettings, *, begun: optuna.Study, data: PreparedData, remedy: str
) -> tuple[PreparedNetwork, dict[str, Any]]:
    """Return the network of a study that a search has begun, and the fingerprint, which must be the study's own."""
    stored = json.loads(begun.user_attrs[FINGERPRINT])
    network = prepare_network(settings.model_copy(update=read_computation(stored)))
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    check_fingerprint(name=begun.study_name, stored=stored, wanted=fingerprint, remedy=remedy)
    return network, fingerprint


def _prepare_new_network(settings: SearchSettings, *, data: PreparedData, show: Show) -> PreparedNetwork:
    """Return the network, computed as by the study in the storage that this search goes on with, if there is one.

    Measured again, in a cache that was cleared or on another machine, `auto` may come out differently: that alone makes
    no other study.
    """
    network = prepare_network(settings)
    show(f"{settings.backbone} has the weights {network.weights.used!r}; {network.computation}.")
    possible = list_computations(engine=settings.engine, precision=settings.precision)
    if len(possible) == 1:
        return network
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    rest = {name: value for name, value in fingerprint.items() if name not in COMPUTATION}
    for computation in sorted(possible, key=lambda one: one != network.computation):
        wanted = describe_computation(computation)
        stored = read_stored_fingerprint(name=name_study(settings, fingerprint=rest | wanted), storage=settings.storage)
        if stored is not None and read_computation(stored) == read_computation(wanted):
            if computation == network.computation:
                return network
            show(f"The study was begun with {computation}; it goes on with that.")
            return prepare_network(settings.model_copy(update=read_computation(wanted)))
    return network

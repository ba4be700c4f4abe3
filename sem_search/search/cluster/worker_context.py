"""What a worker of a cluster needs to compute a feature shard or to train a fold, as data in shared storage.

The search writes it once: settings, tile table and folds as JSON, the network's weights as NumPy arrays. A worker needs
neither the micrographs nor a download, and keeps network, features and head trainer from one task to the next.
"""

import dataclasses
import hashlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import SettingsError
from sem_search.files import pack_arrays, unpack_arrays
from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.tiles import FloatTiles
from sem_search.places import get_cache_folder
from sem_search.records import TileTable
from sem_search.search.cluster.feature_shards import Features, FeatureShards, compile_shard_computation
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.prepare.features import get_content_key, get_feature_key
from sem_search.search.prepare.network import build_trainer
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.results.run_description import describe_versions
from sem_search.secrets import mask_url
from sem_search.transfer.backbones import Backbone, get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.engine import Engine
from sem_search.transfer.features import compute_feature_key, get_features
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings
from sem_search.transfer.runtime import configure_tensorflow
from sem_search.transfer.trunk import Computation, set_computation
from sem_search.transfer.views import VIEWS

NUMBER_MAKERS = ("sem_search", "tensorflow", "keras", "numpy")
"""Packages of which another version may give other numbers."""

NEEDED = (
    *(field.name for field in dataclasses.fields(TrainingSettings)),
    *("backbone", "tile_px", "hidden_units", "dropout", "augment", "seed", "threads"),
)
"""Settings that training depends on; paths, URLs and names stay with the search."""

NAMES = ("class_names", "image_ids", "group_of_image")
INDICES = ("label_of_image", "image_of_tile")
"""The tile table's fields: texts in JSON, numbers as arrays."""


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """A network with its features and its trainer, ready for any fold of one study."""

    study: str
    settings: Mapping[str, Any]
    tiles: TileTable
    folds: FoldTable
    cut: CutNetwork
    content_keys: tuple[str, ...]
    """Name the tiles, view by view."""
    shards: tuple[FeatureShards, ...]
    """Of each view."""

    @property
    def shared(self) -> SharedStore:
        """Where all that workers read and write lies."""
        return self.shards[0].shared

    @property
    def backbone(self) -> Backbone:
        """The backbone's row."""
        return get_backbone(self.settings["backbone"])

    @cached_property
    def compute_features(self) -> Callable[[FloatTiles], Features]:
        """Computes the features of a shard's tiles."""
        return compile_shard_computation(self.cut, backbone=self.backbone, n_tiles=self.tiles.n_tiles)

    @cached_property
    def trainer(self) -> HeadTrainer:
        """The trainer of heads on the study's features, which are brought here from shared storage."""
        views = [
            get_features(
                self.cut,
                tiles=self._refuse_tiles,
                n_tiles=self.tiles.n_tiles,
                backbone=self.backbone,
                content_key=content_key,
                cache_folder=get_cache_folder(),
                computed=partial(shards.read_all, self._refuse_shard),
            )
            for content_key, shards in zip(self.content_keys, self.shards, strict=True)
        ]
        return build_trainer(self.settings, cut=self.cut, tiles=self.tiles, views=views)

    def _refuse_tiles(self) -> Iterator[FloatTiles]:
        raise SettingsError(f"{_name_here()} has no micrographs of study {self.study!r}: it computes from shards.")

    def _refuse_shard(self, index: int) -> NoReturn:
        raise SettingsError(
            f"{_name_here()} does not find feature shard {index} of study {self.study!r} in "
            f"shared={mask_url(self.shared.url)}: every worker must reach the same place."
        )


def publish_context(prepared: PreparedSearch, *, shared: SharedStore) -> str:
    """Write what workers need; return the name under which they find it."""
    data, network = prepared.data, prepared.network
    views = range(VIEWS[prepared.settings.augment])
    facts = {
        "study": prepared.name,
        "settings": prepared.settings.model_dump(mode="json", include=set(NEEDED)),
        "computation": dataclasses.asdict(network.computation),
        "content_keys": [get_content_key(data, network=network, view=view) for view in views],
        "keys": [get_feature_key(data, network=network, view=view) for view in views],
        "versions": _get_versions(network.computation.engine),
        "folds": data.folds.to_json(),
        "tiles": {name: getattr(data.tiles, name) for name in NAMES},
    }
    arrays = {name: getattr(data.tiles, name) for name in INDICES} | _list_weights(network.cut)
    packed = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8)
    content = pack_arrays({"facts": packed} | arrays)
    name = f"studies/{prepared.name}/context_{hashlib.sha256(content).hexdigest()[:16]}.bin"
    if shared.read(name) != content:
        shared.write(name, content)
    return name


@lru_cache(maxsize=1)
def open_context(name: str, *, shared: SharedStore) -> WorkerContext:
    """Return a context, the same one for every task of a study; not to be called from two threads at once.

    Raises:
        SettingsError: The shared storage is not reached from here, or libraries here are of other versions.
    """
    content = shared.read(name)
    if content is None:
        raise SettingsError(
            f"{_name_here()} does not find {name} in shared={mask_url(shared.url)}: give a place that the search "
            "and every worker reach under the same name."
        )
    arrays = unpack_arrays(content)
    facts = json.loads(arrays["facts"].tobytes())
    _check_versions(facts["versions"])
    _configure(facts["settings"])
    context = _build_context(facts, arrays=arrays, shared=shared)
    key = compute_feature_key(
        context.cut, backbone=context.backbone, content_key=context.content_keys[0], n_tiles=context.tiles.n_tiles
    )
    if key != context.shards[0].key:
        raise SettingsError(f"{_name_here()} builds another network from the same weights: install the same versions.")
    return context


def _build_context(
    facts: Mapping[str, Any], *, arrays: Mapping[str, NDArray[Any]], shared: SharedStore
) -> WorkerContext:
    settings = facts["settings"]
    cut = cut_network(get_backbone(settings["backbone"]).build(tile_px=settings["tile_px"]))
    for part, model in (("trunk", cut.trunk), ("tail", cut.tail)):
        model.set_weights([arrays[f"{part}_{place}"] for place in range(len(model.weights))])
    fields: dict[str, Any] = {name: tuple(facts["tiles"][name]) for name in NAMES}
    tiles = TileTable(**fields | {name: arrays[name] for name in INDICES})
    return WorkerContext(
        study=facts["study"],
        settings=settings,
        tiles=tiles,
        folds=FoldTable.from_json(facts["folds"]),
        cut=set_computation(cut, computation=Computation(**facts["computation"])),
        content_keys=tuple(facts["content_keys"]),
        shards=tuple(FeatureShards(shared=shared, key=key, n_tiles=tiles.n_tiles) for key in facts["keys"]),
    )


def _list_weights(cut: CutNetwork) -> dict[str, NDArray[np.float32]]:
    return {
        f"{part}_{place}": weight
        for part, model in (("trunk", cut.trunk), ("tail", cut.tail))
        for place, weight in enumerate(model.get_weights())
    }


def _configure(settings: Mapping[str, Any]) -> None:
    try:
        configure_tensorflow(threads=settings["threads"], seed=settings["seed"])
    except RuntimeError as error:
        raise SettingsError(
            f"{_name_here()} has computed with another number of threads than threads={settings['threads']}, and a "
            "process cannot change it: start its worker again."
        ) from error


def _check_versions(wanted: Mapping[str, str]) -> None:
    found = describe_versions()
    differences = [
        f"{package} {version} there and {found.get(package)} here"
        for package, version in wanted.items()
        if found.get(package) != version
    ]
    if differences:
        raise SettingsError(
            f"{_name_here()} would not give the search's numbers: {', '.join(differences)}. Install the same versions."
        )


def _get_versions(engine: Engine) -> dict[str, str]:
    versions = describe_versions()
    makers = (*NUMBER_MAKERS, "onnxruntime") if engine == "onnxruntime" else NUMBER_MAKERS
    return {package: versions[package] for package in makers}


def _name_here() -> str:
    return f"The worker on {socket.gethostname()}"

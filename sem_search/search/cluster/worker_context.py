"""What a worker of a cluster needs to compute a feature shard or to train a fold, as data in shared storage.

The searching process writes it once: settings, tile table and folds as JSON, the network's weights as a NumPy archive.
A worker needs neither the micrographs nor a download, and keeps network, features and head trainer between tasks.
"""

import dataclasses
import hashlib
import io
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sem_search.errors import SettingsError
from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.tiles import FloatTiles
from sem_search.places import get_cache_folder
from sem_search.records import TileTable
from sem_search.search.cluster.feature_shards import Features, ShardComputer, iter_shards
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.features import get_content_key, get_feature_key
from sem_search.search.prepare.network import PreparedNetwork, build_head_trainer
from sem_search.search.results.run_description import describe_versions
from sem_search.secrets import mask_url
from sem_search.settings import SearchSettings
from sem_search.transfer.backbones import Backbone, get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.features import compute_feature_key, get_features
from sem_search.transfer.heads.training import HeadTrainer
from sem_search.transfer.precision import set_precision
from sem_search.transfer.runtime import configure_tensorflow

NUMBER_MAKERS = ("sem_search", "tensorflow", "keras", "numpy")
"""Packages of which another version may give other numbers."""

NEEDED = ("backbone", "tile_px", "epochs", "patience", "momentum", "hidden_units", "dropout", "seed", "threads")
"""Settings that training depends on; paths, URLs and names stay with the searching process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """A network with its features and its trainer, ready for any fold of one study."""

    study: str
    settings: Mapping[str, Any]
    tiles: TileTable
    folds: FoldTable
    cut: CutNetwork
    content_key: str
    """Names the tiles."""
    key: str
    """Of the feature store."""
    shared: SharedStore
    lock: Any = dataclasses.field(default_factory=threading.Lock)
    """One trainer trains one fold at a time, however many threads a worker has."""
    _computers: list[ShardComputer] = dataclasses.field(default_factory=list)
    _trainers: list[HeadTrainer] = dataclasses.field(default_factory=list)
    """Made when they are first asked for; of each one at most."""

    @property
    def backbone(self) -> Backbone:
        """The backbone's row."""
        return get_backbone(self.settings["backbone"])

    def compute_features(self, tiles: FloatTiles) -> Features:
        """Return the features of a shard's tiles."""
        if not self._computers:
            self._computers.append(ShardComputer(self.cut, backbone=self.backbone, n_tiles=self.tiles.n_tiles))
        return self._computers[0].compute(tiles)

    def get_trainer(self) -> HeadTrainer:
        """Return the trainer, made when it is first asked for."""
        if not self._trainers:
            store = get_features(
                self.cut,
                tiles=self._refuse_tiles,
                n_tiles=self.tiles.n_tiles,
                backbone=self.backbone,
                content_key=self.content_key,
                cache_folder=get_cache_folder(),
                computed=lambda: iter_shards(
                    self.shared, key=self.key, n_tiles=self.tiles.n_tiles, compute=self._refuse_shard
                ),
            )
            trainer = build_head_trainer(self.settings, cut=self.cut, tiles=self.tiles, features=store)
            self._trainers.append(trainer)
        return self._trainers[0]

    def _refuse_tiles(self) -> Iterator[FloatTiles]:
        raise SettingsError(f"{_name_here()} has no micrographs of study {self.study!r}: it computes from shards.")

    def _refuse_shard(self, index: int) -> Features:
        raise SettingsError(
            f"{_name_here()} does not find feature shard {index} of study {self.study!r} in "
            f"shared={mask_url(self.shared.url)}: every worker must reach the same place."
        )


def publish_bench(
    settings: SearchSettings,
    *,
    study: str,
    data: PreparedData,
    network: PreparedNetwork,
    shared: SharedStore,
) -> str:
    """Write what workers need; return the name under which they find it."""
    tiles = data.tiles
    weights = _pack_weights(network.cut)
    weights_name = f"networks/{hashlib.sha256(weights).hexdigest()}.bin"
    facts = {
        "study": study,
        "settings": settings.model_dump(mode="json", include=set(NEEDED)),
        "precision": network.precision,
        "weights": weights_name,
        "content_key": get_content_key(data, network=network),
        "key": get_feature_key(data, network=network),
        "versions": _get_versions(),
        "folds": data.folds.to_json(),
        "tiles": {
            "class_names": tiles.class_names,
            "image_ids": tiles.image_ids,
            "label_of_image": tiles.label_of_image.tolist(),
            "group_of_image": tiles.group_of_image,
            "image_of_tile": tiles.image_of_tile.tolist(),
        },
    }
    content = json.dumps(facts, sort_keys=True).encode()
    name = f"studies/{study}/bench_{hashlib.sha256(content).hexdigest()[:16]}.bin"
    for one, of in ((weights_name, weights), (name, content)):
        if shared.read(one) != of:
            shared.write(one, of)
    return name


_open: dict[tuple[str, str], Bench] = {}
_opening = threading.Lock()


def open_bench(name: str, *, shared: SharedStore) -> Bench:
    """Return a bench, the same one for every task of a study; that of the study before is let go.

    Raises:
        SettingsError: The shared storage is not reached from here, or libraries here are of other versions.
    """
    with _opening:
        bench = _open.get((shared.url, name))
        if bench is None:
            bench = _build_bench(name, shared=shared)
            _open.clear()
            _open[shared.url, name] = bench
        return bench


def _build_bench(name: str, *, shared: SharedStore) -> Bench:
    facts = json.loads(_read(name, shared=shared))
    _check_versions(facts["versions"])
    settings = facts["settings"]
    _configure(settings)
    cut = cut_network(get_backbone(settings["backbone"]).build(tile_px=settings["tile_px"]))
    _unpack_weights(_read(facts["weights"], shared=shared), cut=cut)
    tiles = facts["tiles"]
    bench = Bench(
        study=facts["study"],
        settings=settings,
        tiles=TileTable(
            class_names=tuple(tiles["class_names"]),
            image_ids=tuple(tiles["image_ids"]),
            label_of_image=np.array(tiles["label_of_image"], dtype=np.int64),
            group_of_image=tuple(tiles["group_of_image"]),
            image_of_tile=np.array(tiles["image_of_tile"], dtype=np.int64),
        ),
        folds=FoldTable.from_json(facts["folds"]),
        cut=set_precision(cut, precision=facts["precision"]),
        content_key=facts["content_key"],
        key=facts["key"],
        shared=shared,
    )
    key = compute_feature_key(
        bench.cut, backbone=bench.backbone, content_key=bench.content_key, n_tiles=bench.tiles.n_tiles
    )
    if key != bench.key:
        raise SettingsError(f"{_name_here()} builds another network from the same weights: install the same versions.")
    return bench


def _configure(settings: Mapping[str, Any]) -> None:
    try:
        configure_tensorflow(threads=settings["threads"], seed=settings["seed"])
    except RuntimeError as error:
        raise SettingsError(
            f"{_name_here()} has computed with another number of threads than threads={settings['threads']}, and a "
            "process cannot change it: start its worker again."
        ) from error


def _check_versions(wanted: Mapping[str, str]) -> None:
    differences = [
        f"{package} {version} there and {_get_versions().get(package)} here"
        for package, version in wanted.items()
        if _get_versions().get(package) != version
    ]
    if differences:
        raise SettingsError(
            f"{_name_here()} would not give the search's numbers: {', '.join(differences)}. Install the same versions."
        )


def _get_versions() -> dict[str, str]:
    versions = describe_versions()
    return {package: versions[package] for package in NUMBER_MAKERS}


def _read(name: str, *, shared: SharedStore) -> bytes:
    content = shared.read(name)
    if content is None:
        raise SettingsError(
            f"{_name_here()} does not find {name} in shared={mask_url(shared.url)}: give a place that the search "
            "and every worker reach under the same name."
        )
    return content


def _pack_weights(cut: CutNetwork) -> bytes:
    arrays = {
        f"{part}_{place}": weight
        for part, model in (("trunk", cut.trunk), ("tail", cut.tail))
        for place, weight in enumerate(model.get_weights())
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpack_weights(content: bytes, *, cut: CutNetwork) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for part, model in (("trunk", cut.trunk), ("tail", cut.tail)):
            model.set_weights([arrays[f"{part}_{place}"] for place in range(len(model.weights))])


def _name_here() -> str:
    return f"The worker on {socket.gethostname()}"

"""`sem-search lots`: folders in, one test per pair out; joins pictures, trunk and the audit of lots."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.lots import LotsAudit, audit_lots, iter_lots_entries
from sem_search.errors import DataError
from sem_search.micrographs.catalogue import read_listing
from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.listing import list_folders
from sem_search.micrographs.one_pixel_size import settle_pixel_size
from sem_search.micrographs.overlaps.similarity import find_similar_pairs, group_similar
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.command_line import write_command
from sem_search.search.commands.inspect import check_place
from sem_search.search.prepare.data import PreparedData, build_grid, build_reading_options, build_study_tiles
from sem_search.search.prepare.features import compute_views
from sem_search.search.prepare.network import PreparedNetwork, prepare_network
from sem_search.search.process import quieten_libraries
from sem_search.settings import SearchSettings, build_settings
from sem_search.terminal import warn
from sem_search.tracking.entries.types import Params
from sem_search.tracking.mlflow.files import write_artifacts
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import create_store, open_side_run
from sem_search.transfer.runtime import configure_tensorflow
from sem_search.transfer.weights.choice import check_weights
from sem_search.words import name_some

TAKEN = (
    "backbone",
    "weights",
    "tile_px",
    "stride_px",
    "tiles_per_image",
    "pixel_size_nm",
    "crop_bottom_px",
    "max_megapixels",
    "seed",
)
"""Settings of the search that the command takes and that decide its result."""


def run_lots(
    folders: Sequence[Path], *, output: Path | None = None, show: Show = show_nothing, **given: Any
) -> LotsAudit:
    """Test every pair of lots, show what was found, write it below `output` and log it as a run of its own.

    Args:
        folders: One per lot, two or more.
        output: Folder that is written, made if it is not there; None writes and logs nothing.
        show: Shows what was found.
        given: Settings of the search by name: `backbone`, `weights`, `tile_px`, `crop_bottom_px`, ...

    Raises:
        InputError: A folder or a picture cannot be used, a lot has too few images, or `output` cannot be written.
        StoreError: The tracking store does not answer.
    """
    quieten_libraries()
    if output is not None:
        check_place(output)
    settings = build_settings({"data": str(folders[0]), **given})
    check_weights(settings.weights, backbone=settings.backbone)
    named = name_lots(folders)
    if len(named) < 2:
        raise DataError("1 folder is given: give two or more to compare, or --reference to judge one lot")
    data = prepare_lots(named, settings=settings)
    if output is None:
        audit = _compare(data, settings=settings)
        show(audit.to_text())
        return audit
    create_store()
    with open_side_run(kind="lots", name=f"lots {name_some(named)}") as run_id:
        audit = _compare(data, settings=settings)
        show(audit.to_text())
        command = describe_command(folders, settings=settings, output=output)
        entries = tuple(iter_lots_entries(audit, catalogue=data.catalogue, grid=data.grid, command=command))
        write_artifacts(entries, folder=output)
        params = Params(values={"lots": ", ".join(named)} | {name: getattr(settings, name) for name in TAKEN})
        log_entries([params, *entries], run_id=run_id)
    show(f"Written to {output}: lots.html has all of it, lots.csv one row for each pair.")
    show(format_links({"lots": link_run(run_id, artifact="lots.html")}))
    return audit


def _compare(data: PreparedData, *, settings: SearchSettings) -> LotsAudit:
    """Compute the trunk's features and test every pair."""
    network = start_network(settings)
    features = compute_lot_features(settings, data=data, network=network)
    return audit_lots(data.catalogue, tiles=data.tiles, features=features, seed=settings.seed)


def start_network(settings: SearchSettings) -> PreparedNetwork:
    """Return the network that looks at lots; warns of what was replaced."""
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    network = prepare_network(settings)
    warn(*network.warnings)
    return network


def compute_lot_features(
    settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork
) -> Sequence[NDArray[np.float32]]:
    """Return the trunk's outputs for the tiles of lots as they are; warns of what was wrong with their pictures."""
    warn(*data.catalogue.warnings)
    (features,) = compute_views(settings.model_copy(update={"augment": "none"}), data=data, network=network)
    return features.arrays


def describe_command(folders: Sequence[Path], *, settings: SearchSettings, output: Path) -> str:
    """Return the command that compares these lots again: what differs from the defaults is given."""
    fields = {name: field.default for name, field in SearchSettings.model_fields.items() if name in TAKEN}
    options = {name: str(value) for name, default in fields.items() if (value := getattr(settings, name)) != default}
    return write_command("lots", *map(str, folders), output=str(output), **options)


def name_lots(folders: Sequence[Path]) -> dict[str, Path]:
    """Return each folder under its name; folders of one name get that of their parent before it.

    Raises:
        DataError: A folder is given twice.
    """
    absolute = [folder.expanduser().absolute() for folder in folders]
    counts = Counter(folder.name for folder in absolute)
    named = {
        folder.name if counts[folder.name] == 1 else f"{folder.parent.name}/{folder.name}": folder
        for folder in absolute
    }
    if len(named) < len(absolute):
        raise DataError(f"the folders {', '.join(map(str, folders))} are not all different: give each lot once")
    return named


def prepare_lots(folders: dict[str, Path], *, settings: SearchSettings) -> PreparedData:
    """Read the images of all lots, and put those that show the same place into one group; there are no folds."""
    grid = build_grid(settings)
    reading = dataclasses.replace(build_reading_options(settings), skip_unreadable=False)
    catalogue = read_listing(list_folders(folders), reading=reading)
    catalogue, pixel_size_nm = settle_pixel_size(catalogue, asked=settings.pixel_size_nm, tile_px=settings.tile_px)
    catalogue = group_similar(catalogue, find_similar_pairs(catalogue)).at_pixel_size(pixel_size_nm)
    return PreparedData(
        catalogue=catalogue,
        grid=grid,
        folds=FoldTable(folds=(), seed=settings.seed),
        tiles=build_study_tiles(catalogue, grid=grid),
        findings=(),
    )

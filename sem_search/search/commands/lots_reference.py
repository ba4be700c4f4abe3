"""`sem-search lots-reference` and `sem-search lots NEW --reference`: accepted lots in, later one new lot against them.

Each lot is looked at by itself, so that the cache knows the features of all lots when one more is added.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sem_search.audits.lot_judgement import LotJudgementAudit, audit_new_lot, iter_judgement_entries
from sem_search.audits.lot_reference import Lot, LotReference, build_lot, check_lots, read_reference, write_reference
from sem_search.errors import NotComparableError, SettingsError
from sem_search.evaluation.lots.equivalence import MARGIN
from sem_search.evaluation.lots.reference import check_number
from sem_search.micrographs.reading.options import COMMON
from sem_search.progress import Show, show_nothing
from sem_search.search.commands.command_line import write_command
from sem_search.search.commands.inspect import check_place
from sem_search.search.commands.lots import (
    TAKEN,
    compute_lot_features,
    name_lots,
    prepare_lots,
    start_network,
)
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.search.process import quieten_libraries
from sem_search.settings import SearchSettings, build_settings
from sem_search.tracking.entries.types import Params, Scalar
from sem_search.tracking.mlflow.files import write_artifacts
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import create_store, open_side_run
from sem_search.transfer.weights.choice import check_weights
from sem_search.words import count, join_words

OF_REFERENCE = ("backbone", "tile_px", "stride_px", "tiles_per_image", "pixel_size_nm", "crop_bottom_px", "seed")
"""Settings that a new lot must share with the reference, which holds them."""


def run_lots_reference(
    folders: Sequence[Path], *, output: Path, show: Show = show_nothing, **given: Any
) -> LotReference:
    """Look at accepted lots and write what judging another needs.

    Args:
        folders: One per lot, five or more, in the order of time where their pictures state no date.
        output: Folder of the reference, made if it is not there; a reference in it is replaced.
        show: Shows what was done.
        given: Settings of the search by name: `backbone`, `weights`, `tile_px`, `crop_bottom_px`, ...

    Raises:
        InputError: A folder or a picture cannot be used, there are too few lots or images, two lots hold one picture,
            or `output` cannot be written.
    """
    quieten_libraries()
    check_number(len(folders))
    check_place(output)
    settings = build_settings({"data": str(folders[0]), **given})
    if settings.pixel_size_nm == COMMON:
        raise SettingsError(
            f"pixel_size_nm={COMMON}: later lots may have coarser pixels, so a reference needs a number, such as that "
            "of the coarsest images that may come."
        )
    check_weights(settings.weights, backbone=settings.backbone)
    named = name_lots(folders)
    network = start_network(settings)
    lots = tuple(_look_at(name, folder, settings=settings, network=network) for name, folder in named.items())
    check_lots(lots)
    looked_at = {name: getattr(settings, name) for name in (*OF_REFERENCE, "weights")}
    reference = LotReference(lots=lots, looked_at={**looked_at, "weights_sha256": network.weights.sha256})
    file = write_reference(reference, folder=output)
    show(f"Written to {file}: {count(len(lots), 'lot')}. Judge another: sem-search lots NEW --reference {output}")
    return reference


def run_lot_judgement(
    folder: Path,
    *,
    reference: Path,
    margin: float | None = None,
    output: Path | None = None,
    show: Show = show_nothing,
    **given: Any,
) -> LotJudgementAudit:
    """Judge a new lot by a reference, show what was found, write it below `output` and log it as a run of its own.

    Args:
        folder: The new lot.
        reference: Folder that `run_lots_reference` has written.
        margin: How far the lot may lie from the mean of the reference, in standard deviations between lots; 3 by
            default.
        output: Folder that is written, made if it is not there; None writes and logs nothing.
        show: Shows what was found.
        given: `weights`, `threads` and `max_megapixels`; all else is as in the reference.

    Raises:
        InputError: There is no such reference, a folder or picture cannot be used, the lot has too few images, or a
            setting is the reference's own.
        NotComparableError: The network has other weights.
        StoreError: The reference is damaged, or the tracking store does not answer.
    """
    quieten_libraries()
    if output is not None:
        check_place(output)
    margin = MARGIN if margin is None else margin
    if not margin > 0:
        raise SettingsError(f"margin={margin:g}: give a number above 0, in standard deviations between lots.")
    known = read_reference(reference)
    settings = _build_settings(folder, known=known, given=given)
    ((name, _),) = name_lots([folder]).items()
    new = _look_at(name, folder, settings=settings, network=_start_same_network(settings, known=known))
    audit = audit_new_lot(new, reference=known, margin=margin, seed=settings.seed)
    show(audit.to_text())
    if output is not None:
        asked = {name: str(given[name]) for name in ("weights", "max_megapixels") if given.get(name) is not None}
        options = {"reference": str(reference), "margin": f"{margin:g}", "output": str(output), **asked}
        command = write_command("lots", str(folder), **options)
        _log(audit, known=known, command=command, output=output, show=show)
    return audit


def _build_settings(folder: Path, *, known: LotReference, given: dict[str, Any]) -> SearchSettings:
    """Return the settings of the reference, with what may differ."""
    if owned := [name for name in OF_REFERENCE if given.get(name) is not None]:
        raise SettingsError(
            f"{join_words(owned)}: the reference decides how a new lot is looked at. Leave it out, or make another "
            "reference."
        )
    looked_at = {name: value for name, value in known.looked_at.items() if name in TAKEN and value is not None}
    return build_settings({**looked_at, **given, "data": str(folder)})


def _start_same_network(settings: SearchSettings, *, known: LotReference) -> PreparedNetwork:
    """Return the network of the reference; raises where its weights are others."""
    check_weights(settings.weights, backbone=settings.backbone)
    network = start_network(settings)
    if network.weights.sha256 != known.looked_at["weights_sha256"]:
        raise NotComparableError(
            f"{settings.backbone} has other weights ({network.weights.used}) than when the reference was made "
            f"(weights={known.looked_at['weights']}): give the same with --weights, or make the reference again."
        )
    return network


def _look_at(name: str, folder: Path, *, settings: SearchSettings, network: PreparedNetwork) -> Lot:
    """Return a lot as the network sees it."""
    data = prepare_lots({name: folder}, settings=settings)
    features = compute_lot_features(settings, data=data, network=network)
    return build_lot(name, catalogue=data.catalogue, tiles=data.tiles, features=features)


def _log(audit: LotJudgementAudit, *, known: LotReference, command: str, output: Path, show: Show) -> None:
    """Write the answer into a folder and log it."""
    create_store()
    with open_side_run(kind="lots", name=f"lot {audit.lot}") as run_id:
        entries = tuple(iter_judgement_entries(audit, command=command))
        write_artifacts(entries, folder=output)
        judgement = audit.judgement
        values: dict[str, Scalar] = {"lot": audit.lot, "n_lots": judgement.n_lots, "margin": judgement.margin}
        values |= {name: value for name, value in known.looked_at.items() if value is not None}
        params = Params(values=values)
        log_entries([params, *entries], run_id=run_id)
    show(f"Written to {output}: lots.html has all of it, control_chart.csv one row for each lot.")
    show(format_links({"lots": link_run(run_id, artifact="lots.html")}))

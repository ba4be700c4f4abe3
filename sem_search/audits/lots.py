"""Whether lots of one material can be told apart: the use that the paper proposes in its introduction.

Each lot is a folder of images. The statistics are those of `evaluation.lots.two_sample`, on the trunk's channels
averaged over each tile: nothing is trained. What differs between lots besides the material, such as the pixel size,
is shown first: no test can separate the two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sem_search.audits.answer import ShownAsAnswer, iter_answer
from sem_search.audits.lot_regions import FloatMap, compute_heat, compute_shares
from sem_search.audits.lots_answer import build_lots_answer, name_pair
from sem_search.evaluation.lots.two_sample import LotPair, compare_lots
from sem_search.evaluation.statistics import Interval
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.inspection.confounds import compute_confounds, find_confounds
from sem_search.micrographs.tiles import TileGrid, cut_tiles
from sem_search.records import TileTable
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.entries.types import Entry, FigureArtifact, JsonArtifact, TableArtifact, iter_finite_metrics
from sem_search.tracking.figures.audit import BarRow, TilePicture, draw_rows, draw_tiles
from sem_search.tracking.mlflow.names import make_metric_names
from sem_search.tracking.report.answer_page import Answer, CaptionedFigure, Section
from sem_search.transfer.features import embed_stored_features

N_SHOWN = 4
"""Tiles shown of each lot of a pair: those most typical of their lot."""

TELLING_COLUMNS = ("pair", "lot", "image_id", "tile_of_image", "score")

PAIR_NAMES = (
    *("first", "second", "n_first", "n_second", "auroc", "p_value", "adjusted_p_value", "smallest_p_value"),
    *("detectable_accuracy", "n_tiles_of_image", "n_tiles_left_out"),
)
"""What is written of a pair as it is."""

FIGURE_CAPTION = (
    "Share of the images that the other images assign to the right lot, pair by pair. Orange: the lots differ, all "
    "pairs considered; a 95 % interval is shown only for these. What decides is the p-value, which counts the "
    "permutations of the images that rank them as well, and not the distance to the dashed line."
)

REGIONS_CAPTION = (
    "For each pair, the tiles that look most like their own lot and least like the other, one of each image, and the "
    "regions that speak for their lot: where it is bright, the tile owes its score to what is there. Where lots do not "
    "differ beyond chance, these are chance, too."
)


@dataclass(frozen=True, kw_only=True)
class TellingTile:
    """A tile that looks much like its own lot and little like the other."""

    pair: str
    lot: str
    other: str
    image_id: str
    tile_of_image: int
    score: float
    """How far towards its own lot, judged by the other images."""
    shares: FloatMap
    """What each place of the tile adds to the score, shape (side, side); the mean is the score."""


@dataclass(frozen=True, kw_only=True)
class LotsAudit(ShownAsAnswer):
    """All pairs of lots."""

    pairs: tuple[LotPair, ...]
    telling: tuple[TellingTile, ...]
    remarks: tuple[str, ...]
    """What differs between the lots besides the material, one sentence each."""
    n_images: int
    n_tiles: int

    @property
    def table(self) -> pd.DataFrame:
        """One row for each pair of lots."""
        return pd.json_normalize(list_lots(self)["pairs"])

    def to_answer(self) -> Answer:
        """Return which lots can be told apart."""
        return build_lots_answer(self)


def audit_lots(
    catalogue: Catalogue, *, tiles: TileTable, features: Sequence[NDArray[np.float32]], seed: int = 0
) -> LotsAudit:
    """Test every pair of lots.

    Args:
        catalogue: The images, each labelled with its lot; images of one place are in one group.
        tiles: Their tiles.
        features: Trunk outputs of all tiles.
        seed: Of the permutations.

    Raises:
        DataError: A lot has too few independent images, or one place is in two lots.
    """
    pairs = compare_lots(
        embed_stored_features(features),
        image_of_tile=tiles.image_of_tile,
        lot_of_image=tiles.label_of_image,
        lot_names=tiles.class_names,
        group_of_image=tiles.group_of_image,
        seed=seed,
    )
    findings = find_confounds(catalogue, compute_confounds(catalogue))
    return LotsAudit(
        pairs=pairs,
        telling=tuple(tile for pair in pairs for tile in _find_telling(pair, tiles=tiles, features=features)),
        remarks=tuple(finding.message for finding in findings if finding.severity != "note"),
        n_images=len(tiles.image_ids),
        n_tiles=tiles.n_tiles,
    )


def iter_lots_entries(audit: LotsAudit, *, catalogue: Catalogue, grid: TileGrid, command: str) -> Iterator[Entry]:
    """Yield what is written and logged of a comparison of lots: words, numbers, tables, figure, metrics, and the most
    typical tiles, as they are and with the regions that speak for their lot.

    Args:
        audit: The answer.
        catalogue: The images, which are read again.
        grid: The tiles that were cut from them.
        command: What asked for it.
    """
    draw = partial(
        draw_rows,
        [_build_bar(pair) for pair in audit.pairs],
        axis_label="Share of images assigned to the right lot",
        reference=0.5,
        reference_name="chance; orange: the lots differ, all pairs considered",
    )
    pictures = read_telling_tiles(audit, catalogue=catalogue, grid=grid)
    heated = [
        replace(picture, heat_map=compute_heat(tile.shares).astype(np.float32))
        for picture, tile in zip(pictures, audit.telling, strict=True)
    ]
    sheet = FigureArtifact(path="telling_regions.jpg", draw=partial(draw_tiles, heated, per_line=N_SHOWN))
    answer = audit.to_answer()
    shares = CaptionedFigure(artifact=FigureArtifact(path="lots.png", draw=draw), caption=FIGURE_CAPTION)
    regions = CaptionedFigure(artifact=sheet, caption=REGIONS_CAPTION)
    yield from iter_answer(
        "lots",
        answer=replace(
            answer,
            overview=(*answer.overview, shares),
            sections=(*answer.sections, Section(heading="What speaks for each lot?", parts=(regions,))),
        ),
        numbers=list_lots(audit),
        command=command,
    )
    yield TableArtifact(
        path="telling_tiles.csv",
        columns=TELLING_COLUMNS,
        rows=tuple(tuple(getattr(tile, name) for name in TELLING_COLUMNS) for tile in audit.telling),
    )
    yield FigureArtifact(path="telling_tiles.jpg", draw=partial(draw_tiles, pictures, per_line=N_SHOWN))
    yield JsonArtifact(path="telling_regions.json", content=[_list_regions(tile) for tile in audit.telling])
    yield _build_pair_table(audit)
    yield from iter_finite_metrics(_iter_numbers(audit), source="lots")


def _build_pair_table(audit: LotsAudit) -> TableArtifact:
    ends = [(pair.accuracy.value, pair.accuracy.low, pair.accuracy.high, pair.is_different()) for pair in audit.pairs]
    own = [tuple(getattr(pair, name) for name in PAIR_NAMES) for pair in audit.pairs]
    return TableArtifact(
        path="lots.csv",
        columns=(*PAIR_NAMES, "accuracy", "accuracy_low", "accuracy_high", "is_different"),
        rows=tuple((*one, *other) for one, other in zip(own, ends, strict=True)),
    )


def _iter_numbers(audit: LotsAudit) -> Iterator[tuple[str, float, int]]:
    yield "lots/n_different", sum(pair.is_different() for pair in audit.pairs), 0
    names = make_metric_names([name_pair(pair) for pair in audit.pairs])
    for pair in audit.pairs:
        yield f"lots/accuracy/{names[name_pair(pair)]}", pair.accuracy.value, 0
        yield f"lots/p_value/{names[name_pair(pair)]}", pair.adjusted_p_value, 0


def _build_bar(pair: LotPair) -> BarRow:
    """Return a pair's row of the figure; an interval beside a verdict that does not rest on it would mislead."""
    share = pair.accuracy
    shown = share if pair.is_different() else Interval(value=share.value, low=share.value, high=share.value)
    return BarRow(name=name_pair(pair), interval=shown, is_marked=pair.is_different())


def read_telling_tiles(audit: LotsAudit, *, catalogue: Catalogue, grid: TileGrid) -> tuple[TilePicture, ...]:
    """Return the pictures of the most typical tiles.

    Args:
        audit: Names the tiles.
        catalogue: The images, which are read again.
        grid: The tiles that were cut from them.
    """
    records = {record.image_id: record for record in catalogue.records}
    pictures = []
    for tile in audit.telling:
        pixels = catalogue.read_image(records[tile.image_id])
        pictures.append(
            TilePicture(
                pixels=cut_tiles(pixels, grid=grid)[tile.tile_of_image],
                title=f"{tile.lot}, not {tile.other}",
                caption=f"{tile.image_id}, tile {tile.tile_of_image}",
            )
        )
    return tuple(pictures)


def list_lots(audit: LotsAudit) -> dict[str, Any]:
    """Return all numbers, fit for JSON."""
    return {
        "n_images": audit.n_images,
        "n_tiles": audit.n_tiles,
        "remarks": list(audit.remarks),
        "pairs": [
            {name: getattr(pair, name) for name in PAIR_NAMES}
            | {"accuracy": to_json(pair.accuracy), "is_different": pair.is_different()}
            for pair in audit.pairs
        ],
    }


def _list_regions(tile: TellingTile) -> dict[str, Any]:
    """Return what each place of a tile adds to its score, row by row."""
    names = ("pair", "lot", "image_id", "tile_of_image", "shares")
    return {name: to_json(getattr(tile, name)) for name in names}


def _find_telling(pair: LotPair, *, tiles: TileTable, features: Sequence[NDArray[np.float32]]) -> Iterator[TellingTile]:
    """Yield the tiles of each lot that look most like their own, one of each image."""
    first_tile = np.searchsorted(tiles.image_of_tile, np.arange(len(tiles.image_ids)))
    for lot, other, sign in ((pair.first, pair.second, 1.0), (pair.second, pair.first, -1.0)):
        is_own = tiles.label_of_tile[pair.tiles] == tiles.class_names.index(lot)
        own, scores = np.flatnonzero(is_own), sign * pair.score_of_tile[is_own]
        order = np.argsort(-scores, kind="stable")
        images = tiles.image_of_tile[pair.tiles[own[order]]]
        best_of_image = order[np.sort(np.unique(images, return_index=True)[1])]
        for row in best_of_image[:N_SHOWN]:
            tile = int(pair.tiles[own[row]])
            image = int(tiles.image_of_tile[tile])
            judge = pair.scorer.row_of_tile[own[row]]
            shares = compute_shares(
                [array[tile] for array in features],
                weights=pair.scorer.weights[judge],
                offset=float(pair.scorer.offsets[judge]),
            )
            yield TellingTile(
                pair=name_pair(pair),
                lot=lot,
                other=other,
                image_id=tiles.image_ids[image],
                tile_of_image=int(tile - first_tile[image]),
                score=float(scores[row]),
                shares=sign * shares,
            )

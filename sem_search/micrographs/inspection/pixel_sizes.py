"""What can be done where the pixel size gives the classes away, and what it would cost."""

from collections import Counter

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.one_pixel_size import choose_common_size, list_unfit
from sem_search.micrographs.reading.options import COMMON
from sem_search.micrographs.tiles import TileGrid
from sem_search.words import count, join_some, name_some

SAME_MAGNIFICATION = "Image every class at the same magnification, or keep the images of one pixel size"


def advise_on_pixel_size(catalogue: Catalogue, *, grid: TileGrid, pixel_size_nm: float | None) -> str:
    """Return what to do about pixel sizes that differ by class, or what is done about them.

    Args:
        catalogue: The images as their files have them.
        grid: The tiles that will be cut from them.
        pixel_size_nm: To which a search brings all of them; None where it leaves them as they are.
    """
    if pixel_size_nm is not None:
        tiles = _describe_tiles(catalogue, grid=grid, wanted_nm=pixel_size_nm)
        return (
            f"All images are brought to {pixel_size_nm:.4g} nm per pixel (pixel_size_nm), which leaves {tiles}. The "
            "size of things no longer tells the classes apart; sharpness and noise may do so as well as before, since "
            "finer images are averaged: image every class at the same magnifications."
        )
    common_nm = choose_common_size(catalogue.records)
    if common_nm is None:
        return f"{SAME_MAGNIFICATION}."
    unfit = [record.image_id for record, _ in list_unfit(catalogue.records, wanted_nm=common_nm, tile_px=grid.size_px)]
    refused = (
        f", and {count(len(unfit), 'image')} would be refused ({name_some(unfit)}), without a known pixel size or with "
        "no room for a tile"
        if unfit
        else ""
    )
    return (
        f"{SAME_MAGNIFICATION}; or let all be brought to one: pixel_size_nm={COMMON} is {common_nm:.4g} nm, that of "
        f"the coarsest image, and leaves {_describe_tiles(catalogue, grid=grid, wanted_nm=common_nm)}{refused}."
    )


def _describe_tiles(catalogue: Catalogue, *, grid: TileGrid, wanted_nm: float) -> str:
    """Return `40 of 80 tiles (a 20 of 20; b 20 of 60)`."""
    unfit = {record.image_id for record, _ in list_unfit(catalogue.records, wanted_nm=wanted_nm, tile_px=grid.size_px)}
    brought = catalogue.at_pixel_size(wanted_nm)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for record in catalogue.records:
        before[record.label] += len(list(grid.iter_corners(record.height_px, record.width_px)))
        if record.image_id not in unfit:
            after[record.label] += len(list(grid.iter_corners(*brought.get_shape(record))))
    parts = [f"{name} {after[name]:,} of {before[name]:,}" for name in catalogue.class_names]
    return f"{after.total():,} of {count(before.total(), 'tile')} ({join_some(parts, noun='class')})"

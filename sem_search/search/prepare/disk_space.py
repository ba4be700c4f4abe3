"""The disk that trunk features take: told before the first is computed, and refused where it is not there.

A view is written when it has been computed, so that without this a disk could be full after hours, at the last view.
"""

import shutil
from collections.abc import Iterator

import numpy as np

from sem_search.errors import SettingsError
from sem_search.places import CACHE_VARIABLE, get_cache_folder, make_cache_folder
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.transfer.features import compute_n_bytes

UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6}

LARGE_SHARE = 0.1
"""Share of the free disk from which on it is said what takes less."""


def check_disk_space(*, data: PreparedData, network: PreparedNetwork, n_views: int) -> str:
    """Return how much disk the features take, how much is free, and where they take much, what would take less.

    Args:
        data: The tiles.
        network: The trunk.
        n_views: Views that are to be computed, 1 or more.

    Raises:
        SettingsError: They cannot fit; the message names what would, with its size.
    """
    folder = make_cache_folder(get_cache_folder())
    free, needed = shutil.disk_usage(folder).free, n_views * compute_n_bytes(network.cut, n_tiles=data.tiles.n_tiles)
    tiles = f"{data.tiles.n_tiles} tiles" + (f" in {n_views} views" if n_views > 1 else "")
    text = f"The features of {tiles} take {_format(needed)} of disk; {_format(free)} are free in {folder}"
    has_room = needed <= free
    smaller = "; ".join(_iter_smaller(data, network=network, n_views=n_views, most=needed // 2 if has_room else free))
    if not has_room:
        advice = f"Give {smaller}; make" if smaller else "Make"
        raise SettingsError(
            f"{text}. {advice} room, for instance by `sem-search cache clear`; or set {CACHE_VARIABLE} to a folder "
            "that can hold them."
        )
    return f"{text}. Less: {smaller}." if smaller and needed > LARGE_SHARE * free else f"{text}."


def _iter_smaller(data: PreparedData, *, network: PreparedNetwork, n_views: int, most: int) -> Iterator[str]:
    """Yield the settings that take at most so many bytes, each with what it takes."""
    of_images = np.bincount(data.tiles.image_of_tile)
    if n_views > 1 and (size := compute_n_bytes(network.cut, n_tiles=data.tiles.n_tiles)) <= most:
        yield f"augment=none ({_format(size)})"
    for per_image in range(int(of_images.max()) - 1, 0, -1):
        size = n_views * compute_n_bytes(network.cut, n_tiles=int(np.minimum(of_images, per_image).sum()))
        if size <= most:
            yield f"tiles_per_image={per_image} ({_format(size)})"
            return


def _format(n_bytes: int) -> str:
    unit, size = next(((unit, size) for unit, size in UNITS.items() if n_bytes >= size), ("kB", 1e3))
    return f"{n_bytes / size:.1f} {unit}"

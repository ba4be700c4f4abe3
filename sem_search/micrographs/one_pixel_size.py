"""Which pixel size all images of a data set are brought to, and which images cannot be.

Classes that were imaged at different magnifications differ in the size of everything in them, in pixels, and a network
can learn that instead of the material.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from sem_search.errors import DataError, UnreadableImageError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.reading.options import COMMON, PixelSize
from sem_search.micrographs.reading.pixel_size import compute_factor, compute_shape
from sem_search.micrographs.unusable_files import SkippedFile, check_skipped, find_causes
from sem_search.words import count


def settle_pixel_size(catalogue: Catalogue, *, asked: PixelSize, tile_px: int) -> tuple[Catalogue, float | None]:
    """Return the images that can be brought to the pixel size that is asked for, and that size in nm.

    The images are still as their files have them, for the inspection; `Catalogue.at_pixel_size` brings them to it.

    Args:
        catalogue: All images. Where its reading lets files be left out, those that do not fit are.
        asked: A size in nm, that of the coarsest image, or None, which leaves all as they are.
        tile_px: Side of a tile.

    Raises:
        DataError: The coarsest image is asked for, and no image states its pixel size.
        UnreadableDataError: Images cannot be brought to it, and may not be left out; the message lists all of them.
    """
    if asked is None:
        return catalogue, None
    wanted_nm = choose_common_size(catalogue.records) if isinstance(asked, str) else asked
    if wanted_nm is None:
        raise DataError(
            f"pixel_size_nm={COMMON}: no image states its pixel size, so there is none to bring the others to. Give "
            "the instrument's own files, or leave pixel_size_nm out."
        )
    if n_beside := sum(record.is_pixel_size_beside for record in catalogue.records):
        warning = (
            f"{count(n_beside, 'image')} of {len(catalogue.records)}: only the text file beside the picture states the "
            "pixel size. A served model does not see that file, and will refuse such pictures: save the size within "
            "them (as ImageJ or OME-TIFF files have it), or leave pixel_size_nm out."
        )
        catalogue = dataclasses.replace(catalogue, warnings=(*catalogue.warnings, warning))
    reasons = list_unfit(catalogue.records, wanted_nm=wanted_nm, tile_px=tile_px)
    if not reasons:
        return catalogue, wanted_nm
    unfit = [SkippedFile(path=record.path, reason=reason) for record, reason in reasons]
    causes = find_causes(unfit, root=catalogue.root)
    unfit_ids = {record.image_id for record, _ in reasons}
    fitting = tuple(record for record in catalogue.records if record.image_id not in unfit_ids)
    check_skipped(
        causes,
        n_files=len(catalogue.records),
        labels=set(catalogue.class_names),
        left={record.label for record in fitting},
        is_allowed=catalogue.reading.skip_unreadable,
    )
    kept = dataclasses.replace(
        catalogue,
        records=fitting,
        skipped=(*catalogue.skipped, *unfit),
        warnings=(*catalogue.warnings, *(f"left out {cause.to_text()}" for cause in causes)),
    )
    return kept, wanted_nm


def choose_common_size(records: Iterable[ImageRecord]) -> float | None:
    """Return the pixel size of the coarsest image, in nm, to four digits; None where none is known."""
    sizes = [record.pixel_size_nm for record in records if record.pixel_size_nm is not None]
    return float(f"{max(sizes):.4g}") if sizes else None


def has_common_size(records: Sequence[ImageRecord], *, tile_px: int) -> bool:
    """Return whether every image can be brought to the pixel size of the coarsest one, with room for a tile."""
    wanted_nm = choose_common_size(records)
    return wanted_nm is not None and not list_unfit(records, wanted_nm=wanted_nm, tile_px=tile_px)


def list_unfit(records: Iterable[ImageRecord], *, wanted_nm: float, tile_px: int) -> list[tuple[ImageRecord, str]]:
    """Return the images that cannot be brought to a pixel size, or have no room for a tile then, each with the reason.

    Args:
        records: The images.
        wanted_nm: The pixel size.
        tile_px: Side of a tile.
    """
    unfit = []
    for record in records:
        try:
            factor = compute_factor(record.pixel_size_nm, wanted_nm=wanted_nm)
        except UnreadableImageError as error:
            unfit.append((record, str(error)))
            continue
        height_px, width_px = compute_shape((record.height_px, record.width_px), factor=factor)
        if min(height_px, width_px) < tile_px:
            reason = (
                f"has {width_px} x {height_px} px when it is brought from {record.pixel_size_nm:.4g} to "
                f"{wanted_nm:.4g} nm per pixel, smaller than a tile of {tile_px} px: leave it out, or give a smaller "
                "pixel_size_nm or tile_px"
            )
            unfit.append((record, reason))
    return unfit

"""What a TIFF file holds, looked at before anything is decoded.

Pillow decodes every compression a microscope uses, but it reads signed grey levels as unsigned, leaves inverted 16-bit
grey inverted, mixes up uncompressed colour planes, and cannot read a big-endian BigTIFF. tifffile sees all that in the
tags, but without further libraries it cannot decompress. So tifffile looks and Pillow decompresses; only what has 8 or
16 bits and is not compressed, which is what instruments write, is taken from tifffile directly, in full depth.

A file that is whole but of a kind that neither reads is refused with the name of that kind, not as damaged.
"""

import io
import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tifffile

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.grey import Samples
from sem_search.micrographs.reading.instruments import InstrumentMetadata, read_tiff_metadata

# What Pillow's libtiff decompresses; it would write about any other on stderr, and only then fail.
COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34925, 50000))
PREDICTED_COMPRESSIONS = frozenset((5, 8, 32946, 34925, 50000))  # LZW, deflate (two numbers), LZMA, Zstandard
PREDICTOR_TAG = 317
MULTIPLIED_ALPHA = 1  # TIFF 6.0, ExtraSamples
ALPHA = (MULTIPLIED_ALPHA, 2)
COLOUR_SAMPLES = {2: 3, 5: 4, 6: 3, 8: 3}  # PhotometricInterpretation: RGB, CMYK, YCbCr, L*a*b*; else one
PALETTE_8_BIT = 256
UNSIGNED = 1  # TIFF 6.0, SampleFormat
SAMPLE_KINDS = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}
MAX_BYTES_PER_PIXEL = 8  # four samples of 16 bits; more is no picture
MAX_TILE_EXCESS, MAX_TILE_PIXELS = 4, 4_000_000  # storage tiles may stick out of a small picture, within reason
ORIENTATION_TAG = 274
MAX_SAMPLE_VALUE_TAG = 281
JPEG_SCAN = b"\xff\xda"  # in compressed data 0xff is followed by 0x00, so that this is the marker wherever it stands
MAX_JPEG_SCANS = 200  # a progressive JPEG has about ten; each costs the time of a whole picture, and few bytes
MAX_PAGES_COUNTED = 1000  # a file may hold millions of empty ones to keep its reader busy
MAX_TAGS_COUNTED = 30_000  # of all pages together; a page has about twenty, and each costs 16 microseconds

# Damage that tifffile meets ends in our own error or warning; its log lines on stderr would only repeat it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class TiffFacts:
    """What the tags of the page to be read contain."""

    page: int
    """Index of the largest page that is no thumbnail, the first of several."""
    bits: int
    """Per sample: 1 to 16."""
    max_value: int | None
    """The level that means white where 9 to 15 bits are stored in 16 and the file gives it."""
    is_inverted: bool
    """Zero means white."""
    is_plain: bool
    """Not compressed, of 8 or 16 bit: `decode_plain_tiff` can take it."""
    palette: bytes | None
    """Red, green and blue of each index where the file gives them as 8 bits; the standard has 16, as most files."""
    kind: str
    """The page in words, to be named if it cannot be decoded."""
    orientation: int
    """As in EXIF: 1 is upright, 2 to 8 ask viewers to turn or mirror it."""
    metadata: InstrumentMetadata
    warnings: tuple[str, ...]


def examine_tiff(data: bytes, *, max_pixels: float) -> TiffFacts:
    """Return what the file holds, after all that can be known to be wrong without decoding was refused.

    Args:
        data: The file.
        max_pixels: Largest width x height.

    Raises:
        UnreadableImageError: Damaged, truncated, too large, or grey levels whose range the file does not give; the
            message gives the reason without the file's name.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page, index, warnings = _choose_page(tiff)
        _check_size(page, max_pixels=max_pixels)
        _check_samples(page)
        _check_compression(page)
        _check_extent(page, file_bytes=len(data))
        _check_scans(page, n_scans=data.count(JPEG_SCAN))
        if tiff.is_bigtiff and tiff.byteorder == ">" and not _is_plain(page):
            raise UnreadableImageError(
                f"is a big-endian BigTIFF with {_describe(page)}, which is supported without compression only: "
                "save it without compression, or as an ordinary TIFF"
            )
        white = page.tags.valueof(MAX_SAMPLE_VALUE_TAG)
        return TiffFacts(
            page=index,
            bits=_get_bits(page),
            max_value=white if _get_bits(page) == 16 and white in {2**bits - 1 for bits in range(9, 16)} else None,
            is_inverted=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
            is_plain=_is_plain(page),
            palette=_get_palette(page),
            kind=_describe(page),
            orientation=_get_orientation(page),
            metadata=read_tiff_metadata(page),
            warnings=warnings + _warn_of_further_samples(page),
        )


def decode_plain_tiff(data: bytes, *, page: int) -> Samples:
    """Return the samples of a page that `examine_tiff` called plain, upright, shape (height, width, n_samples).

    They are grey or colour, then alpha where there is one; further samples are left out.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        chosen = tiff.pages[page].aspage()
        samples = chosen.asarray()
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        if samples.ndim == 3 and chosen.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.reshape(chosen.imagelength, chosen.imagewidth, -1)
        n_known = chosen.samplesperpixel - _count_further_samples(chosen)
        return _turn_upright(samples[:, :, :n_known], orientation=_get_orientation(chosen))


def _turn_upright(samples: Samples, *, orientation: int) -> Samples:
    """Undo an EXIF orientation: 2 to 5 and 7 are mirrored, 3 to 8 turned."""
    quarter_turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(orientation, 0)
    turned = np.rot90(samples, quarter_turns)
    return turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned


def _get_orientation(page: tifffile.TiffPage) -> int:
    """Return the orientation tag, 1 where there is none or it means nothing."""
    value = page.tags.valueof(ORIENTATION_TAG)
    return value if value in range(1, 9) else 1


def _choose_page(tiff: tifffile.TiffFile) -> tuple[tifffile.TiffPage, int, tuple[str, ...]]:
    """Return the largest full page, the first of several, and warnings about the others.

    Not every program marks the preview that it puts in front.
    """
    pages = list(_iter_pages(tiff))
    full = [index for index, page in enumerate(pages) if not (page.is_reduced or page.is_mask)]
    if not pages:
        raise UnreadableImageError("has no page, so it is truncated or damaged: copy or export it again")
    if not full:
        raise UnreadableImageError("holds thumbnails only: export the full image")
    chosen = max(full, key=lambda index: pages[index].imagewidth * pages[index].imagelength)
    read = "the first" if chosen == full[0] else f"page {chosen + 1}, which is larger than those before it,"
    warnings = []
    if len(full) > 1:
        warnings.append(f"has {len(full)} pages; only {read} was read")
    if full[0] > 0:
        warnings.append(f"page 1 is a thumbnail; page {chosen + 1} was read")
    return pages[chosen], chosen, tuple(warnings)


def _iter_pages(tiff: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    """Yield the pages, until there are more of them, or of their tags, than any picture has."""
    n_tags = 0
    for page in itertools.islice(tiff.pages, MAX_PAGES_COUNTED):
        yield page.aspage()
        n_tags += len(page.aspage().tags)
        if n_tags > MAX_TAGS_COUNTED:
            return


def _check_size(page: tifffile.TiffPage, *, max_pixels: float) -> None:
    """Raise if the page is empty, or larger than allowed in pixels, bytes per pixel or the pieces it is stored in."""
    check_pixel_count(page.imagewidth, page.imagelength, max_pixels=max_pixels)
    n_pixels = page.imagewidth * page.imagelength
    if page.nbytes > MAX_BYTES_PER_PIXEL * n_pixels and _get_bits(page) <= 16:
        raise UnreadableImageError(
            f"has {page.nbytes // n_pixels} bytes per pixel, more than a colour image needs: export it as grey"
        )
    piece_pixels = math.prod(page.chunks)
    if page.is_tiled and piece_pixels > MAX_TILE_EXCESS * n_pixels + MAX_TILE_PIXELS:
        raise UnreadableImageError(
            f"is stored in tiles of {piece_pixels / 1e6:.0f} megapixels, far more than the image has: export it again"
        )


def check_pixel_count(width_px: int, height_px: int, *, max_pixels: float) -> None:
    """Raise if a picture is empty or larger than allowed.

    Args:
        width_px: Width.
        height_px: Height.
        max_pixels: Largest width x height.
    """
    if width_px < 1 or height_px < 1:
        raise UnreadableImageError(f"the image is empty ({width_px} x {height_px} px): export it again")
    if width_px * height_px > max_pixels:
        raise UnreadableImageError(
            f"{width_px} x {height_px} px are {width_px * height_px / 1e6:.1f} megapixels, more than the limit of "
            f"{max_pixels / 1e6:g}: crop the image, or raise max_megapixels"
        )


def _check_samples(page: tifffile.TiffPage) -> None:
    """Raise if the file does not give the level of white: any guess would make a grey level mean two things."""
    kind = SAMPLE_KINDS.get(int(page.sampleformat), "samples of an unknown kind")
    bits = _get_bits(page)
    if page.sampleformat != UNSIGNED or bits > 16:
        shown = kind if page.sampleformat != UNSIGNED else "unsigned integers"
        raise UnreadableImageError(
            f"holds {bits}-bit {shown}, and the file does not say which value is white: "
            "save it as unsigned grey with 8 or 16 bits"
        )


def _check_compression(page: tifffile.TiffPage) -> None:
    """Raise if the compression is not read here, or if its levels can be read two ways.

    A predictor stores differences of levels. TIFF defines it as a part of some compressions; beside another, libtiff
    passes over it and other programs do not.
    """
    if page.compression not in COMPRESSIONS:
        raise UnreadableImageError(
            f"is compressed with {_name(page.compression)}, which is not supported: "
            "save it without compression, or with LZW or deflate"
        )
    predictor = page.tags.valueof(PREDICTOR_TAG)
    if predictor not in (None, 1) and page.compression not in PREDICTED_COMPRESSIONS:
        raise UnreadableImageError(
            f"stores differences of grey levels (predictor {predictor}), which programs read in two ways with the "
            f"compression {_name(page.compression)}: save it without predictor"
        )


def _describe(page: tifffile.TiffPage) -> str:
    """Return what the page holds, such as `2 x 10-bit samples (MINISBLACK, LZW)`."""
    return (
        f"{page.samplesperpixel} x {_get_bits(page)}-bit samples ({_name(page.photometric)}, {_name(page.compression)})"
    )


def _name(code: object) -> str:
    """Return the name of a value of a tag, or its number where it is none that TIFF knows."""
    return str(getattr(code, "name", None) or code)


def _get_bits(page: tifffile.TiffPage) -> int:
    """Return the bits per sample, the largest where the samples differ."""
    return max(_get_all_bits(page))


def _get_all_bits(page: tifffile.TiffPage) -> tuple[int, ...]:
    bits = page.bitspersample
    return tuple(map(int, bits)) if isinstance(bits, tuple) else (int(bits),) * page.samplesperpixel


def _get_palette(page: tifffile.TiffPage) -> bytes | None:
    """Return a palette of 8 bits, None where the page has none or it has the 16 bits that TIFF asks for.

    Libtiff's programs decide in the same way: no entry above 255 means 8 bits.
    """
    colours = page.colormap
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or colours is None or int(colours.max()) >= PALETTE_8_BIT:
        return None
    return bytes(colours.T.astype(np.uint8).tobytes())


def _count_further_samples(page: tifffile.TiffPage) -> int:
    """Return how many samples of a pixel are neither grey, nor colour, nor marked as alpha."""
    n_colours = COLOUR_SAMPLES.get(int(page.photometric), 1)
    is_rgba = n_colours == 3 and page.samplesperpixel == 4 and not page.extrasamples  # as all programs take it
    n_alpha = 1 if is_rgba else sum(int(kind) in ALPHA for kind in page.extrasamples)
    return max(0, page.samplesperpixel - n_colours - n_alpha)


def _warn_of_further_samples(page: tifffile.TiffPage) -> tuple[str, ...]:
    """Return a warning if pixels have samples that are left out, such as a second detector's."""
    n_read = page.samplesperpixel - _count_further_samples(page)
    if n_read == page.samplesperpixel:
        return ()
    read = "the first was" if n_read == 1 else f"the first {n_read} were"
    return (f"has {page.samplesperpixel} samples per pixel; only {read} read",)


def _check_extent(page: tifffile.TiffPage, *, file_bytes: int) -> None:
    """Raise unless all strips or tiles that the picture needs lie within the file.

    Decoders fill what is missing with black, which would pass for a dark micrograph.
    """
    n_needed = math.prod(page.chunked)
    pieces = list(zip(page.dataoffsets, page.databytecounts, strict=False))[:n_needed]
    n_found = sum(offset > 0 and count > 0 for offset, count in pieces)
    if n_found < n_needed:
        raise UnreadableImageError(f"has only {n_found} of the {n_needed} pieces of its image: copy or export it again")
    end = max(offset + count for offset, count in pieces)
    if end > file_bytes:
        raise UnreadableImageError(
            f"is truncated: it has {file_bytes} bytes, but its image ends at byte {end}: copy or export it again"
        )
    n_stored = sum(count for _, count in pieces)
    if n_stored > file_bytes:  # each piece is read whole: a thousand that share their bytes would take a thousand times
        raise UnreadableImageError(
            f"has image pieces of {n_stored} bytes together in a file of {file_bytes} bytes, so they overlap: export "
            "it again"
        )
    bits = _get_all_bits(page)
    rows = bits if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else (sum(bits),)  # each fills whole bytes
    n_expected = page.imagelength * sum(math.ceil(page.imagewidth * row_bits / 8) for row_bits in rows)
    if page.compression == tifffile.COMPRESSION.NONE and n_stored < n_expected and page.is_subsampled:
        raise UnreadableImageError(
            f"holds {_describe(page)} whose colour has a lower resolution, which is not supported: "
            "save it as grey with 8 or 16 bits"
        )
    if page.compression == tifffile.COMPRESSION.NONE and n_stored < n_expected:
        raise UnreadableImageError(
            f"its image needs {n_expected} bytes, but the file holds {n_stored} of them: copy or export it again"
        )


def _check_scans(page: tifffile.TiffPage, *, n_scans: int) -> None:
    """Raise if a JPEG in the file would be decoded hundreds of times over."""
    n_pieces = math.prod(page.chunked)
    if page.compression == tifffile.COMPRESSION.JPEG and n_scans > MAX_JPEG_SCANS * n_pieces:
        raise UnreadableImageError(
            f"has {n_scans} JPEG scans in {n_pieces} pieces, and each takes as long to decode as a piece: export it "
            "again"
        )


def _is_plain(page: tifffile.TiffPage) -> bool:
    """Return whether tifffile can take the samples as they lie in the file: grey or colour, with or without alpha."""
    grey = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    is_grey = page.photometric in grey and page.samplesperpixel in (1, 2)
    is_colour = page.photometric == tifffile.PHOTOMETRIC.RGB and page.samplesperpixel in (3, 4)
    is_raw = page.compression == tifffile.COMPRESSION.NONE and page.fillorder == 1 and page.imagedepth == 1
    is_deep = page.dtype == np.uint16 and set(_get_all_bits(page)) == {16}
    # Pillow takes a multiplied alpha out of 8-bit levels again.
    is_shallow = (
        page.dtype == np.uint8 and set(_get_all_bits(page)) == {8} and MULTIPLIED_ALPHA not in page.extrasamples
    )
    return (is_grey or is_colour) and is_raw and (is_deep or is_shallow)

"""One file in, one grey micrograph out: every image is read here, in a search and in the served classifier.

PNG, JPEG, BMP and TIFF; what the bytes say counts, not the file's name. The rules:

- Levels become grey in [0, 1] (`grey`): 8 and 16 bits in their full range, colour as luma, transparency ignored.
- A TIFF or EXIF orientation is applied, so that the bottom of the picture is the bottom that the user sees.
- Signed, 32-bit and floating-point levels are refused: no file gives the value of white.
- Several pages: the largest full one, the first of several, with a warning. Several frames of an animation: refused.
- Truncated, damaged, oversized: refused, before decoding where the header is enough. No decoder fills a gap with black.
"""

import dataclasses
import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.grey import (
    TWELVE_BIT_WHITE,
    FloatImage,
    Levels,
    compute_levels,
    compute_luma,
    find_losses,
    find_plain_alpha,
    name_mode,
    name_plain_mode,
    scale_levels,
)
from sem_search.micrographs.reading.instruments import InstrumentMetadata, merge_metadata, read_sidecar_metadata
from sem_search.micrographs.reading.options import DEFAULT_READING, ReadingOptions
from sem_search.micrographs.reading.pixel_size import bring_to_pixel_size
from sem_search.micrographs.reading.tiffs import (
    JPEG_SCAN,
    MAX_JPEG_SCANS,
    TiffFacts,
    check_pixel_count,
    decode_plain_tiff,
    examine_tiff,
)

MAX_FILE_BYTES_PER_PIXEL = 8  # four samples of 16 bits, not compressed
FILE_BYTES_BESIDE_PIXELS = 64_000_000  # thumbnails, further pages, metadata
ORIENTATION_TAG = 274
PNG_FIRST_CHUNK_AT = 8  # behind the signature
MAX_PNG_CHUNKS, MIN_PNG_CHUNK_BYTES = 1000, 512  # pictures are written in chunks of 8 kB and more
NOT_SUPPORTED = ("Unsupported", "cannot handle")  # Pillow on intact BMP and JPEG files of a kind that it cannot decode
PNG_BIT_DEPTH_AT = 24  # signature, length and type of the first chunk, width, height

# Damage that Pillow meets ends in our own error or warning; its words on stderr would only repeat it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

# The plug-ins are named, not found by Image.open: it would try thirty more formats, and holds a pixel limit of its own.
PLUGINS: dict[bytes, tuple[str, type[ImageFile.ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": ("PNG", PngImagePlugin.PngImageFile),
    b"\xff\xd8\xff": ("JPEG", JpegImagePlugin.JpegImageFile),
    b"BM": ("BMP", BmpImagePlugin.BmpImageFile),
    b"II*\x00": ("TIFF", TiffImagePlugin.TiffImageFile),
    b"MM\x00*": ("TIFF", TiffImagePlugin.TiffImageFile),
    b"II+\x00": ("TIFF", TiffImagePlugin.TiffImageFile),  # BigTIFF
    b"MM\x00+": ("TIFF", TiffImagePlugin.TiffImageFile),
}
REFUSED_SIGNATURES = {
    b"GIF8": "GIF",
    b"RIFF": "WebP or other RIFF",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"%PDF": "PDF",
    b"PK\x03\x04": "ZIP",
}


@dataclass(frozen=True, kw_only=True)
class Micrograph:
    """One decoded micrograph, data bar removed."""

    pixels: FloatImage
    """Grey levels in [0, 1], shape (height_px, width_px), of the pixel size that was asked for."""
    original: FloatImage
    """The same before it was brought to that pixel size: what is hashed and measured. Mostly the same array."""
    metadata: InstrumentMetadata
    bit_depth: int
    """8 or 16, as stored (8 for less than 8, 16 for 9 to 15)."""
    file_height_px: int
    """Height of the upright picture with its data bar."""
    mode: str
    """Pillow's name for what is stored: `L`, `RGB`, `I;16`, `P` ..."""
    warnings: tuple[str, ...] = ()
    """What the user must know, without the file's name."""
    is_pixel_size_beside: bool = False
    """Whether only the text file beside the picture states the pixel size: a served model does not see that file."""


def read_micrograph(
    source: Path | bytes, *, name: str | None = None, reading: ReadingOptions = DEFAULT_READING
) -> Micrograph:
    """Return one micrograph as grey levels in [0, 1], data bar removed.

    Args:
        source: The picture file, or its content. The text file that Hitachi, JEOL and TESCAN write beside a picture
            is read for paths only.
        name: What messages call the picture; the path by default.
        reading: Data bar, largest size, and the pixel size to which the image is brought.

    Raises:
        UnreadableImageError: The file is missing, empty, not a picture of these formats, truncated, damaged, animated,
            too large, of unknown grey range, of a kind of TIFF that is not read, shows several view fields side by
            side, cannot be brought to the pixel size, or nothing is left of it above the data bar. The message is one
            sentence: name, reason, what to do.
    """
    shown = name or (str(source) if isinstance(source, Path) else "the picture")
    try:
        if isinstance(source, Path):
            return _decode(_read_file(source, max_megapixels=reading.max_megapixels), path=source, reading=reading)
        return _decode(source, path=None, reading=reading)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{shown}: {error}") from error.__cause__
    except (OSError, ValueError) as error:  # ValueError: a name with a null character, which no file can bear
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImageError(f"{shown}: cannot be read ({reason}): check the file") from error


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Return a picture as the content of a PNG file.

    Args:
        rgb: Shape (height, width) for grey or (height, width, 3) for colour.
    """
    return _encode(rgb, format="PNG")


def encode_tiff(grey: NDArray[np.uint8], *, pixel_nm: float) -> bytes:
    """Return a grey picture as the content of a TIFF file that states its pixel size, as ImageJ writes it.

    Args:
        grey: Shape (height, width).
        pixel_nm: Width of a pixel.
    """
    scale = {"description": "ImageJ=1.53\nunit=nm\n", "x_resolution": 1 / pixel_nm, "y_resolution": 1 / pixel_nm}
    return _encode(grey, format="TIFF", compression="tiff_adobe_deflate", **scale)


def encode_jpeg(rgb: NDArray[np.uint8], *, quality: int) -> bytes:
    """Return a picture as the content of a JPEG file: for pages, since no PNG packs the noise of a micrograph.

    Args:
        rgb: Shape (height, width) for grey or (height, width, 3) for colour.
        quality: Of the file, 1 to 95.
    """
    return _encode(rgb, format="JPEG", quality=quality)


def _encode(rgb: NDArray[np.uint8], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, **options)
    return buffer.getvalue()


def _read_file(path: Path, *, max_megapixels: float) -> bytes:
    """Return the file's content, after looking whether it is a file and of a size that a picture can have."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise UnreadableImageError(
            "there is no such file, or it is a link to a file that does not exist any more"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableImageError("is a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device could keep its reader waiting for ever
        raise UnreadableImageError("is not a regular file")
    limit = max_megapixels * 1e6 * MAX_FILE_BYTES_PER_PIXEL + FILE_BYTES_BESIDE_PIXELS
    if status.st_size > limit:
        raise UnreadableImageError(
            f"the file has {status.st_size / 1e6:.0f} MB, but an image of {max_megapixels:g} megapixels needs at most "
            f"{limit / 1e6:.0f} MB: crop the image, or raise max_megapixels"
        )
    return path.read_bytes()


def _decode(data: bytes, *, path: Path | None, reading: ReadingOptions) -> Micrograph:
    kind, plugin = _recognise(data)
    try:
        if kind == "TIFF":
            picture = _decode_tiff(data, max_pixels=reading.max_pixels)
        else:
            picture = _decode_other(data, kind=kind, plugin=plugin, max_pixels=reading.max_pixels)
    except UnreadableImageError:
        raise
    except Exception as error:  # decoders fed with damaged bytes raise any exception
        if _describe(error).startswith(NOT_SUPPORTED):
            raise UnreadableImageError(
                f"is a {kind} file of a kind that is not supported ({_describe(error)}): "
                "export it as PNG or TIFF with 8 or 16 bits"
            ) from error
        raise UnreadableImageError(
            f"the {kind} file is damaged, truncated or of an unknown kind ({_describe(error)}): copy or export it again"
        ) from error
    height_px, width_px = picture.grey.shape
    metadata = _check_scan_size(picture.metadata, height_px=height_px, width_px=width_px)
    own_nm = metadata.pixel_size_nm
    if path is not None:
        sidecar = read_sidecar_metadata(path, file_height_px=height_px)
        sidecar = _check_scan_size(sidecar, height_px=height_px, width_px=width_px)
        if metadata.scan_height_px is None:
            sidecar = _warn_if_served_otherwise(sidecar, height_px=height_px, crop_bottom_px=reading.crop_bottom_px)
        metadata = merge_metadata(metadata, sidecar)
    grey = _remove_bar(picture.grey, scan_height_px=metadata.scan_height_px, crop_bottom_px=reading.crop_bottom_px)
    return Micrograph(
        pixels=bring_to_pixel_size(grey, own_nm=metadata.pixel_size_nm, wanted_nm=reading.pixel_size_nm),
        original=grey,
        metadata=metadata,
        bit_depth=16 if picture.bits > 8 else 8,
        file_height_px=height_px,
        mode=picture.mode,
        warnings=picture.warnings + metadata.warnings,
        is_pixel_size_beside=own_nm is None and metadata.pixel_size_nm is not None,
    )


def _recognise(data: bytes) -> tuple[str, type[ImageFile.ImageFile]]:
    if not data:
        raise UnreadableImageError("is empty: copy or export it again")
    for signature, known in PLUGINS.items():
        if data.startswith(signature):
            return known
    refused = next((kind for signature, kind in REFUSED_SIGNATURES.items() if data.startswith(signature)), None)
    found = f"is a {refused} file" if refused else "is not an image of a known format"
    raise UnreadableImageError(f"{found}: export it as PNG, JPEG, BMP or TIFF")


def _describe(error: Exception) -> str:
    """Return a foreign error as part of one sentence."""
    return " ".join(str(error).split())[:150] or type(error).__name__


@dataclass(frozen=True, kw_only=True)
class _Picture:
    grey: FloatImage
    bits: int
    mode: str
    metadata: InstrumentMetadata
    warnings: tuple[str, ...]


def _decode_tiff(data: bytes, *, max_pixels: float) -> _Picture:
    """Decode the page that `examine_tiff` chose."""
    facts = examine_tiff(data, max_pixels=max_pixels)
    levels: Levels
    if facts.is_plain:
        samples = decode_plain_tiff(data, page=facts.page)
        levels, mode, losses = compute_luma(samples), name_plain_mode(samples), find_plain_alpha(samples)
    else:
        image = _load_tiff(data, facts=facts)
        if facts.palette is not None:
            image.putpalette(facts.palette)
        levels, mode, losses = compute_levels(image), name_mode(image), find_losses(image, bits=facts.bits)
    grey, doubts = scale_levels(
        levels,
        given_white=TWELVE_BIT_WHITE if facts.bits == 12 else facts.max_value,
        # Pillow has inverted those of 8 bits.
        is_inverted=facts.is_inverted and (facts.is_plain or levels.dtype == np.uint16),
    )
    return _Picture(
        grey=grey,
        bits=facts.bits,
        mode=mode,
        metadata=facts.metadata,
        warnings=(*facts.warnings, *_warn_if_turned(facts.orientation), *losses, *doubts),
    )


def _load_tiff(data: bytes, *, facts: TiffFacts) -> Image.Image:
    """Return the page as Pillow decodes it.

    Damage shows while it is decoded, as an OSError; what Pillow does not know, as one of these.
    """
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        image.seek(facts.page)
        image.load()  # also turns it upright
    except (SyntaxError, IndexError, ValueError) as error:
        raise UnreadableImageError(
            f"holds {facts.kind}, a kind of TIFF that is not supported: "
            "save it as grey with 8 or 16 bits and without compression"
        ) from error
    return image


def _decode_other(data: bytes, *, kind: str, plugin: type[ImageFile.ImageFile], max_pixels: float) -> _Picture:
    if kind == "PNG":
        _check_chunks(data)
    image = plugin(io.BytesIO(data))
    check_pixel_count(*image.size, max_pixels=max_pixels)
    if kind == "JPEG" and data.count(JPEG_SCAN) > MAX_JPEG_SCANS:
        raise UnreadableImageError(
            f"has {data.count(JPEG_SCAN)} JPEG scans instead of about ten, and each takes as long to decode as a whole "
            "image: export it again"
        )
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1:
        raise UnreadableImageError(f"is an animation of {n_frames} frames: export the frame that you need")
    if kind == "PNG":
        image.verify()  # all checksums, to the end; the decoder stops at the last row and would miss a torn tail
        image = plugin(io.BytesIO(data))
    image.load()
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    upright = ImageOps.exif_transpose(image)
    bits = data[PNG_BIT_DEPTH_AT] if kind == "PNG" else 8
    grey, doubts = scale_levels(compute_levels(upright), given_white=None)
    return _Picture(
        grey=grey,
        bits=bits,
        mode=name_mode(image),
        metadata=InstrumentMetadata(),
        warnings=(*_warn_if_turned(orientation), *find_losses(image, bits=bits), *doubts),
    )


def _check_chunks(data: bytes) -> None:
    """Raise if a PNG is cut into far more pieces than any program cuts it: each costs 20 microseconds."""
    n_allowed = MAX_PNG_CHUNKS + len(data) // MIN_PNG_CHUNK_BYTES
    at, n_chunks = PNG_FIRST_CHUNK_AT, 0
    while at + 4 <= len(data):
        at += 12 + int.from_bytes(data[at : at + 4], "big")  # length, type and checksum stand around the content
        n_chunks += 1
        if n_chunks > n_allowed:
            raise UnreadableImageError(f"has more than {n_allowed} chunks for {len(data)} bytes: export it again")


def _warn_if_turned(orientation: object) -> tuple[str, ...]:
    """Return a warning if the file's orientation tag was followed."""
    return ("was rotated upright, following its orientation tag",) if orientation in range(2, 9) else ()


def _warn_if_served_otherwise(
    sidecar: InstrumentMetadata, *, height_px: int, crop_bottom_px: int
) -> InstrumentMetadata:
    """Add a warning if the text beside a picture cuts off a bar that the settings leave on.

    A served model is sent the picture without the text, so only the settings can cut there.
    """
    bar_px = 0 if sidecar.scan_height_px is None else height_px - sidecar.scan_height_px
    if bar_px in (0, crop_bottom_px):
        return sidecar
    warning = (
        "its data bar is cut off as the text file beside it says, but a served model does not see that file: "
        f"set crop_bottom_px={bar_px} as well"
    )
    return dataclasses.replace(sidecar, warnings=(*sidecar.warnings, warning))


def _check_scan_size(metadata: InstrumentMetadata, *, height_px: int, width_px: int) -> InstrumentMetadata:
    """Drop what no longer holds if the file has another width than the scan; raise if the scan cannot lie in it."""
    scan_px = metadata.scan_height_px
    if metadata.scan_width_px not in (None, width_px):
        warning = (
            f"its metadata give a scan width of {metadata.scan_width_px} px, but the file has {width_px}, so it was "
            "cropped, stitched or resized: its pixel size and scan height are not used"
        )
        return dataclasses.replace(
            metadata,
            pixel_size_nm=None,
            scan_width_px=None,
            scan_height_px=None,
            warnings=(*metadata.warnings, warning),
        )
    if scan_px is not None and not 0 < scan_px <= height_px:
        raise UnreadableImageError(
            f"its metadata give a scan height of {scan_px} px, but the file has {height_px} rows, so it was "
            "cropped or resized: use the instrument's own file, or save it without these metadata"
        )
    return metadata


def _remove_bar(grey: FloatImage, *, scan_height_px: int | None, crop_bottom_px: int) -> FloatImage:
    """Return the rows of the scan: as many as the metadata give, else all but the lowest `crop_bottom_px`."""
    height_px = len(grey)
    kept_px = height_px - crop_bottom_px if scan_height_px is None else scan_height_px
    if kept_px < 1:
        raise UnreadableImageError(
            f"has {height_px} rows, and crop_bottom_px={crop_bottom_px} leaves none: lower crop_bottom_px"
        )
    return np.ascontiguousarray(grey[:kept_px])

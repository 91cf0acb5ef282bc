"""Reads PNG, JPEG and TIFF pictures of 8 or 16 bits: grey or RGB, without a physical size.

DPI describes printing and is ignored unless `ReadOptions.dpi` is set. Pillow decodes, or SimpleITK where Pillow would reduce 16
bits a colour to 8.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from voxelry.core.geometry import Geometry
from voxelry.core.volume import Source, Volume
from voxelry.errors import CorruptFileError, LabelError, UnsupportedFormatError
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.voxels import as_labels, check_finite, rescaled

MAX_PIXELS = 2**28
"""Larger pictures are refused before anything is decoded: a small file can claim any size."""

_GREY_MODES = ("1", "L", "I;16", "I;16B", "I;16L", "I", "F")
_MODES = (*_GREY_MODES, "P", "RGB", "RGBA", "LA", "PA")
_UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = 5
_DECODE_ERRORS = (
    UnidentifiedImageError,
    RuntimeError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    struct.error,
)
_NO_SIZE = "no physical size: DPI is not one"
_MM_PER_INCH = 25.4
_LEAST_DPI, _MOST_DPI = 1e-3, 1e9
_BITS_PER_SAMPLE = 258
"""Tag of TIFF 6.0."""


@dataclass(frozen=True)
class PictureHeader:
    """Size and pixel type of a picture, from its header.

    Attributes:
        shape: ``(C, rows, columns)``; C is 3 for any colour or palette mode.
        mode: Pillow's word for the pixel type.
    """

    shape: tuple[int, int, int]
    mode: str


def picture_header(path: str | os.PathLike[str]) -> PictureHeader:
    """Size and mode, from the header alone.

    Raises:
        CorruptFileError: the file is damaged.
        UnsupportedFormatError: several pages, too large, or pixels of a kind that is not read.
    """
    with _opened(Path(path), decode=False) as (image, orientation):
        columns, rows = image.size[::-1] if orientation >= _SWAPPING else image.size
        return PictureHeader((1 if image.mode in (*_GREY_MODES, "LA") else 3, rows, columns), image.mode)


def read_picture(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> Volume:
    """A grey or RGB picture, decoded at once.

    An RGB picture whose channels are equal comes as one channel; an opaque alpha channel is dropped; a palette is resolved;
    the EXIF orientation is applied. `Source.remarks` says which of these was done.

    Args:
        path: a PNG, JPEG or single-page TIFF.
        options: `ReadOptions.dpi` takes the pixel size from the file's DPI, where it has one.

    Returns:
        A Volume ``(C, rows, columns)``, C 1 or 3; uint8 or uint16 as stored, else int16 or float32. No pixel size, unless
        `ReadOptions.dpi` is set.

    Raises:
        CorruptFileError: truncated or damaged.
        UnsupportedFormatError: transparent, several pages, CMYK and the like, or above `MAX_PIXELS`.
        NonFiniteError: NaN or infinite values in a floating-point TIFF.
    """
    file = Path(path)
    remarks: list[str] = []
    with _opened(file, decode=True) as (image, orientation):
        if _is_deep(image, file):
            array = _deep(image, orientation, file, remarks)
        else:
            array = _channels(_upright(image, orientation, remarks), file, remarks)
        size, size_remark = _pixel_size(image, orientation, options)
    if array.dtype not in (np.uint8, np.uint16):
        array = rescaled(array, 1.0, 0.0)
    check_finite(array, str(file))
    return Volume(array, _grid(array, size), channels=len(array), source=_source(file, [*remarks, size_remark]))


def read_picture_labels(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], Geometry, Source]:
    """The labels of a PNG or TIFF: values as stored, for a palette its indices.

    Args:
        path: the file.

    Returns:
        Labels ``(rows, columns)`` in the smallest unsigned type, their grid, and where they came from.

    Raises:
        LabelError: colours instead of values; fractions or negative values.
        UnsupportedFormatError: JPEG, which changes values; or as `read_picture`.
        CorruptFileError: truncated or damaged.
    """
    file = Path(path)
    remarks: list[str] = []
    with _opened(file, decode=True) as (image, orientation):
        if image.format == "JPEG":
            raise UnsupportedFormatError(
                f"{file}: JPEG is lossy and changes label values", remedy="Store labels as PNG, TIFF or NIfTI."
            )
        if _is_deep(image, file):
            raise _colours(file)
        depth = _png_depth(file)[0] if image.format == "PNG" else 8
        array = _stored_values(_upright(image, orientation, remarks), depth, file, remarks)
    labels = as_labels(array, str(file))
    return labels, _grid(labels[None]), _source(file, [*remarks, _NO_SIZE])


def _grid(array: NDArray[Any], size: tuple[float, float] | None = None) -> Geometry:
    return Geometry((int(array.shape[1]), int(array.shape[2])), None, size)


def _source(file: Path, remarks: list[str]) -> Source:
    return Source(kind="picture", files=(str(file),), remarks=tuple(remarks))


def _pixel_size(image: Image.Image, orientation: int, options: ReadOptions) -> tuple[tuple[float, float] | None, str]:
    """Row and column spacing in mm by DPI, if `ReadOptions.dpi` is set and the file has one; and a remark."""
    if not options.dpi:
        return None, _NO_SIZE
    try:
        across, down = (float(value) for value in image.info.get("dpi", ()))
    except (TypeError, ValueError, ZeroDivisionError):
        across = down = 0.0
    if not (_LEAST_DPI < across < _MOST_DPI and _LEAST_DPI < down < _MOST_DPI):
        return None, "no physical size: DPI was requested, the file has none"
    rows, columns = _MM_PER_INCH / down, _MM_PER_INCH / across
    size = (columns, rows) if orientation >= _SWAPPING else (rows, columns)
    return size, f"pixel size by DPI: {across:g} x {down:g}"


@contextmanager
def _opened(file: Path, *, decode: bool) -> Iterator[tuple[Image.Image, int]]:
    """The picture, its header checked and perhaps its pixels decoded, and its EXIF orientation (1 to 8)."""
    with _typed_errors(file):
        image = Image.open(file)
    with image:
        with _typed_errors(file):
            _check(image, file)
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            if decode:
                image.load()
        yield image, orientation if orientation in _UPRIGHT else 1


@contextmanager
def _typed_errors(file: Path) -> Iterator[None]:
    """Errors of Pillow on a damaged file become one typed error; its warnings are silenced."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.DecompressionBombError as error:
        raise _too_large(file, str(error)) from error
    except _DECODE_ERRORS as error:
        raise CorruptFileError(
            f"{file}: the picture cannot be decoded ({error})", remedy="It is truncated or damaged: copy it again."
        ) from error


def _check(image: Image.Image, file: Path) -> None:
    columns, rows = image.size
    if columns * rows > MAX_PIXELS:
        raise _too_large(file, f"{rows} x {columns} pixels")
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise UnsupportedFormatError(f"{file}: holds {pages} pages", remedy="Save the page to read on its own.")
    if image.mode not in _MODES:
        raise UnsupportedFormatError(f"{file}: pixels of mode {image.mode} are not read", remedy="Save it as grey or RGB.")


def _too_large(file: Path, shown_size: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(f"{file}: too large ({shown_size}; at most {MAX_PIXELS})", remedy="Cut it into tiles.")


def _png_depth(file: Path) -> tuple[int, int]:
    """Bits a sample and colour type, from the IHDR chunk (PNG specification, section 11.2.2)."""
    with file.open("rb") as stream:
        head = stream.read(26)
    return head[24], head[25]


def _is_deep(image: Image.Image, file: Path) -> bool:
    """A colour picture of 16 bits a colour, of which Pillow keeps 8."""
    if image.format == "PNG":
        depth, color_type = _png_depth(file)
        return depth == 16 and color_type != 0
    if image.format != "TIFF" or image.mode in _GREY_MODES:
        return False
    return bool(max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,))) > 8)  # type: ignore[attr-defined]


def _deep(image: Image.Image, orientation: int, file: Path, remarks: list[str]) -> NDArray[Any]:
    """``(C, rows, columns)`` of 16 bits per colour, decoded by SimpleITK."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(f"{image.format}ImageIO")  # else it goes by the file's name
    reader.SetFileName(str(file))
    with _typed_errors(file):
        pixels = sitk.GetArrayFromImage(reader.Execute())
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[:2] != image.size[::-1] or pixels.dtype != np.uint16 or orientation != 1:
        raise UnsupportedFormatError(
            f"{file}: colours of 16 bits, as {pixels.dtype} {pixels.shape} of orientation {orientation}",
            remedy="Save it upright as RGB.",
        )
    if pixels.shape[2] in (2, 4):
        if pixels[..., -1].min() < np.iinfo(np.uint16).max:
            raise _transparent(file)
        remarks.append("opaque alpha channel dropped")
        pixels = pixels[..., :-1]
    if pixels.shape[2] == 3 and _is_grey(pixels):
        remarks.append("RGB with equal channels: read as one")
        pixels = pixels[..., :1]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _colours(file: Path) -> LabelError:
    return LabelError(f"{file}: holds colours, which are no label values", remedy="Store each label's number as a grey value.")


def _transparent(file: Path) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"{file}: partly transparent, so its colours depend on a background", remedy="Flatten it onto one first."
    )


def _upright(image: Image.Image, orientation: int, remarks: list[str]) -> Image.Image:
    """The picture as a viewer shows it."""
    turn = _UPRIGHT.get(orientation)
    if turn is None:
        return image
    remarks.append(f"EXIF orientation {orientation} applied")
    return image.transpose(turn)


def _channels(image: Image.Image, file: Path, remarks: list[str]) -> NDArray[Any]:
    """``(C, rows, columns)``, C 1 or 3."""
    if image.mode in ("P", "PA"):
        remarks.append("palette resolved to colours")
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("LA", "RGBA"):
        image = _without_alpha(image, file, remarks)
    if image.mode == "1":
        image = image.convert("L")
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return _native(pixels)[None]
    if _is_grey(pixels):
        remarks.append("RGB with equal channels: read as one")
        return np.ascontiguousarray(pixels[..., 0])[None]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _without_alpha(image: Image.Image, file: Path, remarks: list[str]) -> Image.Image:
    if np.asarray(image.getchannel("A")).min() < 255:
        raise _transparent(file)
    remarks.append("opaque alpha channel dropped")
    return image.convert("L" if image.mode == "LA" else "RGB")


def _stored_values(image: Image.Image, depth: int, file: Path, remarks: list[str]) -> NDArray[Any]:
    """``(rows, columns)`` numbers as stored in `depth` bits, which matters where they are less than 8."""
    if image.mode == "P":
        remarks.append("palette indices are the labels")
        return np.asarray(image)
    if image.mode in _GREY_MODES:
        values = _native(np.asarray(image))
        spread = 255 // (2**depth - 1) if depth in (2, 4) else 1  # Pillow spreads few bits over 0..255
        return values if spread == 1 else values // spread
    array = _channels(image, file, remarks)
    if len(array) != 1:
        raise _colours(file)
    return np.asarray(array[0])


def _is_grey(pixels: NDArray[Any]) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def _native(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy in native byte order, independent of the open file."""
    native: NDArray[Any] = pixels.astype(pixels.dtype.newbyteorder("="))
    return native

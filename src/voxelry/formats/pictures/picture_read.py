"""Reads PNG, JPEG and TIFF pictures: grey or RGB, without a physical size.

DPI describes printing and is ignored unless `ReadOptions.dpi` is set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.volume import Source, Volume
from voxelry.errors import CorruptFileError
from voxelry.formats.pictures.png_jpeg import open_jpeg, open_png
from voxelry.formats.pictures.stored_picture import StoredPicture
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.signatures import is_jpeg, is_png, is_tiff
from voxelry.formats.voxels import as_ids, as_labels, check_finite, rescaled

_NO_SIZE = "no physical size: DPI is not one"
_MM_PER_INCH = 25.4
_LEAST_DPI, _MOST_DPI = 1e-3, 1e9


@dataclass(frozen=True)
class PictureHeader:
    """Size and pixel type of a picture, from its header.

    Attributes:
        shape: ``(C, rows, columns)``; C is 3 for colours and palettes.
        mode: pixel type in words, such as ``8-bit grey``.
    """

    shape: tuple[int, int, int]
    mode: str


def picture_header(path: str | os.PathLike[str]) -> PictureHeader:
    """Size and mode, from the header alone.

    Raises:
        CorruptFileError: the file is damaged.
        UnsupportedFormatError: several pages, too large, or pixels of a kind that is not read.
    """
    picture = _opened(Path(path))
    return PictureHeader(picture.shape, picture.mode)


def read_picture(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> Volume:
    """A grey or RGB picture as a viewer shows it, decoded at once.

    An RGB picture whose channels are equal comes as one channel; an opaque alpha channel is dropped; a palette is resolved; the
    orientation that TIFF or EXIF states is applied; grey that a TIFF stores with white as 0 is inverted; a PNG of 1, 2 or 4 bits
    is spread over 0..255, as its specification (section 13.12) asks. `Source.remarks` says which of these was done. Otherwise
    values are as stored: a TIFF of 12 bits has values of 0..4095, one of 4 bits of 0..15.

    Args:
        path: a PNG, JPEG or single-page TIFF.
        options: `ReadOptions.dpi` takes the pixel size from the file's DPI, where it has one.

    Returns:
        A Volume ``(C, rows, columns)``, C 1 or 3; uint8 or uint16 as stored, else int16 or float32. No pixel size, unless
        `ReadOptions.dpi` is set.

    Raises:
        CorruptFileError: truncated or damaged.
        UnsupportedFormatError: transparent, several pages, CMYK and the like, or too large.
        NonFiniteError: NaN or infinite values in a floating-point TIFF, or values that float32 cannot hold.
    """
    file = Path(path)
    picture = _opened(file)
    stored, remarks = picture.image()
    size, size_remark = _pixel_size(picture, options)
    check_finite(stored, str(file))
    array = stored if stored.dtype in (np.uint8, np.uint16) else rescaled(stored, 1.0, 0.0)
    check_finite(array, str(file))
    if not np.array_equal(array, stored):
        remarks.append(f"{stored.dtype} rounded to float32")
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
    stored, geometry, source = _whole_numbers(Path(path))
    return as_labels(stored, source.name), geometry, source


def read_picture_ids(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint32], Geometry, Source]:
    """The ids of objects of a PNG or TIFF, of up to 32 bits; otherwise as `read_picture_labels`."""
    stored, geometry, source = _whole_numbers(Path(path))
    return as_ids(stored, source.name), geometry, source


def _whole_numbers(file: Path) -> tuple[NDArray[Any], Geometry, Source]:
    """The values of a mask as stored."""
    stored, remarks = _opened(file).labels()
    return stored, _grid(stored[None]), _source(file, [*remarks, _NO_SIZE])


def read_picture_numbers(path: str | os.PathLike[str]) -> tuple[NDArray[Any], Geometry]:
    """The numbers ``(rows, columns)`` of a grey PNG or TIFF as stored, of any depth, and their grid; as `read_picture_labels`."""
    stored, _ = _opened(Path(path)).labels()
    return stored, _grid(stored[None])


def _opened(file: Path) -> StoredPicture:
    """The picture's header, by the format that its first bytes say."""
    with file.open("rb") as stream:
        head = stream.read(16)
    if is_png(head):
        return open_png(file)
    if is_jpeg(head):
        return open_jpeg(file)
    if is_tiff(head):
        from voxelry.formats.pictures.tiff_read import open_tiff  # tifffile, which the others do without

        return open_tiff(file)
    raise CorruptFileError(f"{file}: is no PNG, JPEG or TIFF", remedy="It is truncated or damaged: copy it again.")


def _grid(array: NDArray[Any], size: tuple[float, float] | None = None) -> Geometry:
    return Geometry((int(array.shape[1]), int(array.shape[2])), None, size)


def _source(file: Path, remarks: list[str]) -> Source:
    return Source(kind="picture", files=(str(file),), remarks=tuple(remarks))


def _pixel_size(picture: StoredPicture, options: ReadOptions) -> tuple[tuple[float, float] | None, str]:
    """Row and column spacing in mm by DPI, if `ReadOptions.dpi` is set and the file has one; and a remark."""
    if not options.dpi:
        return None, _NO_SIZE
    across, down = picture.dpi or (0.0, 0.0)
    if not (_LEAST_DPI < across < _MOST_DPI and _LEAST_DPI < down < _MOST_DPI):
        return None, "no physical size: DPI was requested, the file has none"
    rows, columns = _MM_PER_INCH / down, _MM_PER_INCH / across
    size = (columns, rows) if picture.turned else (rows, columns)
    return size, f"pixel size by DPI: {across:g} x {down:g}"

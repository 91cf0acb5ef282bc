"""TIFF files as stored pictures, by tifffile: numbers come as stored, of any depth, sign, byte order, predictor and layout.

Read: one page (thumbnails beside it are left out) of grey, palette or RGB, in strips or tiles, samples together or in planes, of
1 to 32 (but 24) and 64 bits, signed of 8, 16, 32 and 64, floating-point of 16, 32 and 64, every
compression that imagecodecs knows; YCbCr in JPEG. Refused: several pages or planes, complex numbers, samples of different depth,
CMYK, CIELab, raw data of cameras. TIFF 6.0 and BigTIFF.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, TIFF, TiffFile, TiffPage

from voxelry.errors import CorruptFileError, UnsupportedFormatError
from voxelry.formats.pictures.stored_picture import (
    DOTS_PER_UNIT,
    Pixels,
    StoredPicture,
    check_size,
    other_mode,
    several_pages,
    typed_errors,
)

_PHOTOMETRIC, _ORIENTATION, _SUB_IFDS, _UIC2 = 262, 274, 330, 33629
_RESOLUTION_X, _RESOLUTION_Y, _RESOLUTION_UNIT = 282, 283, 296
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = (6, 7, 33007, 34892)
_PERHAPS_LOSSY = (33004, 33005, 34712, 34887, 34934, 22610, 50001, 50002, 34927, 52546)
"""JPEG 2000, LERC, JPEG XR, WebP, JPEG XL."""
_YCBCR_JPEG_2000 = 33003
_ALPHA = (1, 2)
_AMBIGUOUS = 24
"""Bits of a sample whose byte order readers disagree on."""
_REDUCED = 1


def open_tiff(file: Path) -> StoredPicture:
    """The header of a TIFF.

    Raises:
        CorruptFileError: truncated or damaged.
        UnsupportedFormatError: several pages, too large, or pixels of a kind that is not read.
    """
    with _page(file) as (page, remarks):
        photometric = _photometric(page, remarks)
        kind = {_PALETTE: "palette", _RGB: "RGB", _YCBCR: "RGB"}.get(photometric, "grey")
        words = {"f": "floating-point ", "i": "signed "}.get(page.dtype.kind, "") if page.dtype is not None else ""
        if page.compression in _PERHAPS_LOSSY:
            remarks.append(f"compressed by {COMPRESSION(page.compression).name}, which may change values")
        return StoredPicture(
            file,
            (page.imagelength, page.imagewidth),
            1 if kind == "grey" else 3,
            f"{page.bitspersample}-bit {words}{kind}",
            lambda: _pixels(file),
            int(page.tags.valueof(_ORIENTATION, 1)),
            _dpi(page),
            lossy="JPEG" if page.compression in _JPEG else "",
            remarks=tuple(remarks),
        )


@contextmanager
def _page(file: Path) -> Iterator[tuple[TiffPage, list[str]]]:
    """The page that a viewer shows, checked, and remarks."""
    log = logging.getLogger("tifffile")
    was = log.disabled
    log.disabled = True  # it writes to standard error what is checked here
    try:
        with typed_errors(file), TiffFile(file) as tiff:
            remarks: list[str] = []
            page = _main_page(file, tiff, remarks)
            _check(file, page)
            yield page, remarks
    finally:
        log.disabled = was


def _main_page(file: Path, tiff: TiffFile, remarks: list[str]) -> TiffPage:
    """The only page that is no thumbnail."""
    pages = [page for index in range(len(tiff.pages)) if isinstance(page := tiff.pages.get(index, aspage=True), TiffPage)]
    if not pages:
        raise CorruptFileError(f"{file}: holds no page", remedy="It is truncated or damaged: copy it again.")
    whole = [page for page in pages if not page.subfiletype & _REDUCED]
    if not whole and (len(pages) > 1 or _SUB_IFDS in pages[0].tags):
        raise UnsupportedFormatError(
            f"{file}: shows a thumbnail, its picture is raw data of a camera", remedy="Develop it as grey or RGB."
        )
    whole = whole or pages
    if len(whole) > 1:
        raise several_pages(file, len(whole))
    if (planes := _planes(tiff, whole[0])) > 1:
        raise several_pages(file, planes)
    if len(pages) > 1:
        remarks.append(f"{len(pages) - 1} reduced copies of the picture left out")
    return whole[0]


def _planes(tiff: TiffFile, page: TiffPage) -> int:
    """The number of planes that hide behind one page: of ImageJ, MetaMorph, tifffile itself, or by ImageDepth."""
    planes = page.imagedepth
    if tiff.is_imagej:
        planes = max(planes, int((tiff.imagej_metadata or {}).get("images", 1)))
    if _UIC2 in page.tags:
        planes = max(planes, page.tags[_UIC2].count)
    if tiff.is_shaped:
        shape = (tiff.shaped_metadata or ({},))[0].get("shape", ())
        planes = max(planes, prod(shape) // max(1, prod(page.shape)))
    return planes


def _photometric(page: TiffPage, remarks: list[str]) -> int:
    if _PHOTOMETRIC in page.tags:
        return int(page.photometric)
    remarks.append("photometric interpretation not stated: read as " + ("RGB" if page.samplesperpixel >= 3 else "grey"))
    return _RGB if page.samplesperpixel >= 3 else _BLACK_IS_ZERO


def _colour_samples(page: TiffPage) -> int:
    """Samples of a pixel that are grey, an index or a colour."""
    return 3 if _photometric(page, []) in (_RGB, _YCBCR) else 1


def _check(file: Path, page: TiffPage) -> None:
    """Refuse what is not read, before anything is decoded."""
    check_size(file, page.imagelength, page.imagewidth)
    photometric = _photometric(page, [])
    known = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, *([_YCBCR] if page.compression in _JPEG else []))
    if photometric not in known or page.compression == _YCBCR_JPEG_2000:
        raise other_mode(file, getattr(page.photometric, "name", str(photometric)))
    if page.compression != 1 and page.compression not in TIFF.DECOMPRESSORS:
        raise UnsupportedFormatError(f"{file}: compression {page.compression} is not read", remedy="Save it uncompressed.")
    unread = page.dtype is None or page.dtype.kind == "c" or isinstance(page.bitspersample, tuple)
    if unread or page.bitspersample == _AMBIGUOUS:
        raise other_mode(file, f"{getattr(page.sampleformat, 'name', page.sampleformat)} of {page.bitspersample} bits")
    further = page.samplesperpixel - _colour_samples(page)
    if further < 0 or (photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and further > 1):
        raise other_mode(file, f"{page.samplesperpixel} samples of no stated colour")
    _check_segments(file, page)


def _check_segments(file: Path, page: TiffPage) -> None:
    """Refuse strips and tiles that are missing, lie beyond the end of the file, or claim more pixels than a picture may hold."""
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    samples = page.samplesperpixel // planes
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
    else:
        rows, columns = min(page.rowsperstrip or page.imagelength, page.imagelength), page.imagewidth
    check_size(file, rows, columns)
    needed = ceil(page.imagelength / rows) * ceil(page.imagewidth / columns) * planes
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))[:needed]
    if len(places) < needed or not all(offset and count for offset, count in places):
        raise ValueError(f"{sum(bool(offset and count) for offset, count in places)} of {needed} strips or tiles have data")
    end = page.parent.filehandle.size
    last = rows - (-page.imagelength % rows) if not page.is_tiled else rows
    plain = ceil(columns * samples * page.bitspersample / 8) if page.compression == 1 else 0
    for number, (offset, count) in enumerate(places, start=1):
        short = last if number % (needed // planes) == 0 else rows
        if offset + (plain * short or count) > end:
            raise ValueError(f"strip or tile {number} of {needed} ends beyond the file's {end} bytes")


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    scale = DOTS_PER_UNIT.get(int(page.tags.valueof(_RESOLUTION_UNIT, 2)))
    resolution = page.tags.valueof(_RESOLUTION_X), page.tags.valueof(_RESOLUTION_Y)
    if scale is None or None in resolution:
        return None
    across, down = (top / bottom * scale if bottom else 0.0 for top, bottom in resolution)
    return across, down


def _pixels(file: Path) -> Pixels:
    with _page(file) as (page, remarks):
        photometric = _photometric(page, remarks)
        values = page.asarray(maxworkers=1, squeeze=False)
        values = np.moveaxis(values[:, 0], 0, -2).reshape(page.imagelength, page.imagewidth, -1)
        values = values.astype(np.uint8) if values.dtype == bool else values
        extras = page.samplesperpixel - _colour_samples(page)
        alpha = extras > 0 and (not page.extrasamples or page.extrasamples[0] in _ALPHA)
        palette = _colours(page.colormap, page.bitspersample) if photometric == _PALETTE else None
        return Pixels(values, page.bitspersample, extras, alpha, palette, photometric == _WHITE_IS_ZERO)


def _colours(table: NDArray[Any] | None, bits: int) -> NDArray[Any]:
    """``(n, 3)`` colours of a colour map: of 8 bits where its 16 bits say no more, as of writers that store 8."""
    if table is None or table.shape[1] < 2**bits:
        raise ValueError("its palette is missing or too short")
    colours = table.T
    if colours.max() < 256:
        return colours.astype(np.uint8)
    low = colours & 255
    return colours if (low != 0).any() and (low != colours >> 8).any() else (colours >> 8).astype(np.uint8)

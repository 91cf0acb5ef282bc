"""A picture as its file stores it: numbers, palette, orientation and resolution, before anything is resolved, turned or dropped.

Libraries that decode pictures change values on the way: they spread few bits over 0..255, invert, drop signs, turn. What is done
to the numbers is done here, for every format alike, and each step is a remark.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelry.errors import CorruptFileError, LabelError, ReadError, UnsupportedFormatError

MAX_PIXELS = 2**28
"""Larger pictures are refused before anything is decoded: a small file can claim any size."""

DOTS_PER_UNIT = {2: 1.0, 3: 2.54}
"""Resolution units of TIFF 6.0 and EXIF, inches and centimetres: dots per inch of one dot per unit."""

DECODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What decoders raise on a damaged file."""

_TURNED = 5
"""Orientations from here on exchange rows and columns."""

_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""Orientation, as TIFF 6.0 and EXIF number them -> the picture ``(rows, columns, ...)`` as a viewer shows it."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The decoded numbers of a picture.

    Attributes:
        values: ``(rows, columns, S)`` as stored, not turned; of a palette its indices.
        bits: bits of a sample.
        extras: the last samples of `values` that are neither grey nor colour.
        alpha: the first of these is opacity.
        palette: ``(n, 3)`` or, with opacity, ``(n, 4)`` colours.
        white_is_zero: 0 is white, the largest number black.
        spread: fewer than 8 bits of grey are shown spread over 0..255.
    """

    values: NDArray[Any]
    bits: int
    extras: int = 0
    alpha: bool = False
    palette: NDArray[Any] | None = None
    white_is_zero: bool = False
    spread: bool = False


@dataclass(frozen=True, eq=False)
class StoredPicture:
    """The header of a picture, and how its pixels are decoded.

    Attributes:
        file: the file.
        size: rows and columns as stored.
        channels: 1 for grey, 3 for colours and palettes.
        mode: pixel type in words, such as ``8-bit grey``.
        decode: gives the pixels.
        orientation: 1 to 8, as TIFF 6.0 and EXIF number them; anything else counts as 1.
        dpi: dots per inch across and down as stored; None where the file states none.
        lossy: the compression that changes values; empty where there is none.
        remarks: decisions taken on the way.
    """

    file: Path
    size: tuple[int, int]
    channels: int
    mode: str
    decode: Callable[[], Pixels] = field(repr=False)
    orientation: int = 1
    dpi: tuple[float, float] | None = None
    lossy: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def turned(self) -> bool:
        """Rows and columns are exchanged on showing it."""
        return _TURNED <= self.orientation <= max(_UPRIGHT)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, rows, columns)`` as a viewer shows it."""
        rows, columns = self.size[::-1] if self.turned else self.size
        return self.channels, rows, columns

    def image(self) -> tuple[NDArray[Any], list[str]]:
        """The picture as a viewer shows it, numbers otherwise as stored.

        Returns:
            ``(C, rows, columns)``, C 1 or 3, in the stored type, and what was done.

        Raises:
            CorruptFileError: truncated or damaged.
            UnsupportedFormatError: partly transparent.
        """
        pixels, remarks = self.decode(), list(self.remarks)
        values = self._opaque(pixels, remarks)
        if pixels.palette is not None:
            remarks.append("palette resolved to colours")
            values = self._opaque(_resolved(values[..., 0], pixels.palette), remarks)
        values = self._upright(values, remarks)
        if pixels.white_is_zero:
            if values.dtype.kind == "u":
                values = values.dtype.type(2**pixels.bits - 1) - values
                remarks.append("white is stored as 0: inverted")
            else:
                remarks.append("white is stored as 0: not inverted, since the numbers have no largest one")
        if pixels.spread:
            values = values * np.uint8(255 // (2**pixels.bits - 1))
            remarks.append(f"{pixels.bits}-bit grey spread over 0..255")
        return np.ascontiguousarray(np.moveaxis(_one_channel(values, remarks), -1, 0)), remarks

    def labels(self) -> tuple[NDArray[Any], list[str]]:
        """The numbers as stored, of a palette its indices, turned as a viewer shows the picture.

        Returns:
            ``(rows, columns)`` in the stored type, and what was done.

        Raises:
            LabelError: colours.
            CorruptFileError: truncated or damaged.
            UnsupportedFormatError: values changed by lossy compression, or partly transparent.
        """
        if self.lossy:
            raise UnsupportedFormatError(
                f"{self.file}: {self.lossy} is lossy and changes label values", remedy="Store labels as PNG, TIFF or NIfTI."
            )
        pixels, remarks = self.decode(), list(self.remarks)
        if pixels.palette is not None:
            remarks.append("palette indices are the labels")
        if pixels.white_is_zero:
            remarks.append("white is stored as 0: labels are the stored numbers, so that viewers show background white")
        values = _one_channel(self._upright(self._opaque(pixels, remarks), remarks), remarks)
        if values.shape[-1] != 1:
            raise LabelError(
                f"{self.file}: holds colours, which are no label values", remedy="Store each label's number as a grey value."
            )
        return np.ascontiguousarray(values[..., 0]), remarks

    def _opaque(self, pixels: Pixels, remarks: list[str]) -> NDArray[Any]:
        """The samples that are grey or colour."""
        values, extras = np.split(pixels.values, [pixels.values.shape[-1] - pixels.extras], axis=-1)
        if pixels.alpha:
            opaque = {"f": 1, "i": 2 ** (pixels.bits - 1) - 1}.get(values.dtype.kind, 2**pixels.bits - 1)
            if extras[..., 0].min() < opaque:
                raise UnsupportedFormatError(
                    f"{self.file}: partly transparent, so its colours depend on a background", remedy="Flatten it onto one first."
                )
            remarks.append("opaque alpha channel dropped")
        unknown = pixels.extras - pixels.alpha
        if unknown:
            remarks.append(f"{unknown} further samples a pixel, whose meaning the file does not state, dropped")
        return values

    def _upright(self, values: NDArray[Any], remarks: list[str]) -> NDArray[Any]:
        if self.orientation in _UPRIGHT:
            remarks.append(f"orientation {self.orientation} applied")
            return _UPRIGHT[self.orientation](values)
        if self.orientation != 1:
            remarks.append(f"orientation {self.orientation} is unknown: not turned")
        return values


def _resolved(indices: NDArray[Any], palette: NDArray[Any]) -> Pixels:
    """The colours of a palette's indices; an index beyond its end is black, as viewers show it."""
    black = np.zeros((max(0, int(indices.max()) + 1 - len(palette)), palette.shape[1]), palette.dtype)
    black[:, 3:] = np.iinfo(palette.dtype).max
    has_opacity = palette.shape[1] == 4
    return Pixels(np.concatenate([palette, black])[indices], 8 * palette.itemsize, int(has_opacity), has_opacity)


def _one_channel(values: NDArray[Any], remarks: list[str]) -> NDArray[Any]:
    """``(rows, columns, S)``; one channel where three are equal."""
    if values.shape[-1] == 3 and (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all():
        remarks.append("RGB with equal channels: read as one")
        return values[..., :1]
    return values


def check_size(file: Path, rows: int, columns: int) -> None:
    """Refuse a picture of no pixel, or of too many.

    Raises:
        CorruptFileError: no pixel.
        UnsupportedFormatError: above `MAX_PIXELS`.
    """
    if rows < 1 or columns < 1:
        raise CorruptFileError(f"{file}: a picture of {rows} x {columns} pixels", remedy="It is damaged: copy it again.")
    if columns * rows > MAX_PIXELS:
        raise too_large(file, f"{rows} x {columns} pixels")


def too_large(file: Path, shown_size: str) -> UnsupportedFormatError:
    """The error of a picture above `MAX_PIXELS`."""
    return UnsupportedFormatError(f"{file}: too large ({shown_size}; at most {MAX_PIXELS})", remedy="Cut it into tiles.")


def several_pages(file: Path, pages: int) -> UnsupportedFormatError:
    """The error of a file of several pictures."""
    return UnsupportedFormatError(f"{file}: holds {pages} pages", remedy="Save the page to read on its own.")


def other_mode(file: Path, mode: str) -> UnsupportedFormatError:
    """The error of a pixel type that is not read."""
    return UnsupportedFormatError(f"{file}: pixels of mode {mode} are not read", remedy="Save it as grey or RGB.")


@contextmanager
def typed_errors(file: Path) -> Iterator[None]:
    """Errors of decoders on a damaged file become one typed error; their warnings are silenced.

    Raises:
        CorruptFileError: the file cannot be decoded.
        UnsupportedFormatError: it claims too many pixels.
        ReadError: there is too little memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(PIL|tifffile)(\.|$)")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.DecompressionBombError as error:
        raise too_large(file, str(error)) from error
    except MemoryError as error:
        raise ReadError(f"{file}: its pixels do not fit into memory", remedy="Cut it into tiles.") from error
    except DECODE_ERRORS as error:
        raise CorruptFileError(
            f"{file}: the picture cannot be decoded ({error})", remedy="It is truncated or damaged: copy it again."
        ) from error

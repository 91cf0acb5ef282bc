"""Arrays in files, mapped only while a part of them is read: a data set of any size needs no open files and no memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_PIECE = 2**22  # values converted at once


@dataclass(frozen=True, slots=True)
class MappedArray:
    """A C-ordered array in a file (NumPy's ``.npy``), of which indexing copies a part.

    Attributes:
        file: where it lies.
        dtype: of its values.
        shape: of the array.
        offset: bytes of the file before its first value.
    """

    file: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, file: Path) -> MappedArray:
        """The array in a file, of which the header is read.

        Raises:
            OSError: no such file.
            ValueError: it holds something else.
        """
        found = np.lib.format.open_memmap(file, mode="r")
        if not isinstance(found, np.memmap) or not found.flags.c_contiguous:
            raise ValueError(f"{file}: holds no C-ordered array")
        return cls(file, found.dtype, found.shape, found.offset)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, first: int, last: int) -> MappedArray:
        """A part along the first axis; nothing is read."""
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        return MappedArray(self.file, self.dtype, (last - first, *self.shape[1:]), self.offset + first * row)

    def __getitem__(self, place: Any) -> NDArray[Any]:
        if 0 in self.shape:
            nothing: NDArray[Any] = np.empty(self.shape, self.dtype)[place]
            return nothing
        part: NDArray[Any] = np.array(np.memmap(self.file, self.dtype, "r", self.offset, self.shape)[place])
        return part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(self.dtype if dtype is None else dtype, copy=False)


def store_array(file: Path, array: NDArray[Any], dtype: DTypeLike) -> None:
    """Write an array as ``.npy`` in another type, piece by piece; floats beyond the range of a half become its ends.

    Args:
        file: to write.
        array: C-contiguous, with at least one value.
        dtype: of the values in the file.
    """
    stored = np.lib.format.open_memmap(file, mode="w+", dtype=np.dtype(dtype), shape=array.shape)
    given, made = array.reshape(-1), stored.reshape(-1)
    is_half = made.dtype == np.float16
    limit = float(np.finfo(np.float16).max)
    for begin in range(0, given.size, _PIECE):
        piece = given[begin : begin + _PIECE]
        made[begin : begin + _PIECE] = np.clip(piece, -limit, limit) if is_half else piece
    stored.flush()


def checksum(file: Path) -> int:
    """CRC-32 of a file's bytes."""
    if not file.stat().st_size:
        return 0
    content = np.memmap(file, np.uint8, "r")
    value = 0
    for begin in range(0, content.size, _PIECE):
        value = zlib.crc32(content[begin : begin + _PIECE].data, value)
    return value

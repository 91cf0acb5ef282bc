"""Arrays in files, mapped only while they are indexed: a dataset of any size needs no open files and no memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_CHUNK = 2**22  # values converted at a time


@dataclass(frozen=True, slots=True)
class MappedArray:
    """A C-ordered array in a file (NumPy's ``.npy``), of which indexing copies a section.

    Attributes:
        file: file that holds it.
        dtype: type of the values.
        shape: shape of the array.
        offset: bytes of the file before its first value.
    """

    file: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, file: Path) -> MappedArray:
        """The array in a file; only the header is read.

        Raises:
            OSError: no such file.
            ValueError: the file holds no C-ordered array.
        """
        array = np.lib.format.open_memmap(file, mode="r")
        if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
            raise ValueError(f"{file}: holds no C-ordered array")
        return cls(file, array.dtype, array.shape, array.offset)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, first: int, last: int) -> MappedArray:
        """Rows `first` to `last` along the first axis; nothing is read."""
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        return MappedArray(self.file, self.dtype, (last - first, *self.shape[1:]), self.offset + first * row)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if 0 in self.shape:
            nothing: NDArray[Any] = np.empty(self.shape, self.dtype)[index]
            return nothing
        section: NDArray[Any] = np.array(np.memmap(self.file, self.dtype, "r", self.offset, self.shape)[index])
        return section

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(self.dtype if dtype is None else dtype, copy=False)


def store_array(file: Path, array: NDArray[Any], dtype: DTypeLike) -> None:
    """Write an array as ``.npy`` in another type, chunk by chunk; floats beyond the range of half floats are clipped to it.

    Args:
        file: file to write.
        array: C-contiguous, with at least one value.
        dtype: type of the values in the file.
    """
    values, kind = array.reshape(-1), np.dtype(dtype)
    is_half = kind == np.float16
    limit = float(np.finfo(np.float16).max)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": array.shape}
    with file.open("wb") as target:  # mapped writing would end the process where the disk is full
        np.lib.format.write_array_header_1_0(target, header)
        for begin in range(0, values.size, _CHUNK):
            chunk = values[begin : begin + _CHUNK]
            target.write((np.clip(chunk, -limit, limit) if is_half else chunk).astype(kind).data)


def checksum(file: Path) -> int:
    """CRC-32 of a file's bytes."""
    if not file.stat().st_size:
        return 0
    content = np.memmap(file, np.uint8, "r")
    value = 0
    for begin in range(0, content.size, _CHUNK):
        value = zlib.crc32(content[begin : begin + _CHUNK].data, value)
    return value

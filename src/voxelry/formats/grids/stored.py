"""Decodes the stored numbers of a grid file (raw, gzip, zlib or text) into one array.

The header's size is checked against the file first: raw bytes must exist, a deflate stream holds at most `MAX_DEFLATE_RATIO`
times its size, text two bytes per number. Data of a damaged or hostile file beyond the size that the header states are never
unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from voxelry.errors import CorruptFileError, MissingFileError, ReadError
from voxelry.formats.detection import GZIP_ERRORS

MAX_DEFLATE_RATIO = 1032
"""Deflate cannot compress better than this (zlib's technical details), so a file cannot hold more bytes than it implies."""

Encoding = Literal["raw", "gzip", "zlib", "text"]

_CHUNK = 1 << 24
_COPY_AGAIN = "Copy or download the file again."


@dataclass(frozen=True)
class Stored:
    """The location and encoding of a grid's numbers.

    Attributes:
        path: the file that holds them.
        dtype: the stored type, in the file's byte order.
        count: how many numbers.
        encoding: ``raw``, ``gzip``, ``zlib`` or ``text`` (decimal numbers between white space).
        skip: bytes of the file before the numbers, or before their compressed stream.
        offset: bytes before the first number within the decompressed stream.
        header: the header's file, where it is another; named in messages.
    """

    path: Path
    dtype: np.dtype[Any]
    count: int
    encoding: Encoding = "raw"
    skip: int = 0
    offset: int = 0
    header: Path | None = None

    @property
    def where(self) -> str:
        """Its name in messages."""
        return str(self.path) if self.header in (None, self.path) else f"{self.header} (voxels in {self.path.name})"

    def check_room(self) -> None:
        """Refuse a size that the file cannot hold, before anything is allocated.

        Raises:
            MissingFileError: the file is not there.
            CorruptFileError: the numbers do not fit into it.
        """
        if not self.path.is_file():
            raise MissingFileError(f"{self.where}: the file with the voxels is missing", remedy="Put it beside its header.")
        size = self.path.stat().st_size
        room = max(0, size - self.skip)
        most = {"raw": room, "text": room}.get(self.encoding, room * MAX_DEFLATE_RATIO)
        needed = self.offset + (2 * self.count - 1 if self.encoding == "text" else self.count * self.dtype.itemsize)
        if needed > most:
            raise CorruptFileError(
                f"{self.where}: the header promises {needed} bytes ({self.count} voxels of {self.dtype}), a file of {size} bytes "
                f"holds at most {most}",
                remedy="The file is truncated or its header damaged: copy it again.",
            )

    def numbers(self) -> NDArray[Any]:
        """The numbers, one-dimensional in file order, native byte order.

        Raises:
            CorruptFileError: the file ends before its last number, or its compressed stream is damaged.
            ReadError: there is not the memory to hold them.
        """
        self.check_room()
        try:
            values = np.empty(self.count, dtype=self.dtype)
            with self._damage(), self.path.open("rb") as stream:
                stream.seek(self.skip)
                got = self._parse(stream, values) if self.encoding == "text" else self._fill(stream, values)
        except MemoryError as error:
            raise ReadError(f"{self.where}: {self.count} voxels do not fit into memory", remedy="Crop the image.") from error
        if got < values.nbytes:
            raise CorruptFileError(f"{self.where}: ends after {got} of {values.nbytes} bytes of voxels", remedy=_COPY_AGAIN)
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except GZIP_ERRORS as error:
            what = "gzip stream is" if self.encoding == "gzip" else f"{self.encoding} data are"
            raise CorruptFileError(f"{self.where}: the {what} damaged ({error})", remedy=_COPY_AGAIN) from error

    def _fill(self, stream: BinaryIO, values: NDArray[Any]) -> int:
        """Unpack into `values` until it is full or the stream ends; returns the number of bytes."""
        target = values.view(np.uint8).data
        got, skip = 0, self.offset
        for block in _blocks(stream, self.encoding, self.offset + len(target)):
            skipped = min(skip, len(block))
            skip -= skipped
            length = min(len(block) - skipped, len(target) - got)
            target[got : got + length] = block[skipped : skipped + length]
            got += length
        return got

    def _parse(self, stream: BinaryIO, values: NDArray[Any]) -> int:
        words = stream.read().split(maxsplit=self.count)[: self.count]
        try:
            with np.errstate(over="ignore"):
                values[: len(words)] = np.array(words, dtype=np.bytes_).astype(self.dtype)
        except (ValueError, OverflowError) as error:
            raise CorruptFileError(f"{self.where}: its text holds no plain numbers ({error})", remedy=_COPY_AGAIN) from error
        return len(words) * self.dtype.itemsize


def _blocks(stream: BinaryIO, encoding: Encoding, size: int) -> Iterator[bytes]:
    """The decompressed stream in blocks: `size` bytes and one more, which makes the decoder compare its checksum."""
    if encoding == "zlib":
        yield from _inflated(stream, size)
        return
    with igzip.IGzipFile(fileobj=stream, mode="rb") if encoding == "gzip" else stream as source:
        while size > 0 and (block := source.read(min(size, _CHUNK))):
            size -= len(block)
            yield block
        source.read(1)


def _inflated(stream: BinaryIO, size: int) -> Iterator[bytes]:
    inflater = isal_zlib.decompressobj()
    while not inflater.eof and size >= 0:
        packed = inflater.unconsumed_tail or stream.read(_CHUNK)
        if not packed:
            raise EOFError("the stream breaks off")
        block = inflater.decompress(packed, min(size + 1, _CHUNK))
        size -= len(block)
        yield block

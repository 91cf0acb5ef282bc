"""Inflates deflated DICOM files (PS3.5 section A.5) within a limit: a few megabytes may be made to unpack to gigabytes."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pydicom

from voxelry.errors import CorruptFileError

SYNTAX = str(pydicom.uid.DeflatedExplicitVRLittleEndian)

FREE_BYTES = 256 * 2**20
"""A file or archive that unpacks to no more than this may have any ratio."""

MAX_RATIO = 100
"""Largest ratio of unpacked to packed size of a larger one. Images of one grey value reach 1000, real studies 2 to 20."""

_MARK = SYNTAX.encode()
_LONGEST_META = 2048


def is_deflated(head: bytes) -> bool:
    """The first bytes of a DICOM file name the deflated transfer syntax."""
    return _MARK in head[: 132 + _LONGEST_META]


def inflated_head(head: bytes, packed: IO[bytes], most: int) -> bytes:
    """A deflated file's first bytes, inflated up to a size and marked as not deflated.

    Args:
        head: the first bytes of the file, with its whole meta information.
        packed: the file.
        most: bytes to inflate.

    Raises:
        zlib.error: the stream is damaged.
    """
    start = _start(head)
    packed.seek(start)
    return _as_plain(head[:start]) + zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.read(most), most)


@contextmanager
def open_inflated(path: Path, stream: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """A DICOM file to parse, at its beginning; a deflated one is inflated and marked as not deflated.

    Args:
        path: the file.
        stream: of it, where it is open already.

    Raises:
        CorruptFileError: it would inflate to more than `FREE_BYTES` and `MAX_RATIO` times its size, as zip archives are refused.
        EOFError: the stream breaks off.
        zlib.error: the stream is damaged.
    """
    if stream is None:
        with path.open("rb") as file:
            yield _inflated(path, file)
    else:
        yield _inflated(path, stream)


def _inflated(path: Path, stream: IO[bytes]) -> IO[bytes]:
    stream.seek(0)
    head = stream.read(132 + _LONGEST_META)
    if not is_deflated(head):
        stream.seek(0)
        return stream
    size = stream.seek(0, os.SEEK_END)
    most, start = max(FREE_BYTES, MAX_RATIO * size), _start(head)
    stream.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(stream.read(), most + 1)
    if len(content) > most:
        raise CorruptFileError(
            f"{path}: {size} deflated bytes would inflate to more than {most}, as a bomb does",
            remedy="Inflate it yourself if you trust it.",
        )
    if not inflater.eof:
        raise EOFError("the deflated stream breaks off")
    return io.BytesIO(_as_plain(head[:start]) + content)


def _start(head: bytes) -> int:
    return 144 + int.from_bytes(head[140:144], "little")


def _as_plain(meta: bytes) -> bytes:
    """Meta information that names explicit VR little endian, in as many bytes."""
    return meta.replace(_MARK, _MARK[:-3] + b"\0\0\0")

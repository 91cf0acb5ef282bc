"""A file's first bytes with its open stream, so that recognition and header parsing open the file only once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from voxelry.errors import ReadError

HEAD_BYTES = 2**15
"""Bytes that are read at first; nearly every header of a single-frame DICOM file is shorter."""


@dataclass(frozen=True)
class FileContent:
    """The content of an open file or archive member, read no further than needed.

    Attributes:
        head: the first `HEAD_BYTES` bytes, or all of a shorter file.
        size: bytes of the file.
        stream: returns the whole content as a seekable stream.
    """

    head: bytes
    size: int
    stream: Callable[[], IO[bytes]]


@contextmanager
def open_content(path: Path) -> Iterator[FileContent]:
    """Open a file and read its first bytes.

    Args:
        path: the file.

    Yields:
        Its content; the stream is closed afterwards.

    Raises:
        ReadError: it cannot be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise cannot_be_opened(path, error) from error
    with stream:
        try:
            head = stream.read(HEAD_BYTES)
        except OSError as error:
            raise cannot_be_opened(path, error) from error
        yield FileContent(head, os.fstat(stream.fileno()).st_size, lambda: stream)


def cannot_be_opened(path: Path, error: OSError) -> ReadError:
    """The error for a file that the system refuses to open."""
    return ReadError(f"{path}: cannot be opened ({error.strerror})", remedy="Check its permissions.")

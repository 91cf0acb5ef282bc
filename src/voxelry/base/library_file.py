"""A file for libraries that hide why a write failed, or cannot bear it: torch, polars, pydicom."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast


@contextmanager
def library_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file for a library to write into.

    The library never sees a failure: after the first one nothing more is written, and the error is raised at the end.

    Args:
        path: the file.

    Raises:
        OSError: a write failed.
    """
    with Path(path).open("wb", buffering=0) as file:
        sink = _Sink(file)
        yield cast(BinaryIO, sink)
        if sink.error is not None:
            raise sink.error


class _Sink(io.RawIOBase):
    """Writes to a file until a write fails; keeps the error and swallows the rest."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.position = 0

    def writable(self) -> bool:
        """It is written, not read."""
        return True

    def write(self, data: Any) -> int:
        """Write all of some bytes, or nothing where a write has failed; returns their number."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.error is None and len(rest):
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.error = error
        self.position += size
        return size

    def tell(self) -> int:
        """Bytes that the library has written."""
        return self.position

"""Storage format of a file's frames, from its header: transfer syntax, size, bits and sign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FrameFormat:
    """Storage format of each frame, as the header states it.

    Attributes:
        path: the file, for messages.
        syntax: the transfer syntax UID.
        shape: ``(rows, columns)`` of the stored frame.
        bits_allocated: bits of a pixel in memory.
        bits_stored: how many of them are used.
        is_signed: the stored values are two's complement.
    """

    path: Path
    syntax: str
    shape: tuple[int, int]
    bits_allocated: int
    bits_stored: int
    is_signed: bool

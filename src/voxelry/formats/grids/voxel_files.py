"""Finds the files of voxels that a text header names: one, a list, or a numbered pattern such as ``slice%03d.raw 1 20 1``.

A header is text from anywhere: a pattern is never handed to a formatting function before it is known to hold one number and no
more, and a file must lie in the header's own folder, also where a link leads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelry.errors import CorruptFileError
from voxelry.formats.grids.stored import Stored

MOST_FILES = 65536
"""Most files of one image."""

_PATTERN = re.compile(r"[^%]*%(0?\d)?[du][^%]*")
_LONGEST_NAME = 1024


def beside(header: Path, name: str) -> Path:
    """The voxel file that a header names; refused unless it is in the header's folder or below it.

    A link may lead to the folder that the header's own link leads to, and within one store of git-annex.

    Raises:
        CorruptFileError: an absolute path, or one that leaves the folder.
    """
    path = header.parent / name[:_LONGEST_NAME]
    inside = bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name
    if not inside or len(name) > _LONGEST_NAME or not _leads_inside(header, path):
        raise CorruptFileError(
            f"{header}: names {name[:80]!r} as the file of its voxels, outside of its own folder",
            remedy="Put both files into one folder and correct the header.",
        )
    return path


def _leads_inside(header: Path, path: Path) -> bool:
    """Where links lead, the file lies in the header's folder, or in that of the file that the header is a link to."""
    real, real_header = Path(os.path.realpath(path)), Path(os.path.realpath(header))
    store = [folder for folder in real_header.parents if folder.name == "objects" and folder.parent.name == "annex"]
    return any(real.is_relative_to(folder) for folder in (Path(os.path.realpath(header.parent)), real_header.parent, *store))


def numbered(header: Path, pattern: str, first: int, last: int, step: int) -> list[Path]:
    """The files of a pattern with one number, such as ``slice%03d.raw``.

    Raises:
        CorruptFileError: it is no such pattern, or names no file or too many.
    """
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    if not 0 < len(numbers) <= MOST_FILES or not _PATTERN.fullmatch(pattern):
        raise CorruptFileError(
            f"{header}: '{pattern[:80]}' from {first} to {last} by {step} names no files of voxels",
            remedy="Write a name with one %d or %03d, the first and the last number, and a step.",
        )
    return [beside(header, pattern % number) for number in numbers]


def listed(header: Path, lines: Iterable[str]) -> list[Path]:
    """The files of a list, one a line.

    Raises:
        CorruptFileError: there is none, or too many.
    """
    names = [line.strip() for line in lines if line.strip()]
    if not 0 < len(names) <= MOST_FILES:
        raise CorruptFileError(f"{header}: its list of voxel files holds {len(names)} names", remedy="Write one name a line.")
    return [beside(header, name) for name in names]


def joined(blocks: Sequence[Stored]) -> Stored | partial[NDArray[np.number]]:
    """One block as it is, several as a function that reads them one after the other."""
    return blocks[0] if len(blocks) == 1 else partial(_read, tuple(blocks))


def _read(blocks: Sequence[Stored]) -> NDArray[np.number]:
    numbers: NDArray[np.number] = np.concatenate([block.numbers() for block in blocks])
    return numbers

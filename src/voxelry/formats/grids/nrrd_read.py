"""Reads NRRD: ``.nrrd``, or ``.nhdr`` with its voxels in one or more files beside it; raw, gzip and text encoding.

Axes in space, by `kinds` or `space directions`, are spatial; all others (colours, vectors, lists, times) become channels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from voxelry.errors import UnsupportedFormatError
from voxelry.formats.detection import head_of
from voxelry.formats.grids.grid_file import GridFile
from voxelry.formats.grids.nrrd_geometry import nrrd_geometry
from voxelry.formats.grids.nrrd_header import NrrdHeader, Vector, parse_nrrd
from voxelry.formats.grids.stored import Encoding, Stored
from voxelry.formats.grids.voxel_files import beside, joined, listed, numbered
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.signatures import is_nrrd

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "txt": "text", "text": "text", "ascii": "text",
}  # fmt: skip
_SPATIAL_KINDS = ("domain", "space")
_TOGETHER = ("vector", "color", "rgb", "hsv", "xyz", "complex", "quaternion", "matrix", "point", "normal", "gradient")


def open_nrrd(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> GridFile:  # noqa: ARG001 - as every opener
    """The header of an NRRD file.

    Args:
        path: the ``.nrrd`` or ``.nhdr`` file, under any name.
        options: not used by this format.

    Returns:
        A grid ``(x, y, z)``, of an image with two axes and no position in space ``(rows, columns)``.

    Raises:
        UnsupportedFormatError: not NRRD, an encoding or type that is not read, or not two or three axes through space.
        CorruptFileError: a header that contradicts itself, or more voxels than the file can hold.
        MissingFileError: a file with voxels is missing.
    """
    file = Path(path)
    if not is_nrrd(head_of(file)):
        raise UnsupportedFormatError(f"{file}: not an NRRD file", remedy="Check that it is what its name says.")
    return grid_of(parse_nrrd(file))


def grid_of(header: NrrdHeader) -> GridFile:
    """The grid that a parsed header describes; see `open_nrrd`."""
    dimension = header.integers("dimension", 1)[0]
    if not 1 <= dimension <= 16:
        raise header.wrong("dimension")
    sizes = header.integers("sizes", dimension)
    if min(sizes) < 1:
        raise header.wrong("sizes")
    kinds = header.fields.get("kinds", "").lower().split() or ["?"] * dimension
    if len(kinds) != dimension:
        raise header.wrong("kinds")
    directions = header.vectors("space directions", dimension)
    spatial = _spatial_axes(header, sizes, kinds, directions)
    beyond = [axis for axis in range(dimension) if axis not in spatial]
    geometry, remarks = nrrd_geometry(header, sizes, spatial, directions)
    stored = _stored(header, prod(sizes))
    flat = geometry.affine is None
    return GridFile(
        kind="nrrd",
        files=tuple(dict.fromkeys((header.path, *(block.path for block in stored)))),
        geometry=geometry,
        channels=prod(sizes[axis] for axis in beyond),
        sizes=sizes,
        order=(*beyond[::-1], *(spatial[::-1] if flat else spatial)),
        stored=joined(stored),
        remarks=tuple(remarks),
        components=any(_is_component_axis(kinds[axis]) for axis in beyond),
    )


def _is_component_axis(kind: str) -> bool:
    """An axis of this kind lists components of one quantity."""
    return kind.startswith(_TOGETHER) or "-color" in kind or "-vector" in kind


def _spatial_axes(
    header: NrrdHeader, sizes: Sequence[int], kinds: Sequence[str], directions: Sequence[Vector | None]
) -> tuple[int, ...]:
    if directions:
        axes = [axis for axis, vector in enumerate(directions) if vector is not None]
    else:
        axes = [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL_KINDS]
        axes = axes or [axis for axis, kind in enumerate(kinds) if kind in ("?", "???", "none")][:3]
    if len(axes) == 4:
        axes = axes[:3]  # the fourth is time, whether its space says so or not
    if len(axes) not in (2, 3):
        raise UnsupportedFormatError(
            f"{header.path}: {len(axes)} of its axes of sizes {tuple(sizes)} run through space; two or three are read",
            remedy="Write 'kinds' and 'space directions' into its header.",
        )
    return tuple(axes)


def _stored(header: NrrdHeader, count: int) -> tuple[Stored, ...]:
    """The location of the voxels, checked against the files' sizes: one file, or several of equal size."""
    dtype = _dtype(header)
    encoding = _ENCODINGS.get(header.fields.get("encoding", "").lower())
    if encoding is None:
        raise UnsupportedFormatError(
            f"{header.path}: NRRD encoding '{header.fields.get('encoding', '')[:40]}' is not read",
            remedy="Write it as raw or gzip.",
        )
    files = _data_files(header)
    if count % len(files):
        raise header.wrong("datafile")
    blocks = []
    for file in files:
        start = header.end if file == header.path else 0
        skip, offset = _skips(header, file, start, count // len(files) * dtype.itemsize, encoding)
        block = Stored(file, dtype, count // len(files), encoding, skip, offset, header.path)
        block.check_room()
        blocks.append(block)
    return tuple(blocks)


def _dtype(header: NrrdHeader) -> np.dtype[Any]:
    name = header.fields.get("type", "").lower()
    code = next((code for code, names in _TYPES.items() if name in names), None)
    if code is None:
        raise UnsupportedFormatError(f"{header.path}: NRRD type '{name[:40]}' is no plain number", remedy="Store short or float.")
    endian = header.fields.get("endian", "").lower()
    if code[1] != "1" and endian not in ("little", "big") and _ENCODINGS.get(header.fields.get("encoding", "")) != "text":
        raise header.wrong("endian")
    return np.dtype(code).newbyteorder(">" if endian == "big" else "<")


def _data_files(header: NrrdHeader) -> list[Path]:
    """The files of the voxels: the header's own, one beside it, a list, or a numbered pattern ``name%03d.raw 1 20 1``."""
    where = header.fields.get("datafile", "")
    if not where:
        return [header.path]
    if where.upper().startswith("LIST"):
        return listed(header.path, header.tail)
    if "%" not in where:
        return [beside(header.path, where)]
    pattern, *numbers = where.split()
    try:
        first, last, step = (int(number) for number in numbers[:3])
    except ValueError:
        raise header.wrong("datafile") from None
    return numbered(header.path, pattern, first, last, step)


def _skips(header: NrrdHeader, file: Path, start: int, size: int, encoding: Encoding) -> tuple[int, int]:
    """Bytes of the file to skip, and of its decompressed stream.

    `line skip` counts lines of the file, `byte skip` bytes of the decompressed stream; -1 means that raw voxels end the file.
    """
    lines = header.integers("lineskip")[0] if header.integers("lineskip") else 0
    skip = header.integers("byteskip")[0] if header.integers("byteskip") else 0
    if lines < 0 or skip < -1 or skip >= 2**62:
        raise header.wrong("byteskip" if skip < -1 else "lineskip")
    if lines and file.is_file():
        with file.open("rb") as stream:
            stream.seek(start)
            for _ in range(min(lines, 1 << 20)):
                stream.readline(1 << 20)
            start = stream.tell()
    if skip == -1:
        whole = file.stat().st_size if file.is_file() else 0
        return (max(start, whole - size), 0) if encoding == "raw" else (start, 0)
    return (start, skip) if encoding in ("gzip", "zlib") else (start + skip, 0)

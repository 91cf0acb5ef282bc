"""Reads MetaImage: ``.mha``, or ``.mhd`` with its voxels in other files (Kitware's MetaIO documentation).

The header is parsed and checked before anything is allocated; sheared and reflected matrices are kept. Voxels are raw, packed or
text, in one file, a list of files, or a numbered pattern of them.

A 4D file has channels along its last axis, one of several `ElementNumberOfChannels` along its components.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Affine, Geometry, flip_lps_ras
from voxelry.errors import CorruptFileError, UnsupportedFormatError
from voxelry.formats.detection import head_of
from voxelry.formats.grids.grid_file import NO_ORIENTATION, GridFile, grid
from voxelry.formats.grids.stored import Encoding, Stored
from voxelry.formats.grids.voxel_files import beside, joined, listed, numbered
from voxelry.formats.read_options import PLAIN, ReadOptions
from voxelry.formats.signatures import is_metaimage

_LONGEST_HEADER = 1 << 20
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_SEPARATOR = re.compile("[=:]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MATRIX_KEYS = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN_KEYS = ("Origin", "Offset", "Position")
"""Names of one thing each; the first that is there counts, as ITK has it."""

_ITK_LETTERS = "RAI"
"""What ITK calls axes that run left, posterior and superior: from right, from anterior, from inferior."""

_SPACING_KEYS = ("ElementSpacing", "ElementSize")

Fields = dict[str, str]


def open_metaimage(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> GridFile:  # noqa: ARG001 - as every opener
    """The header of a MetaImage.

    Args:
        path: the ``.mha`` or ``.mhd`` file, under any name.
        options: not used by this format.

    Returns:
        A grid ``(x, y, z)``, of a 2D image ``(rows, columns)``.

    Raises:
        UnsupportedFormatError: not a MetaImage of 2 to 4 axes, or of a type that is no plain number.
        CorruptFileError: a header that contradicts itself, or more voxels than the file can hold.
        MissingFileError: the file with the voxels is missing.
    """
    file = Path(path)
    if not is_metaimage(head_of(file)):
        raise UnsupportedFormatError(f"{file}: not a MetaImage", remedy="Check that it is what its name says.")
    fields, end, doubled = _parse(file)
    sizes = tuple(int(n) for n in _numbers(fields, ("DimSize",), file, whole=True))
    components = int(fields.get("ElementNumberOfChannels", "1")) if fields.get("ElementNumberOfChannels", "1").isdigit() else 0
    if not 2 <= len(sizes) <= 4 or fields.get("NDims") != str(len(sizes)) or min(*sizes, components) < 1:
        raise CorruptFileError(
            f"{file}: DimSize {sizes} with NDims {fields.get('NDims')} and {components} components is no image of 2 to 4 axes",
            remedy="Repair the header, or split the image.",
        )
    if len(sizes) == 4 and sizes[3] > 1 and components > 1:
        raise UnsupportedFormatError(f"{file}: 4D with several components a voxel", remedy="Split it into 3D files.")
    geometry, remarks = _geometry(fields, sizes, file)
    all_sizes = (components, *sizes)
    spatial = (2, 1) if len(sizes) == 2 else (1, 2, 3)
    beyond = (4,) if len(sizes) == 4 else ()
    stored, voxel_files = _stored(fields, file, end, components, sizes)
    return GridFile(
        kind="metaimage",
        files=(file, *voxel_files),
        geometry=geometry,
        channels=components * (sizes[3] if beyond else 1),
        sizes=all_sizes,
        order=(0, *beyond, *spatial),
        stored=stored,
        remarks=(*(f"{key} is there twice, with different values: the last counts" for key in doubled), *remarks),
        components=components > 1,
    )


def _parse(file: Path) -> tuple[Fields, int, list[str]]:
    """Keys and values up to `ElementDataFile`, which ends the header, its length in bytes, and keys of several values."""
    with file.open("rb") as stream:
        head = stream.read(_LONGEST_HEADER)
    fields: Fields = {}
    doubled: list[str] = []
    at = 0
    while at < len(head):
        end = head.find(b"\n", at)
        end = len(head) if end < 0 else end
        line = head[at:end].removeprefix(_BYTE_ORDER_MARK).decode("latin-1")
        at = min(end + 1, len(head))
        if not line.strip() or line.startswith("#"):
            continue
        key, *values = (word.strip() for word in _SEPARATOR.split(line, maxsplit=1))
        if not values:
            raise CorruptFileError(f"{file}: header line {line[:40]!r} is no 'key = value'", remedy="The file is damaged.")
        if fields.setdefault(key, values[0]) != values[0]:
            doubled.append(key)
        fields[key] = values[0]
        if key == "ElementDataFile":
            return fields, at, doubled
    raise CorruptFileError(f"{file}: the header has no ElementDataFile", remedy="It is truncated: copy it again.")


def _numbers(fields: Fields, keys: tuple[str, ...], file: Path, *, whole: bool = False) -> list[float]:
    """The numbers of the first of `keys` that the header has, else none."""
    key = next((key for key in keys if key in fields), "")
    words = fields.get(key, "").split()
    try:
        return [int(word) if whole else float(word) for word in words]
    except ValueError as error:
        raise CorruptFileError(f"{file}: {key} = {fields[key][:60]!r} are no numbers", remedy="The file is damaged.") from error


def _geometry(fields: Fields, sizes: tuple[int, ...], file: Path) -> tuple[Geometry, list[str]]:
    axes = len(sizes)
    spacing = _numbers(fields, _SPACING_KEYS, file)
    matrix = _numbers(fields, _MATRIX_KEYS, file)
    origin = _numbers(fields, _ORIGIN_KEYS, file) or [0.0] * axes
    contradictions = [*_contradictions(fields, _ORIGIN_KEYS, file), *_contradictions(fields, _MATRIX_KEYS, file)]
    if axes == 2:
        size = (spacing[1], spacing[0]) if len(spacing) == 2 else None
        remarks = contradictions if size else [*contradictions, "no physical size"]
        if any(origin):
            remarks.append("Offset not used: a picture has no position")
        return grid((sizes[1], sizes[0]), None, size, file, "ElementSpacing"), remarks
    if not spacing:
        raise CorruptFileError(f"{file}: no ElementSpacing, and 1 mm is never assumed", remedy="Write it into the header.")
    if len(spacing) != axes or len(origin) != axes or len(matrix) not in (0, axes**2):
        raise CorruptFileError(
            f"{file}: {len(spacing)} spacings, an origin of {len(origin)} and a matrix of {len(matrix)} numbers for {axes} axes",
            remedy="Repair the header.",
        )
    directions = np.array(matrix).reshape(axes, axes) if matrix else np.eye(axes)
    if axes == 4 and (directions[3, :3].any() or directions[:3, 3].any()):
        raise UnsupportedFormatError(f"{file}: its fourth axis runs through space", remedy="Store it as 3D files.")
    shape = (sizes[0], sizes[1], sizes[2])
    geometry = grid(shape, _affine(directions, spacing, origin), None, file, "TransformMatrix and ElementSpacing")
    return geometry, contradictions if matrix else [NO_ORIENTATION, *_unused_orientation(fields), *contradictions]


def _contradictions(fields: Fields, keys: tuple[str, ...], file: Path) -> list[str]:
    """A remark on each name of one thing that states another value than the name that counts."""
    stated = [(key, _numbers(fields, (key,), file)) for key in keys if key in fields]
    return [f"{key} contradicts {stated[0][0]}, which counts" for key, values in stated[1:] if values != stated[0][1]]


def _unused_orientation(fields: Fields) -> list[str]:
    """A remark where letters name an orientation that no matrix confirms: programs disagree on what they mean."""
    letters = fields.get("AnatomicalOrientation", "").upper()
    return [] if set(letters) <= {"?"} or letters == _ITK_LETTERS else [f"AnatomicalOrientation {letters[:20]} not used"]


@np.errstate(over="ignore", invalid="ignore")
def _affine(directions: NDArray[np.float64], spacing: list[float], origin: list[float]) -> Affine:
    """RAS+ affine from MetaImage's rows of unit vectors, which are LPS+ as ITK writes them."""
    affine = np.eye(4)
    affine[:3, :3] = directions[:3, :3].T * spacing[:3]
    affine[:3, 3] = origin[:3]
    return flip_lps_ras(affine)


def _stored(
    fields: Fields, file: Path, end: int, components: int, sizes: tuple[int, ...]
) -> tuple[Stored | Callable[[], NDArray[Any]], tuple[Path, ...]]:
    """The location of the voxels, checked against the file's size, and the separate file that holds them, if there is one."""
    kind = fields.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise UnsupportedFormatError(f"{file}: ElementType {kind!r} is no plain number", remedy="Store it as MET_SHORT or so.")
    big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<")
    packed: Encoding = "zlib" if _is_true(fields, "CompressedData") else "raw"
    if not _is_true(fields, "BinaryData", default="true"):
        packed = "text"
    skip = next(iter(_numbers(fields, ("HeaderSize",), file, whole=True)), 0)
    count, voxel_files = components * prod(sizes), _voxel_files(fields, file, end, sizes)
    if count % len(voxel_files):
        raise CorruptFileError(f"{file}: {count} voxels in {len(voxel_files)} files of equal size", remedy="Repair the header.")
    blocks = []
    for voxels in voxel_files:
        start, block = end if voxels == file else int(skip), count // len(voxel_files)
        if skip == -1 and voxels.is_file():  # the voxels are the end of the file
            start = max(0, voxels.stat().st_size - block * dtype.itemsize)
        blocks.append(Stored(voxels, dtype, block, packed, skip=max(0, start), header=file))
        blocks[-1].check_room()
    return joined(blocks), tuple(voxels for voxels in voxel_files if voxels != file)


def _voxel_files(fields: Fields, file: Path, end: int, sizes: tuple[int, ...]) -> list[Path]:
    """The file's own, one beside it, a list of files (``LIST``, ``LIST 2D``), or a numbered pattern of one file a slice."""
    where = fields["ElementDataFile"]
    kind, *numbers = where.split() or [""]
    if kind == "LIST":
        axes = numbers[0].upper().removesuffix("D") if numbers else ""
        each = int(axes) if axes.isdecimal() and 0 < int(axes) <= len(sizes) else len(sizes) - 1
        with file.open("rb") as stream:
            stream.seek(end)
            names = stream.read(_LONGEST_HEADER).decode("latin-1").split("\n")
        voxel_files = listed(file, names)
        if len(voxel_files) != prod(sizes[each:]):
            raise CorruptFileError(
                f"{file}: lists {len(voxel_files)} files for {prod(sizes[each:])} parts of {each} axes", remedy="Repair its list."
            )
        return voxel_files
    if "%" in where:
        try:
            first, last, step = (int(number) for number in (*numbers, *("1", str(sizes[-1]), "1")[len(numbers) :]))
        except ValueError:
            raise CorruptFileError(f"{file}: ElementDataFile {where[:80]!r} is no pattern", remedy="Repair the header.") from None
        voxel_files = numbered(file, kind, first, last, step)
        if len(voxel_files) != sizes[-1]:
            raise CorruptFileError(f"{file}: names {len(voxel_files)} files for {sizes[-1]} slices", remedy="Repair the header.")
        return voxel_files
    return [file if where.upper() == "LOCAL" else beside(file, where)]


def _is_true(fields: Fields, key: str, default: str = "false") -> bool:
    return fields.get(key, default).strip().lower() in ("true", "t", "1")

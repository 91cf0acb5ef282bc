"""Instance ids in a file of their own beside the labels, for formats of one number a voxel: ``a.nii.gz``, ``a_instances.nii.gz``.

Both files state one record, a checksum of the labels and ids together. Ids are read where the labels' file has a record, the file
beside it has the same, both have one grid, and the checksum is that of what they hold: so no unrelated file is taken for ids, and
labels that were edited since come without ids, with a remark. Both are written or neither.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from voxelry.base.files import atomic_paths
from voxelry.core.labels import LabelTable
from voxelry.core.objects import objects_of
from voxelry.core.volume import LabelMap
from voxelry.errors import VoxelryError
from voxelry.formats.detection import GZIP_ERRORS, detect
from voxelry.formats.file_content import HEAD_BYTES, open_content
from voxelry.formats.read_options import PLAIN
from voxelry.formats.table import stem_of

SUFFIX = "_instances"
"""Ends the name, without ending, of a file of ids."""

_RECORD = re.compile(rb"voxelry-instances(-of)?:([0-9a-f]{16})")
_GZIP = b"\x1f\x8b"

Ids = NDArray[np.uint16] | NDArray[np.uint32]


def smallest_ids(ids: NDArray[np.uint32]) -> Ids:
    """Ids in the smallest type that files have: uint16, or uint32 where they need it."""
    return ids.astype(np.uint16) if ids.max(initial=0) < 2**16 else ids


def ids_file(path: Path) -> Path:
    """The file of ids beside a file of labels."""
    stem = stem_of(path)
    return path.with_name(f"{stem}{SUFFIX}{path.name[len(stem) :]}")


def is_ids_file(path: Path) -> bool:
    """Whether a file holds the ids of another, by its name and its record; any error of reading it means no."""
    if not stem_of(path).endswith(SUFFIX):
        return False
    try:
        return _record(path, of_ids=True) is not None
    except (OSError, VoxelryError):
        return False


def write_with_ids(
    labels: LabelMap, values: NDArray[Any], path: Path, save: Callable[[Path, NDArray[Any], str, bool], object]
) -> Path:
    """Write labels, and beside them their ids where they have some: both files or neither.

    Args:
        labels: one layer.
        values: ``(*spatial)`` as they are stored.
        path: the file of the labels; replaced if it exists, as the file of ids is.
        save: called with a path, an array (values, or ids in uint16 or uint32), the record to state within the first bytes of
            the file, and whether the array holds ids.

    Returns:
        The path.

    Raises:
        LabelError: ids that fit no label.
    """
    if labels.instances is None:
        save(path, values, "", False)
        return path
    ids = _stored_ids(labels, values, path)
    checksum = _checksum(values, ids)
    with atomic_paths(path, ids_file(path)) as (own, beside):
        save(own, values, f"voxelry-instances:{checksum}", False)
        save(beside, ids, f"voxelry-instances-of:{checksum}", True)
    return path


def with_ids(labels: LabelMap, path: Path, table: LabelTable | None) -> LabelMap:
    """Labels with the ids of the file beside theirs, where there is one of these labels.

    Args:
        labels: as read from `path`, on one layer.
        path: their file.
        table: the table that the caller named, None where the labels' own may change: labels that have ids become things.
    """
    checksum = _record(path, of_ids=False)
    if checksum is None or len(labels.layers) != 1:
        return labels
    beside = ids_file(path)
    try:
        ids = _read_ids(labels, beside, checksum)
    except VoxelryError as error:
        remark = f"its objects have no ids: {error.problem}"
        return replace(labels, source=replace(labels.source, remarks=(*labels.source.remarks, remark)))
    source = replace(labels.source, files=(*labels.source.files, str(beside)))
    things = set(np.unique(labels.array[ids > 0]).tolist())
    told = labels.table if table is not None else _as_things(labels.table, things)
    return replace(labels, instances=ids[None], source=source, table=told)


def _as_things(table: LabelTable, values: set[int]) -> LabelTable:
    rows = (label.model_copy(update={"kind": "thing"}) if label.value in values else label for label in table.labels)
    return LabelTable(labels=tuple(rows), ignore=table.ignore)


def _stored_ids(labels: LabelMap, values: NDArray[Any], path: str | os.PathLike[str]) -> Ids:
    """The ids of things, in the smallest type that files have."""
    objects_of(labels, path)
    assert labels.instances is not None
    things = np.zeros(2**16, np.bool_)
    things[[label.value for label in labels.table.labels if label.kind == "thing"]] = True
    return smallest_ids(np.where(things[values], labels.instances[0], np.uint32(0)))


def _checksum(values: NDArray[Any], ids: NDArray[Any]) -> str:
    """16 hexadecimal digits of labels and ids, whatever type they are stored in."""
    arrays = (np.ascontiguousarray(values, dtype="<u2"), np.ascontiguousarray(ids, dtype="<u4"))
    return "".join(f"{isal_zlib.crc32(array.data if array.size else b''):08x}" for array in arrays)


def _record(path: Path, *, of_ids: bool) -> str | None:
    """The record that a file states, None where it states none of this kind."""
    with open_content(path) as content:
        head = content.head
    if head.startswith(_GZIP):
        try:
            with igzip.open(path, "rb") as stream:
                head = stream.read(HEAD_BYTES)
        except GZIP_ERRORS:
            return None
    match = _RECORD.search(head)
    return match[2].decode() if match and bool(match[1]) == of_ids else None


def _read_ids(labels: LabelMap, beside: Path, checksum: str) -> NDArray[np.uint32]:
    """The ids ``(*spatial)`` of labels.

    Raises:
        VoxelryError: there is no file of them.
    """
    row = detect(beside)
    if _record(beside, of_ids=True) != checksum:
        raise VoxelryError(f"{beside} is not of these labels")
    if row.open_grid:
        grid = row.call(row.open_grid, beside, PLAIN)
        numbers, geometry = grid.numbers()[0], grid.geometry
    else:
        from voxelry.formats.pictures.picture_read import read_picture_numbers  # decoders of pictures, which grids do without

        numbers, geometry = read_picture_numbers(beside)
    fits = numbers.shape == labels.array.shape and labels.geometry.same_grid(geometry)
    if not fits or _checksum(labels.array, numbers) != checksum:
        raise VoxelryError(f"labels or {beside} were changed since both were written")
    ids: NDArray[np.uint32] = numbers.astype(np.uint32)
    return ids

"""Duplicates among cases: the same image under two ids, by its files or by its voxels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from voxelry.core.volume import Volume
from voxelry.datasets.cases import Case
from voxelry.errors import SplitLeakError

_CHUNK = 1 << 20
_CANONICAL = "RAS"

LEAK_REMEDY = "Delete one of them, or put both on one side of the split, under one `group`."
"""What helps where the same image is on two sides of a split."""


def voxel_digest(volume: Volume) -> str:
    """A digest of an image's shape and grey values, whatever its format, number type, or order and direction of axes.

    Args:
        volume: its pixels are decoded; the affine counts for the order of axes alone.

    Returns:
        Hexadecimal digits; empty for an image whose voxels all have the same value.
    """
    array = volume.array
    if array.size and (array == array.flat[0]).all():
        return ""
    if volume.geometry.affine is not None:
        array = volume.geometry.reindexing_to_orientation(_CANONICAL).apply(array)
    digest = hashlib.sha256(repr(array.shape).encode())
    for channel in array:
        for plane in channel:
            digest.update((np.ascontiguousarray(plane, np.float32) + np.float32(0)).tobytes())  # 0 and -0 are one value
    return digest.hexdigest()


def refuse_shared_files(cases: Sequence[Case], where: str) -> None:
    """Refuse an image that is on two sides of a split under two ids, by the bytes of its files.

    Only files of one size are read. The same image in another format is for `voxel_digest` to find.

    Args:
        cases: cases with their splits; those without one take no part.
        where: the manifest's file, for messages.

    Raises:
        SplitLeakError: naming the two cases.
    """
    groups = [[case for case in cases if case.split is not None and all(image.is_file() for image in case.images)]]
    for key in (_sizes, _heads, _contents):  # each costs more than the one before, and looks at fewer cases
        groups = [equal for group in groups for equal in _grouped(group, key)]
    for first, *others in groups:
        for other in others:
            if other.split != first.split and other.group != first.group:
                pair = f"'{first.id}' ({first.split}) and '{other.id}' ({other.split})"
                raise SplitLeakError(f"{where}: cases {pair} are the same image, {other.images[0]}", remedy=LEAK_REMEDY)


def _grouped(cases: Sequence[Case], key: Callable[[Case], object]) -> list[list[Case]]:
    """The cases of equal keys, where they are in several splits."""
    groups: dict[object, list[Case]] = defaultdict(list)
    for case in cases:
        groups[key(case)].append(case)
    return [group for group in groups.values() if len({case.split for case in group}) > 1]


def _sizes(case: Case) -> tuple[int, ...]:
    return tuple(image.stat().st_size for image in case.images)


def _heads(case: Case) -> tuple[bytes, ...]:
    return tuple(_digest(image, whole=False) for image in case.images)


def _contents(case: Case) -> tuple[bytes, ...]:
    return tuple(_digest(image, whole=True) for image in case.images)


def _digest(file: Path, whole: bool) -> bytes:
    """A digest of a file, or of its first `_CHUNK` bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            if not whole:
                break
    return digest.digest()

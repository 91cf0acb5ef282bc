"""Prepared cases on disk, memory-mapped: written once, resumed after an interruption, read a window at a time.

A case is a folder: `image.npy` ``(C, *shape)`` float16, `classes.npy` ``(*shape)`` int16, `places.npz` voxels of each class, and
`key.txt`, which changes with anything that would change the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.files import atomic_folder
from voxelry.labels import LabelTable
from voxelry.manifest.cases import Case
from voxelry.plan import Plan
from voxelry.prepare.preparation import prepare
from voxelry.volume import LabelMap, Volume

PLACES_PER_CLASS = 10_000
_LAYOUT = 2
_PREPARED = {"orientation", "spacing", "long_side", "image_order", "coarse_axis", "normalisation"}


@dataclass(frozen=True, eq=False)
class CachedCase:
    """One prepared case.

    Attributes:
        id: the case.
        image: ``(C, *shape)`` float16, memory-mapped.
        classes: ``(*shape)`` int16, memory-mapped.
        places: class index -> ``(n, axes)`` voxels of that class, at most `PLACES_PER_CLASS`.
    """

    id: str
    image: NDArray[np.float16] = field(repr=False)
    classes: NDArray[np.int16] = field(repr=False)
    places: dict[int, NDArray[np.int32]] = field(repr=False)


def cached_case(
    case: Case, plan: Plan, table: LabelTable, folder: Path, load: Callable[[], tuple[Volume, LabelMap | None]]
) -> CachedCase:
    """The prepared case, from `folder` if it lies there already, else prepared and written.

    Args:
        case: the case; its files' sizes and times are part of the key.
        plan: how to prepare.
        table: the labels.
        folder: of the whole cache.
        load: reads the case's image and labels.
    """
    home = folder / case.id
    key = _key(case, plan, table)
    if not (home / "key.txt").is_file() or (home / "key.txt").read_text() != key:
        _write(home, key, plan, table, *load())
    with np.load(home / "places.npz") as stored:
        places = {int(name): stored[name] for name in stored.files}
    return CachedCase(case.id, np.load(home / "image.npy", mmap_mode="r"), np.load(home / "classes.npy", mmap_mode="r"), places)


def _write(home: Path, key: str, plan: Plan, table: LabelTable, volume: Volume, labels: LabelMap | None) -> None:
    preparation = prepare(volume, plan)
    stored = np.zeros(volume.geometry.shape, dtype=np.uint8) if labels is None else labels.array
    classes = preparation.classes(table.to_classes(stored, volume.source.name))
    with atomic_folder(home) as temporary:
        np.save(temporary / "image.npy", preparation.image(volume).astype(np.float16))
        np.save(temporary / "classes.npy", classes)
        np.savez(temporary / "places.npz", **{str(k): v for k, v in class_places(classes, len(table) + 1).items()})  # type: ignore[arg-type]
        (temporary / "key.txt").write_text(key)


def class_places(classes: NDArray[np.int16], count: int) -> dict[int, NDArray[np.int32]]:
    """Where each class but the background is, thinned evenly to `PLACES_PER_CLASS` voxels.

    Args:
        classes: ``(*shape)`` class indices.
        count: number of classes, background included.

    Returns:
        Class index -> ``(n, axes)`` int32; classes that are absent are left out.
    """
    found = {}
    for index in range(1, count):
        voxels = np.argwhere(classes == index)
        if len(voxels):
            step = max(1, -(-len(voxels) // PLACES_PER_CLASS))
            found[index] = voxels[::step].astype(np.int32)
    return found


def _key(case: Case, plan: Plan, table: LabelTable) -> str:
    files = [*case.images, *case.label_files]
    stamps: list[Any] = [(str(file), *_stamp(file)) for file in files]
    prepared = plan.model_dump(mode="json", include=_PREPARED)
    content = json.dumps([_LAYOUT, stamps, prepared, table.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _stamp(file: Path) -> list[int]:
    """Size and time of a file, or of every file in a folder."""
    files = sorted(file.rglob("*")) if file.is_dir() else [file]
    return [number for one in files for number in (one.stat().st_size, one.stat().st_mtime_ns)]

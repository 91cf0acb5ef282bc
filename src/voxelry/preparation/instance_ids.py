"""Ids of the objects of a case, on the scan's grid and on the network's."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.listing import counted
from voxelry.core.volume import LabelMap
from voxelry.metrics.instances import connected_objects, objects_from_ids

log = logging.getLogger(__name__)

Ids = NDArray[np.int32]


def object_ids(labels: LabelMap, names: Collection[str]) -> Ids:
    """The objects of some labels, numbered from 1.

    Args:
        labels: with instance ids; connected components are the objects where it has none.
        names: names of the labels.

    Returns:
        ``(*spatial)`` int32, 0 outside these objects. Of objects that overlap, that of the later label is kept.

    Example:
        >>> import numpy as np
        >>> from voxelry.core import Geometry, LabelTable
        >>> cells = np.array([[7, 7, 0, 7], [0, 0, 0, 7]], np.uint8)
        >>> labels = LabelMap.of(cells, Geometry((2, 4)), LabelTable.numbered([7]))
        >>> object_ids(labels, ["label_7"]).tolist()
        [[1, 1, 0, 2], [0, 0, 0, 2]]
    """
    classes = np.zeros(labels.geometry.shape, np.int16)
    ids = np.zeros(labels.geometry.shape, np.uint32)
    for number, label in enumerate(labels.table.labels, start=1):
        if label.name in names:
            mask = labels.mask(label.name)
            classes[mask] = number
            if labels.instances is not None:
                ids[mask] = labels.instances[label.layer][mask]
    if labels.instances is None:
        return connected_objects(classes).ids.astype(np.int32)
    return objects_from_ids(ids, classes).ids.astype(np.int32)


def resample_ids(ids: Ids, classes: NDArray[np.integer], new_classes: NDArray[np.integer], name: str = "") -> Ids:
    """Ids on a grid whose class indices are known: the nearest object of the same class.

    Args:
        ids: ``(*box)`` of objects, each of one class.
        classes: ``(*box)`` class indices of the same grid.
        new_classes: ``(*shape)`` class indices on the new grid.
        name: of the case, for messages; objects too small for the new grid are counted there.

    Returns:
        ``(*shape)`` int32; 0 where a voxel's class has no object within reach.
    """
    if ids.shape == new_classes.shape and np.array_equal(classes, new_classes):
        return ids
    class_of = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    class_of[ids.reshape(-1)] = classes.reshape(-1)
    class_of[0] = 0
    nearest = ids[np.ix_(*(_nearest(n, m) for n, m in zip(ids.shape, new_classes.shape, strict=True)))]
    result = np.where(class_of[nearest] == new_classes, nearest, 0)
    things = np.unique(class_of[1:])
    _spread(result, new_classes, class_of, np.isin(new_classes, things))
    lost = len(np.setdiff1d(ids, np.append(result, 0)))
    if lost:
        log.warning("%s: %s too small for the network's grid and not learnt", name, counted(lost, "object is", "objects are"))
    return result


def _nearest(size: int, new_size: int) -> NDArray[np.int64]:
    """The index of the voxel nearest to the centre of each new one."""
    return (2 * np.arange(new_size) + 1) * size // (2 * new_size)


def _spread(ids: Ids, classes: NDArray[Any], class_of: NDArray[np.int64], wanted: NDArray[np.bool_]) -> None:
    """Give voxels without an object that of their nearest neighbour of the same class, until none is left to give; in place."""
    offsets = sorted(itertools.product((-1, 0, 1), repeat=ids.ndim), key=lambda offset: sum(map(abs, offset)))[1:]
    voxels = np.argwhere(wanted & (ids == 0))
    while len(voxels):
        neighbours = np.zeros(len(voxels), ids.dtype)
        own = classes[tuple(voxels.T)]
        for offset in offsets:
            there = voxels + offset
            inside = ((there >= 0) & (there < ids.shape)).all(axis=1) & (neighbours == 0)
            candidates = ids[tuple(there[inside].T)]
            neighbours[inside] = np.where(class_of[candidates] == own[inside], candidates, 0)
        if not neighbours.any():
            return
        ids[tuple(voxels.T)] = neighbours
        voxels = voxels[neighbours == 0]

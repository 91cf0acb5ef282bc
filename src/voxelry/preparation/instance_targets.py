"""Training targets of the instance head: border, core and relative distance of every object, once per case.

All follow from the distance of each voxel of an object to the nearest voxel that is not of it. The relative distance is divided
by the object's own depth, so that it stays true where a patch is scaled or turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelry.core.instance_plan import InstancePlan
from voxelry.preparation.mapped_array import MappedArray

NO_PART, BORDER, CORE = 0, 1, 2
"""Values of the part plane."""

FULL = 127
"""The stored distance of the deepest voxel of an object."""

_SLAB = 64  # planes outside objects that are measured at a time
_SAME = 1e-6  # distances closer than this are equal


@dataclass(frozen=True, eq=False)
class InstanceTargets:
    """What the instance head learns of one case.

    Attributes:
        parts: ``(*shape)`` int8, `BORDER`, `CORE` or `NO_PART`.
        distance: ``(*shape)`` int8, the signed distance to the object's surface over the largest within the object, times `FULL`:
            positive inside, negative outside, where the nearest object counts.
    """

    parts: NDArray[np.int8] | MappedArray = field(repr=False)
    distance: NDArray[np.int8] | MappedArray = field(repr=False)


def instance_targets(ids: NDArray[np.integer], spacing: Sequence[float], plan: InstancePlan) -> InstanceTargets:
    """The targets of a map of objects.

    An object's core is what is deeper than the plan's erosion, which is at least a voxel, and at most half of the object's depth:
    every object has a core. The edges of the grid are no surface: an object that is cut there goes on.

    Args:
        ids: ``(*shape)``, 0 outside objects.
        spacing: of a voxel along each axis, in the unit of the plan.
        plan: border, erosion, and the axis along which nothing is eroded.

    Example:
        >>> import numpy as np
        >>> ids = np.zeros((9, 9), int)
        >>> ids[2:7, 2:7] = 1
        >>> targets = instance_targets(ids, (1, 1), InstancePlan(labels=("cell",), diameter=5, border=1, erosion=1))
        >>> targets.parts[4].tolist(), targets.distance[4].tolist()
        ([0, 0, 1, 2, 2, 2, 1, 0, 0], [-76, -25, 25, 76, 127, 76, 25, -25, -76])
    """
    parts, distance = np.zeros(ids.shape, np.int8), np.zeros(ids.shape, np.int8)
    radii = np.zeros(int(ids.max(initial=0)) + 1)
    flat = tuple(float(size) for size in spacing)
    step = min(size for axis, size in enumerate(flat) if axis != plan.coarse_axis)
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        if box is None:
            continue
        grown = tuple(slice(max(0, edge.start - 1), edge.stop + 1) for edge in box)
        inside = ids[grown] == number
        depth = _depth(inside, flat)
        radii[number] = depth[inside].max() - step / 2
        distance[grown][inside] = np.rint((depth[inside] - step / 2) / radii[number] * FULL)
        in_plane = depth if plan.coarse_axis is None else _depth_in_planes(inside, flat, plan.coarse_axis)
        parts[grown][inside] = _parts(in_plane[inside], step, plan)
    _fill_outside(distance, ids, flat, radii, step)
    return InstanceTargets(parts, distance)


def _parts(depth: NDArray[np.float64], step: float, plan: InstancePlan) -> NDArray[np.int8]:
    """The parts of one object's voxels by their depth, counted to the first voxel beyond the object."""
    deepest = depth.max()
    eroded = min(max(plan.erosion, step), max(step, deepest / 2))
    core = (depth > eroded + _SAME) | (depth >= deepest - _SAME)
    border = ~core & (depth <= max(plan.border, step) + _SAME)
    return np.where(core, CORE, np.where(border, BORDER, NO_PART)).astype(np.int8)


def _depth(inside: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """The distance of each voxel of an object to the nearest one beyond it; an object that fills the grid is as deep as that."""
    if inside.all():
        return np.full(inside.shape, max(n * size for n, size in zip(inside.shape, spacing, strict=True)))
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(inside, sampling=spacing)
    return depth


def _depth_in_planes(inside: NDArray[np.bool_], spacing: Sequence[float], across: int) -> NDArray[np.float64]:
    """`_depth` within each plane across an axis."""
    in_plane = [size for axis, size in enumerate(spacing) if axis != across]
    return np.stack([_depth(plane, in_plane) for plane in np.moveaxis(inside, across, 0)], axis=across)


def _fill_outside(
    distance: NDArray[np.int8], ids: NDArray[Any], spacing: Sequence[float], radii: NDArray[np.float64], step: float
) -> None:
    """The distance outside objects, in stretches along the first axis that overlap by the largest radius: no more can matter."""
    halo = int(np.ceil((radii.max() + step) / spacing[0])) + 1
    for begin in range(0, len(ids), _SLAB):
        first, last = max(0, begin - halo), min(len(ids), begin + _SLAB + halo)
        rows = slice(begin - first, min(begin + _SLAB, len(ids)) - first)
        near = ids[first:last]
        outside = near[rows] == 0
        if not near.any():
            distance[begin : begin + _SLAB][outside] = -FULL
            continue
        away, index = ndimage.distance_transform_edt(near == 0, sampling=spacing, return_indices=True)
        radius = radii[near[tuple(axis[rows][outside] for axis in index)]]
        share = (away[rows][outside] - step / 2) / radius
        distance[begin : begin + _SLAB][outside] = -np.rint(np.minimum(share, 1) * FULL)

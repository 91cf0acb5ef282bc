"""Resamples labels onto another grid: voxel for voxel where both share a lattice, else with the loss of each label.

A resampled voxel gets the label that fills most of it, background included; ties go to background, then to the lower value.
Voxels are boxes, nothing is interpolated: on a finer grid each takes the label at its centre, so that no structure vanishes; on a
coarser one labels are sampled at several points per axis, so that small structures count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, find_objects

from voxelry.base.threads import run_slabs
from voxelry.core.geometry import Geometry
from voxelry.core.volume import LabelMap
from voxelry.errors import GridMismatchError

_SLAB = 16
_WHOLE = 0.01
"""Ratios of sizes that are off a whole number by less than this are that number."""


@dataclass(frozen=True)
class LabelLoss:
    """Change of one label by resampling.

    Attributes:
        label: its name.
        before_mm3: volume on the grid it was drawn on.
        after_mm3: volume on the new grid.
        dice: of the label as it was with itself, brought to the new grid and back; 1 where nothing was lost.
    """

    label: str
    before_mm3: float
    after_mm3: float
    dice: float

    def __str__(self) -> str:
        change = (self.after_mm3 / self.before_mm3 - 1) * 100
        return (
            f"{self.label}: {self.before_mm3:.6g} mm3 became {self.after_mm3:.6g} ({change:+.2f} %), "
            f"Dice {self.dice:.4f} there and back"
        )


@dataclass(frozen=True, eq=False)
class RegriddedLabels:
    """Labels on the target grid.

    Attributes:
        labels: on that grid.
        how: the method, empty where the grids were equal.
        losses: one for each label with a voxel, where any lost something.
    """

    labels: LabelMap
    how: str = ""
    losses: tuple[LabelLoss, ...] = ()


def regrid_labels(labels: LabelMap, grid: Geometry) -> RegriddedLabels:
    """Labels on another grid.

    Equal grids, and those whose axes are flipped or permuted, are re-indexed; a part of the same lattice is placed or cut.
    Everything else is resampled.

    Args:
        labels: on their own grid; values on a picture must have its size.
        grid: the target grid.

    Returns:
        The labels on it, and the losses.

    Raises:
        GridMismatchError: pictures of different sizes, or no labelled voxel lies on the grid.
    """
    change = labels.geometry.reindexing_to(grid)
    if change is not None or labels.geometry.affine is None or grid.affine is None:
        return RegriddedLabels(
            labels.on_grid(grid), "" if change is None or change.is_identity else "axes were flipped or permuted"
        )
    keys, values, ids = _classes(labels)
    reindex = labels.geometry.reindexing_into(grid)
    if reindex is not None:
        start = grid.offset_of(labels.geometry.reindexed(reindex))
        assert start is not None
        layers = np.stack([_placed(reindex.apply(layer), start, grid.shape) for layer in keys])
        how = "the grid is a part of the same lattice: voxels were placed, none changed"
    else:
        layers = np.stack([resampled(layer, labels.geometry, grid) for layer in keys])
        how = "resampled: each voxel has the label that fills most of it (the one at its centre, where voxels become smaller)"
    if keys.any() and not layers.any():
        raise GridMismatchError(
            f"{labels.source.name}: none of its labels lies on the grid of the reference ({grid.describe()})",
            remedy="Name the scan that the labels were made on.",
        )
    result = replace(
        labels,
        layers=values[layers],
        geometry=grid,
        source=replace(labels.source, instances=()),
        instances=None if labels.instances is None else ids[layers],
    )
    return RegriddedLabels(result, how, _losses(labels, result))


def _classes(labels: LabelMap) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.uint32]]:
    """Each voxel's class, a label or one instance of it, 0 for background; and the value and the instance id of each class."""
    if labels.instances is None:
        top = int(labels.layers.max(initial=0)) + 1
        return labels.layers, np.arange(top).astype(labels.layers.dtype), np.zeros(top, np.uint32)
    pairs = labels.layers.astype(np.uint64) << np.uint64(32) | labels.instances
    pairs[labels.layers == 0] = 0
    known = np.unique(np.append(pairs.ravel(), np.uint64(0)))
    keys = np.searchsorted(known, pairs).astype(np.int32)
    return keys, (known >> np.uint64(32)).astype(labels.layers.dtype), known.astype(np.uint32)


def _placed(array: NDArray[Any], start: Sequence[int], shape: Sequence[int]) -> NDArray[Any]:
    """An array within another of `shape`, from voxel `start` on (negative: cut)."""
    ends = [(first, first + size) for first, size in zip(start, array.shape, strict=True)]
    ranges = [(max(0, first), max(0, min(last, n))) for (first, last), n in zip(ends, shape, strict=True)]
    result = np.zeros(tuple(shape), array.dtype)
    if all(low < high for low, high in ranges):
        target = tuple(slice(low, high) for low, high in ranges)
        source = tuple(slice(low - first, high - first) for (low, high), first in zip(ranges, start, strict=True))
        result[target] = array[source]
    return result


def resampled(classes: NDArray[Any], grid: Geometry, target: Geometry) -> NDArray[Any]:
    """Classes on another grid: of each voxel the one that fills most of it.

    Args:
        classes: ``(*grid.shape)`` from 1, 0 for background, which is also what lies beyond the grid.
        grid: theirs; a sheared one too.
        target: the other.

    Returns:
        ``(*target.shape)`` of the same type.
    """
    to_source = grid.indices_of(target)
    boxes = [(value, box) for value, box in enumerate(find_objects(classes), start=1) if box is not None]
    result = np.zeros(target.shape, classes.dtype)

    def stretch(first: int, last: int) -> None:
        for begin in range(first, last, _SLAB):
            stop = min(begin + _SLAB, last)
            _vote(classes, boxes, to_source, result[:, :, begin:stop], begin)

    run_slabs(stretch, target.shape[2])
    return result


def _vote(
    classes: NDArray[Any],
    boxes: Sequence[tuple[int, tuple[slice, ...]]],
    to_source: NDArray[np.float64],
    out: NDArray[Any],
    begin: int,
) -> None:
    """The winners of one slab, from slice `begin` on; `to_source` maps its indices to those of `classes`."""
    matrix, offset = to_source[:3, :3], to_source[:3, 3] + to_source[:3, 2] * begin
    points = [matrix @ np.array(point) for point in product(*map(_steps, np.abs(matrix).max(axis=0)))]
    if len(points) == 1:
        affine_transform(classes, matrix, offset, order=0, mode="grid-constant", output=out)
        return
    best, covered = np.zeros(out.shape, np.int32), np.zeros(out.shape, np.int32)
    for value, box in boxes:
        reach = _reach(box, matrix, offset, out.shape)
        if reach is None:
            continue
        share = _count(classes[box] == value, box, matrix, offset, reach, points)
        inside = tuple(slice(low, high) for low, high in reach)
        covered[inside] += share
        better = share > best[inside]
        best[inside][better] = share[better]
        out[inside][better] = value
    out[len(points) - covered >= best] = 0


def _steps(ratio: float) -> NDArray[np.float64]:
    """Sampling points along one axis of a voxel that is `ratio` times as long as the source's, in voxels from its centre."""
    whole = round(ratio)
    count = max(1, whole) if ratio < 1 or abs(ratio - whole) < _WHOLE else int(np.ceil(2 * ratio)) // 2 * 2 + 1
    return np.asarray((np.arange(count) + 0.5) / count - 0.5, dtype=np.float64)


def _reach(
    box: Sequence[slice], matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: Sequence[int]
) -> list[tuple[int, int]] | None:
    """The voxels of the slab that a box of the classes may cover a part of, None where there are none."""
    corners = np.array(list(product(*((side.start - 1, side.stop) for side in box))), dtype=np.float64)
    corner_voxels = np.linalg.solve(matrix, (corners - offset).T)
    low, high = np.floor(corner_voxels.min(axis=1)).astype(int) - 1, np.ceil(corner_voxels.max(axis=1)).astype(int) + 2
    reach = [(max(0, int(a)), min(n, int(b))) for a, b, n in zip(low, high, shape, strict=True)]
    return reach if all(a < b for a, b in reach) else None


def _count(
    inside: NDArray[np.bool_],
    box: Sequence[slice],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    reach: Sequence[tuple[int, int]],
    points: Sequence[NDArray[np.float64]],
) -> NDArray[np.int32]:
    """Number of each voxel's points within `reach` that lie in a mask."""
    start = np.array([side.start for side in box], dtype=np.float64)
    origin = offset + matrix @ np.array([low for low, _ in reach], dtype=np.float64) - start
    total = np.zeros(tuple(high - low for low, high in reach), np.int32)
    mask, hits = inside.astype(np.uint8), np.empty(total.shape, np.uint8)
    for point in points:
        affine_transform(mask, matrix, origin + point, order=0, mode="grid-constant", output=hits)
        total += hits
    return total


def _losses(labels: LabelMap, result: LabelMap) -> tuple[LabelLoss, ...]:
    """The change of each label; empty where none lost a voxel."""
    back = regrid_back(result, labels.geometry)
    before_mm3, after_mm3 = labels.geometry.voxel_volume or 0.0, result.geometry.voxel_volume or 0.0
    counted = [_counts(*layers) for layers in zip(labels.layers, back, result.layers, strict=True)]
    losses = []
    for label in labels.table.labels:
        before, returned, common, after = counted[label.layer][:, label.value] if label.layer < len(counted) else (0, 0, 0, 0)
        if before:
            dice = 2 * common / (before + returned)
            losses.append(LabelLoss(label.name, float(before * before_mm3), float(after * after_mm3), float(dice)))
    return tuple(losses) if any(loss.dice < 1 for loss in losses) else ()


def _counts(before: NDArray[Any], back: NDArray[Any], result: NDArray[Any]) -> NDArray[np.int64]:
    """Voxels of each value, ``(4, values)``: before, back again, in both, and on the new grid; slab by slab."""
    counts = np.zeros((4, 2**16), np.int64)
    for slab, other in zip(before, back, strict=True):
        for row, array in enumerate((slab, other, slab[slab == other])):
            counts[row] += np.bincount(array.ravel(), minlength=counts.shape[1])
    for slab in result:
        counts[3] += np.bincount(slab.ravel(), minlength=counts.shape[1])
    return counts


def regrid_back(result: LabelMap, grid: Geometry) -> NDArray[Any]:
    """The layers of a map brought to another grid in the same way, ``(L, *grid.shape)``."""
    reindex = result.geometry.reindexing_into(grid)
    layers = result.layers
    if reindex is None:
        return np.stack([resampled(layer, result.geometry, grid) for layer in layers])
    start = grid.offset_of(result.geometry.reindexed(reindex))
    assert start is not None
    return np.stack([_placed(reindex.apply(layer), start, grid.shape) for layer in layers])

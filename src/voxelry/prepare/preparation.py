"""The way from a scan's grid to the network's and exactly back: reorder, crop to content, zoom; never rotate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxelry.errors import ModelError
from voxelry.geometry import Geometry, Reindex
from voxelry.plan import Plan
from voxelry.prepare.normalise import normalise
from voxelry.prepare.resample import resample_classes, resample_image, resample_logits
from voxelry.volume import Volume


@dataclass(frozen=True)
class Preparation:
    """How one scan is brought to the network's grid; every step is kept, so that it can be undone.

    Attributes:
        plan: what is done.
        source: the scan's own grid.
        reorder: from the stored axis order to the plan's.
        start, extent: the box of content on the reordered grid, in voxels.
        shape: the box's shape after zooming.
    """

    plan: Plan
    source: Geometry
    reorder: Reindex
    start: tuple[int, ...]
    extent: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def geometry(self) -> Geometry:
        """The network's grid."""
        return self.source.reindexed(self.reorder).cropped(self.start, self.extent).zoomed(self.shape)

    def image(self, volume: Volume) -> NDArray[np.float32]:
        """The scan as the network sees it.

        Args:
            volume: on `source`.

        Returns:
            ``(C, *shape)`` float32, normalised.
        """
        is_picture = self.plan.dimensions == 2  # radiographs come in any size: 2000 pixels must look as 500 do
        image = resample_image(self._box(volume.array), self.shape, self.plan.image_order, smooth=is_picture)
        return normalise(image, self.plan.normalisation)

    def classes(self, classes: NDArray[np.int16]) -> NDArray[np.int16]:
        """Class indices on `source` -> ``shape`` int16 on the network's grid."""
        return np.ascontiguousarray(resample_classes(np.ascontiguousarray(self._box(classes)), self.shape))

    def restore(self, logits_K: Tensor) -> NDArray[np.int16]:
        """Logits on the network's grid -> the winning class on the scan's own.

        Args:
            logits_K: ``(K, *shape)`` float32, class 0 is background.

        Returns:
            Class indices on `source`, int16; background outside the box of content.
        """
        reordered = self.source.reindexed(self.reorder)
        whole = np.zeros(reordered.shape, dtype=np.int16)
        whole[self._slices()] = resample_logits(logits_K, self.extent)
        return np.ascontiguousarray(self.reorder.inverse.apply(whole))

    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(begin, begin + size) for begin, size in zip(self.start, self.extent, strict=True))

    def _box(self, array: NDArray[Any]) -> NDArray[Any]:
        lead = (slice(None),) * (array.ndim - len(self.extent))
        return self.reorder.apply(array)[lead + self._slices()]


def prepare(volume: Volume, plan: Plan) -> Preparation:
    """Work out how a scan is brought to the network's grid.

    Content is where any channel differs from its padding value 0; a scan without zeros at its faces is kept whole.

    Args:
        volume: the scan; its pixels are decoded.
        plan: what to do.

    Returns:
        The preparation; apply it with `image`, `classes`, and undo it with `restore`.

    Raises:
        ModelError: the scan has another number of axes or channels than the plan, or an unknown pixel size where it matters.
    """
    if volume.geometry.ndim != plan.dimensions:
        kind = "a picture" if volume.geometry.ndim == 2 else "a volume"
        raise ModelError(f"{volume.source.name}: {kind} ({volume.geometry.ndim}D) where the plan is {plan.dimensions}D")
    if volume.channels != len(plan.channels):
        raise ModelError(
            f"{volume.source.name}: {volume.channels} channels, the plan has {len(plan.channels)} ({', '.join(plan.channels)})",
            remedy="Give one file per channel, in that order.",
        )
    if plan.spacing is not None and volume.spacing is None:
        raise ModelError(
            f"{volume.source.name}: its pixel size is unknown, the plan works at {_by(plan.spacing)} mm",
            remedy="Give a file that says its pixel size, such as DICOM.",
        )
    reorder = reordering(volume.geometry, plan.orientation)
    reordered = volume.geometry.reindexed(reorder)
    start, extent = content_box(reorder.apply(volume.array))
    shape = target_shape(extent, reordered.spacing, plan)
    return Preparation(plan, volume.geometry, reorder, start, extent, shape)


def reordering(geometry: Geometry, orientation: str | None) -> Reindex:
    """From a grid's stored axis order to an orientation; pictures, and plans without one, stay as they are."""
    if orientation is None or geometry.affine is None:
        return Reindex(tuple(range(geometry.ndim)), (False,) * geometry.ndim)
    return geometry.reindexing_to_orientation(orientation)


def content_box(array: NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The smallest box outside which every channel is 0.

    Args:
        array: ``(C, *spatial)``.

    Returns:
        ``(start, extent)`` in voxels; the whole grid where nothing, or everything, is 0 at the faces.
    """
    inside = (array != 0).any(axis=0)
    start, extent = [], []
    for axis in range(inside.ndim):
        used = np.flatnonzero(inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis)))
        first, last = (int(used[0]), int(used[-1])) if len(used) else (0, inside.shape[axis] - 1)
        start.append(first)
        extent.append(last - first + 1)
    return tuple(start), tuple(extent)


def target_shape(extent: tuple[int, ...], spacing: tuple[float, ...] | None, plan: Plan) -> tuple[int, ...]:
    """Voxels along each axis at the plan's spacing (or long side), at least one.

    Args:
        extent: voxels before zooming.
        spacing: mm before zooming, None where unknown.
        plan: the plan.
    """
    if plan.long_side is not None:
        factor = plan.long_side / max(extent)
        return tuple(max(1, _round(size * factor)) for size in extent)
    if plan.spacing is None or spacing is None:
        return extent
    return tuple(max(1, _round(n * now / then)) for n, now, then in zip(extent, spacing, plan.spacing, strict=True))


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)

"""Preparation of a scan for the network: reorder axes, crop to content, resample, normalise; never rotate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fill_voids
import numpy as np
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry, Reindex
from voxelry.core.plan import Plan
from voxelry.core.volume import Volume
from voxelry.errors import ModelError
from voxelry.preparation.normalisation import normalise
from voxelry.preparation.resampling import resample_classes, resample_image

SLICES_APART = 3.0
"""How many times as thick as wide voxels are at the most for nnU-Net to interpolate between slices."""


@dataclass(frozen=True)
class Preparation:
    """The steps that bring one scan to the network's grid, recorded so that they can be undone.

    Attributes:
        plan: plan to follow.
        source: the scan's own grid.
        reorder: from the stored axis order to the plan's.
        start, extent: the box of content on the reordered grid, in voxels.
        shape: the box's shape after resampling.

    Example:
        >>> from voxelry.core.geometry import Geometry, Reindex
        >>> grid = Geometry.from_spacing((16, 16, 8), (1, 1, 2))
        >>> keep = Reindex(order=(0, 1, 2), flips=(False, False, False))
        >>> Preparation(None, grid, keep, start=(0, 0, 0), extent=(16, 16, 8), shape=(8, 8, 8)).geometry.spacing
        (2.0, 2.0, 2.0)
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
        if self.normalises_first:
            image = self.box(volume.array).astype(np.float32, order="C")
            normalise(image, self.plan.normalisation, self.inside(volume))
            return resample_image(image, self.shape, self.image_orders)
        is_picture = self.plan.dimensions == 2  # radiographs come in any size: 2000 pixels must look like 500
        image = resample_image(self.box(volume.array), self.shape, self.image_orders, smooth=is_picture)
        normalise(image, self.plan.normalisation, self.inside(volume))
        return image

    @property
    def normalises_first(self) -> bool:
        """Whether grey values are normalised on the scan's own grid, before they are resampled."""
        return self.plan.convention == "nnunet"

    def inside(self, volume: Volume) -> NDArray[np.bool_] | None:
        """The content mask, if a channel's normalisation (``mask``) needs it.

        Returns:
            ``shape`` on the network's grid; where grey values are normalised first, ``extent`` on the reordered grid.
        """
        if not any(channel.scheme == "mask" for channel in self.plan.normalisation):
            return None
        mask = content(volume.array)
        return np.ascontiguousarray(self.box(mask)) if self.normalises_first else self.classes(mask.view(np.uint8)) > 0

    @property
    def image_orders(self) -> tuple[int, ...]:
        """Spline order of image resampling along each axis."""
        return self._orders(self.plan.image_orders, self.plan.image_order, *self._spacings)

    @property
    def label_orders(self) -> tuple[int, ...]:
        """Order of resampling labels along each axis."""
        return self._orders(self.plan.label_orders, 1, *self._spacings)

    @property
    def logit_orders(self) -> tuple[int, ...]:
        """Order of restoring logits on the scan's own grid, along each axis."""
        return self._orders(self.plan.label_orders, 1, *reversed(self._spacings))

    @property
    def _spacings(self) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        """Voxel sizes in mm along each axis, before resampling and after it."""
        now = self.source.reindexed(self.reorder).spacing
        if now is None or self.plan.spacing is None:
            return now, now
        return now, tuple(old if new is None else new for old, new in zip(now, self.plan.spacing, strict=True))

    def _orders(
        self, planned: tuple[int, ...], order: int, now: tuple[float, ...] | None, then: tuple[float, ...] | None
    ) -> tuple[int, ...]:
        if self.plan.convention != "nnunet" or now is None or then is None:
            return planned
        apart = slices_apart(now, then)
        return tuple(0 if axis == apart else order for axis in range(self.plan.dimensions))

    def classes(self, classes: NDArray[np.integer], section: tuple[int, int, int] | None = None) -> NDArray[np.int16]:
        """Class indices on `source` -> ``shape`` int16 on the network's grid; `section` as in `resample_classes`."""
        return resample_classes(self.box(classes), self.shape, self.label_orders, section)

    def box(self, array: NDArray[Any]) -> NDArray[Any]:
        """The box of content of an array on `source`, in the plan's order: a view."""
        lead = (slice(None),) * (array.ndim - len(self.extent))
        inner = tuple(slice(begin, begin + size) for begin, size in zip(self.start, self.extent, strict=True))
        return self.reorder.apply(array)[lead + inner]


def prepare(volume: Volume, plan: Plan, *, whole: bool = False) -> Preparation:
    """Plan the steps that bring a scan to the network's grid.

    Content is where any channel differs from its padding value 0; a scan without zeros at its faces is not cropped.

    Args:
        volume: the scan; its pixels are decoded.
        plan: plan to follow.
        whole: take the whole grid for content, and decode nothing.

    Returns:
        The preparation; apply it with `image` and `classes`. Inference undoes it slab by slab (`inference.slice_writer`).

    Raises:
        ModelError: the scan has another number of axes or channels than the plan, or an unknown pixel size where it matters.

    Example:
        >>> import numpy as np
        >>> from voxelry.core.geometry import Geometry
        >>> from voxelry.core.plan import Plan
        >>> from voxelry.core.volume import Volume
        >>> from voxelry.core.plan import NetworkPlan, Normalisation
        >>> steps, kernels = ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3
        >>> network = NetworkPlan(features=(8, 8, 8), strides=steps, kernels=kernels, deep_supervision=1)
        >>> plan = Plan(
        ...     dimensions=3, channels=("CT",), normalisation=(Normalisation(scheme="image"),), patch_size=(8, 8, 8),
        ...     batch_size=1, network=network, orientation="RAS", spacing=(2.0, 2.0, 2.0),
        ... )
        >>> volume = Volume(np.full((1, 16, 16, 8), 7), Geometry.from_spacing((16, 16, 8), (1, 1, 2)))
        >>> prepare(volume, plan).image(volume).shape
        (1, 8, 8, 8)
    """
    if volume.geometry.ndim != plan.dimensions:
        kinds = {2: "picture", 3: "volume"}
        raise ModelError(
            f"{volume.source.name}: a {kinds[volume.geometry.ndim]} where the model takes {kinds[plan.dimensions]}s",
            remedy=f"Give a {kinds[plan.dimensions]}, or use a model of {kinds[volume.geometry.ndim]}s.",
        )
    if volume.channels != len(plan.channels):
        raise ModelError(
            f"{volume.source.name}: {volume.channels} channels, the plan has {len(plan.channels)} ({', '.join(plan.channels)})",
            remedy="Give one file per channel, in that order.",
        )
    if plan.spacing is not None and volume.spacing is None:
        raise ModelError(
            f"{volume.source.name}: its pixel size is unknown, the plan works at {_by(plan.spacing)} mm",
            remedy="Give a file that states its pixel size, such as DICOM.",
        )
    reorder = reordering(volume.geometry, plan.orientation)
    reordered = volume.geometry.reindexed(reorder)
    start, extent = ((0,) * plan.dimensions, reordered.shape) if whole else content_box(reorder.apply(volume.array))
    shape = target_shape(extent, reordered.spacing, plan)
    return Preparation(plan, volume.geometry, reorder, start, extent, shape)


def reordering(geometry: Geometry, orientation: str | None) -> Reindex:
    """From a grid's stored axis order to an orientation; pictures, and plans without one, stay as they are."""
    if orientation is None or geometry.affine is None:
        return Reindex(tuple(range(geometry.ndim)), (False,) * geometry.ndim)
    return geometry.reindexing_to_orientation(orientation)


def content_box(array: NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The smallest box outside which every channel is 0, searched from the faces inward: only what is cut off is examined.

    Args:
        array: ``(C, *spatial)``.

    Returns:
        ``(start, extent)`` in voxels; the whole grid where nothing, or everything, is 0 at the faces.
    """
    box = [slice(0, size) for size in array.shape[1:]]
    for axis in range(len(box)):
        planes = np.moveaxis(array[(slice(None), *box)], axis + 1, 0)
        first = next((index for index in range(len(planes)) if planes[index].any()), None)
        if first is None:
            break
        last = next(index for index in range(len(planes) - 1, first - 1, -1) if planes[index].any())
        box[axis] = slice(first, last + 1)
    return tuple(edge.start for edge in box), tuple(edge.stop - edge.start for edge in box)


def content(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the voxels where any channel differs from 0, holes filled.

    Args:
        array: ``(C, *spatial)``.

    Returns:
        ``(*spatial)`` bool.
    """
    mask = array[0] != 0
    for channel in array[1:]:
        mask |= channel != 0
    filled: NDArray[np.bool_] = fill_voids.fill(mask)
    return filled


def target_shape(extent: tuple[int, ...], spacing: tuple[float, ...] | None, plan: Plan) -> tuple[int, ...]:
    """Voxels along each axis at the plan's spacing (or long side), at least one.

    Args:
        extent: voxels before resampling.
        spacing: mm before resampling, None where unknown.
        plan: the plan.
    """
    if plan.long_side is not None:
        factor = plan.long_side / max(extent)
        return tuple(max(1, _round(size * factor)) for size in extent)
    if plan.spacing is None or spacing is None:
        return extent
    if plan.convention == "nnunet":
        sizes = zip(extent, spacing, plan.spacing, strict=True)
        return tuple(n if after is None else max(1, round(before / after * n)) for n, before, after in sizes)
    return zoomed_shape(extent, spacing, plan.spacing)


def zoomed_shape(extent: Sequence[int], now: Sequence[float], then: Sequence[float | None]) -> tuple[int, ...]:
    """Voxels along each axis after going from spacing `now` to spacing `then` (mm), at least one; halves go up, None stays."""
    return tuple(
        n if after is None else max(1, _round(n * before / after)) for n, before, after in zip(extent, now, then, strict=True)
    )


def slices_apart(now: Sequence[float], then: Sequence[float]) -> int | None:
    """The axis across slices that nnU-Net resamples one by one, since its voxels are more than three times as long as others.

    Args:
        now: mm along each axis before resampling, which decides where it is that coarse.
        then: mm after it, which decides else.

    Returns:
        The axis; None without exactly one longest.
    """
    for spacing in (now, then):
        longest = max(spacing)
        if longest / min(spacing) > SLICES_APART:
            axes = [axis for axis, length in enumerate(spacing) if length == longest]
            return axes[0] if len(axes) == 1 else None
    return None


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _by(values: tuple[float | None, ...]) -> str:
    return " x ".join("any" if value is None else f"{value:g}" for value in values)

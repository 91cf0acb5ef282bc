"""Our preparation inside any MONAI pipeline: dictionary transforms of `MetaTensor`, fast, in bounded memory, affine kept right.

    Compose([LoadImaged(("image", "label"), reader=VoxelryReader()),
             CropContentd(("image", "label"), source="image"),
             ResampleSpacingd(("image", "label"), spacing=(1.5, 1.5, 1.5), order=(3, "label")),
             NormaliseGreyd("image", Normalisation(scheme="image"))])

or, for a model's own plan, `PrepareByPland` alone: it calls the same `Preparation` that training and prediction use. Tensors are
``(C, *spatial)`` on the CPU. MONAI's `Spacing` keeps the centre of the first voxel in place; these transforms keep the edges of
the block of space, so that nothing is lost or repeated at its far side. They are not invertible in MONAI's sense.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep
from numpy.typing import NDArray

from voxelry.core.geometry import Geometry
from voxelry.core.plan import Normalisation, Plan
from voxelry.core.volume import Volume
from voxelry.errors import UsageError
from voxelry.planning.spacing import coarse_axis
from voxelry.preparation.normalise import normalise
from voxelry.preparation.preparation import content, content_box, prepare, zoomed_shape
from voxelry.preparation.resample import resample_classes, resample_image

Order = Literal[0, 1, 3, "label"]
Data = dict[Hashable, Any]


class ResampleSpacingd(MapTransform):  # type: ignore[misc]
    """Bring images and labels to a spacing, along their own axes.

    Args:
        keys: which items.
        spacing: target mm along each spatial axis.
        order: for all items or one for each: spline order 0, 1 or 3, or ``label`` (whole numbers; each value's indicator is
            interpolated linearly and the largest wins).
        slices: where voxels, before or after, are three times as long along one axis, interpolate nothing along it.
        allow_missing_keys: skip items that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float],
        order: Order | Sequence[Order] = 3,
        slices: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing = tuple(spacing)
        self.order = ensure_tuple_rep(order, len(self.keys))
        self.slices = slices

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The items resampled; their spacing comes as near to the target as a whole number of voxels allows."""
        result = dict(data)
        for key, order in self.key_iterator(data, self.order):
            result[key] = self._resampled(data[key], order)
        return result

    def _resampled(self, tensor: Any, order: Order) -> MetaTensor:
        array, grid = _opened(tensor)
        axes = array.ndim - 1
        if len(self.spacing) != axes:
            raise UsageError(f"spacing {self.spacing} for an image of {axes} axes", remedy="Give one number for each axis.")
        now = (grid.spacing or ())[:axes]
        shape = zoomed_shape(array.shape[1:], now, self.spacing)
        axis = next((one for one in map(coarse_axis, (now, self.spacing)) if one is not None), None) if self.slices else None
        orders = [0 if one == axis else 1 if order == "label" else order for one in range(axes)]
        if order == "label":
            classes = _whole(array)
            made = np.stack([resample_classes(channel, shape, orders) for channel in classes]).astype(array.dtype)
        else:
            made = resample_image(array, shape, orders)
        return _closed(tensor, made, grid.zoomed((*shape, *grid.shape[axes:])))


class CropContentd(MapTransform):  # type: ignore[misc]
    """Crop items to the box outside which every channel of one of them is 0.

    Args:
        keys: which items; all on the grid of `source`.
        source: the item whose content counts.
        allow_missing_keys: skip items that are not there.
    """

    def __init__(self, keys: KeysCollection, source: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source = source

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The items, cropped."""
        result = dict(data)
        start, extent = content_box(_opened(data[self.source])[0])
        for key in self.key_iterator(data):
            array, grid = _opened(data[key])
            box = tuple(slice(first, first + size) for first, size in zip(start, extent, strict=True))
            rest = len(grid.shape) - len(extent)
            result[key] = _closed(
                data[key], array[(slice(None), *box)], grid.cropped((*start, *(0,) * rest), (*extent, *(1,) * rest))
            )
        return result


class NormaliseGreyd(MapTransform):  # type: ignore[misc]
    """Bring grey values to a common scale.

    Args:
        keys: which items.
        schemes: for all channels, or one for each.
        allow_missing_keys: skip items that are not there.
    """

    def __init__(
        self, keys: KeysCollection, schemes: Normalisation | Sequence[Normalisation], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.schemes = schemes

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The items as float32, normalised."""
        result = dict(data)
        for key in self.key_iterator(data):
            array, grid = _opened(data[key])
            schemes = (self.schemes,) * len(array) if isinstance(self.schemes, Normalisation) else tuple(self.schemes)
            if len(schemes) != len(array):
                raise UsageError(f"{key}: {len(schemes)} normalisations for {len(array)} channels")
            image = array.astype(np.float32, order="C")
            normalise(image, schemes, content(array) if any(one.scheme == "mask" for one in schemes) else None)
            result[key] = _closed(data[key], image, grid)
        return result


class PrepareByPland(MapTransform):  # type: ignore[misc]
    """Everything a plan does to a scan and its labels before the network: turn, crop, resample, normalise.

    Args:
        plan: of a model.
        image: the item with the image, ``(C, *spatial)`` with the plan's channels.
        label: the item with class indices ``(1, *spatial)`` on the image's grid, if there is one.
        allow_missing_keys: skip the label where it is not there.
    """

    def __init__(self, plan: Plan, image: str = "image", label: str | None = "label", allow_missing_keys: bool = False) -> None:
        super().__init__((image,) if label is None else (image, label), allow_missing_keys)
        self.plan, self.image, self.label = plan, image, label

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The image as float32 and the label as it was, on the network's grid."""
        result = dict(data)
        array, grid = _opened(data[self.image])
        if array.ndim == 3:
            grid = Geometry(array.shape[1:], None, (grid.spacing[0], grid.spacing[1]) if grid.spacing else None)
        volume = Volume(array, grid, channels=len(array))
        preparation = prepare(volume, self.plan)
        target = preparation.geometry
        result[self.image] = _closed(data[self.image], preparation.image(volume), target)
        for key in self.key_iterator(data):
            if key == self.label:
                classes = _opened(data[key])[0]
                made = preparation.classes(_whole(classes)[0])[None].astype(classes.dtype)
                result[key] = _closed(data[key], made, target)
        return result


def _opened(tensor: Any) -> tuple[NDArray[Any], Geometry]:
    """``(C, *spatial)`` and its grid; a picture's has a third axis of one pixel.

    Raises:
        UsageError: not a MetaTensor.
    """
    if not isinstance(tensor, MetaTensor):
        raise UsageError(f"a {type(tensor).__name__} has no affine", remedy="Give MetaTensors, as MONAI's LoadImaged makes them.")
    array: NDArray[Any] = tensor.as_tensor().detach().cpu().numpy()
    affine = to_affine_nd(3, np.asarray(tensor.affine.cpu(), dtype=np.float64))
    return array, Geometry((*array.shape[1:], 1)[:3], affine)


def _closed(tensor: MetaTensor, array: NDArray[Any], grid: Geometry) -> MetaTensor:
    """A new tensor with the old one's metadata on a new grid."""
    meta = dict(tensor.meta)
    meta["spatial_shape"] = np.array(array.shape[1:])
    made = MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), meta=meta, applied_operations=tensor.applied_operations)
    if grid.affine is not None:
        made.affine = torch.as_tensor(to_affine_nd(len(tensor.affine) - 1, grid.affine), dtype=tensor.affine.dtype)
    return made


def _whole(array: NDArray[Any]) -> NDArray[np.int16]:
    """Labels as int16.

    Raises:
        UsageError: they are not whole numbers of that range.
    """
    classes = array.astype(np.int16)
    if not np.array_equal(classes, array):
        raise UsageError("labels are not whole numbers from -32768 to 32767", remedy="Resample images with order 0, 1 or 3.")
    return classes

"""voxelry's preparation as MONAI dictionary transforms of `MetaTensor`: fast, in bounded memory, with correct affines.

    Compose([LoadImaged(("image", "label"), reader=VoxelryReader()),
             CropContentd(("image", "label"), source="image"),
             ResampleSpacingd(("image", "label"), spacing=(1.5, 1.5, 1.5), order=(3, "label")),
             NormaliseGreyd("image", Normalisation(scheme="image"))])

or, for a model's own plan, `PrepareByPland` alone, which applies the same `Preparation` as training and inference. Tensors are
``(C, *spatial)`` on the CPU. MONAI's `Spacing` keeps the centre of the first voxel in place; these transforms keep the outer
edges of the volume, so that nothing is lost or repeated at its far side. They are not invertible in MONAI's sense.
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
from voxelry.preparation.normalisation import normalise
from voxelry.preparation.preparation import content, content_box, prepare, zoomed_shape
from voxelry.preparation.resampling import resample_classes, resample_image

SplineOrder = Literal[0, 1, 3, "label"]
Data = dict[Hashable, Any]


class ResampleSpacingd(MapTransform):  # type: ignore[misc]
    """Resample images and labels to a spacing, along their own axes.

    Args:
        keys: which items.
        spacing: target mm along each spatial axis.
        order: for all items or one for each: spline order 0, 1 or 3, or ``label`` (integers; each value's indicator is
            interpolated linearly and the largest wins).
        slices: do not interpolate along an axis where voxels, before or after, are three times as long as along the others.
        allow_missing_keys: skip items that are not there.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 8, 8, 4), affine=torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0])))
        >>> resampled = ResampleSpacingd("image", spacing=(2.0, 2.0, 2.0))({"image": image})["image"]
        >>> tuple(resampled.shape)
        (1, 4, 4, 4)
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float],
        order: SplineOrder | Sequence[SplineOrder] = 3,
        slices: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing = tuple(spacing)
        self.order = ensure_tuple_rep(order, len(self.keys))
        self.slices = slices

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The items resampled, as close to the target spacing as a whole number of voxels allows."""
        result = dict(data)
        for key, order in self.key_iterator(data, self.order):
            result[key] = self._resampled(data[key], order)
        return result

    def _resampled(self, tensor: Any, order: SplineOrder) -> MetaTensor:
        array, grid = _array_and_grid(tensor)
        axes = array.ndim - 1
        if len(self.spacing) != axes:
            raise UsageError(f"spacing {self.spacing} for an image of {axes} axes", remedy="Give one number for each axis.")
        spacing = (grid.spacing or ())[:axes]
        shape = zoomed_shape(array.shape[1:], spacing, self.spacing)
        coarse = [axis for axis in map(coarse_axis, (spacing, self.spacing)) if axis is not None] if self.slices else []
        orders = [0 if axis in coarse[:1] else 1 if order == "label" else order for axis in range(axes)]
        if order == "label":
            classes = _integers(array)
            resampled = np.stack([resample_classes(channel, shape, orders) for channel in classes]).astype(array.dtype)
        else:
            resampled = resample_image(array, shape, orders)
        return _meta_tensor(tensor, resampled, grid.zoomed((*shape, *grid.shape[axes:])))


class CropContentd(MapTransform):  # type: ignore[misc]
    """Crop items to the box outside which every channel of one of them is 0.

    Args:
        keys: which items; all on the grid of `source`.
        source: the item that the box is measured on.
        allow_missing_keys: skip items that are not there.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 8, 8, 8))
        >>> image[:, 2:5, 1:3, 4:] = 1
        >>> tuple(CropContentd("image", source="image")({"image": image})["image"].shape)
        (1, 3, 2, 4)
    """

    def __init__(self, keys: KeysCollection, source: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source = source

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The items, cropped."""
        result = dict(data)
        start, extent = content_box(_array_and_grid(data[self.source])[0])
        for key in self.key_iterator(data):
            array, grid = _array_and_grid(data[key])
            box = tuple(slice(first, first + size) for first, size in zip(start, extent, strict=True))
            missing = len(grid.shape) - len(extent)  # a picture's third axis
            cropped = grid.cropped((*start, *(0,) * missing), (*extent, *(1,) * missing))
            result[key] = _meta_tensor(data[key], array[(slice(None), *box)], cropped)
        return result


class NormaliseGreyd(MapTransform):  # type: ignore[misc]
    """Normalise grey values.

    Args:
        keys: which items.
        schemes: for all channels, or one for each.
        allow_missing_keys: skip items that are not there.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from voxelry.core.plan import Normalisation
        >>> image = MetaTensor(torch.arange(64.0).reshape(1, 4, 4, 4))
        >>> normalised = NormaliseGreyd("image", Normalisation(scheme="image"))({"image": image})["image"]
        >>> round(float(normalised.min()), 2), round(float(normalised.max()), 2)
        (-1.71, 1.71)
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
            array, grid = _array_and_grid(data[key])
            schemes = (self.schemes,) * len(array) if isinstance(self.schemes, Normalisation) else tuple(self.schemes)
            if len(schemes) != len(array):
                raise UsageError(f"{key}: {len(schemes)} normalisations for {len(array)} channels")
            image = array.astype(np.float32, order="C")
            normalise(image, schemes, content(array) if any(scheme.scheme == "mask" for scheme in schemes) else None)
            result[key] = _meta_tensor(data[key], image, grid)
        return result


class PrepareByPland(MapTransform):  # type: ignore[misc]
    """Prepare a scan and its labels by a plan, as for its network: reorient, crop, resample, normalise.

    Args:
        plan: plan of a model.
        image: the item with the image, ``(C, *spatial)`` with the plan's channels.
        label: the item with class indices ``(1, *spatial)`` on the image's grid, if there is one.
        allow_missing_keys: skip the label where it is not there.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from voxelry.core.plan import Normalisation, Plan
        >>> from voxelry.core.plan import NetworkPlan
        >>> steps, kernels = ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3
        >>> network = NetworkPlan(features=(8, 8, 8), strides=steps, kernels=kernels, deep_supervision=1)
        >>> plan = Plan(
        ...     dimensions=3, channels=("CT",), normalisation=(Normalisation(scheme="image"),), patch_size=(8, 8, 8),
        ...     batch_size=1, network=network, orientation="RAS", spacing=(2.0, 2.0, 2.0),
        ... )
        >>> image = MetaTensor(torch.rand(1, 16, 16, 8) + 1, affine=torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0])))
        >>> tuple(PrepareByPland(plan, label=None)({"image": image})["image"].shape)
        (1, 8, 8, 8)
    """

    def __init__(self, plan: Plan, image: str = "image", label: str | None = "label", allow_missing_keys: bool = False) -> None:
        super().__init__((image,) if label is None else (image, label), allow_missing_keys)
        self.plan, self.image, self.label = plan, image, label

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The image as float32 and the label as it was, on the network's grid."""
        result = dict(data)
        array, grid = _array_and_grid(data[self.image])
        if array.ndim == 3:
            grid = Geometry(array.shape[1:], None, (grid.spacing[0], grid.spacing[1]) if grid.spacing else None)
        volume = Volume(array, grid, channels=len(array))
        preparation = prepare(volume, self.plan)
        target = preparation.geometry
        result[self.image] = _meta_tensor(data[self.image], preparation.image(volume), target)
        for key in self.key_iterator(data):
            if key == self.label:
                classes = _array_and_grid(data[key])[0]
                prepared = preparation.classes(_integers(classes)[0])[None].astype(classes.dtype)
                result[key] = _meta_tensor(data[key], prepared, target)
        return result


def _array_and_grid(tensor: Any) -> tuple[NDArray[Any], Geometry]:
    """``(C, *spatial)`` and its grid; a picture's has a third axis of one pixel.

    Raises:
        UsageError: not a MetaTensor.
    """
    if not isinstance(tensor, MetaTensor):
        raise UsageError(f"a {type(tensor).__name__} has no affine", remedy="Give MetaTensors, as MONAI's LoadImaged makes them.")
    array: NDArray[Any] = tensor.as_tensor().detach().cpu().numpy()
    affine = to_affine_nd(3, np.asarray(tensor.affine.cpu(), dtype=np.float64))
    return array, Geometry((*array.shape[1:], 1)[:3], affine)


def _meta_tensor(tensor: MetaTensor, array: NDArray[Any], grid: Geometry) -> MetaTensor:
    """A new tensor with the old one's metadata on a new grid."""
    meta = dict(tensor.meta)
    meta["spatial_shape"] = np.array(array.shape[1:])
    result = MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), meta=meta, applied_operations=tensor.applied_operations)
    if grid.affine is not None:
        result.affine = torch.as_tensor(to_affine_nd(len(tensor.affine) - 1, grid.affine), dtype=tensor.affine.dtype)
    return result


def _integers(array: NDArray[Any]) -> NDArray[np.int16]:
    """Labels as int16.

    Raises:
        UsageError: they are not integers of that range.
    """
    classes = array.astype(np.int16)
    if not np.array_equal(classes, array):
        raise UsageError("labels are not integers from -32768 to 32767", remedy="Resample images with order 0, 1 or 3.")
    return classes

"""Resampling along an image's own axes: the block of space stays, the number of voxels changes.

Sample positions follow voxel edges (the half-voxel convention of `Geometry.zoomed`); beyond the outermost voxel centres the
edge value holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.transform import resize
from torch import Tensor
from torch.nn.functional import interpolate

_LINEAR = {2: "bilinear", 3: "trilinear"}


def resample_image(array: NDArray[Any], shape: Sequence[int], order: int, smooth: bool = False) -> NDArray[np.float32]:
    """Resample grey values with splines, clipped to each channel's own range.

    Args:
        array: ``(C, *spatial)``.
        shape: target spatial shape.
        order: spline order 0, 1 or 3.
        smooth: blur first where voxels become fewer, so that fine detail does not turn into noise.

    Returns:
        ``(C, *shape)`` float32.
    """
    target = tuple(shape)
    if array.shape[1:] == target:
        return np.ascontiguousarray(array, dtype=np.float32)
    result = np.empty((len(array), *target), dtype=np.float32)
    for channel, plane in enumerate(array):
        result[channel] = resize(
            plane.astype(np.float32), target, order=order, mode="edge", anti_aliasing=smooth, preserve_range=True, clip=True
        )
    return result


def resample_classes(classes: NDArray[np.int16], shape: Sequence[int]) -> NDArray[np.int16]:
    """Resample class indices linearly: each class's indicator is interpolated and the largest wins.

    Args:
        classes: ``(*spatial)`` int16, `IGNORE_INDEX` allowed.
        shape: target shape.

    Returns:
        ``shape`` int16, the same values. Ties go to the lower class.
    """
    target = tuple(shape)
    if classes.shape == target:
        return classes
    best = np.full(target, -1.0, dtype=np.float32)
    winner = np.zeros(target, dtype=np.int16)
    for value in np.unique(classes):
        share = _linear(torch.from_numpy((classes == value).astype(np.float32))[None], target)[0].numpy()
        better = share > best
        best[better] = share[better]
        winner[better] = value
    return winner


def resample_logits(logits_K: Tensor, shape: Sequence[int]) -> NDArray[np.int16]:
    """The winning class on another number of voxels, class by class with a running maximum.

    Args:
        logits_K: ``(K, *spatial)`` float32.
        shape: target shape.

    Returns:
        ``shape`` int16 class indices; equal to interpolating all classes and taking the argmax.
    """
    target = tuple(shape)
    if tuple(logits_K.shape[1:]) == target:
        return logits_K.argmax(0).to(torch.int16).cpu().numpy()
    best = _linear(logits_K[:1], target)[0]
    winner = torch.zeros(target, dtype=torch.int16, device=logits_K.device)
    for index in range(1, len(logits_K)):
        value = _linear(logits_K[index : index + 1], target)[0]
        better = value > best
        best = torch.where(better, value, best)
        winner[better] = index
    return winner.cpu().numpy()


def _linear(x_C: Tensor, shape: tuple[int, ...]) -> Tensor:
    return interpolate(x_C[None], size=shape, mode=_LINEAR[len(shape)], align_corners=False)[0]

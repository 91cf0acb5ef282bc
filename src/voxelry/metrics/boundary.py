"""Boundary IoU, and the border voxels of a mask.

A border voxel has a face on a voxel outside the mask; the edge of the image counts as outside. This is the border of MONAI
(`monai.metrics`) and medpy; every border voxel weighs the same, whatever the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelry.metrics.empty_policy import EmptyPolicy
from voxelry.metrics.metric_table import DEFAULT_POLICIES


def border_voxels(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The voxels of a mask that have a face on its outside.

    Args:
        mask: ``(*spatial)`` of any number of axes.

    Returns:
        A mask of the same shape.
    """
    border: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(mask)
    return border


def mask_boundary_iou(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    width: float | None = None,
    spacing: Sequence[float] | None = None,
    policy: EmptyPolicy = DEFAULT_POLICIES["boundary_iou"],
) -> float:
    """Boundary IoU (Cheng et al., CVPR 2021): IoU of the bands of both masks that lie within a distance of their contours.

    With neither `width` nor `spacing` it is that of the authors' code, which COCO and LVIS results use: the band is removed by n
    erosions with a full square (3^n), n being 2 % of the image's diagonal in voxels, at least 1; the edge of the image counts as
    contour. With a width the band is the voxels whose centre lies within `width` of the centre of a voxel outside, in mm where
    `spacing` is given.

    Args:
        reference: ``(*spatial)``, 2D or 3D.
        prediction: prediction of the same shape.
        width: thickness of the band, in mm, or in voxels without a spacing.
        spacing: mm along each array axis.
        policy: the score of empty masks.

    Returns:
        0..1, no unit; NaN where there is no score.
    """
    bands = [_band(np.asarray(mask, dtype=bool), width, spacing) for mask in (reference, prediction)]
    sizes = [np.array(int(np.count_nonzero(mask))) for mask in (reference, prediction)]
    union = np.count_nonzero(bands[0] | bands[1])
    value = np.count_nonzero(bands[0] & bands[1]) / union if union else np.nan
    return float(policy.apply(np.array(value), *sizes))


def _band(mask: NDArray[np.bool_], width: float | None, spacing: Sequence[float] | None) -> NDArray[np.bool_]:
    """The voxels of a mask near its contour."""
    padded = np.pad(mask, 1)
    inner = tuple(slice(1, -1) for _ in mask.shape)
    if width is None and spacing is None:
        rounds = max(1, round(0.02 * float(np.linalg.norm(mask.shape))))
        core: NDArray[Any] = ndimage.binary_erosion(padded, np.ones((3,) * mask.ndim), iterations=rounds)
        band: NDArray[np.bool_] = mask & ~core[inner]
        return band
    steps = (1.0,) * mask.ndim if spacing is None else tuple(spacing)
    limit = 0.02 * float(np.linalg.norm(np.array(mask.shape) * steps)) if width is None else width
    is_near: NDArray[np.bool_] = ndimage.distance_transform_edt(padded, sampling=steps)[inner] <= limit
    return mask & is_near

"""Torch helpers of augmentations: small arrays sent to the device, matrices along an axis, linear sampling.

Nothing is read back from the device. Rows are channels of patches, ``(R, *patch)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: Sequence[float] | NDArray[np.generic], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers on the device, without waiting for it."""
    tensor = torch.as_tensor(np.asarray(values), dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def column(values: Sequence[float], rows_R: Tensor) -> Tensor:
    """One number for each row, ``(R, 1...)`` float32, to be broadcast over the rows."""
    return to_device(values, torch.float32, rows_R.device).view(-1, *(1,) * (rows_R.ndim - 1))


def patch_axes(rows_R: Tensor) -> tuple[int, ...]:
    """All axes but the first."""
    return tuple(range(1, rows_R.ndim))


def multiply_rows_along(rows_R: Tensor, matrices: Sequence[NDArray[np.float32]], axis: int) -> Tensor:
    """Each row's matrix ``(n, n)`` times its lines along an axis of the patch, of n voxels."""
    operator = to_device(np.stack(matrices), torch.float32, rows_R.device)
    lines = rows_R.movedim(axis + 1, 1)
    product = torch.bmm(operator, lines.reshape(len(rows_R), lines.shape[1], -1))
    return product.view(lines.shape).movedim(1, axis + 1)


def sample_linearly(image_C: Tensor, positions: Tensor) -> Tensor:
    """Linear interpolation of a box, 0 beyond it; exact at whole positions.

    Args:
        image_C: ``(C, *box)`` float32.
        positions: ``(axes, *patch)`` float32, in voxels of the box.

    Returns:
        ``(C, *patch)``.
    """
    sizes = image_C.shape[1:]
    grid = torch.stack([(2 * positions[axis] + 1) / sizes[axis] - 1 for axis in reversed(range(len(sizes)))], dim=-1)
    sampled: Tensor = torch.nn.functional.grid_sample(image_C[None], grid[None], align_corners=False)[0]
    return sampled

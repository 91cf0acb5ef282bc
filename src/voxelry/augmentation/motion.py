"""MRI motion artifact: the patient moves while k-space is filled, so part of its lines show another pose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.affine import affine_matrix
from voxelry.augmentation.augmentation import DrawContext, IntensityAugmentation, Matrix
from voxelry.augmentation.axis_operators import k_space_filter, multiply_along
from voxelry.augmentation.ranges import Probability
from voxelry.base.schema import Frozen

if TYPE_CHECKING:
    from torch import Tensor


class MotionSettings(Frozen):
    """Keys of motion."""

    motion_p: Probability = Field(default=0.0, description="probability of MRI motion: a movement while k-space is filled")
    motion_degrees: float = Field(default=5.0, ge=0, le=180, description="largest rotation, in degrees")
    motion_voxels: float = Field(default=3.0, ge=0, description="largest shift, in voxels")


class MotionParams(NamedTuple):
    """The movement that was drawn.

    Attributes:
        axis: axis along which k-space is filled.
        filled: share of k-space filled before the movement.
        matrix: matrix of the movement, ``(axes, axes + 1)``.
    """

    axis: int
    filled: float
    matrix: Matrix


class Motion(IntensityAugmentation[MotionSettings, MotionParams]):
    """MRI motion artifact: the lines of k-space behind a random point come from the moved image.

    Half to 95 % of k-space is filled before the movement; the real part of the mixed signal is the image, as on a scanner.
    """

    name = "motion"
    settings = MotionSettings

    def draw_params(self, context: DrawContext[MotionSettings]) -> MotionParams:
        """Draw the movement, then the axis and the time."""
        settings, geometry, random = context.settings, context.geometry, context.random
        angles = np.radians(random.uniform(-1, 1, 3 if len(geometry.plane) == 3 else 1) * settings.motion_degrees)
        matrix = affine_matrix(geometry, angles, 1.0, random.uniform(-1, 1, len(geometry.plane)) * settings.motion_voxels)
        return MotionParams(int(random.choice(geometry.plane)), float(random.uniform(0.5, 0.95)), matrix)

    def apply(self, image: NDArray[np.float32], params: MotionParams) -> None:
        """Replace the late lines of k-space by those of the moved image."""
        late = late_lines(image.shape[params.axis], params.filled)
        image += multiply_along(late, moved_image(image, params.matrix) - image, params.axis)

    def apply_batch(self, rows_R: Tensor, params: Sequence[MotionParams]) -> Tensor:
        """Replace the late lines of k-space by those of the moved image, row by row."""
        import torch

        from voxelry.augmentation.tensors import multiply_rows_along, sample_linearly

        changed = []
        for row, (axis, filled, matrix) in zip(rows_R, params, strict=True):
            voxels = torch.meshgrid(*(torch.arange(n, device=row.device, dtype=torch.float32) for n in row.shape), indexing="ij")
            positions = [
                sum((v * float(m) for v, m in zip(voxels, line, strict=False)), torch.tensor(float(line[-1]))) for line in matrix
            ]
            moved = sample_linearly(row[None], torch.stack(positions))
            changed.append(row + multiply_rows_along(moved - row, [late_lines(row.shape[axis], filled)], axis)[0])
        return torch.stack(changed)


def late_lines(size: int, filled: float) -> NDArray[np.float32]:
    """The filter that keeps the lines of k-space that are filled last, from one end to the other.

    Args:
        size: size of the axis.
        filled: share of the lines that come before.
    """
    return k_space_filter((np.fft.fftfreq(size) + 0.5 >= filled).astype(np.float64))


def moved_image(image: NDArray[np.float32], matrix: Matrix | NDArray[np.float64]) -> NDArray[np.float32]:
    """A channel ``(*patch)`` moved by a matrix ``(axes, axes + 1)``: linear interpolation, 0 beyond the patch."""
    from voxelry.augmentation.spatial_kernels import move_planes, move_volume

    missing = 3 - image.ndim
    padded = np.eye(3, 4)
    padded[missing:, missing:] = matrix
    shape = np.array((1,) * (1 + missing) + image.shape)
    strides = np.cumprod((1, *shape[:0:-1]))[::-1].astype(np.int64)
    classes, moved_classes = np.zeros(image.size, dtype=np.int16), np.empty(image.size, dtype=np.int64)
    out = np.empty(image.size, dtype=np.float32)
    table = np.zeros(2, dtype=np.int64)
    move = move_planes if missing else move_volume
    move(image.reshape(-1), classes, table, strides, shape, padded, out, moved_classes, 0, 0, strides, shape[1:])
    return out.reshape(image.shape)

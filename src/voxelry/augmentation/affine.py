"""Rotation, scaling and shift of patches: one affine map about the patch's centre, in mm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import Change, DrawContext, Matrix, SpatialAugmentation
from voxelry.augmentation.patch_geometry import PatchGeometry
from voxelry.augmentation.ranges import PositiveRange, Probability
from voxelry.base.schema import Frozen


class AffineSettings(Frozen):
    """Keys of rotation, scaling and shift."""

    rotation_p: Probability = Field(default=0.2, description="probability of a rotation (angles true in mm)")
    rotation: float | None = Field(
        default=None,
        ge=0,
        le=180,
        description="largest angle about each axis in degrees; none: 30 in volumes; within the plane of pictures, slices and "
        "anisotropic volumes 180, or 15 where a picture or slice is more than 1.5 times as long as wide",
    )
    scale_p: Probability = Field(default=0.2, description="probability of scaling")
    scale: PositiveRange = Field(default=(0.7, 1.4), description="scale factor; above 1 enlarges")
    shift_p: Probability = Field(default=0.0, description="probability of a shift")
    shift: float = Field(default=0.05, ge=0, le=0.5, description="largest shift, as a share of the patch's edge")


class AffineParams(NamedTuple):
    """The map that was drawn.

    Attributes:
        matrix: ``(axes, axes + 1)``, voxel of the patch to voxel of the source.
    """

    matrix: Matrix


class Affine(SpatialAugmentation[AffineSettings, AffineParams]):
    """Rotates, scales and shifts the patch about its centre, each with a probability of its own.

    Angles are true in mm, whatever the spacing. Anisotropic patches are changed within their planes only. Voxels beyond the case
    are 0 and ignored by the loss.
    """

    name = "affine"
    settings = AffineSettings

    def draw(self, context: DrawContext[AffineSettings]) -> Iterable[Change]:
        """Draw angles, a factor and offsets, and join them in a matrix."""
        settings, geometry, random = context.settings, context.geometry, context.random
        angles = factor = offset = None
        if random.random() < settings.rotation_p:
            most = geometry.degrees if settings.rotation is None else settings.rotation
            angles = np.radians(random.uniform(-most, most, 3 if len(geometry.plane) == 3 else 1))
        if random.random() < settings.scale_p:
            factor = random.uniform(*settings.scale)
        if random.random() < settings.shift_p:
            offset = random.uniform(-settings.shift, settings.shift, len(geometry.plane))
        if angles is None and factor is None and offset is None:
            return []
        edges = np.array([geometry.patch[axis] for axis in geometry.plane])
        matrix = affine_matrix(
            geometry,
            np.zeros(3 if len(geometry.plane) == 3 else 1) if angles is None else angles,
            1.0 if factor is None else factor,
            np.zeros(len(geometry.plane)) if offset is None else offset * edges,
        )
        return [Change(self.name, None, AffineParams(matrix))]

    def matrix(self, params: AffineParams) -> Matrix:
        """The map as drawn."""
        return params.matrix


def affine_matrix(geometry: PatchGeometry, angles: NDArray[np.float64], factor: float, shift: NDArray[np.float64]) -> Matrix:
    """Rotate about the patch's centre, in mm, then scale and shift.

    Args:
        geometry: geometry of the patch.
        angles: radians about each axis in turn, or the one angle in the plane.
        factor: above 1 enlarges.
        shift: voxels along each axis of the plane.

    Returns:
        ``(axes, axes + 1)``, voxel of the patch to voxel of the source.
    """
    axes, plane = len(geometry.patch), list(geometry.plane)
    rotation = np.eye(axes)
    pairs = [(1, 2), (0, 2), (0, 1)] if len(plane) == 3 else [(plane[0], plane[1])]
    for (first, second), angle in zip(pairs, angles.tolist(), strict=True):
        step = np.eye(axes)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ step
    scale = np.ones(axes)
    scale[plane] = factor
    spacing = np.array(geometry.spacing)
    linear = rotation * spacing[None, :] / spacing[:, None] / scale[None, :]
    offset = np.zeros(axes)
    offset[plane] = shift
    centre = (np.array(geometry.patch) - 1) / 2
    translation = centre - linear @ (centre + offset)
    return tuple((*row, last) for row, last in zip(linear.tolist(), translation.tolist(), strict=True))

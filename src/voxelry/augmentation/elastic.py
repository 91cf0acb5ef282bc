"""Elastic deformation: a smooth displacement field from a few control points by cubic B-splines."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxelry.augmentation.augmentation import Change, DrawContext, SpatialAugmentation
from voxelry.augmentation.patch_geometry import PatchGeometry
from voxelry.augmentation.ranges import Probability
from voxelry.augmentation.separable_fields import sum_of_products
from voxelry.base.schema import Frozen

CONTROL_POINTS = 6
"""Along each axis."""


class ElasticSettings(Frozen):
    """Keys of elastic deformation."""

    elastic_p: Probability = Field(default=0.0, description="probability of a smooth deformation")
    elastic_voxels: float = Field(default=4.0, ge=0, description="largest displacement, in voxels")


class ElasticParams(NamedTuple):
    """The deformation that was drawn.

    Attributes:
        voxels: largest displacement.
        key: key that the control points follow from.
    """

    voxels: float
    key: int


class Elastic(SpatialAugmentation[ElasticSettings, ElasticParams]):
    """Deforms the patch smoothly: each of 6 control points per axis is displaced at random, cubic B-splines in between."""

    name = "elastic"
    settings = ElasticSettings

    def draw(self, context: DrawContext[ElasticSettings]) -> Iterable[Change]:
        """Draw the largest displacement, and the key of the control points."""
        if context.random.random() >= context.settings.elastic_p:
            return []
        voxels = float(context.random.uniform(0, context.settings.elastic_voxels))
        return [Change(self.name, None, ElasticParams(voxels, context.key()))]

    def margin(self, params: ElasticParams, geometry: PatchGeometry) -> NDArray[np.float64]:
        """The largest displacement along the axes of the plane."""
        return np.array([params.voxels if axis in geometry.plane else 0.0 for axis in range(len(geometry.patch))])

    def displacement(self, params: ElasticParams, geometry: PatchGeometry) -> NDArray[np.float32]:
        """The displacements between the control points."""
        points = control_points(params, geometry.plane, len(geometry.patch))
        bases = [spline_basis(edge) for edge in geometry.patch]
        return np.stack([sum_of_products(axis_points, bases) for axis_points in points])


@functools.lru_cache(maxsize=64)
def spline_basis(size: int) -> NDArray[np.float32]:
    """Uniform cubic B-splines about `CONTROL_POINTS` control points, ``(size, CONTROL_POINTS)``; each row sums to 1."""
    segments = CONTROL_POINTS - 3
    position = (np.arange(size) + 0.5) / size * segments
    first = np.minimum(position.astype(np.int64), segments - 1)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    basis = np.zeros((size, CONTROL_POINTS), dtype=np.float32)
    for step in range(4):
        basis[np.arange(size), first + step] = weights[:, step]
    return basis


def control_points(params: ElasticParams, plane: Sequence[int], axes: int) -> NDArray[np.float32]:
    """Displacements of the control points in voxels, ``(axes, points...)``; 0 along axes outside the plane.

    Args:
        params: the largest displacement, and the key.
        plane: axes that are deformed.
        axes: axes of the patch.
    """
    random = np.random.default_rng(params.key)
    points = random.uniform(-params.voxels, params.voxels, (axes, *(CONTROL_POINTS,) * axes)).astype(np.float32)
    points[[axis for axis in range(axes) if axis not in plane]] = 0
    return points

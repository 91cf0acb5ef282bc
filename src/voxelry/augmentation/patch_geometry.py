"""The geometry of training patches: size, spacing, and the axes that may be interpolated or mirrored."""

from __future__ import annotations

from dataclasses import dataclass

from voxelry.core.plan import Plan

ANISOTROPY = 3.0
"""A patch more than this many times longer than across its coarsest axis is rotated and scaled within its planes only."""
ELONGATED = 1.5
"""A picture or slice more than this many times longer than wide is rotated by at most 15 degrees."""


@dataclass(frozen=True)
class PatchGeometry:
    """The geometry of the patches that a plan trains on.

    Attributes:
        patch: size in voxels along each axis.
        spacing: mm along each axis; 1 where it is unknown.
        channels: channels of the image.
        plane: the axes that may be rotated, scaled, shifted and deformed.
        degrees: largest rotation, where the recipe sets none.
        flip_axes: the axes that may be mirrored.
    """

    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    channels: int
    plane: tuple[int, ...]
    degrees: float
    flip_axes: tuple[int, ...] = ()

    @classmethod
    def of(cls, plan: Plan, flip_axes: tuple[int, ...] = ()) -> PatchGeometry:
        """By nnU-Net's rules: anisotropic patches are changed within their planes, elongated pictures rotated less.

        Args:
            plan: plan of the patches.
            flip_axes: the axes that may be mirrored.
        """
        patch, axes = plan.patch_size, tuple(range(plan.dimensions))
        spacing = tuple(value or 1.0 for value in plan.spacing or (None,) * plan.dimensions)
        across = _axis_across(plan, spacing)
        plane = tuple(axis for axis in axes if axis != across)
        edges = [patch[axis] for axis in plane]
        is_flat = plan.dimensions - (plan.slice_axis is not None) == 2
        in_plane = 15.0 if is_flat and max(edges) > ELONGATED * min(edges) else 180.0
        return cls(patch, spacing, len(plan.channels), plane, 30.0 if len(plane) == 3 else in_plane, flip_axes)


def _axis_across(plan: Plan, spacing: tuple[float, ...]) -> int | None:
    """The axis across which patches are never interpolated, if there is one."""
    if plan.dimensions == 2:
        return None
    if plan.slice_axis is not None:
        return plan.slice_axis
    if plan.coarse_axis is not None:
        return plan.coarse_axis
    coarsest = max(range(3), key=lambda axis: (spacing[axis], -plan.patch_size[axis]))
    return coarsest if max(plan.patch_size) > ANISOTROPY * plan.patch_size[coarsest] else None

"""Mirroring of patches, with left and right labels swapped where an axis runs from side to side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import Field

from voxelry.augmentation.augmentation import Change, DrawContext, SpatialAugmentation
from voxelry.augmentation.ranges import Probability
from voxelry.base.schema import Frozen
from voxelry.core.labels import LabelTable
from voxelry.core.mirror_twins import has_side, without_twin
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError


class FlipSettings(Frozen):
    """Keys of mirroring."""

    flip_p: Probability = Field(default=0.5, description="probability of each mirrored axis")
    flip_axes: tuple[int, ...] | Literal["auto", "sides"] = Field(
        default="auto",
        description="mirrored axes. `auto`: every axis but that across slices; where labels have a side, mirror twins are "
        "swapped on the axis from side to side, which is left out where a label named left or right has no `mirror` twin, and "
        "all axes are left out where volumes are not oriented. `sides`: of these the axis from side to side alone. Axes that "
        "are named are mirrored, or refused where `auto` would leave them out for the labels' sides",
    )


class FlipParams(NamedTuple):
    """Drawn parameters.

    Attributes:
        axes: axes that are mirrored.
    """

    axes: tuple[int, ...]


class Flip(SpatialAugmentation[FlipSettings, FlipParams]):
    """Mirrors the patch along each axis of `flip_axes` with the same probability.

    Where the axis runs from side to side of the body, labels become their mirror twins (left kidney, right kidney).
    """

    name = "flip"
    settings = FlipSettings

    def draw(self, context: DrawContext[FlipSettings]) -> Iterable[Change]:
        """Draw which axes are mirrored."""
        axes = tuple(axis for axis in context.geometry.flip_axes if context.random.random() < context.settings.flip_p)
        return [Change(self.name, None, FlipParams(axes))] if axes else []

    def mirrored(self, params: FlipParams) -> tuple[int, ...]:
        """The axes as drawn."""
        return params.axes


def mirrored_axes(plan: Plan, flip_axes: tuple[int, ...] | Literal["auto", "sides"], table: LabelTable) -> tuple[int, ...]:
    """The axes along which patches may be mirrored.

    ``auto`` leaves out the axis across slices and, where labels have a side, every axis of volumes whose orientation is not
    known, and the axis from side to side where a label's mirror twin is not known. ``sides`` keeps of these the axis from side
    to side alone.

    Args:
        plan: plan of the patches.
        flip_axes: the recipe's key.
        table: the labels.

    Raises:
        ConfigError: an axis that is not there.
    """
    if isinstance(flip_axes, tuple):
        wrong = [axis for axis in flip_axes if not 0 <= axis < plan.dimensions]
        if wrong:
            raise ConfigError(f"augment.flip_axes names axis {wrong[0]}; the data have axes 0..{plan.dimensions - 1}")
        return flip_axes
    axes = [axis for axis in range(plan.dimensions) if axis != plan.slice_axis]
    if any(map(has_side, table.labels)) and plan.dimensions == 3 and plan.orientation is None:
        return ()
    if without_twin(table.labels):
        axes = [axis for axis in axes if axis != plan.side_axis]
    return tuple(axis for axis in axes if flip_axes == "auto" or axis == plan.side_axis)

"""Mirrored passes: the axes that patches are mirrored along at inference, and the channels that change places when they are."""

from __future__ import annotations

from voxelry.core.labels import LabelTable
from voxelry.core.mirror_twins import without_twin
from voxelry.core.plan import Plan
from voxelry.networks.classes import mirror_classes


def keeps_sides(plan: Plan) -> bool:
    """Whether a network has learnt that sides stay when a patch is mirrored, as nnU-Net trains."""
    return plan.convention == "nnunet"


def mirrored_axes(plan: Plan, table: LabelTable) -> tuple[int, ...]:
    """Axes that patches are mirrored along at inference: the plan's flips without those that change or spoil something.

    Across the slices of a slice-wise plan mirroring changes nothing. From side to side it would mix up labels that name a side
    and have no mirror twin, unless the network has learnt that sides stay.

    Args:
        plan: plan of the network.
        table: its labels.
    """
    mixes_up = not keeps_sides(plan) and without_twin(table.labels)
    left_out = {plan.slice_axis} | ({plan.side_axis} if mixes_up else set())
    return tuple(axis for axis in plan.flips if axis not in left_out)


def mirrored_channels(plan: Plan, table: LabelTable, channels: int) -> tuple[int, ...]:
    """The channel that each becomes when a patch is mirrored from side to side and back.

    Args:
        plan: plan of the network.
        table: its labels.
        channels: of the network: its classes, background first, and those of a head behind them, which stay.

    Raises:
        ConfigError: a region whose labels' mirror twins make up no region.
    """
    if keeps_sides(plan) or plan.side_axis not in mirrored_axes(plan, table):
        return tuple(range(channels))
    classes = mirror_classes(plan, table)
    return (*classes, *range(len(classes), channels))

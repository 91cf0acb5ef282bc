"""How the objects of a dataset's things are told apart, and the voxel size at which they have a workable size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxelry.core.instance_plan import Decoder, InstancePlan
from voxelry.core.object_statistics import ObjectStatistics
from voxelry.core.plan import Fingerprint
from voxelry.errors import ConfigError
from voxelry.planning.spacing import Spacing, by, coarse_axis
from voxelry.recipes.settings import PlanSettings

TOUCHING = 0.02
"""Share of objects that touch another from which a network learns to part them; below it, touching voxels are one object."""

BORDER = 0.1
"""Thickness of a border, and depth of erosion, as a share of the median diameter: at least a voxel (`instance_targets`)."""

LARGEST = 64.0
"""Voxels along the median diameter above which voxels are enlarged: a patch should hold whole objects and their neighbours."""

SMALLEST = 0.5
"""Diameter of the smallest object that is kept, as a share of that of all but the smallest 5 % in training."""


def plan_instances(
    fingerprint: Fingerprint,
    settings: PlanSettings,
    spacing: Spacing | None,
    across: int | None,
    scale: float,
    reasons: list[str],
) -> InstancePlan | None:
    """The plan of the dataset's objects.

    Args:
        fingerprint: the dataset's, axes in the plan's order.
        settings: the user's settings.
        spacing: of the plan.
        across: the axis across slices that are segmented one by one; None of pictures and volumes.
        scale: pixels of the network's grid in a pixel of the median picture, where pixels are counted and not measured.
        reasons: sentences are added.

    Returns:
        None where the dataset has no objects, or the user wants none told apart.

    Raises:
        ConfigError: the user asks for objects, and there are none.
    """
    objects, decoder = fingerprint.objects, _decoder(fingerprint, settings)
    if objects is not None and objects.diameter is None:
        reasons.append("The training cases have no objects of a thing, so none are told apart.")
    if objects is None or objects.diameter is None or decoder is None:
        return None
    names = tuple(name for name, each in fingerprint.objects_by_label.items() if each.total)
    reasons.append(_reason(objects, decoder, settings.instances is not None))
    low, median, _ = objects.diameter
    width = round(BORDER * median * scale, 4)
    axes = fingerprint.dimensions
    return InstancePlan(
        labels=names,
        decoder=decoder,
        diameter=median,
        border=width if decoder == "watershed" else 0,
        erosion=width if decoder == "watershed" else 0,
        coarse_axis=coarse_axis(_voxel(fingerprint, spacing)) if across is None and axes == 3 else across,
        smallest=round(_ball(SMALLEST * low, axes), 4),
    )


def normalised(
    spacing: Sequence[float], fingerprint: Fingerprint, settings: PlanSettings, reasons: list[str]
) -> tuple[float, ...]:
    """A target spacing at which the median object has at most `LARGEST` voxels along its diameter, where a head learns objects.

    Args:
        spacing: mm along each axis, or 1 for pixels.
        fingerprint: the dataset's.
        settings: the user's settings.
        reasons: a sentence is added where voxels are enlarged.
    """
    diameter = None if fingerprint.objects is None else fingerprint.objects.median_diameter
    if _decoder(fingerprint, settings) != "watershed" or diameter is None or diameter <= LARGEST * min(spacing):
        return tuple(spacing)
    size = diameter / LARGEST
    enlarged = tuple(round(max(edge, size), 6) for edge in spacing)
    reasons.append(
        f"The median object is {diameter:.3g} across, {diameter / min(spacing):.0f} voxels; at {by(enlarged)} it is"
        f" {LARGEST:g}, so that a patch holds whole objects."
    )
    return enlarged


def _decoder(fingerprint: Fingerprint, settings: PlanSettings) -> Decoder | None:
    """How objects are found; None where none are told apart."""
    objects, asked = fingerprint.objects, settings.instances
    if objects is None or objects.diameter is None:
        if asked not in (None, "none"):
            raise ConfigError(
                f"plan.instances is '{asked}', but the training cases have no objects of a thing",
                remedy="Give a label of the card the kind 'thing', and say how its objects are told apart ('instances').",
            )
        return None
    if asked is not None:
        return None if asked == "none" else asked
    return "watershed" if objects.share_touching >= TOUCHING else "components"


def _reason(objects: ObjectStatistics, decoder: Decoder, is_asked: bool) -> str:
    """Why objects are told apart so."""
    facts = f"Of {objects.total} objects {objects.share_touching:.1%} touch another"
    how = (
        "the network learns their borders, cores and distances, and objects grow from peaks of the distances"
        if decoder == "watershed"
        else "touching voxels are one object, without a head of the network"
    )
    if is_asked:
        return f"{facts}; {how}, as the recipe asks."
    compared = "no less" if decoder == "watershed" else "less"
    return f"{facts}, {compared} than {TOUCHING:.0%}, so {how}."


def _voxel(fingerprint: Fingerprint, spacing: Spacing | None) -> tuple[float, ...]:
    """Voxel size of the plan, the stored size where it has no target."""
    stored = fingerprint.spacing or (1.0,) * fingerprint.dimensions
    return tuple(own if size is None else size for own, size in zip(stored, spacing or stored, strict=True))


def _ball(diameter: float, axes: int) -> float:
    """Volume of a ball, or area of a disc."""
    return math.pi * diameter**2 / 4 if axes == 2 else math.pi * diameter**3 / 6

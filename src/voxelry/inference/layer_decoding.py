"""From the layers of a prediction and the channels of its instance head to the ids of objects, by the model's plan."""

from __future__ import annotations

import numpy as np

from voxelry.base.listing import counted
from voxelry.core.geometry import Geometry
from voxelry.core.instance_plan import InstancePlan
from voxelry.core.labels import LabelTable
from voxelry.errors import ModelError, nearest
from voxelry.inference.instance_decoder import Classes, Ids, InstanceDecoder
from voxelry.inference.object_scale import median_diameter

_SCALES = 3.0
"""A scan's own diameter counts within this factor of the plan's."""


def decode_instances(
    stored: Classes, head: Ids | None, table: LabelTable, plan: InstancePlan, geometry: Geometry
) -> tuple[Ids, tuple[str, ...]]:
    """The objects of a prediction.

    Args:
        stored: ``(*spatial)`` stored values, in one piece of memory; an object's voxels get its label, those of objects that are
            too small 0.
        head: ``(*spatial)`` uint32, quantised distance (`head_kernels`), in the same order of memory; becomes
            the ids. None where there is no head.
        table: the labels.
        plan: how objects are told apart.
        geometry: the scan's grid.

    Returns:
        ``(*spatial)`` ids, and what is to be said about them.

    Raises:
        ModelError: the plan names a label that the table does not know, or the distances are noise.
    """
    unknown = [name for name in plan.labels if name not in table.names]
    if unknown:
        raise ModelError(
            f"the instances of the plan name '{unknown[0]}', which is no label", remedy=nearest(unknown[0], table.names)
        )
    ids = np.zeros_like(stored, dtype=np.uint32) if head is None else head
    things = [table[name].value for name in plan.labels]
    spacing, volume = geometry.spacing or (1.0,) * stored.ndim, geometry.voxel_volume
    persistence = plan.persistence if plan.head_channels else None
    diameter = plan.diameter
    if persistence is not None:
        own = median_diameter(stored, ids, things, spacing) or diameter
        diameter = min(max(own, diameter / _SCALES), diameter * _SCALES)
    smoothing = [plan.smoothing * diameter / length for length in spacing]
    decoder = InstanceDecoder(stored, ids, things, persistence, plan.smallest / (volume or 1.0), smoothing, plan.min_peak)
    decoder.run()
    remarks = []
    if decoder.dropped:
        unit = "pixels" if volume is None else f"mm^{ids.ndim}"
        remarks.append(f"{counted(decoder.dropped, 'object', 'objects')} smaller than {plan.smallest:g} {unit} dropped")
    if decoder.faint:
        pieces = counted(decoder.faint, "piece", "pieces")
        remarks.append(f"{pieces} of foreground dropped whose distance stays below {plan.min_peak:g}")
    return ids, tuple(remarks)


def decode_layers(
    layers: Classes, head: Ids | None, table: LabelTable, plan: InstancePlan, geometry: Geometry
) -> tuple[Ids, tuple[str, ...]]:
    """The objects of a prediction, layer by layer, with ids that are unique over all layers.

    Args:
        layers: ``(L, *spatial)`` stored values, each layer as in `decode_instances`.
        head: as in `decode_instances`; objects of one layer alone can have it.
        table: the labels.
        plan: how objects are told apart.
        geometry: as in `decode_instances`.

    Returns:
        ``(L, *spatial)`` ids, and what is to be said about them.

    Raises:
        ModelError: as `decode_instances`, or objects on several layers of one head.
    """
    named = {label.name: label.layer for label in table.labels}
    if len(layers) == 1:
        ids, remarks = decode_instances(layers[0], head, table, plan, geometry)
        return ids[None], remarks
    of_layer = [tuple(name for name in plan.labels if named.get(name, 0) == number) for number in range(len(layers))]
    if head is not None and len([names for names in of_layer if names]) > 1:
        raise ModelError(
            f"objects on several layers ({', '.join(plan.labels)}), which one instance head cannot tell apart",
            remedy="Use the decoder 'components', or put things on one layer.",
        )
    joined, sentences, count = np.zeros_like(layers, dtype=np.uint32), list[str](), 0
    for layer, goal, names in zip(layers, joined, of_layer, strict=True):
        if names:
            ids, remarks = decode_instances(layer, head, table, plan.model_copy(update={"labels": names}), geometry)
            goal[:] = np.where(ids > 0, ids + np.uint32(count), np.uint32(0))
            count, sentences = max(count, int(goal.max())), [*sentences, *remarks]
    return joined, tuple(sentences)

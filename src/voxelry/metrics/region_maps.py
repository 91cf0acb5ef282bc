"""Regions (unions of labels, which may overlap) as a label map: each region is a label on a layer of its own, and scored so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import LabelError, UsageError, nearest
from voxelry.metrics.aligned_pair import is_numbered

Regions = Mapping[str, Sequence[str]]
"""Region name -> names of its labels, as a recipe's `loss.regions`."""


def region_map(labels: LabelMap, regions: Regions, reference: LabelTable) -> LabelMap:
    """The regions of a map, in place of its labels.

    A map that has labels of the regions' names, such as the prediction of a network that learnt them, keeps these.

    Args:
        labels: reference or prediction.
        regions: of names in `reference`.
        reference: the labels of the reference; those of a prediction that is only numbers are matched by value.

    Returns:
        One layer a region, of value 1. Voxels that a layer ignores are ignored in each region that takes a label from it.

    Raises:
        UsageError: a region without labels, or with one that the reference does not have.
        LabelError: values that neither the map's table nor the reference's knows.
    """
    for name, members in regions.items():
        unknown = [member for member in members if member not in reference.names]
        if not members or (unknown and name not in reference.names):
            what = f"has '{unknown[0]}', which is no label of the reference" if unknown else "has no labels"
            raise UsageError(f"region '{name}' {what}", remedy=nearest(unknown[0] if unknown else name, reference.names))
    _check_values(labels, reference)
    ignore = labels.table.ignore
    value = 2 if ignore == 1 else 1
    layers = np.zeros((len(regions), *labels.geometry.shape), dtype=np.uint8 if (ignore or 0) < 256 else np.uint16)
    for layer, (name, members) in zip(layers, regions.items(), strict=True):
        for own in _members(labels.table, name, members, reference):
            source = labels.layers[0 if len(labels.layers) == 1 else own.layer]
            layer[source == own.value] = value
            if ignore is not None:
                layer[source == ignore] = ignore
    table = LabelTable(labels=tuple(Label(value=value, name=n, layer=k) for k, n in enumerate(regions)), ignore=ignore)
    return LabelMap(layers, labels.geometry, table, labels.source)


def _members(table: LabelTable, region: str, members: Sequence[str], reference: LabelTable) -> list[Label]:
    """The labels of a map that make up a region."""
    if region in table.names:
        return [table[region]]
    if is_numbered(table) and not is_numbered(reference):
        return [Label(value=reference[name].value, name=name) for name in members]
    return [table[name] for name in members if name in table.names]


def _check_values(labels: LabelMap, reference: LabelTable) -> None:
    """Refuse stored values that no table explains."""
    known = {0, labels.table.ignore, reference.ignore} | {label.value for label in labels.table.labels}
    for layer in labels.layers:
        values: NDArray[np.int64] = np.unique(layer)
        unknown = sorted(set(values.tolist()) - known)
        if unknown:
            raise LabelError(f"{labels.source.name}: label values {unknown[:8]} are not in its table")

"""Colours of objects for pictures: neighbouring objects of a label map differ, and the same map always gets the same colours."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import PALETTE, Label, LabelTable
from voxelry.core.objects import ObjectBox, objects_of
from voxelry.core.volume import LabelMap

_GOLDEN = 0.618034
"""Of a turn of hue, so that colours beyond the palette are far from each other."""


def with_object_colors(labels: LabelMap) -> LabelMap:
    """The map with a label for each colour of a thing's objects, and without ids, for programs that paint labels.

    Objects that touch, at a corner at least, have different colours, of as few as that takes in the order of how many others an
    object touches; voxels of a thing without an id keep the label's colour, as other labels do.

    Args:
        labels: any; returned unchanged where it has no instance ids.

    Returns:
        Labels ``lesion``, ``lesion (2)``... on the same layers; their values are not those of the table.

    Raises:
        LabelError: values that the table does not know, or ids that fit no label.
    """
    if labels.instances is None:
        return labels
    objects = objects_of(labels, labels.source.name)
    keys = _keys(labels, objects)
    colors = _colors(objects, keys)
    values: dict[tuple[str, int], int] = {}
    lookup = np.zeros(len(objects) + 1, np.uint16)
    for number, item in enumerate(objects):
        lookup[number + 1] = values.setdefault((item.label.name, colors[number]), len(values) + 1)
    rows = [_label(labels.table[name], color, value) for (name, color), value in values.items()]
    return replace(labels, layers=lookup[keys], instances=None, table=LabelTable(labels=tuple(rows)))


def _keys(labels: LabelMap, objects: list[ObjectBox]) -> NDArray[np.int32]:
    """``(L, *spatial)``: the number of each voxel's object from 1, 0 for none."""
    keys = np.zeros(labels.layers.shape, np.int32)
    for number, item in enumerate(objects, start=1):
        if item.box is not None:
            place = keys[item.label.layer][item.box]
            place[item.mask(labels)] = number
    return keys


def _colors(objects: list[ObjectBox], keys: NDArray[np.int32]) -> list[int]:
    """A colour for each object, 0 the label's own; objects of things that touch differ."""
    neighbours: list[list[int]] = [[] for _ in objects]
    for a, b in _touching(keys, len(objects)).tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    colors = [0] * len(objects)
    told = [number for number, item in enumerate(objects) if item.by_id and item.instance]
    for number in sorted(told, key=lambda number: (-len(neighbours[number]), number)):
        used = {colors[other] for other in neighbours[number]}
        start, most = number % len(PALETTE), len(PALETTE)
        free = next((1 + (start + k) % most for k in range(most) if 1 + (start + k) % most not in used), None)
        colors[number] = free or next(color for color in range(most + 1, most + 2 + len(used)) if color not in used)
    return colors


def _touching(keys: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """``(n, 2)`` pairs of objects, by index from 0, that share at least a corner on a layer."""
    pairs = []
    for layer in keys:
        for step in product((-1, 0, 1), repeat=layer.ndim):
            if step <= (0,) * layer.ndim:
                continue
            here = layer[tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, layer.shape, strict=True))]
            there = layer[tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, layer.shape, strict=True))]
            meets = (here != there) & (here > 0) & (there > 0)
            low, high = np.minimum(here[meets], there[meets]), np.maximum(here[meets], there[meets])
            pairs.append(np.unique(low.astype(np.int64) * (count + 1) + high))
    distinct = np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, np.int64)
    return np.column_stack(np.divmod(distinct, count + 1)) - 1


def _label(label: Label, color: int, value: int) -> Label:
    """A label of one colour of another's objects."""
    name = label.name if not color else f"{label.name[:56]} ({color + 1})"
    return Label(value=value, name=name, color=_rgb(label, color), layer=label.layer)


def _rgb(label: Label, color: int) -> tuple[int, int, int]:
    if not color:
        return label.rgb
    if color <= len(PALETTE):
        return PALETTE[color - 1]
    red, green, blue = colorsys.hsv_to_rgb(color * _GOLDEN % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)

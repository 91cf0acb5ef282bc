"""Overlapping segments as layers of a LabelMap, for DICOM SEG, RTSTRUCT and .seg.nrrd.

A segment is a `Label` of the file's own and its boxes, each with a mask of the voxels inside, so that a hundred segments need no
hundred masks of the whole grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelry.base.distinct_names import distinct_names
from voxelry.core.geometry import Geometry
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.volume import LabelMap, Source
from voxelry.errors import LabelError, nearest

LONGEST_NAME = 64


@dataclass(frozen=True, eq=False)
class SegmentBox:
    """A box of voxels, and which of them belong to a segment.

    Attributes:
        start: the box's first voxel.
        inside: mask of the box, one axis for each of the grid.
    """

    start: tuple[int, ...]
    inside: NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, ...]:
        """Where the box lies in an array of the grid."""
        return tuple(slice(first, first + size) for first, size in zip(self.start, self.inside.shape, strict=True))


def clean_name(name: str, number: int) -> str:
    """A name without control characters and surplus spaces, never empty, of at most `LONGEST_NAME` characters."""
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    return plain[:LONGEST_NAME] or f"segment {number}"


def unique_names(labels: Mapping[int, Label]) -> dict[int, Label]:
    """Labels by number; equal names get their number appended."""
    names = distinct_names([label.name for label in labels.values()], list(labels), longest=LONGEST_NAME)
    return {
        number: label if label.name == name else label.model_copy(update={"name": name})
        for (number, label), name in zip(labels.items(), names, strict=True)
    }


def match(label: Label, table: LabelTable) -> Label | None:
    """The label of a table that a segment means: of the same name, whatever its case, else of the same codes, else None."""
    same = [candidate for candidate in table.labels if candidate.name.casefold() == label.name.casefold()]
    by_name = next((candidate for candidate in same if candidate.name == label.name), same[0] if len(same) == 1 else None)
    if by_name is not None or label.type is None:
        return by_name
    codes = [
        candidate
        for candidate in table.labels
        if candidate.type
        and (code_key(candidate.type), code_key(candidate.modifier)) == (code_key(label.type), code_key(label.modifier))
    ]
    return codes[0] if len(codes) == 1 else None


def code_key(code: Code | None) -> tuple[str, str] | None:
    """Value and scheme, by which two codes are equal whatever their meaning's wording."""
    return None if code is None else (code.value, code.scheme)


def match_segments(labels: Mapping[int, Label], table: LabelTable, where: str) -> dict[int, Label]:
    """Segment number -> the label of a table that it means.

    Raises:
        LabelError: a segment that the table does not know.
    """
    matches = {number: match(label, table) for number, label in labels.items()}
    unknown = [labels[number].name for number, label in matches.items() if label is None]
    if unknown:
        raise LabelError(f"{where}: segment '{unknown[0]}' is not in the table", remedy=nearest(unknown[0], table.names))
    return {number: label for number, label in matches.items() if label is not None}


def stack_segments(
    boxes: Mapping[int, Sequence[SegmentBox]],
    geometry: Geometry,
    labels: Mapping[int, Label],
    table: LabelTable | None,
    source: Source,
) -> LabelMap:
    """A map of segments on as few layers as possible without overlap, filled in the order of their numbers.

    Args:
        boxes: segment number -> where it is; a segment without boxes is empty.
        geometry: the grid.
        labels: segment number -> its label, with a value of its own; of `table` where that is given.
        table: says the layer of each label; None lets overlaps decide.
        source: where the segments came from.

    Raises:
        LabelError: segments overlap on one layer of the given table.
    """
    highest = max((label.value for label in labels.values()), default=0)
    kind: type[np.uint8] | type[np.uint16] = np.uint8 if highest < 256 else np.uint16
    layers = [np.zeros(geometry.shape, dtype=kind) for _ in range(table.layers if table else 1)]
    placed_labels = dict(labels)
    for number in sorted(labels):
        label_boxes, label = boxes.get(number, ()), labels[number]
        free = [index for index, layer in enumerate(layers) if _is_free(layer, label_boxes, label.value)]
        if table is not None:
            free = [label.layer] if label.layer in free else []
            if not free:
                raise LabelError(
                    f"{source.name}: segment '{label.name}' overlaps another", remedy="Give them layers in the table."
                )
        elif not free:
            layers.append(np.zeros(geometry.shape, dtype=kind))
            free = [len(layers) - 1]
        for box in label_boxes:
            layers[free[0]][box.box][box.inside] = label.value
        placed_labels[number] = label.model_copy(update={"layer": free[0]})
    stack = layers[0][None] if len(layers) == 1 else np.stack(layers)
    return LabelMap(stack, geometry, table or LabelTable(labels=tuple(placed_labels.values())), source)


def _is_free(layer: NDArray[np.unsignedinteger], boxes: Sequence[SegmentBox], value: int) -> bool:
    """The boxes are free on a layer; segments of the same label may meet."""
    for box in boxes:
        values = layer[box.box][box.inside]
        if (values[values != 0] != value).any():
            return False
    return True

"""Reads segmentations of 3D Slicer, ``.seg.nrrd``: labels on one or more layers, with names, colours and codes of each segment.

The metadata are ``Segment<n>_...`` pairs of the NRRD header (Slicer's documentation of its segmentation files): `LabelValue` on
`Layer`, `Name`, `Color`, and the `TerminologyEntry` among `Tags`, whose codes of category, type and modifier are taken. Files of
Slicer before 4.11 store neither value nor layer: each segment is a layer of ones.

The grid may be a part of its image's grid, cropped to the segments; `LabelMap.on_grid` lays it onto the whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from voxelry.core.labels import ANATOMICAL_STRUCTURE, Code, Label, LabelTable
from voxelry.core.volume import LabelMap
from voxelry.errors import CorruptFileError, LabelError
from voxelry.formats.file_segments import gathered
from voxelry.formats.grids.nrrd_header import parse_nrrd
from voxelry.formats.grids.nrrd_read import grid_of
from voxelry.formats.grids.nrrd_write import KIND_TAG, OBJECT_TAG
from voxelry.formats.label_layers import SegmentBox, clean_name, match_segments, unique_names
from voxelry.formats.object_layers import LabelledObject, stack_objects
from voxelry.formats.voxels import LARGEST_LABEL, as_labels

KIND = "seg-nrrd"
"""`Source.kind` of such a map."""

_SEGMENT = re.compile(r"Segment(0|[1-9]\d{0,4})_(\w+)")
_TERMINOLOGY = "TerminologyEntry"


def is_segmentation(path: str | os.PathLike[str]) -> bool:
    """Whether an NRRD file is a segmentation of Slicer: its header describes a segment.

    Raises:
        CorruptFileError: the header is damaged.
    """
    return bool(_segments(parse_nrrd(Path(path)).pairs))


def read_seg_nrrd(path: str | os.PathLike[str], table: LabelTable | None = None) -> LabelMap:
    """Read a segmentation of 3D Slicer.

    Args:
        path: the file.
        table: labels of the segments, matched by name, else by codes. None makes a table of the segments' own names, codes and
            colours; of their own values too, unless two layers use one value: then they are numbered from 1.

    Returns:
        A LabelMap on the file's grid; layers as stored, or as the table says. Voxels that belong to no segment are background.

    Raises:
        LabelError: a segment that `table` does not know, fractions, or segments that overlap on one layer of the table.
        CorruptFileError: metadata or voxels that contradict each other.
        ReadError: as `voxelry.formats.grids.nrrd_read.open_nrrd`.
    """
    header = parse_nrrd(Path(path))
    grid = grid_of(header)
    segments = _segments(header.pairs)
    pairs = _stored_pairs(segments, grid.channels, grid.path)
    own = {index: _label(segment, index, pairs[index][1]) for index, segment in segments.items()}
    joined = gathered(own, {index: _tag(segment.get("Tags", ""), OBJECT_TAG) for index, segment in segments.items()})
    labels = unique_names(joined.labels)
    values = [value for _, value in pairs.values()]
    remarks = grid.remarks
    if len(set(values)) < len(values):
        labels = {index: label.model_copy(update={"value": number}) for number, (index, label) in enumerate(labels.items(), 1)}
        remarks = (*remarks, "layers share label values: segments are numbered from 1")
    stored = as_labels(grid.numbers(), str(grid.path))
    known = labels if table is None else match_segments(labels, table, str(grid.path))
    source = replace(grid.source, kind=KIND, remarks=remarks)
    unclaimed = _unclaimed(stored, set(pairs.values()))
    if unclaimed:
        raise LabelError(
            f"{grid.path}: value {unclaimed[0][1]} on layer {unclaimed[0][0]} belongs to no segment",
            remedy="Save it again in Slicer.",
        )
    boxes = [find_objects(layer) for layer in stored]
    objects = [
        LabelledObject(joined.owner[index], joined.instances.get(index, 0), [_segment_box(stored[layer], value, box)])
        for index, (layer, value) in pairs.items()
        if (box := boxes[layer][value - 1] if value <= len(boxes[layer]) else None) is not None
    ]
    return stack_objects(objects, grid.geometry, known, table, source, by_id=bool(joined.instances))


def _segment_box(layer: NDArray[Any], value: int, box: tuple[slice, ...]) -> SegmentBox:
    return SegmentBox(tuple(side.start for side in box), layer[box] == value)


def _segments(pairs: Mapping[str, str]) -> dict[int, dict[str, str]]:
    segments: dict[int, dict[str, str]] = {}
    for key, value in pairs.items():
        matching = _SEGMENT.fullmatch(key)
        if matching:
            segments.setdefault(int(matching[1]), {})[matching[2]] = value
    return {index: segments[index] for index in sorted(segments) if {"ID", "Name"} & set(segments[index])}


def _stored_pairs(segments: Mapping[int, Mapping[str, str]], layers: int, path: Path) -> dict[int, tuple[int, int]]:
    """Layer and value of each segment."""
    pairs: dict[int, tuple[int, int]] = {}
    for index, segment in segments.items():
        old = "LabelValue" not in segment and "Layer" not in segment
        try:
            pair = (index if old and layers > 1 else int(segment.get("Layer", "0")), int(segment.get("LabelValue", "1")))
        except ValueError as error:
            raise CorruptFileError(
                f"{path}: segment {index} has no whole numbers as value and layer", remedy="Save it again."
            ) from error
        if not (0 <= pair[0] < layers and 1 <= pair[1] <= LARGEST_LABEL) or pair in pairs.values():
            raise CorruptFileError(
                f"{path}: segment {index} is value {pair[1]} on layer {pair[0]}; there are {layers} layers, and a value on one "
                "stands for one segment",
                remedy="Save it again in Slicer.",
            )
        pairs[index] = pair
    return pairs


def _label(segment: Mapping[str, str], index: int, value: int) -> Label:
    category, kind, modifier = _codes(segment.get("Tags", ""))
    return Label(
        value=value,
        name=clean_name(segment.get("Name") or segment.get("ID", ""), index),
        category=category or ANATOMICAL_STRUCTURE,
        type=kind,
        modifier=modifier,
        color=_color(segment.get("Color", "")),
        kind="thing" if _tag(segment.get("Tags", ""), KIND_TAG) == "thing" else "stuff",
    )


def _codes(tags: str) -> tuple[Code | None, Code | None, Code | None]:
    """Category, type and modifier of a terminology entry: ``context~category~type~modifier``, each ``scheme^value^meaning``."""
    fields = _tag(tags, _TERMINOLOGY).split("~")

    def code(at: int) -> Code | None:
        words = fields[at].split("^") if at < len(fields) else []
        return Code(value=words[1], scheme=words[0], meaning=words[2][:64]) if len(words) == 3 and words[1] else None

    return code(1), code(2), code(3)


def _tag(tags: str, name: str) -> str:
    """A segment's tag, ``name:text|``; empty where there is none."""
    return tags.partition(f"{name}:")[2].partition("|")[0]


def _color(text: str) -> tuple[int, int, int] | None:
    """Three numbers 0..1 as bytes; None for anything else."""
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        return None
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        return None
    red, green, blue = (round(255 * value) for value in values)
    return red, green, blue


def _unclaimed(stored: NDArray[Any], claimed: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Layers and values that occur and belong to no segment."""
    occurring = (
        (layer, int(value)) for layer, array in enumerate(stored) for value in np.flatnonzero(np.bincount(array.ravel()))
    )
    return [pair for pair in occurring if pair[1] and pair not in claimed]

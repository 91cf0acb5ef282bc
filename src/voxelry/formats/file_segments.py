"""Labels as the segments of a file: numbers, names, and which object of which label each one is.

A label is one segment. A label of countable things (`Label.kind` ``thing``) on a map with instance ids is one segment for each
instance, so that reports can refer to a single lesion. Formats that know no instances carry them as a note, a text beside each
segment, by which `gathered` finds the objects of one label again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.distinct_names import distinct_names
from voxelry.core.catalogue import coded
from voxelry.core.labels import Label, LabelTable
from voxelry.core.objects import ObjectBox, objects_of
from voxelry.core.volume import LabelMap

LONGEST_TEXT = 64
"""Characters of a DICOM LO, the type of the names of algorithms, segments and series."""

MOST_SEGMENTS = 2**16 - 1
"""Numbers that a segment can have."""

NOTE_END = "; "
"""Ends the note where more text follows."""

_NOTE = re.compile(r"instance (0|[1-9]\d{0,9}) of (.{1,64})")
_MOST_IDS = 2**32 - 1


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation object.

    Attributes:
        number: from 1, in the order of the table.
        name: the label's name, with the instance where there is one; at most 64 characters, no two segments of one name.
        label: the label, with codes of its own or of the catalogue.
        instance: the instance id, 0 where the segment is all of the label.
        item: where it is; None where only the label is known.
    """

    number: int
    name: str
    label: Label
    instance: int = 0
    item: ObjectBox | None = None

    @property
    def present(self) -> bool:
        """Whether it may have a voxel."""
        return self.item is None or self.item.box is not None

    @property
    def note(self) -> str:
        """Which object of which label it is; empty where the label is not told apart by ids."""
        by_id = self.item is not None and self.item.by_id
        return f"instance {self.instance} of {_plain_note(self.label.name)}" if by_id else ""


def segments_of(labels: LabelMap, *, absent: bool = True) -> list[Segment]:
    """The segments of a label map.

    Args:
        labels: on any number of layers, with or without instance ids.
        absent: also list labels without a voxel. If no label has a voxel, the first is listed anyway.

    Returns:
        Segments numbered 1..n.

    Raises:
        LabelError: values that the table does not know, or ids that fit no label.
    """
    table = {label.name: label for label in coded(labels.table).labels}
    items = objects_of(labels, labels.source.name)
    names = _names([(table[item.label.name], item.instance) for item in items])
    pairs = [pair for pair in zip(names, items, strict=True) if absent or pair[1].box is not None]
    pairs = pairs or list(zip(names, items, strict=True))[:1]
    return [
        Segment(number, name, table[item.label.name], item.instance, item) for number, (name, item) in enumerate(pairs, start=1)
    ]


def segments_of_table(table: LabelTable) -> list[Segment]:
    """A segment for each label of a table."""
    labels = coded(table).labels
    names = _names([(label, 0) for label in labels])
    return [Segment(number, name, label) for number, (name, label) in enumerate(zip(names, labels, strict=True), start=1)]


def plain_text(name: str) -> str:
    """A text without backslashes, which separate values in DICOM strings, and without control characters."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", name.replace("\\", "/"))


def segment_numbers(labels: LabelMap, segments: Sequence[Segment]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The segment number of each voxel.

    Args:
        labels: the map.
        segments: those that `segments_of` gives for it, at most 65535.

    Returns:
        ``(L, *spatial)``: the segment's number on each layer, 0 for none; voxels of the ignore value belong to none.
    """
    numbers: NDArray[Any] = np.zeros_like(labels.layers, dtype=np.uint8 if len(segments) < 256 else np.uint16)  # order kept
    for layer in range(len(numbers)):
        whole = {s.label.value: s.number for s in segments if s.label.layer == layer and not s.instance}
        _replace(labels.layers[layer], whole, numbers[layer])
        single = [s for s in segments if s.label.layer == layer and s.instance]
        for value in sorted({s.label.value for s in single}):
            assert labels.instances is not None
            mask = labels.layers[layer] == value
            ids = {s.instance: s.number for s in single if s.label.value == value}
            ids |= {0: whole[value]} if value in whole else {}
            sorted_ids = np.array(sorted(ids))
            rank = np.searchsorted(sorted_ids, labels.instances[layer][mask])
            numbers[layer][mask] = np.array([ids[key] for key in sorted_ids.tolist()])[rank]
    return numbers


@dataclass(frozen=True)
class GatheredSegments:
    """Segments of a file as labels, the instances of a label as one.

    Attributes:
        labels: number -> label; of a label's instances the number of the first.
        owner: number of each segment -> that of its label.
        instances: number of each segment that is an instance -> its id; 0 for voxels of such a label without an id.
    """

    labels: Mapping[int, Label]
    owner: Mapping[int, int]
    instances: Mapping[int, int]


def gathered(labels: Mapping[int, Label], notes: Mapping[int, str]) -> GatheredSegments:
    """Join the segments that are instances of one label, by the notes that `Segment.note` left in the file.

    Notes of which two give one id are left alone, all of them: such segments are labels of their own.

    Args:
        labels: number -> segment as a label.
        notes: number -> the text beside it; any text, or none.
    """
    matches = {number: match for number, text in notes.items() if (match := _NOTE.fullmatch(text.partition(NOTE_END)[0].strip()))}
    ids = {number: int(match[1]) for number, match in matches.items()}
    given = [id for id in ids.values() if id]
    if len(set(given)) < len(given) or max(given, default=0) > _MOST_IDS:
        matches, ids = {}, {}
    first: dict[str, int] = {}
    owner = {number: number if number not in matches else first.setdefault(matches[number][2], number) for number in labels}
    joined = {
        number: label
        if number not in matches
        else label.model_copy(
            update={"name": matches[number][2], "kind": "thing", "tracking_id": None, "tracking_uid": None, "mirror": None}
        )
        for number, label in labels.items()
        if owner[number] == number
    }
    return GatheredSegments(joined, owner, ids)


def _plain_note(name: str) -> str:
    """A name without what ends a note."""
    return plain_text(name).replace(NOTE_END.strip(), ",")


def _names(rows: Sequence[tuple[Label, int]]) -> list[str]:
    """Names of labels and their instances, told apart: as plain text two may be equal, and so may an instance's number."""
    names = []
    for label, instance in rows:
        suffix = f" {instance}" if instance else ""
        names.append(plain_text(label.name).strip()[: LONGEST_TEXT - len(suffix)].rstrip() + suffix)  # outer spaces are not read
    return distinct_names(names, range(1, len(names) + 1), longest=LONGEST_TEXT)


def _replace(values: NDArray[np.integer[Any]], numbers: dict[int, int], out: NDArray[np.integer[Any]]) -> None:
    """Replace each of `values` by its number, in one pass."""
    low, high = int(values.min()), int(values.max())
    lookup = np.zeros(high - low + 1, dtype=out.dtype)
    for value, number in numbers.items():
        if low <= value <= high:
            lookup[value - low] = number
    if values.flags.f_contiguous:
        values, out = values.T, out.T
    np.take(lookup, values if low == 0 else values.astype(np.int64) - low, out=out)

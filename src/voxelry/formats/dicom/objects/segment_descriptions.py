"""Labels as DICOM segments: numbers, names, codes, laterality, colours, and the algorithm that made them.

A label is one segment. A label of countable things (`Label.kind` ``thing``) on a map with instance ids is one segment for each
instance, with a tracking id and UID of its own, so that reports can refer to a single lesion.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from voxelry.base.distinct_names import distinct_names
from voxelry.base.version import __version__
from voxelry.core.catalogue import coded
from voxelry.core.labels import Code, Label, LabelTable
from voxelry.core.model import ModelCard
from voxelry.core.volume import LabelMap

PRIVATE_SCHEME = "99VOXELRY"
LONGEST_TEXT = 64
"""Characters of a DICOM LO, the type of the names of algorithms, segments and series."""

_WORDS = re.compile(r"[A-Za-z0-9]+(?:[ _-]+[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Algorithm:
    """The algorithm that made the labels (PS3.3 section 10.16).

    Attributes:
        name, version: at most 64 characters each.
        kind: ``manual`` labels name no algorithm.

    Example:
        >>> from voxelry.formats.dicom.objects import Algorithm
        >>> Algorithm(name="lung nodules", version="2.1", kind="semiautomatic").name
        'lung nodules'
    """

    name: str = "voxelry"
    version: str = __version__
    kind: Literal["automatic", "semiautomatic", "manual"] = "automatic"

    @classmethod
    def of(cls, card: ModelCard) -> Algorithm:
        """The algorithm of a model: its name, and the version of voxelry that trained it."""
        return cls(name=plain_text(card.name)[:LONGEST_TEXT], version=card.version[:LONGEST_TEXT])


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation object.

    Attributes:
        number: from 1, in the order of the table.
        name: the label's name, with the instance where there is one; at most 64 characters, no two segments of one name.
        label: the label, with codes of its own or of the catalogue.
        instance: the instance id, 0 where the segment is all of the label.
        present: whether it has a voxel.
    """

    number: int
    name: str
    label: Label
    instance: int = 0
    present: bool = True


def segments_of(labels: LabelMap, *, absent: bool = True) -> list[Segment]:
    """The segments of a label map.

    Args:
        labels: on any number of layers, with or without instance ids.
        absent: also list labels without a voxel. If no label has a voxel, the first is listed anyway.

    Returns:
        Segments numbered 1..n.

    Raises:
        LabelError: values that the table does not know.
    """
    present = [_present_values(layer) for layer in labels.layers]
    labels.table.check_values(set().union(*present), labels.source.name)
    table = coded(labels.table).labels
    ids = {key: _instances(labels, label, present[label.layer]) for key, label in enumerate(labels.table.labels)}
    names = iter(_names([(table[key], instance) for key, instances in ids.items() for instance in instances or [0]]))
    rows = [
        (next(names), table[key], instance, bool(instances)) for key, instances in ids.items() for instance in instances or [0]
    ]
    if not absent:
        rows = [row for row in rows if row[-1]] or rows[:1]
    return [Segment(number, *row) for number, row in enumerate(rows, start=1)]


def segments_of_table(table: LabelTable) -> list[Segment]:
    """A segment for each label of a table."""
    labels = coded(table).labels
    names = _names([(label, 0) for label in labels])
    return [Segment(number, name, label) for number, (name, label) in enumerate(zip(names, labels, strict=True), start=1)]


def _names(rows: Sequence[tuple[Label, int]]) -> list[str]:
    """Names of labels and their instances, told apart: as plain text two may be equal, and so may an instance's number."""
    names = []
    for label, instance in rows:
        suffix = f" {instance}" if instance else ""
        names.append(plain_text(label.name).strip()[: LONGEST_TEXT - len(suffix)].rstrip() + suffix)  # outer spaces are not read
    return distinct_names(names, range(1, len(names) + 1), longest=LONGEST_TEXT)


def _present_values(values: NDArray[np.integer[Any]]) -> set[int]:
    """The distinct values of an array; by histograms of its slabs where that is cheaper than sorting."""
    if values.dtype.kind != "u" or values.dtype.itemsize > 2:
        return {int(value) for value in np.unique(values)}
    counts = np.zeros(2 ** (8 * values.dtype.itemsize), dtype=np.int64)
    for slab in values.T if values.flags.f_contiguous else values:
        counts += np.bincount(slab.ravel(), minlength=len(counts))
    return {int(value) for value in np.flatnonzero(counts)}


def _instances(labels: LabelMap, label: Label, present: Container[int]) -> list[int]:
    """The instance ids of a label, ``[0]`` where it has no instances, none where it has no voxel."""
    if label.value not in present:
        return []
    if labels.instances is None or label.kind == "stuff":
        return [0]
    return [int(value) for value in np.unique(labels.instances[label.layer][labels.layers[label.layer] == label.value])]


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


def describe(segment: Segment, algorithm: Algorithm) -> SegmentDescription:
    """The segment as highdicom's description; a finding without a tracking UID gets a fresh one."""
    label, manual = segment.label, algorithm.kind == "manual"
    tracking_uid = "" if segment.instance else label.tracking_uid
    description = SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.name,
        segmented_property_category=concept(label.category),
        segmented_property_type=concept(property_type(label)),
        algorithm_type=SegmentAlgorithmTypeValues(algorithm.kind.upper()),
        algorithm_identification=None if manual else identification(algorithm),
        tracking_uid=UID(tracking_uid) if tracking_uid else UID(),
        tracking_id=segment.name if segment.instance or not label.tracking_id else plain_text(label.tracking_id),
    )
    description.RecommendedDisplayCIELabValue = list(label.cielab)
    if label.modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(label.modifier)]
    return description


def identification(algorithm: Algorithm) -> AlgorithmIdentificationSequence:
    """The algorithm as an Algorithm Identification macro."""
    return AlgorithmIdentificationSequence(
        name=algorithm.name, family=codes.DCM.ArtificialIntelligence, version=algorithm.version
    )


def property_type(label: Label) -> Code:
    """The label's own type code, or a private one made from its name where it has none.

    The private value is the name in capitals if it is plain words that fit DICOM's 16 characters, else its start and a short
    hash: equal names always give equal codes, names that differ in more than case and separators give different ones.
    """
    if label.type is not None:
        return label.type
    value = re.sub(r"[^A-Z0-9]+", "_", label.name.upper()).strip("_")
    if len(value) > 16 or not _WORDS.fullmatch(label.name):
        value = f"{value[:9]}_{hashlib.sha256(label.name.encode()).hexdigest()[:6].upper()}"
    return Code(value=value, scheme=PRIVATE_SCHEME, meaning=plain_text(label.name))


def concept(code: Code) -> CodedConcept:
    """A code as highdicom's concept."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=plain_text(code.meaning))


def plain_text(name: str) -> str:
    """A text without backslashes, which separate values in DICOM strings, and without control characters."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", name.replace("\\", "/"))

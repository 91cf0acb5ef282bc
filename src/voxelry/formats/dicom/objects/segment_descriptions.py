"""Segments as DICOM describes them: codes, laterality, colours, tracking ids, and the algorithm that made them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from voxelry.base.version import __version__
from voxelry.core.labels import Code, Label
from voxelry.core.model import ModelCard
from voxelry.core.volume import LabelMap
from voxelry.formats.file_segments import LONGEST_TEXT, Segment, plain_text

PRIVATE_SCHEME = "99VOXELRY"
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


def describe(segment: Segment, algorithm: Algorithm, tracking: tuple[str, str] | None = None) -> SegmentDescription:
    """The segment as highdicom's description.

    Args:
        segment: of a label map.
        algorithm: the algorithm that made it.
        tracking: tracking id and UID; None takes those of the label, unless it is one object of several, and else its name and a
            fresh UID.
    """
    label, manual = segment.label, algorithm.kind == "manual"
    own = (None, None) if segment.instance else (label.tracking_id, label.tracking_uid)
    tracking_id, tracking_uid = tracking or (plain_text(own[0] or segment.name), own[1] or UID())
    description = SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.name,
        segmented_property_category=concept(label.category),
        segmented_property_type=concept(property_type(label)),
        algorithm_type=SegmentAlgorithmTypeValues(algorithm.kind.upper()),
        algorithm_identification=None if manual else identification(algorithm),
        tracking_uid=UID(tracking_uid),
        tracking_id=tracking_id,
    )
    if segment.note:
        description.SegmentDescription = segment.note
    description.RecommendedDisplayCIELabValue = list(label.cielab)
    if label.modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(label.modifier)]
    return description


def trackings(labels: LabelMap, segments: Sequence[Segment], where: str) -> dict[int, tuple[str, str]]:
    """Tracking id and UID of the segments of instances, by their numbers.

    An object that its file tracks keeps both (`Source.tracking`). Any other gets a UID made from the scan, its label, its id and
    its voxels: the same object written twice is the same finding, another object never is.

    Args:
        labels: the map.
        segments: those that `segments_of` gives for it.
        where: the scan: the UID of its series.
    """
    known = {instance: (id, uid) for instance, id, uid in labels.source.tracking}
    result = {}
    for segment in segments:
        if segment.instance and segment.instance in known:
            result[segment.number] = known[segment.instance]
        elif segment.instance and segment.item is not None and segment.item.box is not None:
            digest = hashlib.sha256(f"{where} {segment.instance} {segment.label.name} {segment.item.box}".encode())
            digest.update(np.packbits(segment.item.mask(labels)).tobytes())
            result[segment.number] = segment.name, str(UID.from_uuid(str(UUID(bytes=digest.digest()[:16]))))
    return result


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

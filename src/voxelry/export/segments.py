"""Labels as DICOM segment descriptions: codes, laterality, colour, who made them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from voxelry.labels import Code, Label

PRIVATE_SCHEME = "99VOXELRY"


def describe_segments(labels: Sequence[Label], algorithm_name: str, algorithm_version: str) -> list[SegmentDescription]:
    """One description a label, numbered 1..n in order.

    Args:
        labels: as a table has them.
        algorithm_name: who segmented.
        algorithm_version: which version of it.

    Returns:
        highdicom segment descriptions; each has a fresh tracking UID.
    """
    algorithm = AlgorithmIdentificationSequence(
        name=algorithm_name, family=codes.DCM.ArtificialIntelligence, version=algorithm_version
    )
    return [_description(number, label, algorithm) for number, label in enumerate(labels, start=1)]


def property_type(label: Label) -> Code:
    """The label's own type code, or a private one made from its name where no table knows it.

    The private value is the name in capitals if that fits DICOM's 16 characters, else its start and a short hash; equal names
    always give equal codes.
    """
    if label.type is not None:
        return label.type
    value = re.sub(r"[^A-Z0-9]+", "_", label.name.upper()).strip("_")
    if len(value) > 16 or not label.name.isascii() or not value:
        value = f"{value[:9]}_{hashlib.sha256(label.name.encode()).hexdigest()[:6].upper()}"
    return Code(value=value, scheme=PRIVATE_SCHEME, meaning=_text(label.name))


def _description(number: int, label: Label, algorithm: AlgorithmIdentificationSequence) -> SegmentDescription:
    description = SegmentDescription(
        segment_number=number,
        segment_label=_text(label.name),
        segmented_property_category=_concept(label.category),
        segmented_property_type=_concept(property_type(label)),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=UID(),
        tracking_id=_text(label.name),
        display_color=CIELabColor.from_rgb(*label.rgb),
    )
    if label.modifier is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(label.modifier)]
    return description


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _text(name: str) -> str:
    """A backslash separates values in DICOM strings and cannot stand in one."""
    return name.replace("\\", "/")

"""The structures of an RTSTRUCT: name, codes, colour, contours and frame of reference of each (DICOM PS3.3 C.8.8.5, .6 and .8).

A structure set describes its structures in three sequences that refer to each other by ROI number. Where a number is missing, or
two structures share one, the order of the sequences tells them apart where it is the same in both; else the structure has a
`Structure.problem`. What belongs to no structure is remarked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from voxelry.core.labels import ANATOMICAL_STRUCTURE, Label
from voxelry.formats.dicom.elements import integer_of, items_of, numbers_of, short_message, text_of
from voxelry.formats.dicom.objects.references import code_of
from voxelry.formats.label_layers import clean_name, unique_names

XOR = "CLOSEDPLANAR_XOR"
"""The type of contours that are combined by exclusive or (PS3.3 C.8.8.6.3)."""

_PLANAR = ("CLOSED_PLANAR", XOR)
_HIGHEST_VALUE = 65535

Numbers = list[int | None]


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed contour.

    Attributes:
        points: ``(points, 3)`` mm, LPS+.
        is_xor: it is of the type `XOR`.
        images: the instances that it names, each with its frame from 1, None where it names none.
    """

    points: NDArray[np.float64]
    is_xor: bool
    images: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, eq=False)
class Structure:
    """One structure.

    Attributes:
        label: its name, codes and colour; the value is its ROI number, where that is a label value.
        frame_of_reference: FrameOfReferenceUID of its coordinates, empty where it states none.
        contours: its closed contours.
        remarks: decisions on what is odd about it.
        note: the text that describes it.
        problem: why it cannot be told what it is, in words; empty for a sound one.
    """

    label: Label
    frame_of_reference: str
    contours: Sequence[Contour] = ()
    remarks: tuple[str, ...] = ()
    note: str = ""
    problem: str = ""


def structures_of(data: Dataset) -> tuple[dict[int, Structure], list[str]]:
    """The structures of a structure set in the order of the file, and remarks on it as a whole.

    Returns:
        ROI number -> structure; where numbers are missing or not distinct, they are 1..n in the order of the file.

    Raises:
        Exception: any of `elements.PARSE_ERRORS`, where the file is damaged or breaks off.
    """
    for keyword in ("StructureSetROISequence", "ROIContourSequence"):
        if keyword not in data:
            raise ValueError(f"{keyword} is missing")
    rois = items_of(data, "StructureSetROISequence")
    if not rois:
        raise ValueError("it lists no structure")
    drawings, observations = items_of(data, "ROIContourSequence"), items_of(data, "RTROIObservationsSequence")
    numbers = [integer_of(roi, "ROINumber") for roi in rois]
    of_drawings = [integer_of(item, "ReferencedROINumber") for item in drawings]
    of_observations = [integer_of(item, "ReferencedROINumber") for item in observations]
    distinct = None not in numbers and len(set(numbers)) == len(numbers)
    keys = [number for number in numbers if number is not None] if distinct else list(range(1, len(rois) + 1))
    drawn, described = _paired(numbers, of_drawings), _paired(numbers, of_observations)
    names = [clean_name(text_of(roi, "ROIName"), key) for roi, key in zip(rois, keys, strict=True)]
    structures: dict[int, Structure] = {}
    for index, (roi, key, name) in enumerate(zip(rois, keys, names, strict=True)):
        own, notes = drawn[index], described[index]
        if own is None:
            problem = f"{_shared(numbers[index], numbers, names)}, and the order of the contours does not tell which are whose"
            structures[key] = Structure(_label(key, name, [], Dataset()), "", problem=problem)
        else:
            structures[key] = _structure(
                roi, key, name, [drawings[place] for place in own], [observations[place] for place in notes or ()]
            )
    remarks = [] if distinct else [_numbering(numbers, names)]
    if any(of_drawings[place] is None for own in drawn for place in own or ()) and distinct:
        remarks.append("contours without a ROI number are told apart by the order of the file")
    remarks += _strays(_unlisted(drawings, of_drawings, numbers, drawn))
    others = _unlisted(observations, of_observations, numbers, described)
    lost = sum(bool(code_of(item, "RTROIIdentificationCodeSequence")) for _, item in others)
    remarks += [f"codes of {lost} structures that are not listed are left out"] if lost else []
    labels = unique_names({key: structure.label for key, structure in structures.items()})
    return {key: replace(structure, label=labels[key]) for key, structure in structures.items()}, remarks


def _paired(numbers: Numbers, references: Numbers) -> list[list[int] | None]:
    """The places in another sequence of the items that refer to each structure; None where its number does not tell which.

    Args:
        numbers: of the structures, None where one is missing.
        references: the number that each item of the other sequence refers to.
    """
    if len(numbers) == len(references) and all(
        own == other or (own is None and other not in numbers) or (other is None and own not in references)
        for own, other in zip(numbers, references, strict=True)
    ):
        return [[place] for place in range(len(numbers))]
    listed = [number for number in references if number in numbers]
    same_order = listed == [number for number in numbers if number in references]
    places: list[list[int] | None] = []
    for index, number in enumerate(numbers):
        matches = [place for place, other in enumerate(references) if other == number]
        if not matches or (number is not None and numbers.count(number) == 1):
            places.append(matches)
        else:
            places.append([matches[numbers[:index].count(number)]] if same_order else None)
    return places


def _shared(number: int | None, numbers: Numbers, names: Sequence[str]) -> str:
    """The names of the structures of one number, or of none."""
    owners = " and ".join(f"'{name}'" for name, own in zip(names, numbers, strict=True) if own == number)
    return f"{owners} without a ROI number" if number is None else f"ROI number {number} is that of {owners}"


def _numbering(numbers: Numbers, names: Sequence[str]) -> str:
    """A remark on numbers that are missing or not distinct."""
    odd = [number for number in dict.fromkeys(numbers) if number is None or numbers.count(number) > 1]
    return f"{'; '.join(_shared(number, numbers, names) for number in odd)}: told apart by the order of the file"


def _unlisted(
    items: Sequence[Dataset], references: Numbers, numbers: Numbers, pairs: Sequence[list[int] | None]
) -> list[tuple[int | None, Dataset]]:
    """The items of another sequence that belong to no structure, each with the number that it refers to."""
    used = {place for places in pairs for place in places or ()}
    pairs_of = enumerate(zip(references, items, strict=True))
    return [(number, item) for place, (number, item) in pairs_of if place not in used and number not in numbers]


def _strays(unlisted: Sequence[tuple[int | None, Dataset]]) -> list[str]:
    """Remarks on contours of structures that are not listed."""
    counts: Counter[int | None] = Counter()
    for number, item in unlisted:
        counts[number] += len(items_of(item, "ContourSequence"))
    return [
        f"{count} contours {'without a ROI number' if number is None else f'of ROI number {number}, which is not listed,'}"
        " are left out"
        for number, count in counts.items()
        if count
    ]


def _structure(roi: Dataset, key: int, name: str, drawings: Sequence[Dataset], observations: Sequence[Dataset]) -> Structure:
    """One structure, of its items in the three sequences."""
    observation = next((item for item in observations if code_of(item, "RTROIIdentificationCodeSequence")), None)
    observation = observation or next(iter(observations), Dataset())
    label = _label(key, name, drawings, observation)
    remarks = []
    if len(drawings) > 1:
        remarks.append(f"the contours of {len(drawings)} items are joined")
    codes = {code_of(item, "RTROIIdentificationCodeSequence") for item in observations} - {None}
    if len(codes) > 1:
        remarks.append(f"{len(codes)} observations with different codes: the first counts")
    frame = text_of(roi, "ReferencedFrameOfReferenceUID")
    items = [item for drawing in drawings for item in items_of(drawing, "ContourSequence")]
    try:
        contours, own_remarks = _contours(items)
    except ValueError as error:
        return Structure(label, frame, problem=f"structure '{name}': {short_message(error)}")
    return Structure(label, frame, contours, (*remarks, *own_remarks), text_of(roi, "ROIDescription"))


def _label(key: int, name: str, drawings: Sequence[Dataset], observation: Dataset) -> Label:
    kinds = items_of(observation, "RTROIIdentificationCodeSequence")
    colors = (numbers_of(item, "ROIDisplayColor", 3) for item in drawings)
    color = next((color for color in colors if color and all(0 <= channel <= 255 for channel in color)), None)
    return Label(
        value=key if 0 < key <= _HIGHEST_VALUE else _HIGHEST_VALUE,
        name=name,
        category=code_of(observation, "SegmentedPropertyCategoryCodeSequence") or ANATOMICAL_STRUCTURE,
        type=code_of(observation, "RTROIIdentificationCodeSequence"),
        modifier=code_of(kinds[0], "SegmentedPropertyTypeModifierCodeSequence") if kinds else None,
        color=(int(color[0]), int(color[1]), int(color[2])) if color else None,
    )


def _contours(items: Sequence[Dataset]) -> tuple[list[Contour], list[str]]:
    """The closed contours of a structure, and remarks on the others.

    Raises:
        ValueError: a contour whose coordinates are no triples of finite numbers.
    """
    contours: list[Contour] = []
    open_kinds: Counter[str] = Counter()
    empty = miscounted = 0
    for index, item in enumerate(items, start=1):
        kind = text_of(item, "ContourGeometricType")
        if kind not in _PLANAR:
            open_kinds[kind] += 1
            continue
        points = _points(item, index)
        if not len(points):
            empty += 1
            continue
        miscounted += integer_of(item, "NumberOfContourPoints") not in (None, len(points))
        contours.append(Contour(points, kind == XOR, _images(item)))
    remarks = [f"{count} contours of type {kind or 'none'} enclose nothing" for kind, count in open_kinds.items()]
    remarks += [f"{empty} contours without coordinates are left out"] if empty else []
    remarks += [f"{miscounted} contours state another number of points than they have"] if miscounted else []
    return contours, remarks


def _points(item: Dataset, number: int) -> NDArray[np.float64]:
    text = text_of(item, "ContourData")
    try:
        values = np.array(text.split("\\") if text else [], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"contour {number} has a coordinate that is no number ({error})") from error
    if values.size % 3:
        raise ValueError(f"contour {number} has {values.size} coordinates, which are no triples")
    if not np.isfinite(values).all():
        raise ValueError(f"contour {number} has a coordinate that is not finite")
    return values.reshape(-1, 3)


def _images(item: Dataset) -> tuple[tuple[str, int | None], ...]:
    images: Any = items_of(item, "ContourImageSequence")
    return tuple((text_of(image, "ReferencedSOPInstanceUID"), integer_of(image, "ReferencedFrameNumber")) for image in images)

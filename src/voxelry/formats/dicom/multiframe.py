"""Enhanced multi-frame CT, MR and PET: splits a file into planes by the functional groups of its frames.

The functional groups of a frame take precedence over the shared ones, and these over the top level of the data set (DICOM PS3.3
section C.7.6.16). Frames may be stored in any order; each states its own position.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.elements import PARSE_ERRORS, finite_numbers, integer_of, items_of, numbers_of, text_of
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.mosaic import expand_mosaic
from voxelry.formats.dicom.voi import windows_of

_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
"""The functional group of each element of a plane."""

_FACTS = {
    "EchoNumbers": ("MREchoSequence", "EchoNumbers"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "NominalPercentageOfCardiacPhase": ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "KVP": ("CTXRayDetailsSequence", "KVP"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "StackID": ("FrameContentSequence", "StackID"),
}
"""The functional group and element of each of `header.FACTS`."""

_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def expand(header: DicomHeader, data: Any) -> tuple[DicomHeader, ...]:
    """A header for each plane of a multi-frame file or mosaic.

    Args:
        header: the file's header.
        data: its elements before the pixels.

    Returns:
        The planes in their stored order; `header` alone where the file has no functional groups of its frames.

    Raises:
        CorruptFileError: the number of functional groups is not that of frames, or a mosaic contradicts itself.
    """
    if header.is_mosaic:
        return expand_mosaic(header, data)
    frames = data.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        return (header,)
    if len(frames) != header.frames:
        raise CorruptFileError(
            f"{header.path}: {header.frames} frames, but {len(frames)} items in PerFrameFunctionalGroupsSequence",
            remedy="The file is damaged: export or copy it again.",
        )
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    return tuple(_plane(header, _FunctionalGroups(frame, shared, data), number) for number, frame in enumerate(frames, 1))


def enhanced_projection(header: DicomHeader, data: Any) -> DicomHeader:
    """The header of an enhanced radiograph of one frame, whose functional groups say what its pixels are (PS3.3 C.8.19.6.4).

    Args:
        header: the file's header.
        data: its elements before the pixels.
    """
    frames, shared = (items_of(data, f"{name}FunctionalGroupsSequence") for name in ("PerFrame", "Shared"))
    groups = _FunctionalGroups(frames[0] if frames else None, shared[0] if shared else None, data)
    item = groups.item("FramePixelDataPropertiesSequence")
    if item is None:
        return header
    sign = integer_of(item, "PixelIntensityRelationshipSign")
    return replace(
        header,
        intensity_relationship=text_of(item, "PixelIntensityRelationship").upper() or header.intensity_relationship,
        intensity_sign=header.intensity_sign if sign is None else sign,
        imager_spacing=numbers_of(item, "ImagerPixelSpacing", 2) or header.imager_spacing,
    )


class _FunctionalGroups:
    """The elements of one frame: from its own functional groups, else from the shared ones, else from the data set.

    Args:
        frame: the frame's item of the PerFrameFunctionalGroupsSequence.
        shared: the item of the SharedFunctionalGroupsSequence, or None.
        data: the data set.
    """

    def __init__(self, frame: Any, shared: Any, data: Any) -> None:
        self._frame, self._shared, self._data = frame, shared, data

    def item(self, sequence: str) -> Any:
        """The first item of a functional group, or None."""
        for groups in (self._frame, self._shared):
            items = None if groups is None else groups.get(sequence)
            if items:
                return items[0]
        return None

    def text(self, sequence: str, keyword: str) -> str:
        """An element of a functional group as text, empty where there is none."""
        item = self.item(sequence)
        return "" if item is None else text_of(item, keyword)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """`count` finite numbers of an element of `_GROUPS`, from the data set where no group has it."""
        for text in (self.text(_GROUPS[keyword], keyword), text_of(self._data, keyword)):
            values = finite_numbers(text, count)
            if values is not None:
                return values
        return None

    def number(self, keyword: str) -> float | None:
        """One finite number of an element of `_GROUPS`."""
        values = self.numbers(keyword, 1)
        return None if values is None else values[0]

    def number_or_nan(self, keyword: str) -> float | None:
        """One number that all grey values depend on: None where it is missing, NaN where it is unreadable."""
        value = self.number(keyword)
        return float("nan") if value is None and self.text(_GROUPS[keyword], keyword) else value


def _plane(header: DicomHeader, groups: _FunctionalGroups, number: int) -> DicomHeader:
    slope, intercept = groups.number_or_nan("RescaleSlope"), groups.number_or_nan("RescaleIntercept")
    window = groups.item("FrameVOILUTSequence")
    return replace(
        header,
        frame=number,
        instance_number=f"{header.instance_number or 0}.{number:06d}",
        position=groups.numbers("ImagePositionPatient", 3),
        orientation=groups.numbers("ImageOrientationPatient", 6),
        pixel_spacing=groups.numbers("PixelSpacing", 2),
        slice_thickness=groups.number("SliceThickness"),
        spacing_between=groups.number("SpacingBetweenSlices"),
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        facts=_facts(header, groups),
        image_type=_frame_type(groups) or header.image_type,
        windows=header.windows if window is None else windows_of(window),
    )


def _facts(header: DicomHeader, groups: _FunctionalGroups) -> tuple[tuple[str, str], ...]:
    """The file's facts, replaced by those that the frame states."""
    values = {name: groups.text(*where) for name, where in _FACTS.items()}
    values["ImageType"] = "\\".join(_frame_type(groups))
    gradient = _gradient(groups)
    if gradient:
        values["DiffusionGradientOrientation"] = gradient
    return tuple((name, values.get(name) or value) for name, value in header.facts)


def _gradient(groups: _FunctionalGroups) -> str:
    diffusion = groups.item("MRDiffusionSequence")
    try:
        return text_of(diffusion.DiffusionGradientDirectionSequence[0], "DiffusionGradientOrientation")
    except PARSE_ERRORS:
        return ""


def _frame_type(groups: _FunctionalGroups) -> tuple[str, ...]:
    for sequence in _FRAME_TYPES:
        text = groups.text(sequence, "FrameType")
        if text:
            return tuple(value.strip().upper() for value in text.split("\\"))
    return ()

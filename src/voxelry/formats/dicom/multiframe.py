"""Multi-frame files as planes: enhanced CT, MR and PET (functional groups of each frame) and Siemens mosaics.

What a functional group states for one frame goes before what is shared by all, and that before the top of the data set
(DICOM PS3.3 section C.7.6.16). Frames may stand in any order; where each lies is in its own position.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from voxelry.errors import CorruptFileError
from voxelry.formats.dicom.elements import PARSE_ERRORS, finite_numbers, text_of
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
"""In which functional group an element of the plane stands."""

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
"""Where the functional groups hold what a single-frame file states as a fact."""

_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def expand(header: DicomHeader, data: Any) -> tuple[DicomHeader, ...]:
    """A header for each plane of a multi-frame file or mosaic.

    Args:
        header: of the file.
        data: its elements up to the pixels.

    Returns:
        The planes in the order they are stored; `header` alone where the file states no position for its frames.

    Raises:
        CorruptFileError: fewer or more functional groups than frames, or a mosaic that contradicts itself.
    """
    if "MOSAIC" in header.image_type and header.frames == 1:
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
    return tuple(_plane(header, _Groups(own, shared, data), number) for number, own in enumerate(frames, 1))


class _Groups:
    """The functional groups of one frame, before those of all, before the data set.

    Args:
        own: item of the frame.
        shared: item of all frames, or None.
        data: the data set.
    """

    def __init__(self, own: Any, shared: Any, data: Any) -> None:
        self._own, self._shared, self._data = own, shared, data

    def item(self, sequence: str) -> Any:
        """The first item of a functional group, or None."""
        for group in (self._own, self._shared):
            found = None if group is None else group.get(sequence)
            if found:
                return found[0]
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
        """One such number."""
        values = self.numbers(keyword, 1)
        return None if values is None else values[0]

    def stated(self, keyword: str) -> float | None:
        """One such number, on which all grey values rest: NaN where it cannot be understood."""
        value = self.number(keyword)
        return float("nan") if value is None and self.text(_GROUPS[keyword], keyword) else value


def _plane(header: DicomHeader, groups: _Groups, number: int) -> DicomHeader:
    slope, intercept = groups.stated("RescaleSlope"), groups.stated("RescaleIntercept")
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


def _facts(header: DicomHeader, groups: _Groups) -> tuple[tuple[str, str], ...]:
    """The file's facts with those that the frame states in their place."""
    own = {name: groups.text(*where) for name, where in _FACTS.items()}
    own["ImageType"] = "\\".join(_frame_type(groups))
    gradient = _gradient(groups)
    if gradient:
        own["DiffusionGradientOrientation"] = gradient
    return tuple((name, own.get(name) or value) for name, value in header.facts)


def _gradient(groups: _Groups) -> str:
    diffusion = groups.item("MRDiffusionSequence")
    try:
        return text_of(diffusion.DiffusionGradientDirectionSequence[0], "DiffusionGradientOrientation")
    except PARSE_ERRORS:
        return ""


def _frame_type(groups: _Groups) -> tuple[str, ...]:
    for sequence in _FRAME_TYPES:
        text = groups.text(sequence, "FrameType")
        if text:
            return tuple(part.strip().upper() for part in text.split("\\"))
    return ()

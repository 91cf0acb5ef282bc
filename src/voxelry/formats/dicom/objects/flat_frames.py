"""Frames of a multi-frame image as if each were a single-frame image, and how segmentation objects refer to them.

highdicom copies positions and references from single-frame images, or from one multi-frame image whose frames are in slice
order and all wanted. Enhanced files often are neither: several stacks in one file, frames in any order, orientation kept per
frame. So it is given single-frame stand-ins, and the references are then set to what the slices truly are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, generate_uid

if TYPE_CHECKING:
    from voxelry.formats.dicom.objects.source_series import Reference, SourceSeries

_MACROS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
}
"""Functional groups (PS3.3 C.7.6.16.2) and what a single-frame image keeps of them at its top."""
_OF_MANY = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "DimensionIndexSequence",
    "DimensionOrganizationSequence",
)  # fmt: skip
_SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")


def is_divided(header: Dataset) -> bool:
    """Frames of the file are numbered: it has several, or keeps its positions in functional groups."""
    return int(header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header


def flat_frame(header: Dataset, frame: int) -> Dataset:
    """One frame's header as a single-frame image would have it.

    Args:
        header: of a multi-frame image.
        frame: its number, from 1.

    Returns:
        A data set of its own whose values are shared; without a position where the file keeps none for its frames.
    """
    flat = Dataset()
    flat.update({element.tag: element for element in header if element.keyword not in _OF_MANY})
    groups = [
        *header.get("SharedFunctionalGroupsSequence", []),
        *header.get("PerFrameFunctionalGroupsSequence", [])[frame - 1 : frame],
    ]
    for group in groups:
        for macro, keywords in _MACROS.items():
            for item in group.get(macro, []):
                for keyword in keywords:
                    if keyword in item:
                        flat[keyword] = item[keyword]
    return flat


def copy_of(header: Dataset) -> Dataset:
    """A data set of its own that shares the values; change it with `put` only."""
    copy = Dataset()
    copy.update(dict(header.items()))
    return copy


def put(header: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute of one header, and not of those that share its elements (pydicom would change the element)."""
    header.pop(keyword, None)
    setattr(header, keyword, value)


def stand_ins(series: SourceSeries, *, flat: bool) -> list[Dataset]:
    """The slices' headers as single-frame instances, each with a SOPInstanceUID of its own.

    Args:
        series: of any kind.
        flat: a projection, without a place in the patient.
    """
    if series.is_classic:
        return list(series.headers)
    copies = []
    for header in series.headers:
        copy = copy_of(header)
        put(copy, "SOPClassUID", DigitalXRayImageStorageForPresentation if flat else CTImageStorage)
        put(copy, "SOPInstanceUID", generate_uid())
        copies.append(copy)
    return copies


def refer(seg: Dataset, series: SourceSeries, stood_in: Sequence[Dataset]) -> None:
    """Set a segmentation's references from stand-ins to the instances and frames they stood in for.

    A frame on a slice that was never stored keeps its place and names no source image.

    Args:
        seg: made from `stood_in`; changed in place.
        series: what the stand-ins were made of.
        stood_in: what `stand_ins` returned.
    """
    if series.is_classic:
        return
    true = {str(header.SOPInstanceUID): reference for header, reference in zip(stood_in, series.references, strict=True)}
    seg.SourceImageSequence = [_item(reference) for reference in series.instances]
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_item(reference) for reference in series.instances]
    for group in seg.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            images = [true[str(image.ReferencedSOPInstanceUID)] for image in derivation.SourceImageSequence]
            derivation.SourceImageSequence = [_source_image(reference) for reference in images if reference is not None]
        group.DerivationImageSequence = [kept for kept in group.DerivationImageSequence if kept.SourceImageSequence]


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class, reference.sop_instance
    return item


def _source_image(reference: Reference) -> Dataset:
    item = _item(reference)
    if reference.frame is not None:
        item.ReferencedFrameNumber = reference.frame
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = _SOURCE_IMAGE
    item.PurposeOfReferenceCodeSequence, item.SpatialLocationsPreserved = [purpose], "YES"
    return item

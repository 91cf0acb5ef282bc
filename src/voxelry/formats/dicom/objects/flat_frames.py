"""Frames of multi-frame images as single-frame headers, which highdicom takes, and the references of a SEG to the real frames.

highdicom copies positions and references from single-frame images, or from one multi-frame image all of whose frames are used, in
slice order. Enhanced files often are neither: several stacks in one file, frames in any order, an orientation for each frame. So
highdicom is given a single-frame header for each slice, and the references are then replaced by those to the real instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, generate_uid
from pydicom.valuerep import DS

from voxelry.core.geometry import Geometry
from voxelry.formats.dicom.elements import number_of
from voxelry.formats.dicom.objects.references import InstanceReference, SourceSeries, reference_item, source_image_item

_MACROS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
}
"""Functional groups (PS3.3 C.7.6.16.2) and those of their attributes that a single-frame image has at its top level."""
_NO_THICKNESS = 1
"""Millimetres: SliceThickness of a projection, which has none; highdicom does not open a segmentation without."""
_MULTI_FRAME = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "DimensionIndexSequence",
    "DimensionOrganizationSequence",
)  # fmt: skip


def is_divided(header: Dataset) -> bool:
    """Whether references to the file name frames: it has several, or positions in functional groups."""
    return (number_of(header, "NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header


def flat_frame(header: Dataset, frame: int) -> Dataset:
    """The header of one frame as that of a single-frame image.

    Args:
        header: header of a multi-frame image.
        frame: its number, from 1.

    Returns:
        A new data set that shares the values; without a position where the file has none for its frames.
    """
    flat = Dataset()
    flat.update({element.tag: element for element in header if element.keyword not in _MULTI_FRAME})
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


def shallow_copy(header: Dataset) -> Dataset:
    """A new data set that shares the elements; change it with `set_attribute` only."""
    copy = Dataset()
    copy.update(dict(header.items()))
    return copy


def set_attribute(header: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute of one header, without changing headers that share the element (pydicom would change it in place)."""
    header.pop(keyword, None)
    setattr(header, keyword, value)


def single_frame_headers(series: SourceSeries, geometry: Geometry) -> list[Dataset]:
    """The headers of all slices as single-frame instances, each with a SOPInstanceUID of its own.

    That of a projection states the pixel size of its grid, or none: what the file has may be that of the detector, or zero.

    Args:
        series: classic, multi-frame or with interpolated slices.
        geometry: its grid.
    """
    flat = geometry.ndim == 2
    if series.is_classic and not flat:
        return list(series.headers)
    copies = []
    for header in series.headers:
        copy = shallow_copy(header)
        if not series.is_classic:
            set_attribute(copy, "SOPClassUID", DigitalXRayImageStorageForPresentation if flat else CTImageStorage)
            set_attribute(copy, "SOPInstanceUID", generate_uid())
        if flat:
            _set_pixel_size(copy, geometry.pixel_size)
        copies.append(copy)
    return copies


def _set_pixel_size(header: Dataset, size: tuple[float, float] | None) -> None:
    for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        header.pop(keyword, None)
    if size is not None:
        header.PixelSpacing, header.SliceThickness = [DS(value, auto_format=True) for value in size], _NO_THICKNESS


def restore_references(seg: Dataset, series: SourceSeries, headers: Sequence[Dataset]) -> None:
    """Replace a segmentation's references to single-frame headers by those to the real instances and frames.

    A frame on a slice that was never stored keeps its position and names no source image.

    Args:
        seg: written with `headers`; changed in place.
        series: the scan.
        headers: the result of `single_frame_headers`.
    """
    if series.is_classic:
        return
    true = {str(header.SOPInstanceUID): reference for header, reference in zip(headers, series.references, strict=True)}
    seg.SourceImageSequence = [reference_item(reference) for reference in series.instances]
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [reference_item(reference) for reference in series.instances]
    for group in seg.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            images = [true[str(image.ReferencedSOPInstanceUID)] for image in derivation.SourceImageSequence]
            derivation.SourceImageSequence = [_source_image(reference) for reference in images if reference is not None]
        group.DerivationImageSequence = [item for item in group.DerivationImageSequence if item.SourceImageSequence]


def _source_image(reference: InstanceReference) -> Dataset:
    item = source_image_item(reference)
    item.SpatialLocationsPreserved = "YES"
    return item

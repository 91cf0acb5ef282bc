"""References to the instances and frames of a scan, and the sequence items that DICOM objects state them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from pydicom import Dataset

from voxelry.core.labels import Code
from voxelry.formats.dicom.elements import items_of, text_of

_SOURCE_IMAGE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")


class InstanceReference(NamedTuple):
    """The image that a slice was read from: UIDs of class and instance, and the frame from 1, None for a single-frame image."""

    sop_class: str
    sop_instance: str
    frame: int | None


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A scan's DICOM series, slice by slice.

    Attributes:
        headers: one data set for each slice with the attributes of a single-frame image, in slice order, pixels left out.
        references: the image that holds each slice unchanged; None for a slice that was interpolated or cut out of a mosaic.
        instances: every instance of the scan, once.
    """

    headers: tuple[Dataset, ...]
    references: tuple[InstanceReference | None, ...]
    instances: tuple[InstanceReference, ...]

    @property
    def is_classic(self) -> bool:
        """Every slice is a file of its own."""
        return all(reference is not None and reference.frame is None for reference in self.references)


def reference_item(reference: InstanceReference) -> Dataset:
    """An item that refers to an instance, or to one frame of it."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.sop_class, reference.sop_instance
    if reference.frame is not None:
        item.ReferencedFrameNumber = reference.frame
    return item


def source_image_item(reference: InstanceReference) -> Dataset:
    """An item of a Source Image Sequence: the reference, and that the object was derived from it."""
    item = reference_item(reference)
    item.PurposeOfReferenceCodeSequence = [code_item(_SOURCE_IMAGE)]
    return item


def series_item(series: SourceSeries) -> Dataset:
    """The scan's series with every instance, as an item of the Common Instance Reference module (PS3.3 section C.12.2)."""
    item = Dataset()
    item.SeriesInstanceUID = series.headers[0].SeriesInstanceUID
    item.ReferencedInstanceSequence = [reference_item(instance) for instance in series.instances]
    return item


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence (PS3.3 section 8.8); a value of more than 16 characters is a long code value."""
    item = Dataset()
    if len(code.value) <= 16:
        item.CodeValue = code.value
    else:
        item.LongCodeValue = code.value
    item.CodingSchemeDesignator, item.CodeMeaning = code.scheme, without_backslash(code.meaning)
    return item


def code_of(item: Any, keyword: str) -> Code | None:
    """The first code of a code sequence, None where the sequence is missing or empty, or the code has no value.

    Args:
        item: the data set that holds the sequence.
        keyword: of the sequence.
    """
    for code in items_of(item, keyword)[:1]:
        value = next(filter(None, (text_of(code, kind) for kind in ("CodeValue", "LongCodeValue", "URNCodeValue"))), "")
        if value:
            return Code(value=value, scheme=text_of(code, "CodingSchemeDesignator"), meaning=text_of(code, "CodeMeaning")[:64])
    return None


def without_backslash(text: str) -> str:
    """A text as a DICOM string can hold it: a backslash would separate values."""
    return text.replace("\\", "/")

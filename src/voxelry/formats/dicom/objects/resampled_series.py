"""Writes a scan that was resampled on reading as a derived DICOM series, so that a SEG has slices to refer to.

Viewers that take a stack for straight cannot show a segmentation on the slices of a tilted series. So the upright volume becomes
a derived series (PS3.3 C.7.6.1.1.2 and C.7.6.1.1.3): same patient, study and frame of reference, new series and instances, the
original ones as the source. UIDs depend on the content alone: the same resampling gives the same series, so that several objects
may refer to it.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from voxelry.base.files import atomic_folder
from voxelry.core.labels import Code
from voxelry.core.volume import Volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.elements import text_of
from voxelry.formats.dicom.objects.derived_object import save_object, series_number
from voxelry.formats.dicom.objects.flat_frames import set_attribute, shallow_copy
from voxelry.formats.dicom.objects.references import code_item, source_image_item
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.multi_file import fresh_folder

_SERIES_OFFSET = 4000
_SINGLE_FRAME = MappingProxyType(
    {
        EnhancedCTImageStorage: CTImageStorage,
        EnhancedMRImageStorage: MRImageStorage,
        EnhancedPETImageStorage: PositronEmissionTomographyImageStorage,
    }
)
_STALE = (
    "SliceLocation", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "ModalityLUTSequence", "IconImageSequence", "NumberOfFrames", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "ReferencedImageSequence", "DigitalSignaturesSequence",
)  # fmt: skip
"""Attributes of the original slices that do not hold for resampled ones."""
_RESAMPLING = Code(value="113085", scheme="DCM", meaning="Spatial resampling")


def write_resampled(source: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a resampled scan as a series of single-frame images, one for each slice.

    Args:
        source: as read from DICOM with a repair; one channel.
        path: a folder; one that this function wrote is replaced.

    Returns:
        The folder.

    Raises:
        ExportError: the source is not DICOM, has several channels, or the folder holds other files.
    """
    if source.channels != 1 or source.geometry.ndim != 3:
        raise ExportError(f"{path}: a series of {source.channels} channels is not written", remedy="Write RTSTRUCT.")
    series = source_series(source, path)
    sources = [source_image_item(instance) for instance in series.instances]
    stored, slope, intercept = _stored(source.array[0])
    digest = sha256(np.ascontiguousarray(stored).data).hexdigest()
    uid = generate_uid(entropy_srcs=["resampled", source.source.series_uid, repr(source.geometry.affine), digest])
    folder = fresh_folder(Path(path))
    with atomic_folder(folder) as temporary:
        for k, header in enumerate(series.headers):
            image = _slice(shallow_copy(header), source, uid, k)
            image.SourceImageSequence = sources
            set_attribute(image, "RescaleSlope", f"{slope:.10g}")
            set_attribute(image, "RescaleIntercept", f"{intercept:.10g}")
            image.PixelData = np.ascontiguousarray(stored[:, :, k].T, dtype="<i2").tobytes()
            image["PixelData"].VR = "OW"
            save_object(image, temporary / f"{k + 1:04d}.dcm")
    return folder


def _stored(array: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Values as int16 with their slope and intercept: unchanged where they are int16, else in 65535 steps."""
    if array.dtype == np.int16:
        return array, 1.0, 0.0
    low, high = float(array.min()), float(array.max())
    slope = float(f"{(high - low) / 65535:.9g}") or 1.0
    intercept = float(f"{low + 32768 * slope:.9g}")
    return np.clip(np.rint((array - intercept) / slope), -32768, 32767).astype(np.int16), slope, intercept


def _slice(image: Dataset, source: Volume, series: str, k: int) -> Dataset:
    """The header of one slice, without pixels."""
    for element in [e for e in image if e.tag.is_private or e.tag.group // 256 == 0x60 or e.keyword in _STALE]:
        del image[element.tag]
    sop_class = _SINGLE_FRAME.get(image.SOPClassUID, image.SOPClassUID)
    changes = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": generate_uid(entropy_srcs=[series, str(k)]),
        "SeriesInstanceUID": series,
        "InstanceNumber": k + 1,
        "SeriesNumber": series_number(image, _SERIES_OFFSET),
        "SeriesDescription": "Resampled onto an upright grid",
        "ImageType": ["DERIVED", "SECONDARY", *(text_of(image, "ImageType") or "\\\\AXIAL").split("\\")[2:]],
        "DerivationDescription": "Resampled by software for research",
        "DerivationCodeSequence": [code_item(_RESAMPLING)],
        "Columns": source.geometry.shape[0],
        "Rows": source.geometry.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    if "GantryDetectorTilt" in image:
        changes["GantryDetectorTilt"] = "0"
    for keyword, value in changes.items():
        set_attribute(image, keyword, value)
    return image

"""A scan that was resampled on reading, written as a DICOM series of its own, for objects that must lie on slices that exist.

A segmentation of a tilted series cannot be shown on the tilted slices by viewers that take a stack for straight. So the upright
volume becomes a derived series (PS3.3 C.7.6.1.1.2 and C.7.6.1.1.3): same patient, study and frame of reference, new series and
instances, the original ones named as the source. UIDs depend on what is written alone: the same resampling makes the same series,
so that several objects may refer to it.
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
from voxelry.formats.dicom.objects.derived import code_item, referring, save_object, series_number
from voxelry.formats.dicom.objects.flat_frames import copy_of, put
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.multi_file import fresh_folder

_SERIES_OFFSET = 4000
_SINGLE = MappingProxyType(
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
"""Attributes of the original slices that are not true of resampled ones."""
_RESAMPLING = Code(value="113085", scheme="DCM", meaning="Spatial resampling")
_DERIVED_FROM = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")


def write_resampled(source: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a resampled scan as a series of single-frame images, one a slice.

    Args:
        source: as read from DICOM with a repair; one channel.
        path: a folder; an earlier one of ours is replaced.

    Returns:
        The folder.

    Raises:
        ExportError: the source is not DICOM, has several channels, or the folder holds other files.
    """
    if source.channels != 1 or source.geometry.ndim != 3:
        raise ExportError(f"{path}: a series of {source.channels} channels is not written", remedy="Write RTSTRUCT.")
    series = source_series(source, path)
    images = [referring(one) for one in series.instances]
    for image in images:
        image.PurposeOfReferenceCodeSequence = [code_item(_DERIVED_FROM)]
    stored, slope, intercept = _stored(source.array[0])
    digest = sha256(np.ascontiguousarray(stored).data).hexdigest()
    uid = generate_uid(entropy_srcs=["resampled", source.source.series_uid, repr(source.geometry.affine), digest])
    folder = fresh_folder(Path(path))
    with atomic_folder(folder) as temporary:
        for k, header in enumerate(series.headers):
            made = _slice(copy_of(header), source, uid, k)
            made.SourceImageSequence = images
            put(made, "RescaleSlope", f"{slope:.10g}")
            put(made, "RescaleIntercept", f"{intercept:.10g}")
            made.PixelData = np.ascontiguousarray(stored[:, :, k].T, dtype="<i2").tobytes()
            made["PixelData"].VR = "OW"
            save_object(made, temporary / f"{k + 1:04d}.dcm")
    return folder


def _stored(array: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Values as int16 with their slope and intercept: as they are where they fit, else in 65535 steps."""
    if array.dtype == np.int16:
        return array, 1.0, 0.0
    low, high = float(array.min()), float(array.max())
    slope = float(f"{(high - low) / 65535:.9g}") or 1.0
    intercept = float(f"{low + 32768 * slope:.9g}")
    return np.clip(np.rint((array - intercept) / slope), -32768, 32767).astype(np.int16), slope, intercept


def _slice(made: Dataset, source: Volume, series: str, k: int) -> Dataset:
    """The header of one slice, without pixels."""
    for element in [one for one in made if one.tag.is_private or one.tag.group // 256 == 0x60 or one.keyword in _STALE]:
        del made[element.tag]
    kind = _SINGLE.get(made.SOPClassUID, made.SOPClassUID)
    changes = {
        "SOPClassUID": kind,
        "SOPInstanceUID": generate_uid(entropy_srcs=[series, str(k)]),
        "SeriesInstanceUID": series,
        "InstanceNumber": k + 1,
        "SeriesNumber": series_number(made, _SERIES_OFFSET),
        "SeriesDescription": "Resampled onto an upright grid",
        "ImageType": ["DERIVED", "SECONDARY", *list(made.get("ImageType") or ["", "", "AXIAL"])[2:]],
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
    if "GantryDetectorTilt" in made:
        changes["GantryDetectorTilt"] = "0"
    for keyword, value in changes.items():
        put(made, keyword, value)
    return made

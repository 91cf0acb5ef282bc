"""DICOM Segmentation objects (PS3.3 A.51), BINARY, on the instances of the series that was segmented.

Every label of the table is described, present or not, so that an archive can tell "looked for and not there" from "not
looked for"; frames without a voxel of their segment are left out, as the standard allows and viewers expect.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import UID
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.seg import Segmentation, SegmentationTypeValues
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from voxelry._version import __version__
from voxelry.errors import ExportError
from voxelry.export.segments import PRIVATE_SCHEME, describe_segments
from voxelry.export.series import source_headers
from voxelry.files import atomic_path
from voxelry.labels import LabelTable
from voxelry.volume import LabelMap, Volume

_UTF8 = "ISO_IR 192"
_SERIES_OFFSET = 1000
_LONGEST_LO = 64
_LARGEST_IS = 2**31 - 1


def write_dicom_seg(
    labels: LabelMap,
    source: Volume,
    path: str | os.PathLike[str],
    *,
    algorithm_name: str = "voxelry",
    algorithm_version: str = __version__,
    series_description: str = "Segmentation",
) -> Path:
    """Write labels as a BINARY DICOM SEG that refers to the scan they were made on.

    Segments are numbered 1..n in the order of the table. Voxels of the table's ignore value belong to no segment. The series
    and the instance get fresh UIDs; patient, study and frame of reference are the scan's.

    Args:
        labels: one layer, on the scan's grid (axes may be flipped or permuted; they are re-indexed).
        source: the scan as read from DICOM: ``(column, row, slice)``, or ``(rows, cols)`` for a projection.
        path: the file; replaced if it exists.
        algorithm_name: what made the labels, at most 64 characters.
        algorithm_version: its version, at most 64 characters.
        series_description: what viewers list the series as, at most 64 characters.

    Returns:
        The path.

    Raises:
        ExportError: the source is not DICOM or not as read, its grid is sheared, labels overlap, or the table is empty.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know.
    """
    _check_request(labels, source, path)
    for text in (algorithm_name, algorithm_version, series_description):
        _check_text(text, path)
    aligned = labels.on_grid(source.geometry)
    headers = source_headers(source, path)
    numbers = _segment_numbers(aligned, path)
    frames = numbers if numbers.ndim == 2 else np.ascontiguousarray(numbers.T)
    seg = _segmentation(headers, frames, labels.table, path, algorithm_name, algorithm_version)
    seg.SeriesDescription = series_description
    if source.geometry.ndim == 2:
        seg.PatientOrientation = headers[0].get("PatientOrientation")
    with atomic_path(path) as temporary:
        seg.save_as(temporary)
    return Path(path)


def _check_request(labels: LabelMap, source: Volume, path: str | os.PathLike[str]) -> None:
    if len(labels.layers) != 1:
        raise ExportError(
            f"{path}: labels overlap and lie on {len(labels.layers)} layers, which is not supported yet",
            remedy="Write each layer to a file of its own.",
        )
    if not len(labels.table):
        raise ExportError(f"{path}: the label table is empty, and a DICOM SEG needs a segment", remedy="Name the labels.")
    if not source.geometry.is_orthogonal:
        raise ExportError(
            f"{path}: the scan's slices are sheared (gantry tilt), and readers of a DICOM SEG take its slices for a straight "
            "stack: they would misplace it or refuse it",
            remedy="Resample scan and labels onto an orthogonal grid first, or write NIfTI.",
        )


def _check_text(text: str, path: str | os.PathLike[str]) -> None:
    if not 0 < len(text) <= _LONGEST_LO or "\\" in text:
        raise ExportError(f"{path}: {text!r} cannot be a DICOM text", remedy="Use 1 to 64 characters, without a backslash.")


def _segment_numbers(labels: LabelMap, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Stored values -> segment numbers, in the smallest unsigned type."""
    table = labels.table
    values = labels.array
    present = np.flatnonzero(np.bincount(values.ravel())) if _is_small(values) else np.unique(values)
    table.check_values(present.tolist(), str(path))
    number = {label.value: i + 1 for i, label in enumerate(table.labels)}
    result = np.zeros(values.shape, dtype=np.uint8 if len(table) < 256 else np.uint16)
    low = int(present.min())
    lookup = np.zeros(int(present.max()) - low + 1, dtype=result.dtype)
    for value in present.tolist():
        lookup[value - low] = number.get(value, 0)
    np.take(lookup, values if low == 0 else values.astype(np.int64) - low, out=result)
    return result


def _is_small(values: NDArray[Any]) -> bool:
    """Whether a histogram is cheaper than sorting."""
    return values.dtype.kind == "u" and values.dtype.itemsize <= 2


def _segmentation(
    headers: Sequence[Dataset],
    frames: NDArray[Any],
    table: LabelTable,
    path: str | os.PathLike[str],
    algorithm_name: str,
    algorithm_version: str,
) -> Segmentation:
    """Build the data set with highdicom; what it refuses becomes an `ExportError` without the values it saw."""
    descriptions = describe_segments(table.labels, algorithm_name, algorithm_version)
    private = [CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="voxelry labels that no published table knows")]
    is_private = any(d.segmented_property_type.scheme_designator == PRIVATE_SCHEME for d in descriptions)
    number = int(headers[0].get("SeriesNumber") or 0) + _SERIES_OFFSET
    try:
        with warnings.catch_warnings():
            # Copied patient and study attributes may break their rules; the warnings would print their values.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|highdicom)\.")
            return Segmentation(
                source_images=headers,
                pixel_array=frames,
                segmentation_type=SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=UID(),
                series_number=number if 0 < number <= _LARGEST_IS else _SERIES_OFFSET,
                sop_instance_uid=UID(),
                instance_number=1,
                manufacturer="voxelry",
                manufacturer_model_name="voxelry",
                software_versions=__version__,
                device_serial_number="none",
                content_label="SEGMENTATION",
                content_description="Made by software for research, not reviewed",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=True,
                specific_character_set=_UTF8,
                coding_schemes=private if is_private else None,
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ExportError(
            f"{path}: the headers of the source series do not allow a DICOM SEG ({type(error).__name__} in highdicom)",
            remedy="Write NIfTI, or repair the series.",
        ) from error

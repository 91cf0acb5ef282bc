"""The DICOM instances an exported object refers to: their headers, checked against the grid the labels lie on.

A wrong order of slices would be accepted silently by everything downstream, so order, orientation and place of every
instance are compared with the source's geometry here. Messages carry paths and UIDs, never what identifies a patient.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from voxelry.errors import ExportError
from voxelry.geometry import Geometry, flip_lps_ras
from voxelry.volume import Volume

log = logging.getLogger(__name__)

_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
_DATES_AND_TIMES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
_MISPLACED_VOXELS = 0.5
"""An instance may lie this far, in voxels, from where the grid has it: order and flips are judged here, not regularity."""


def source_headers(source: Volume, path: str | os.PathLike[str]) -> list[Dataset]:
    """The headers of a volume's DICOM instances, one a slice, in slice order, ready to be referenced.

    What PS3.3 allows to be empty is filled in as empty where the files lack it or hold no valid date; the in-plane
    orientation is the first instance's for all (files may differ by rounding), and the slice distance is the grid's. A series
    whose FrameOfReferenceUID was stripped gets one made from its SeriesInstanceUID, always the same, and a warning is logged.

    Args:
        source: a volume as read from DICOM, with ``source.files`` and ``source.instances`` in slice order.
        path: the file being written, for messages.

    Returns:
        One data set a slice, pixels left out.

    Raises:
        ExportError: the source is not DICOM, was re-oriented after reading, holds slices that no instance holds, or its files
            are gone, changed, or lie elsewhere than its grid says.
    """
    _check_source(source, path)
    files = source.source.files
    headers = [_header(file) for file in files]
    _check_identity(headers, source, path)
    _check_place(headers, files, source.geometry)
    _complete_study(headers[0])
    if source.geometry.ndim == 3 and not headers[0].get("FrameOfReferenceUID"):
        _invent_frame_of_reference(headers, path)
    for header in headers:
        _complete_image(header, headers[0], source.geometry)
    return headers


def _check_source(source: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse a source without one instance, in one file, a slice."""
    origin = source.source
    if origin.kind != "dicom" or not origin.files:
        raise ExportError(
            f"{path}: the scan {origin.name} was read as {origin.kind}, and a DICOM SEG must refer to DICOM instances",
            remedy="Give the DICOM series as the source, or write NIfTI.",
        )
    slices = 1 if source.geometry.ndim == 2 else source.geometry.shape[2]
    if len(origin.instances) != slices or None in origin.instances:
        known = sum(instance is not None for instance in origin.instances)
        raise ExportError(
            f"{path}: {known} of the scan's {slices} slices name the instance they came from ({origin.name})",
            remedy="Give the volume as it was read, not re-oriented or resampled.",
        )
    if len(origin.files) != slices:
        raise ExportError(
            f"{path}: {slices} slices lie in {len(origin.files)} files ({origin.name}); one slice a file is supported",
            remedy="Write NIfTI.",
        )


def _check_identity(headers: Sequence[Dataset], source: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse files that are not the instances that were read, or not of one series."""
    for file, header, instance in zip(source.source.files, headers, source.source.instances, strict=True):
        if instance is not None and header.SOPInstanceUID != instance[0]:
            raise ExportError(f"{file}: holds another instance than the scan was read from", remedy="Read the scan again.")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        different = len({header.get(keyword) or "" for header in headers})
        if different > 1:
            raise ExportError(
                f"{path}: the files of {source.source.name} hold {different} different values of {keyword}, a series has one",
                remedy="Export the series from the archive again, or write NIfTI.",
            )


def _header(file: str) -> Dataset:
    try:
        header = dcmread(file, stop_before_pixels=True)
    except FileNotFoundError as error:
        raise ExportError(f"{file}: the scan's file is gone", remedy="Put it back, or read the scan again.") from error
    except InvalidDicomError as error:
        raise ExportError(f"{file}: is not a DICOM file any more", remedy="Read the scan again.") from error
    lacking = [keyword for keyword in _REQUIRED if not header.get(keyword)]
    if lacking:
        raise ExportError(f"{file}: has no {', '.join(lacking)}, which a DICOM SEG must copy", remedy="Write NIfTI.")
    return header


def _check_place(headers: Sequence[Dataset], files: Sequence[str], geometry: Geometry) -> None:
    """Refuse instances whose corners are not where the grid has them."""
    columns, rows = geometry.shape[1::-1] if geometry.ndim == 2 else geometry.shape[:2]
    for k, (file, header) in enumerate(zip(files, headers, strict=True)):
        if (header.Rows, header.Columns) != (rows, columns):
            raise ExportError(
                f"{file}: has {header.Rows} rows and {header.Columns} columns, the grid {rows} and {columns}",
                remedy="Give the volume as it was read: column, row, slice.",
            )
        if geometry.ndim == 2:
            continue
        if not all(header.get(word) for word in ("ImagePositionPatient", "ImageOrientationPatient")):
            raise ExportError(f"{file}: does not say where it lies in the patient", remedy="Write NIfTI.")
        corners = np.array([(0, 0), (columns - 1, 0), (0, rows - 1)], dtype=np.float64)
        expected = geometry.world(np.column_stack([corners, np.full(3, k)]))
        apart = float(np.linalg.norm(_corner_positions(header, corners) - expected, axis=1).max())
        if apart > _MISPLACED_VOXELS * min(geometry.spacing or (0.0,)):
            raise ExportError(
                f"{file}: lies {apart:.4g} mm from slice {k} of the grid",
                remedy="Give the volume as it was read; its files must be in slice order.",
            )


def _corner_positions(header: Dataset, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """World positions in mm, RAS+, of ``(n, 2)`` (column, row) indices of one instance (PS3.3 C.7.6.2.1.1)."""
    along_row, down_column = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    steps = corners @ np.array([along_row * between_columns, down_column * between_rows])
    return flip_lps_ras(np.array(header.ImagePositionPatient, dtype=np.float64) + steps)


def _complete_study(header: Dataset) -> None:
    """Make the patient's and study's attributes, copied from the first instance, fit to be written."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None)
    for keyword, kind in _DATES_AND_TIMES.items():
        if not _is_valid(header.get(keyword), kind):
            log.warning("%s of the source series is not valid and is left empty", keyword)
            setattr(header, keyword, None)


def _invent_frame_of_reference(headers: Sequence[Dataset], path: str | os.PathLike[str]) -> None:
    log.warning("%s: the source series has no FrameOfReferenceUID; one is made from its SeriesInstanceUID", path)
    frame = generate_uid(entropy_srcs=[str(headers[0].SeriesInstanceUID), "frame of reference"])
    for header in headers:
        header.FrameOfReferenceUID = frame


def _is_valid(value: Any, kind: type[DA] | type[TM]) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _complete_image(header: Dataset, first: Dataset, geometry: Geometry) -> None:
    if geometry.ndim == 3 and geometry.spacing is not None:
        header.ImageOrientationPatient = first.ImageOrientationPatient
        header.SpacingBetweenSlices = f"{geometry.spacing[2]:.10g}"
        if not header.get("SliceThickness"):
            header.SliceThickness = header.SpacingBetweenSlices

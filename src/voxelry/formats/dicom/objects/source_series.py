"""The DICOM instances that an exported object refers to: their headers, checked against the grid of the labels.

A wrong order of slices would be accepted silently by everything downstream, so orientation and position of every slice are
compared with the source's geometry here. Messages contain paths and UIDs, never anything that identifies a patient.

A slice may be a file, a frame of an enhanced multi-frame file, a tile of a mosaic, or interpolated by the reader
(`Source.repairs`) and stored nowhere. Each gets the header of a single-frame file, and an `InstanceReference` to the image that
holds it unchanged, if there is one.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.volume import Volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.archive import contents
from voxelry.formats.dicom.deflated import open_inflated
from voxelry.formats.dicom.elements import number_of, quiet_pydicom
from voxelry.formats.dicom.objects.flat_frames import flat_frame, is_divided, set_attribute, shallow_copy
from voxelry.formats.dicom.objects.references import InstanceReference, SourceSeries
from voxelry.formats.dicom.objects.unreadable_elements import drop_unreadable

log = logging.getLogger(__name__)

_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
_OF_ALL = (
    *_MAY_BE_EMPTY, "IssuerOfPatientID", "PatientBirthTime", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription",
    "SeriesNumber", "SeriesDate", "SeriesTime", "Modality", "PatientPosition", "Laterality", "BodyPartExamined",
    "PositionReferenceIndicator", "Manufacturer", "ManufacturerModelName", "InstitutionName", "StationName",
)  # fmt: skip
"""Attributes of patient, study, series and equipment, which all instances of a series share."""
_DATES_AND_TIMES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
_SEXES = ("", "M", "F", "O")
_MISPLACED_VOXELS = 0.5
"""Largest distance in voxels of an instance from its position on the grid: this checks order and flips, not regularity."""


def source_series(source: Volume, path: str | os.PathLike[str]) -> SourceSeries:
    """The instances of a volume read from DICOM, slice by slice, ready to be referenced.

    Attributes that PS3.3 allows to be empty are set to empty where the files lack them or hold no valid value; all slices get the
    in-plane orientation of the first one (files may differ by rounding), and the slice distance is that of the grid. A series
    without FrameOfReferenceUID gets one derived from its SeriesInstanceUID, always the same, and a warning is logged.

    Args:
        source: a volume as read from DICOM, with ``source.files``, and ``source.instances`` in slice order.
        path: the file being written, for messages.

    Raises:
        ReadError: its archive cannot be read any more.
        ExportError: the source is not DICOM, was re-oriented after reading, or its files are gone, changed, or not where its grid
            has them.
    """
    _check_source(source, path)
    files = {file: _header(file, content) for file, content in contents(source.source.files)}
    for keyword in dict.fromkeys(keyword for header in files.values() for keyword in drop_unreadable(header)):
        log.warning("%s of the source series cannot be read and is left out", keyword)
    _check_identity(list(files.values()), source, path)
    stored = {str(header.SOPInstanceUID): (file, header) for file, header in files.items()}
    used = Counter(instance[0] for instance in source.source.instances if instance)
    headers: list[Dataset] = []
    references: list[InstanceReference | None] = []
    for k, instance in enumerate(source.source.instances):
        if instance is not None and instance[0] not in stored:
            raise ExportError(
                f"{path}: no file of {source.source.name} holds the instance that slice {k} was read from",
                remedy="Read the scan again.",
            )
        file, whole = next(iter(stored.values())) if instance is None else stored[instance[0]]
        divided = is_divided(whole)
        exact = instance is not None and (divided or used[instance[0]] == 1)
        header = flat_frame(whole, instance[1]) if instance and divided else shallow_copy(whole)
        if exact and (not divided or "ImagePositionPatient" in header):
            _check_position(header, file, source.geometry, k)
        elif source.geometry.ndim == 3:
            _set_position(header, source.geometry, k)
        headers.append(header)
        references.append(_reference(whole, instance[1] if instance and divided else None) if exact else None)
    _complete(headers, source.geometry, path)
    instances = tuple(_reference(header) for _, header in stored.values())
    return SourceSeries(tuple(headers), tuple(references), instances)


def _reference(header: Dataset, frame: int | None = None) -> InstanceReference:
    return InstanceReference(str(header.SOPClassUID), str(header.SOPInstanceUID), frame)


def _check_source(source: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse a source that does not name the instance of each slice."""
    origin = source.source
    if origin.kind != "dicom" or not origin.files:
        raise ExportError(
            f"{path}: the scan {origin.name} was read as {origin.kind}, and this format must refer to DICOM instances",
            remedy="Give the DICOM series as the source, or write NIfTI.",
        )
    slices = 1 if source.geometry.ndim == 2 else source.geometry.shape[2]
    if len(origin.instances) != slices or (None in origin.instances and not origin.repairs):
        named = sum(instance is not None for instance in origin.instances)
        raise ExportError(
            f"{path}: {named} of the scan's {slices} slices name the instance they came from ({origin.name})",
            remedy="Give the volume as it was read, not re-oriented or resampled.",
        )


def _check_identity(headers: Sequence[Dataset], source: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse files of different series."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        different = len({header.get(keyword) or "" for header in headers})
        if different > 1:
            raise ExportError(
                f"{path}: the files of {source.source.name} hold {different} different values of {keyword}, a series has one",
                remedy="Export the series from the archive again, or write NIfTI.",
            )


def _header(file: str, content: str | IO[bytes]) -> Dataset:
    try:
        with open_inflated(Path(file), None if isinstance(content, str) else content) as stream:
            header = dcmread(stream, stop_before_pixels=True)
    except FileNotFoundError as error:
        raise ExportError(f"{file}: the scan's file is gone", remedy="Put it back, or read the scan again.") from error
    except InvalidDicomError as error:
        raise ExportError(f"{file}: is not a DICOM file any more", remedy="Read the scan again.") from error
    lacking = [keyword for keyword in _REQUIRED if not header.get(keyword)]
    if lacking:
        raise ExportError(f"{file}: has no {', '.join(lacking)}, which a DICOM object must copy", remedy="Write NIfTI.")
    return header


def _check_position(header: Dataset, file: str, geometry: Geometry, k: int) -> None:
    """Refuse a slice whose corners are not at their positions on the grid."""
    columns, rows = geometry.shape[1::-1] if geometry.ndim == 2 else geometry.shape[:2]
    if (header.Rows, header.Columns) != (rows, columns):
        raise ExportError(
            f"{file}: has {header.Rows} rows and {header.Columns} columns, the grid {rows} and {columns}",
            remedy="Give the volume as it was read: column, row, slice.",
        )
    if geometry.ndim == 2:
        return
    if not all(header.get(word) for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
        raise ExportError(f"{file}: does not state its position in the patient", remedy="Write NIfTI.")
    corners = np.array([(0, 0), (columns - 1, 0), (0, rows - 1)], dtype=np.float64)
    expected = geometry.world(np.column_stack([corners, np.full(3, k)]))
    distance = float(np.linalg.norm(_corner_positions(header, corners) - expected, axis=1).max())
    if distance > _MISPLACED_VOXELS * min(geometry.spacing or (0.0,)):
        raise ExportError(
            f"{file}: lies {distance:.4g} mm from slice {k} of the grid",
            remedy="Give the volume as it was read; its files must be in slice order.",
        )


def _corner_positions(header: Dataset, corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """World positions in mm, RAS+, of ``(n, 2)`` (column, row) indices of one instance (PS3.3 C.7.6.2.1.1)."""
    along_row, down_column = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    steps = corners @ np.array([along_row * between_columns, down_column * between_rows])
    return flip_lps_ras(np.array(header.ImagePositionPatient, dtype=np.float64) + steps)


def _set_position(header: Dataset, geometry: Geometry, k: int) -> None:
    """Write the position of slice `k` of the grid into a header that has none, or that of a larger image."""
    assert geometry.affine is not None
    assert geometry.direction is not None
    assert geometry.spacing is not None
    set_attribute(header, "Columns", geometry.shape[0])
    set_attribute(header, "Rows", geometry.shape[1])
    set_attribute(header, "ImagePositionPatient", _decimals(flip_lps_ras(geometry.world((0, 0, k)))))
    set_attribute(header, "ImageOrientationPatient", _decimals(flip_lps_ras(geometry.direction[:, :2].T).ravel()))
    set_attribute(header, "PixelSpacing", _decimals(geometry.spacing[1::-1]))
    header.pop("SliceThickness", None)


def _decimals(values: Any) -> list[str]:
    """Numbers as DS of at most 16 characters."""
    return [f"{float(value) + 0.0:.10g}" for value in values]


def _complete(headers: Sequence[Dataset], geometry: Geometry, path: str | os.PathLike[str]) -> None:
    """Fill in the attributes that an object referring to these headers requires; patient and study are those of the first."""
    _complete_study(headers[0])
    for header in headers[1:]:
        for keyword in _OF_ALL:
            _copy(headers[0], header, keyword)
    if geometry.ndim == 2 or geometry.spacing is None:
        return
    if not headers[0].get("FrameOfReferenceUID"):
        log.warning("%s: the source series has no FrameOfReferenceUID; one is made from its SeriesInstanceUID", path)
        uid = generate_uid(entropy_srcs=[str(headers[0].SeriesInstanceUID), "frame of reference"])
        for header in headers:
            set_attribute(header, "FrameOfReferenceUID", uid)
    for header in headers:
        set_attribute(header, "ImageOrientationPatient", headers[0].ImageOrientationPatient)
        set_attribute(header, "SpacingBetweenSlices", f"{geometry.spacing[2]:.10g}")
        if not (number_of(header, "SliceThickness") or 0) > 0:
            set_attribute(header, "SliceThickness", header.SpacingBetweenSlices)


def _copy(first: Dataset, header: Dataset, keyword: str) -> None:
    """Give a header the element that the first one has, or none."""
    header.pop(keyword, None)
    if keyword in first:
        with quiet_pydicom():
            header[keyword] = first[keyword]


def _complete_study(header: Dataset) -> None:
    """Make the attributes of patient and study, which are copied from the first instance, valid."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            set_attribute(header, keyword, None)
    wrong = [keyword for keyword, kind in _DATES_AND_TIMES.items() if not _is_valid(header.get(keyword), kind)]
    if (header.get("PatientSex") or "") not in _SEXES:
        wrong.append("PatientSex")
    for keyword in wrong:
        log.warning("%s of the source series is not valid and is left empty", keyword)
        set_attribute(header, keyword, None)


def _is_valid(value: Any, kind: type[DA] | type[TM]) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True

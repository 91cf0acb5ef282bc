"""The DICOM instances an exported object refers to: their headers, checked against the grid the labels lie on.

A wrong order of slices would be accepted silently by everything downstream, so orientation and place of every slice are
compared with the source's geometry here. Messages carry paths and UIDs, never what identifies a patient.

A slice may be a file, a frame of an enhanced multi-frame file, a tile of a mosaic, or nothing that was ever stored, where the
reader interpolated it (`Source.repairs`). Each gets a header as if it were a file of its own; what it may be said to come from
is its `Reference`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.volume import Volume
from voxelry.errors import ExportError
from voxelry.formats.dicom.objects.flat_frames import copy_of, flat_frame, is_divided, put

log = logging.getLogger(__name__)

_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
_DATES_AND_TIMES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
_SEXES = ("", "M", "F", "O")
_MISPLACED_VOXELS = 0.5
"""An instance may lie this far, in voxels, from where the grid has it: order and flips are judged here, not regularity."""


class Reference(NamedTuple):
    """What a slice came from: UIDs of class and instance, and the frame's number from 1, None for a single-frame instance."""

    sop_class: str
    sop_instance: str
    frame: int | None


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A scan's DICOM series, slice by slice.

    Attributes:
        headers: one data set a slice with the attributes of a single-frame image, in slice order, pixels left out.
        references: what each slice came from, voxel for voxel; None for one that was interpolated or cut out of a mosaic.
        instances: every instance the scan was made of, once.
    """

    headers: tuple[Dataset, ...]
    references: tuple[Reference | None, ...]
    instances: tuple[Reference, ...]

    @property
    def is_classic(self) -> bool:
        """Every slice is a file of its own."""
        return all(reference is not None and reference.frame is None for reference in self.references)


def source_headers(source: Volume, path: str | os.PathLike[str]) -> list[Dataset]:
    """The headers of a scan of which every slice was stored, as `source_series` gives them.

    Raises:
        ExportError: as `source_series`; or a slice was interpolated.
    """
    series = source_series(source, path)
    made_up = sum(instance is None for instance in source.source.instances)
    if made_up:
        raise ExportError(
            f"{path}: {made_up} of the scan's slices were interpolated and no instance holds them ({source.source.name})",
            remedy="Write a DICOM SEG or NIfTI.",
        )
    return list(series.headers)


def source_series(source: Volume, path: str | os.PathLike[str]) -> SourceSeries:
    """The instances of a volume read from DICOM, slice by slice, ready to be referenced.

    What PS3.3 allows to be empty is filled in as empty where the files lack it or hold no valid value; the in-plane orientation
    is the first slice's for all (files may differ by rounding), and the slice distance is the grid's. A series whose
    FrameOfReferenceUID was stripped gets one made from its SeriesInstanceUID, always the same, and a warning is logged.

    Args:
        source: a volume as read from DICOM, with ``source.files``, and ``source.instances`` in slice order.
        path: the file being written, for messages.

    Raises:
        ExportError: the source is not DICOM, was re-oriented after reading, or its files are gone, changed, or lie elsewhere
            than its grid says.
    """
    _check_source(source, path)
    files = {str(file): _header(file) for file in source.source.files}
    _check_identity(list(files.values()), source, path)
    stored = {str(header.SOPInstanceUID): (file, header) for file, header in files.items()}
    used = Counter(instance[0] for instance in source.source.instances if instance)
    headers: list[Dataset] = []
    references: list[Reference | None] = []
    for k, instance in enumerate(source.source.instances):
        if instance is not None and instance[0] not in stored:
            raise ExportError(
                f"{path}: no file of {source.source.name} holds the instance that slice {k} was read from",
                remedy="Read the scan again.",
            )
        file, whole = next(iter(stored.values())) if instance is None else stored[instance[0]]
        divided = is_divided(whole)
        exact = instance is not None and (divided or used[instance[0]] == 1)
        header = flat_frame(whole, instance[1]) if instance and divided else copy_of(whole)
        if exact and (not divided or "ImagePositionPatient" in header):
            _check_place(header, file, source.geometry, k)
        elif source.geometry.ndim == 3:
            _place(header, source.geometry, k)
        headers.append(header)
        references.append(_reference(whole, instance[1] if instance and divided else None) if exact else None)
    _complete(headers, source.geometry, path)
    instances = tuple(_reference(header) for _, header in stored.values())
    return SourceSeries(tuple(headers), tuple(references), instances)


def _reference(header: Dataset, frame: int | None = None) -> Reference:
    return Reference(str(header.SOPClassUID), str(header.SOPInstanceUID), frame)


def _check_source(source: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse a source that does not say where each slice came from."""
    origin = source.source
    if origin.kind != "dicom" or not origin.files:
        raise ExportError(
            f"{path}: the scan {origin.name} was read as {origin.kind}, and this format must refer to DICOM instances",
            remedy="Give the DICOM series as the source, or write NIfTI.",
        )
    slices = 1 if source.geometry.ndim == 2 else source.geometry.shape[2]
    if len(origin.instances) != slices or (None in origin.instances and not origin.repairs):
        known = sum(instance is not None for instance in origin.instances)
        raise ExportError(
            f"{path}: {known} of the scan's {slices} slices name the instance they came from ({origin.name})",
            remedy="Give the volume as it was read, not re-oriented or resampled.",
        )


def _check_identity(headers: Sequence[Dataset], source: Volume, path: str | os.PathLike[str]) -> None:
    """Refuse files that are not of one series."""
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
        raise ExportError(f"{file}: has no {', '.join(lacking)}, which a DICOM object must copy", remedy="Write NIfTI.")
    return header


def _check_place(header: Dataset, file: str, geometry: Geometry, k: int) -> None:
    """Refuse a slice whose corners are not where the grid has them."""
    columns, rows = geometry.shape[1::-1] if geometry.ndim == 2 else geometry.shape[:2]
    if (header.Rows, header.Columns) != (rows, columns):
        raise ExportError(
            f"{file}: has {header.Rows} rows and {header.Columns} columns, the grid {rows} and {columns}",
            remedy="Give the volume as it was read: column, row, slice.",
        )
    if geometry.ndim == 2:
        return
    if not all(header.get(word) for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
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


def _place(header: Dataset, geometry: Geometry, k: int) -> None:
    """Put the grid's slice `k` into a header that says nothing of it, or of something larger."""
    assert geometry.affine is not None
    assert geometry.direction is not None
    assert geometry.spacing is not None
    put(header, "Columns", geometry.shape[0])
    put(header, "Rows", geometry.shape[1])
    put(header, "ImagePositionPatient", _decimals(flip_lps_ras(geometry.world((0, 0, k)))))
    put(header, "ImageOrientationPatient", _decimals(flip_lps_ras(geometry.direction[:, :2].T).ravel()))
    put(header, "PixelSpacing", _decimals(geometry.spacing[1::-1]))
    header.pop("SliceThickness", None)


def _decimals(values: Any) -> list[str]:
    """Numbers as DS: at most 16 characters."""
    return [f"{float(value) + 0.0:.10g}" for value in values]


def _complete(headers: Sequence[Dataset], geometry: Geometry, path: str | os.PathLike[str]) -> None:
    """Fill in what an object that refers to these headers must have."""
    _complete_study(headers[0])
    if geometry.ndim == 2 or geometry.spacing is None:
        return
    if not headers[0].get("FrameOfReferenceUID"):
        log.warning("%s: the source series has no FrameOfReferenceUID; one is made from its SeriesInstanceUID", path)
        frame = generate_uid(entropy_srcs=[str(headers[0].SeriesInstanceUID), "frame of reference"])
        for header in headers:
            put(header, "FrameOfReferenceUID", frame)
    for header in headers:
        put(header, "ImageOrientationPatient", headers[0].ImageOrientationPatient)
        put(header, "SpacingBetweenSlices", f"{geometry.spacing[2]:.10g}")
        if not header.get("SliceThickness"):
            put(header, "SliceThickness", header.SpacingBetweenSlices)


def _complete_study(header: Dataset) -> None:
    """Make the patient's and study's attributes, copied from the first instance, fit to be written."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            put(header, keyword, None)
    wrong = [keyword for keyword, kind in _DATES_AND_TIMES.items() if not _is_valid(header.get(keyword), kind)]
    if (header.get("PatientSex") or "") not in _SEXES:
        wrong.append("PatientSex")
    for keyword in wrong:
        log.warning("%s of the source series is not valid and is left empty", keyword)
        put(header, keyword, None)


def _is_valid(value: Any, kind: type[DA] | type[TM]) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True

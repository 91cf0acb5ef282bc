"""DICOM structure sets written by hand, element by element, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from voxelry.core.geometry import flip_lps_ras

FRAME = "1.2.826.0.1.3680043.8.498.2"


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def contour(points: Any, kind: str = "CLOSED_PLANAR") -> Dataset:
    item = Dataset()
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(points)
    item.ContourData = [f"{value:.8g}" for value in np.asarray(points).ravel()]
    return item


def structure_set(
    path: Path,
    rois: Any,
    *,
    series: str = "1.2.826.0.1.3680043.8.498.1",
    frame: str = FRAME,
    codes: Any = None,
    instances: Any = (),
    change: Callable[[Dataset], None] = lambda data: None,
) -> Path:
    """A file of structures: name -> (colour, contours); `change` gets the data set before it is written."""
    data = Dataset()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID = generate_uid()
    data.Modality = "RTSTRUCT"
    data.PatientName, data.PatientID = "Nobody^Known", "SECRET42"
    image = Dataset()
    image.FrameOfReferenceUID = frame
    study, item = Dataset(), Dataset()
    item.SeriesInstanceUID = series
    item.ContourImageSequence = []
    for uid in instances:
        one = Dataset()
        one.ReferencedSOPInstanceUID = uid
        item.ContourImageSequence.append(one)
    study.RTReferencedSeriesSequence = [item]
    image.RTReferencedStudySequence = [study]
    data.ReferencedFrameOfReferenceSequence = [image]
    data.StructureSetROISequence, data.ROIContourSequence, data.RTROIObservationsSequence = [], [], []
    for number, (name, color, contours) in enumerate(rois, start=1):
        roi, drawn, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber = seen.ReferencedROINumber = number
        if color:
            drawn.ROIDisplayColor = list(color)
        if contours:
            drawn.ContourSequence = contours
        if codes and name in codes:
            seen.RTROIIdentificationCodeSequence = [codes[name]]
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
        data.RTROIObservationsSequence.append(seen)
    change(data)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    data.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def drawn(scan: Any, points: Any, place: int, away: float = 0.0) -> Dataset:
    """Points ``(column, row)`` in voxels, on a slice, as a contour in LPS+ mm."""
    index = np.column_stack([points, np.full(len(points), place + away)])
    return contour(flip_lps_ras(scan.geometry.world(index)))


def referenced_space(series: str, frame: str, instances: Any = ()) -> Dataset:
    """An item of ReferencedFrameOfReferenceSequence with one series."""
    space, study, item = Dataset(), Dataset(), Dataset()
    item.SeriesInstanceUID, item.ContourImageSequence = series, []
    for uid in instances:
        item.ContourImageSequence.append(image_item(uid))
    study.RTReferencedSeriesSequence = [item]
    space.FrameOfReferenceUID, space.RTReferencedStudySequence = frame, [study]
    return space


def image_item(uid: str, frame: int | None = None) -> Dataset:
    """A reference to an instance, or to a frame of it."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    if frame is not None:
        item.ReferencedFrameNumber = frame
    return item

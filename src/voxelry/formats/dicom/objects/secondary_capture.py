"""Writer of an overlay series: slices in grey with the labels in colour, as DICOM Secondary Capture (PS3.3 A.8.1).

For archives and viewers without support for segmentation objects. The pictures are for viewing: only lengths can be measured in
them, and labels cannot be read back exactly. Each lies in the plane of its slice (Image Plane module), so that viewers scroll it
together with the scan.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from voxelry.base.files import atomic_folder
from voxelry.core.catalogue import coded
from voxelry.core.geometry import flip_lps_ras
from voxelry.core.label_boxes import boxes
from voxelry.core.object_colors import with_object_colors
from voxelry.core.volume import LabelMap, Volume
from voxelry.formats.dicom.objects.derived_object import checked_text, derived_object, save_object, sibling
from voxelry.formats.dicom.objects.references import series_item, source_image_item
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.multi_file import fresh_folder
from voxelry.formats.overlay_paint import paint, window_of

_SERIES_OFFSET = 3000


def write_secondary_capture(
    labels: LabelMap, source: Volume, path: str | os.PathLike[str], *, series_description: str = "Segmentation overlay"
) -> Path:
    """Write a series of colour images, one for each slice of the scan, with the labels drawn over it.

    Interiors are tinted, borders opaque; where labels overlap the later one of the table is on top; objects of a thing that touch
    have different colours. Grey values are shown through
    the window that the scan states, else soft tissue (-160 to 240 HU) for CT and the 0.5 to 99.5 percentiles otherwise.

    Args:
        labels: on the scan's grid, any number of layers.
        source: the scan as read from DICOM, or a projection; of several channels the first is shown.
        path: a folder that ends in ``.sc``; one that this function wrote is replaced.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The folder.

    Raises:
        ExportError: the source is not DICOM or not as read, or the folder holds other files.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know.
    """
    checked_text(series_description, path)
    aligned = labels.on_grid(source.geometry)
    boxes(aligned, path)
    series = source_series(source, path)
    first = derived_object(
        series.headers[0], SecondaryCaptureImageStorage, "OT", series_description=series_description, series_offset=_SERIES_OFFSET
    )
    first.ReferencedSeriesSequence = [series_item(series)]
    _describe_series(first, series.headers[0])
    low, high = window_of(source)
    painted = with_object_colors(replace(aligned, table=coded(aligned.table)))
    colors = [(label, np.array(label.rgb, np.float32)) for label in painted.table.labels]
    folder = fresh_folder(Path(path))
    with atomic_folder(folder) as temporary:
        for k in range(_slices(source)):
            grey = _plane(source.array[0], k).astype(np.float32)
            picture = np.repeat(np.clip((grey - low) / (high - low), 0, 1)[..., None] * 255, 3, axis=2)
            for label, color in colors:
                paint(picture, _plane(painted.layers[label.layer], k) == label.value, color)
            capture = _image(first, np.rint(picture).astype(np.uint8), k)
            _add_plane(capture, series.headers[k], source)
            if (reference := series.references[k]) is not None:
                capture.SourceImageSequence = [source_image_item(reference)]
            save_object(capture, temporary / f"{k + 1:04d}.dcm")
    return folder


def _slices(source: Volume) -> int:
    return 1 if source.geometry.ndim == 2 else source.geometry.shape[2]


def _plane(array: NDArray[np.generic], k: int) -> NDArray[np.generic]:
    """A slice or a projection as ``(rows, columns)``."""
    return array if array.ndim == 2 else array[:, :, k].T


def _describe_series(capture: Dataset, header: Dataset) -> None:
    """Add the attributes that all images of the series share."""
    capture.ConversionType = "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY", "OVERLAY"]
    capture.DerivationDescription = "Segmentation drawn over the image, made by software for research, not reviewed"
    capture.BurnedInAnnotation = header.get("BurnedInAnnotation") or "NO"
    capture.LossyImageCompression = header.get("LossyImageCompression") or "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if capture.LossyImageCompression == "01" and keyword in header:
            capture[keyword] = header[keyword]
    for keyword in ("BodyPartExamined", "PatientPosition", "ImageLaterality", "ViewPosition"):
        if header.get(keyword):
            capture[keyword] = header[keyword]
    if "ImageLaterality" not in capture:
        capture.Laterality = header.get("Laterality") or None
    capture.SamplesPerPixel, capture.PhotometricInterpretation, capture.PlanarConfiguration = 3, "RGB", 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit, capture.PixelRepresentation = 7, 0


def _image(first: Dataset, picture: NDArray[np.uint8], k: int) -> Dataset:
    capture = sibling(first, k + 1)
    capture.Rows, capture.Columns = picture.shape[:2]
    content = picture.tobytes()
    capture.PixelData = content + b"\0" * (len(content) % 2)
    capture["PixelData"].VR = "OB"
    return capture


def _add_plane(capture: Dataset, header: Dataset, source: Volume) -> None:
    """Add the plane of the slice, or the pixel size of a projection."""
    geometry = source.geometry
    capture.PatientOrientation = header.get("PatientOrientation")
    if geometry.affine is None:
        if geometry.pixel_size is not None:
            capture.PixelSpacing = [f"{value:.10g}" for value in geometry.pixel_size]
        return
    across, down = (flip_lps_ras(geometry.affine[:3, axis]) for axis in (0, 1))
    width, height = np.linalg.norm(across), np.linalg.norm(down)
    capture.ImageOrientationPatient = [f"{value:.10g}" for value in (*across / width, *down / height)]
    capture.ImagePositionPatient = header.ImagePositionPatient
    capture.PixelSpacing = [f"{height:.10g}", f"{width:.10g}"]
    capture.SliceThickness = header.get("SliceThickness")

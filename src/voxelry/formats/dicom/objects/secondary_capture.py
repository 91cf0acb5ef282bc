"""Overlay series: the scan's slices in grey with the labels drawn in colour, as DICOM Secondary Capture (PS3.3 A.8.1).

For archives and viewers that know no segmentation objects. Pictures to look at: nothing can be measured in them but lengths, and
labels cannot be read back exactly. Each stands in the plane of its slice (Image Plane module), so that viewers scroll it along
with the scan.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from voxelry.base.files import atomic_folder
from voxelry.core.catalogue import coded
from voxelry.core.geometry import flip_lps_ras
from voxelry.core.labels import Code
from voxelry.core.volume import LabelMap, Volume
from voxelry.formats.dicom.objects.derived import (
    checked_text,
    code_item,
    derived_object,
    referenced_series,
    referring,
    save_object,
    sibling,
)
from voxelry.formats.dicom.objects.source_series import Reference, source_series
from voxelry.formats.label_values import boxes
from voxelry.formats.multi_file import fresh_folder

_SERIES_OFFSET = 3000
_OPACITY = 0.35
_SOFT_TISSUE = (-160.0, 240.0)
_PERCENTILES = (0.5, 99.5)
_SAMPLES = 2_000_000
_SOURCE_IMAGE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")


def write_secondary_capture(
    labels: LabelMap, source: Volume, path: str | os.PathLike[str], *, series_description: str = "Segmentation overlay"
) -> Path:
    """Write a series of colour images, one a slice of the scan, with the labels drawn over it.

    Insides are tinted, borders full of colour; where labels overlap the later of the table is on top. Grey is the window that the
    scan states, else soft tissue (-160 to 240 HU) for CT and the 0.5 to 99.5 percentiles for all else.

    Args:
        labels: on the scan's grid, any number of layers.
        source: the scan as read from DICOM, or a projection; of several channels the first is shown.
        path: a folder that ends in ``.sc``; an earlier one of ours is replaced.
        series_description: what viewers list the series as, at most 64 characters.

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
    first.ReferencedSeriesSequence = [referenced_series(series)]
    _describe_series(first, series.headers[0])
    low, high = _window(source)
    colors = [(label, np.array(label.rgb, np.float32)) for label in coded(aligned.table).labels]
    folder = fresh_folder(Path(path))
    with atomic_folder(folder) as temporary:
        for k in range(_slices(source)):
            grey = _plane(source.array[0], k).astype(np.float32)
            picture = np.repeat(np.clip((grey - low) / (high - low), 0, 1)[..., None] * 255, 3, axis=2)
            for label, color in colors:
                _paint(picture, _plane(aligned.layers[label.layer], k) == label.value, color)
            made = _image(first, np.rint(picture).astype(np.uint8), k)
            _place(made, series.headers[k], source)
            _refer(made, series.references[k])
            save_object(made, temporary / f"{k + 1:04d}.dcm")
    return folder


def _slices(source: Volume) -> int:
    return 1 if source.geometry.ndim == 2 else source.geometry.shape[2]


def _plane(array: NDArray[np.generic], k: int) -> NDArray[np.generic]:
    """``(rows, columns)`` of a slice, or of a projection."""
    return array if array.ndim == 2 else array[:, :, k].T


def _window(source: Volume) -> tuple[float, float]:
    """The grey values shown as black and as white."""
    if source.windows:
        window = source.windows[0]
        return window.center - window.width / 2, window.center + window.width / 2
    if source.modality == "CT":
        return _SOFT_TISSUE
    flat = source.array[0].ravel()
    low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLES)], _PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


def _paint(picture: NDArray[np.float32], mask: NDArray[np.bool_], color: NDArray[np.float32]) -> None:
    """Tint the inside of a mask and colour its border, the pixels with a neighbour outside (or beyond the picture)."""
    if not mask.any():
        return
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    picture[mask] += _OPACITY * (color - picture[mask])
    picture[mask & ~inner] = color


def _describe_series(made: Dataset, header: Dataset) -> None:
    """What all images of the series have in common."""
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY", "OVERLAY"]
    made.DerivationDescription = "Segmentation drawn over the image, made by software for research, not reviewed"
    made.BurnedInAnnotation = header.get("BurnedInAnnotation") or "NO"
    made.LossyImageCompression = header.get("LossyImageCompression") or "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if made.LossyImageCompression == "01" and keyword in header:
            made[keyword] = header[keyword]
    for keyword in ("BodyPartExamined", "PatientPosition", "ImageLaterality", "ViewPosition"):
        if header.get(keyword):
            made[keyword] = header[keyword]
    if "ImageLaterality" not in made:
        made.Laterality = header.get("Laterality") or None
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0


def _image(first: Dataset, picture: NDArray[np.uint8], k: int) -> Dataset:
    made = sibling(first, k + 1)
    made.Rows, made.Columns = picture.shape[:2]
    content = picture.tobytes()
    made.PixelData = content + b"\0" * (len(content) % 2)
    made["PixelData"].VR = "OB"
    return made


def _place(made: Dataset, header: Dataset, source: Volume) -> None:
    """The plane of the slice; of a projection its pixel size."""
    geometry = source.geometry
    made.PatientOrientation = header.get("PatientOrientation")
    if geometry.affine is None:
        if geometry.pixel_size is not None:
            made.PixelSpacing = [f"{value:.10g}" for value in geometry.pixel_size]
        return
    across, down = (flip_lps_ras(geometry.affine[:3, axis]) for axis in (0, 1))
    width, height = np.linalg.norm(across), np.linalg.norm(down)
    made.ImageOrientationPatient = [f"{value:.10g}" for value in (*across / width, *down / height)]
    made.ImagePositionPatient = header.ImagePositionPatient
    made.PixelSpacing = [f"{height:.10g}", f"{width:.10g}"]
    made.SliceThickness = header.get("SliceThickness")


def _refer(made: Dataset, found: Reference | None) -> None:
    """The image (or frame) that is shown."""
    if found is not None:
        shown = referring(found)
        shown.PurposeOfReferenceCodeSequence = [code_item(_SOURCE_IMAGE)]
        made.SourceImageSequence = [shown]

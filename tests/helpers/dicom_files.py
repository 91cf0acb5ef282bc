"""Small DICOM files with known content, and fixtures that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES_UID = "1.2.826.0.1.3680043.8.498.1"

Slices = list[Dataset]


def dataset(pixels: NDArray[Any], **elements: Any) -> Dataset:
    """A CT slice, uncompressed, whose elements can be replaced; None removes one."""
    data = Dataset()
    data.SOPClassUID = CTImageStorage
    data.Modality = "CT"
    data.PatientName = "Nobody^Known"
    data.PatientID = "SECRET42"
    data.SeriesInstanceUID = SERIES_UID
    data.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.2"
    data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.ImageOrientationPatient = list(AXIAL)
    data.ImagePositionPatient = [0.0, 0.0, 0.0]
    data.PixelSpacing = [1.0, 1.0]
    data.SliceThickness = 2.0
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def save(data: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def series(
    values: NDArray[Any],
    *,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-30.0, 20.0, -100.0),
    pixel_spacing: Sequence[float] = (0.7, 0.9),
    step: float = 2.5,
    **elements: Any,
) -> Slices:
    """Slices from ``(slices, rows, columns)``, along the normal of the orientation."""
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        dataset(
            frame,
            ImageOrientationPatient=[f"{x:.12f}" for x in orientation],
            ImagePositionPatient=[f"{x:.9f}" for x in np.array(origin) + normal * step * index],
            PixelSpacing=list(pixel_spacing),
            InstanceNumber=index + 1,
            **elements,
        )
        for index, frame in enumerate(values)
    ]


@pytest.fixture
def ramp() -> NDArray[np.int16]:
    """``(slices, rows, columns)`` with every value different."""
    return (np.arange(5 * 6 * 8, dtype=np.int16) - 100).reshape(5, 6, 8)


@pytest.fixture
def plain(ramp: NDArray[np.int16]) -> Slices:
    """A plain series to break."""
    return series(ramp)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Slices], Path]:
    """Writes slices into a folder, under names in the given order."""

    def write(slices: Slices, names: Sequence[str] | None = None, where: str = "series") -> Path:
        for index, data in enumerate(slices):
            save(data, tmp_path / where / (names[index] if names else f"IM{index:03d}.dcm"))
        return tmp_path / where

    return write


@pytest.fixture
def xray(tmp_path: Path) -> Callable[..., Path]:
    """Writes a DX file of the given pixels, without a position in the patient; keywords set or remove (None) elements."""

    def write(pixels: NDArray[Any], **elements: Any) -> Path:
        bare = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None, "SliceThickness": None}
        data = dataset(
            pixels,
            **{"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"} | bare | elements,
        )
        return save(data, tmp_path / "xray.dcm")

    return write


@pytest.fixture
def make_series() -> Callable[..., Slices]:
    return series


@pytest.fixture
def make_slice() -> Callable[..., Dataset]:
    return dataset


@pytest.fixture
def save_slice() -> Callable[..., Path]:
    return save

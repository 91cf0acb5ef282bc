"""A generator of DICOM series as they come from the wild, each with its truth: where known voxels lie in mm, or which error.

It writes with pydicom alone and works out the truth by the formula of PS3.3 C.7.6.2.1.1 from the numbers it writes, so that it
is an oracle for the readers. Marked voxels carry a value of their own and are looked for in what was read; where voxels are
interpolated, the whole scan is a linear function of the world position, which linear interpolation keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ROOT = "1.2.826.0.1.3680043.8.498.77."
MARKED = 2000
"""Stored values from here on mark a voxel; each occurs once."""

GRADIENT = np.array([11.0, -17.0, 29.0])
"""Grey values per mm along x, y and z (RAS+) of a linear scan."""

MARKS = ((0, 1, 2), (1, 5, 7), (2, 3, 1), (3, 0, 8), (4, 6, 0), (5, 2, 5))
"""``(slice, row, column)`` of the marked voxels."""

Scene = Callable[[int, NDArray[np.float64]], NDArray[np.int16]]
"""From a slice number and the RAS+ positions ``(rows, columns, 3)`` of its pixels to its stored values."""


@dataclass(frozen=True)
class Reads:
    """The truth of a volume.

    Attributes:
        points: pairs of a grey value that occurs once and its position, RAS+ mm.
        linear: the scan is the linear function of position; which is then checked at every voxel that is not padding.
        shape: ``(columns, rows, slices)``, or None where it does not matter.
        remark, repair: what a remark and a repair must say, as regular expressions; empty: none is asked for.
        interpolated: how many slices hold no instance.
        dtype: of the array, empty where either will do.
        voxels: how many voxels of a linear scan are no padding, at least.
        tolerance: mm.
    """

    points: tuple[tuple[float, tuple[float, ...]], ...] = ()
    linear: bool = False
    shape: tuple[int, ...] | None = None
    remark: str = ""
    repair: str = ""
    interpolated: int = 0
    dtype: str = ""
    voxels: int = 0
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Refuses:
    """The truth of a folder that must not be read: which error, what it says, which files it lists."""

    error: str
    says: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A series to write.

    Attributes:
        write: puts it into an empty folder and returns what there is to find: one truth for each volume.
        one: what `read` of the folder gives: the first volume, or an error.
        choices: the options of the reader.
    """

    write: Callable[[Path], Sequence[Reads]]
    one: Refuses | None = None
    choices: dict[str, Any] = field(default_factory=dict)


def noise(index: int, world: NDArray[np.float64]) -> NDArray[np.int16]:
    """Values below every mark, and the marks."""
    rows, columns = world.shape[:2]
    values = (np.arange(rows * columns).reshape(rows, columns) * 7 + index * 31) % 900
    for number, (at, row, column) in enumerate(MARKS):
        if at == index and row < rows and column < columns:
            values[row, column] = MARKED + number
    return values.astype(np.int16)


def linear(_: int, world: NDArray[np.float64]) -> NDArray[np.int16]:
    """A linear function of the position."""
    return np.rint(world @ GRADIENT).astype(np.int16)


def uid(*parts: int) -> str:
    return ROOT + ".".join(str(part) for part in parts)


def dataset(pixels: NDArray[Any], number: int, **elements: Any) -> Dataset:
    """An image of its own kind and place; None leaves an element out."""
    data = Dataset()
    data.SOPClassUID = CTImageStorage
    data.Modality = "CT"
    data.PatientName, data.PatientID = "Nobody^Known", "SECRET42"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = uid(1), uid(1, 1), uid(9)
    data.SOPInstanceUID = uid(1, 1, number)
    data.InstanceNumber = number
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.SliceThickness = 2.5
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    return altered(data, **elements)


def altered(data: Dataset, **elements: Any) -> Dataset:
    """The same data set with elements replaced, or removed where they are None."""
    for keyword, value in elements.items():
        if value is not None:
            setattr(data, keyword, value)
        elif keyword in data:
            delattr(data, keyword)
    return data


def digits(values: Sequence[float], form: str = ".10g") -> list[str]:
    """Decimal strings, as they are stored: at most 16 characters of a rounded number."""
    return [f"{round(float(value), 6) + 0.0:{form}}" for value in values]


def positions(data: Dataset) -> NDArray[np.float64]:
    """``(rows, columns, 3)`` RAS+ mm of the centres of all pixels, from the header (PS3.3 C.7.6.2.1.1)."""
    place = np.array([float(x) for x in data.ImagePositionPatient])
    along, down = np.array([float(x) for x in data.ImageOrientationPatient]).reshape(2, 3)
    between_rows, between_columns = (float(x) for x in data.PixelSpacing)
    row, column = np.mgrid[: data.Rows, : data.Columns][..., None]
    return (place + column * between_columns * along + row * between_rows * down) * (-1, -1, 1)


def stored(data: Dataset) -> NDArray[Any]:
    """``(rows, columns)`` of the stored numbers."""
    kind = ("i" if data.PixelRepresentation else "u") + str(data.BitsAllocated // 8)
    return np.frombuffer(data.PixelData, "<" + kind).reshape(data.Rows, data.Columns)


def stack(
    count: int = 6,
    size: tuple[int, int] = (7, 9),
    *,
    heights: Sequence[float] | None = None,
    spacing: tuple[float, float] = (0.7, 0.9),
    step: float = 2.5,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-30.0, 20.0, -100.0),
    tilt: float = 0.0,
    scene: Scene = noise,
    kind: type[np.generic] = np.int16,
    **elements: Any,
) -> list[Dataset]:
    """A series; plain unless something is asked for.

    Args:
        count: slices.
        size: rows and columns.
        heights: mm along the normal of each slice; None: evenly by `step`.
        spacing: between rows, between columns, mm.
        step: mm.
        orientation: along a row, down a column, LPS+.
        origin: of the first slice's first pixel, LPS+ mm.
        tilt: degrees by which slices shift down their columns as they go up their normal.
        scene: what is in it.
        kind: of the stored numbers.
        elements: what else is set.
    """
    along, down = np.array(orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(along, down)
    series = []
    for index, height in enumerate(heights if heights is not None else np.arange(count) * step):
        place = np.array(origin) + height * (normal + np.tan(np.radians(tilt)) * down)
        blank = np.zeros(size, dtype=kind)
        data = dataset(
            blank,
            index + 1,
            ImagePositionPatient=digits(place),
            ImageOrientationPatient=[f"{x + 0.0:.12g}" for x in orientation],
            PixelSpacing=[f"{x:g}" for x in spacing],
        )
        data.PixelData = scene(index, positions(data)).astype(kind).tobytes()
        series.append(altered(data, **elements))
    return series


def marks(series: Sequence[Dataset]) -> tuple[tuple[float, tuple[float, ...]], ...]:
    """The grey value and position of every marked voxel, as the headers say."""
    found = []
    for data in series:
        values, world = stored(data), positions(data)
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        for row, column in np.argwhere(values >= MARKED).tolist():
            found.append((float(values[row, column]) * slope + intercept, tuple(world[row, column].tolist())))
    return tuple(found)


def truth(series: Sequence[Dataset], **facts: Any) -> Reads:
    """What a plain series must read as."""
    shape = (series[0].Columns, series[0].Rows, len(series))
    return Reads(**({"points": marks(series), "shape": shape} | facts))


def save(data: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """One file of DICOM, with its preamble."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    data.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def write(
    series: Sequence[Dataset], folder: Path, names: Sequence[str] | None = None, syntax: str = ExplicitVRLittleEndian
) -> None:
    """Files of a series, by default called IM000.dcm and so on in the given order."""
    for index, data in enumerate(series):
        save(data, folder / (names[index] if names else f"IM{index:03d}.dcm"), syntax)


def copies(series: Sequence[Dataset], number: int, **elements: Any) -> list[Dataset]:
    """The same images under instance numbers and UIDs of their own."""
    again = [pydicom.dcmread(_bytes(data)) for data in series]
    for index, data in enumerate(again):
        altered(data, SOPInstanceUID=uid(1, number, index + 1), **elements)
    return again


def _bytes(data: Dataset) -> Any:
    from io import BytesIO

    buffer = BytesIO()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    data.file_meta = meta
    data.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def turned(*degrees: float) -> tuple[float, ...]:
    """The orientation of axial slices after turns about x, y and z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        one, other = (k for k in range(3) if k != axis)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return (*result[:, 0].tolist(), *result[:, 1].tolist())


def magnetic(series: Sequence[Dataset]) -> Sequence[Dataset]:
    """The same as MR images."""
    for data in series:
        altered(data, SOPClassUID=MRImageStorage, Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND"])
    return series

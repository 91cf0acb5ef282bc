"""The catalogue of series that go wrong: several planes in a file, enhanced multi-frame and mosaic."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, MRImageStorage

from helpers.bad_catalogue import case
from helpers.bad_series import MARKED, Reads, Refuses, altered, marks, save, stack, stored, truth, turned, uid


def item(**elements: Any) -> list[Dataset]:
    """A sequence of one item."""
    return [altered(Dataset(), **elements)]


def enhanced(series: Sequence[Dataset], **elements: Any) -> Dataset:
    """One enhanced CT file whose frames are the given images, in the given order; rescale and place lie in each frame."""
    first = series[0]
    data = altered(Dataset(), SOPClassUID=EnhancedCTImageStorage, SOPInstanceUID=uid(7, 1), Modality="CT")
    for keyword in (
        "PatientName PatientID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Rows Columns SamplesPerPixel "
        "PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation"
    ).split():
        setattr(data, keyword, first[keyword].value)
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.InstanceNumber = 1
    data.NumberOfFrames = len(series)
    measures = item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    data.SharedFunctionalGroupsSequence = item(
        PixelMeasuresSequence=measures, PlaneOrientationSequence=item(ImageOrientationPatient=first.ImageOrientationPatient)
    )
    data.PerFrameFunctionalGroupsSequence = [_frame(plane, index) for index, plane in enumerate(series)]
    data.PixelData = b"".join(plane.PixelData for plane in series)
    data["PixelData"].VR = "OW"
    return altered(data, **elements)


def _frame(plane: Dataset, index: int) -> Dataset:
    position = int(plane.InstanceNumber)
    groups = Dataset()
    groups.FrameContentSequence = item(StackID="1", InStackPositionNumber=position, DimensionIndexValues=[1, position])
    groups.PlanePositionSequence = item(ImagePositionPatient=plane.ImagePositionPatient)
    groups.PixelValueTransformationSequence = item(
        RescaleSlope=plane.get("RescaleSlope", 1), RescaleIntercept=plane.get("RescaleIntercept", 0), RescaleType="HU"
    )
    return groups


@case("enhanced")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    save(enhanced(series), folder / "a.dcm")
    return [truth(series)]


@case("enhanced, oblique, frames shuffled")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(orientation=turned(20, 30, -10))
    save(enhanced([series[k] for k in (3, 0, 5, 1, 4, 2)]), folder / "a.dcm")
    return [truth(series)]


@case("enhanced, slope of each frame")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    for index, data in enumerate(series):
        altered(data, RescaleSlope=f"{0.5 + index / 32:g}", RescaleIntercept=str(-10 * index))
    save(enhanced(series), folder / "a.dcm")
    return [truth(series, dtype="float32")]


@case("enhanced, gantry tilted")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(tilt=-15)
    save(enhanced(series), folder / "a.dcm")
    return [truth(series, remark="tilt of -15 degrees")]


@case("enhanced, a frame is missing", Refuses("MissingSlicesError", "1 of 6 slices are missing.*frame 3 and .*frame 4"))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    save(enhanced(series[:3] + series[4:]), folder / "a.dcm")
    return []


@case("enhanced, fewer bytes than frames", Refuses("CorruptFileError", "a.dcm"))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    save(enhanced(series, PixelData=b"".join(data.PixelData for data in series[:4])), folder / "a.dcm")
    return []


@case("enhanced, fewer descriptions than frames", Refuses("ReadError", "a.dcm"))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    data = enhanced(series)
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:4]
    save(data, folder / "a.dcm")
    return []


@case("enhanced, frames without a position", Refuses("SeriesError", "ImagePositionPatient"))
def _(folder: Path) -> Sequence[Reads]:
    data = enhanced(stack())
    for frame in data.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    save(data, folder / "a.dcm")
    return []


@case("enhanced, two echoes", Refuses("SeriesError"))
def _(folder: Path) -> Sequence[Reads]:
    echoes = [_echo(number) for number in (1, 2)]
    both = [data for pair in zip(*echoes, strict=True) for data in pair]
    data = enhanced(both, SOPClassUID=EnhancedMRImageStorage, Modality="MR")
    for index, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = item(EffectiveEchoTime=10.0 * (1 + index % 2))
        frame.FrameContentSequence[0].DimensionIndexValues = [1 + index // 2, 1 + index % 2]
    save(data, folder / "a.dcm")
    return [truth(series) for series in echoes]


def _echo(number: int) -> list[Dataset]:
    series = stack()
    for data in series:
        values = stored(data).copy()
        values[values >= MARKED] += 100 * number
        data.PixelData = values.tobytes()
    return series


@case("several frames in a class without positions", Refuses("ReadError", "a.dcm"))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    data = series[0]
    altered(data, NumberOfFrames=6, PixelData=b"".join(plane.PixelData for plane in series))
    save(data, folder / "a.dcm")
    return []


def csa(normal: Sequence[float], count: int) -> bytes:
    """A Siemens CSA image header (version SV10) with the number of images and the normal of the slices."""

    def element(name: str, vr: bytes, values: Sequence[str]) -> bytes:
        head = name.encode().ljust(64, b"\0") + struct.pack("<i4sii", len(values), vr + b"\0\0", 6, max(len(values), 6))
        body = head + struct.pack("<i", 77)
        for value in [*values, *[""] * (6 - len(values))]:
            text = value.encode() + b"\0" if value else b""
            body += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
        return body

    parts = [
        element("NumberOfImagesInMosaic", b"US", [str(count)]),
        element("SliceNormalVector", b"FD", [f"{x:.8f}" for x in normal]),
    ]
    return b"SV10\x04\x03\x02\x01" + struct.pack("<2I", len(parts), 77) + b"".join(parts)


def mosaic(series: Sequence[Dataset], across: int = 3) -> Dataset:
    """One Siemens mosaic of 3 x 3 tiles: its position is that of a corner of all tiles, centred on the first slice."""
    first = series[0]
    rows, columns = first.Rows, first.Columns
    tiles = np.zeros((across * rows, across * columns), np.int16)
    for index, data in enumerate(series):
        row, column = divmod(index, across)
        tiles[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = stored(data)
    along, down = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(x) for x in first.PixelSpacing)
    half = (across - 1) / 2
    corner = (
        np.array(first.ImagePositionPatient, dtype=float)
        - half * columns * between_columns * along
        - half * rows * between_rows * down
    )
    altered(
        first,
        SOPClassUID=MRImageStorage,
        Modality="MR",
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        Manufacturer="SIEMENS",
        Rows=across * rows,
        Columns=across * columns,
        ImagePositionPatient=[f"{x:.8g}" for x in corner],
        SpacingBetweenSlices=2.5,
        PixelData=tiles.tobytes(),
    )
    numbers = first.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    numbers.add_new(0x0A, "US", len(series))
    block = first.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(np.cross(along, down), len(series)))
    return first


@case("mosaic")
def _(folder: Path) -> Sequence[Reads]:
    return _mosaic(folder)


@case("mosaic, oblique")
def _(folder: Path) -> Sequence[Reads]:
    return _mosaic(folder, orientation=turned(15, -25, 40))


def _mosaic(folder: Path, **making: Any) -> Sequence[Reads]:
    series = stack(8, size=(8, 10), **making)
    expected = truth(series, points=marks(series), tolerance=2e-3)
    save(mosaic(series), folder / "a.dcm")
    return [expected]


@case("mosaic that does not say how many slices", Refuses("ReadError", "a.dcm"))
def _(folder: Path) -> Sequence[Reads]:
    data = mosaic(stack(8, size=(8, 10)))
    for tag in [element.tag for element in data if element.tag.is_private]:
        del data[tag]
    save(data, folder / "a.dcm")
    return []

"""Plain series stored in unusual ways: orders, orientations, encodings and grey values that must not change the result."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from helpers.bad_catalogue import case, plain
from helpers.bad_series import (
    CORONAL,
    MARKED,
    SAGITTAL,
    Reads,
    altered,
    digits,
    magnetic,
    marks,
    save,
    stack,
    stored,
    truth,
    turned,
    uid,
    write,
)

plain("plain")
plain("sagittal", orientation=SAGITTAL)
plain("coronal", orientation=CORONAL)
plain("oblique by 45 degrees", orientation=turned(45, 0, 0))
plain("oblique by 45 degrees twice", orientation=turned(45, 45, 0))
plain("feet first, rows and columns mirrored", orientation=(-1, 0, 0, 0, -1, 0))
plain("slices descend", heights=[-2.5 * k for k in range(6)])
plain("file names shuffled", names=["f", "a", "e", "c", "b", "d"])
plain("pixels much wider than high", spacing=(0.25, 2.0))
plain("pixels much higher than wide", spacing=(2.0, 0.25))
plain("overlapping slices", step=1.25, SliceThickness=5)
plain("thin slices far apart", step=10.0, SliceThickness=1)
plain("thickness missing", SliceThickness=None)
plain("implicit VR", syntax=ImplicitVRLittleEndian)
plain("deflated", syntax=DeflatedExplicitVRLittleEndian)
plain("unsigned", kind=np.uint16)
plain("every other slice left out throughout", heights=[5.0 * k for k in range(6)], SliceThickness=2.5)
plain("two slices", heights=[0.0, 2.5])
plain("very thin slices", step=0.04, SliceThickness=0.04)
plain("spacing tag is negative", SpacingBetweenSlices=-2.5)
plain("frame of reference missing", FrameOfReferenceUID=None)


@case("instance numbers against the order of positions")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    for data in series:
        data.InstanceNumber = 7 - data.InstanceNumber
    write(series, folder)
    return [truth(series)]


@case("spacing tag contradicts the positions")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(SpacingBetweenSlices=5.0)
    write(series, folder)
    return [truth(series, remark="SpacingBetweenSlices states 5 mm.*2.5 mm")]


@case("no preamble")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    for index, data in enumerate(series):
        data.save_as(folder / str(index), implicit_vr=True, little_endian=True, enforce_file_format=False)
    return [truth(series)]


@case("big endian")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    expected = truth(series)
    for index, data in enumerate(series):
        data.PixelData = stored(data).astype(">i2").tobytes()
        save(data, folder / f"{index}.dcm", ExplicitVRBigEndian)
    return [expected]


@case("JPEG-LS")
def _(folder: Path) -> Sequence[Reads]:
    return _compressed(folder, JPEGLSLossless)


@case("RLE")
def _(folder: Path) -> Sequence[Reads]:
    return _compressed(folder, RLELossless)


def _compressed(folder: Path, syntax: str) -> Sequence[Reads]:
    series = stack(kind=np.uint16)
    expected = truth(series)
    write(series, folder)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        data.compress(syntax, generate_instance_uid=False)
        data.save_as(file)
    return [expected]


@case("decimal strings longer than 16 characters")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(spacing=(0.75, 0.5))
    write(series, folder)
    for file in folder.iterdir():  # an element of its own length: only the value grows
        raw, short, long = file.read_bytes(), b"0.75\\0.5", b"0.75000000000000001\\0.50000000000000001 "
        assert raw.count(b"DS\x08\x00" + short) == 1
        file.write_bytes(raw.replace(b"DS\x08\x00" + short, b"DS" + struct.pack("<H", len(long)) + long))
    return [truth(series)]


@case("orientation jitters by 2e-6")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    expected = truth(series)
    for index, data in enumerate(series):
        data.ImageOrientationPatient = ["1", f"{2e-6 * (-1) ** index:.7f}", "0", "0", "1", "0"]
    write(series, folder)
    return [expected]


@case("positions jitter by 10 um")
def _(folder: Path) -> Sequence[Reads]:
    return _jittered(folder, 0.010)


@case("positions rounded to 0.1 mm")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(step=1.25)
    expected = truth(series, tolerance=0.051)
    for data in series:
        x, y, z = (float(value) for value in data.ImagePositionPatient)
        data.ImagePositionPatient = [x, y, f"{z + 0.01:.1f}"]
    write(series, folder)
    return [expected]


def _jittered(folder: Path, size: float) -> Sequence[Reads]:
    series = stack()
    expected = truth(series, tolerance=1.8 * size)
    for data, shift in zip(series, np.random.default_rng(3).uniform(-size, size, (6, 3)), strict=True):
        data.ImagePositionPatient = digits(np.array(data.ImagePositionPatient, dtype=float) + shift)
    write(series, folder)
    return [expected]


@case("rescale slope of each slice")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    for index, data in enumerate(series):
        altered(data, RescaleSlope=f"{0.5 + index / 32:g}", RescaleIntercept=str(-1000 + index))
    write(series, folder)
    return [truth(series, dtype="float32")]


@case("garbage above 12 bits")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(kind=np.uint16)
    expected = truth(series)
    for data in series:
        altered(data, BitsStored=12, HighBit=11, PixelData=(stored(data) | 0xA000).tobytes())
    write(series, folder)
    return [expected]


@case("garbage above signed 12 bits")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    for data in series:  # marks become negative numbers of 12 bits
        data.PixelData = np.where(stored(data) >= MARKED, stored(data) - 4000, stored(data)).astype(np.int16).tobytes()
    points = []
    for data, original in zip(series, stack(), strict=True):
        points += [(value - 4000, where) for value, where in marks([original])]
        altered(data, BitsStored=12, HighBit=11, PixelData=((stored(data) & 0x0FFF) | 0x5000).astype(np.uint16).tobytes())
    write(series, folder)
    return [Reads(tuple(points), shape=(9, 7, 6))]


@case("MONOCHROME1 of CT, whose numbers are Hounsfield units whatever the display")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(PhotometricInterpretation="MONOCHROME1")
    write(series, folder)
    return [truth(series, remark="MONOCHROME1: grey values kept")]


@case("MONOCHROME1 of MR")
def _(folder: Path) -> Sequence[Reads]:
    series = magnetic(stack(kind=np.uint16, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11))
    write(series, folder)
    return [truth(series, points=tuple((4095 - value, where) for value, where in marks(series)), remark="MONOCHROME1")]


@case("padding value far below the scan")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(PixelPaddingValue=-2000)
    for data in series:
        values = stored(data).copy()
        values[0, 0] = -2000
        data.PixelData = values.tobytes()
        data["PixelPaddingValue"].VR = "SS"
    write(series, folder)
    return [truth(series)]


@case("junk and a report among the images")
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    write(series, folder)
    (folder / "Thumbs.db").write_bytes(bytes(range(256)) * 8)
    (folder / "readme.txt").write_text("scans of nobody")
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", uid(5, 1), "SR"
    save(report, folder / "report.dcm")
    return [truth(series)]


@case("magnetic resonance")
def _(folder: Path) -> Sequence[Reads]:
    series = list(magnetic(stack(orientation=turned(10, -20, 5))))
    write(series, folder)
    return [truth(series)]

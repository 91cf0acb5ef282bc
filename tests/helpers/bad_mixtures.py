"""Images that do not belong together, and files that say too little, break off or lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
)

from helpers.bad_catalogue import again, case, marked, refused, several
from helpers.bad_series import (
    CORONAL,
    SAGITTAL,
    Reads,
    Refuses,
    altered,
    copies,
    magnetic,
    stack,
    truth,
    turned,
    uid,
    write,
)


@several("two series")
def _() -> Sequence[Sequence[Dataset]]:
    return [stack(), again(2, SeriesInstanceUID=uid(1, 2))]


@several("three phases in one series")
def _() -> Sequence[Sequence[Dataset]]:
    return [again(n, TemporalPositionIdentifier=n, AcquisitionNumber=n) for n in (1, 2, 3)]


@several("two echoes in one series")
def _() -> Sequence[Sequence[Dataset]]:
    return [magnetic(again(n, EchoNumbers=n, EchoTime=10 * n)) for n in (1, 2)]


@several("a localizer of the same size", says="(?i)localizer")
def _() -> Sequence[Sequence[Dataset]]:
    scout = again(2, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=list(CORONAL))
    return [stack(), scout]


@several("two pixel spacings")
def _() -> Sequence[Sequence[Dataset]]:
    return [stack(), again(2, PixelSpacing=["0.8", "0.8"])]


@several("two frames of reference")
def _() -> Sequence[Sequence[Dataset]]:
    return [stack(), again(2, FrameOfReferenceUID=uid(9, 2))]


@several("two orientations")
def _() -> Sequence[Sequence[Dataset]]:
    return [stack(), marked(stack(orientation=SAGITTAL), 2)]


@several("two sizes")
def _() -> Sequence[Sequence[Dataset]]:
    return [stack(), marked(stack(size=(8, 9)), 2)]


@several("three time points that InstanceNumber alone tells apart")
def _() -> Sequence[Sequence[Dataset]]:
    phases = [again(n) for n in (1, 2, 3)]
    for n, phase in enumerate(phases):
        for data in phase:
            data.InstanceNumber = 3 * (data.InstanceNumber - 1) + n + 1
    return phases


@several("two stacks in one series, tilted against each other")
def _() -> Sequence[Sequence[Dataset]]:
    return [stack(orientation=turned(10, 0, 0)), marked(stack(orientation=turned(-15, 0, 0), origin=(-30, 20, -40)), 2)]


@several("two studies of two patients")
def _() -> Sequence[Sequence[Dataset]]:
    other = {
        "StudyInstanceUID": uid(2),
        "SeriesInstanceUID": uid(2, 1),
        "FrameOfReferenceUID": uid(9, 2),
        "PatientID": "SECRET43",
    }
    return [stack(), again(2, **other)]


@refused("a radiograph among the slices", "ReadError", "2 volumes|several|series")
def _(series: list[Dataset]) -> list[Dataset]:
    return [*series, *copies(series[:1], 3, Modality="DX", SeriesInstanceUID=uid(1, 3), ImagePositionPatient=None)]


# -- files that say too little, or lie -----------------------------------------------------------------------------------------

for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):

    @refused(f"no {keyword}", "SeriesError", keyword)
    def _(series: list[Dataset], keyword: str = keyword) -> None:
        for data in series:
            delattr(data, keyword)

    @refused(f"one slice without {keyword}", "SeriesError", f"{keyword}|several|volumes|IM003", (3,))
    def _(series: list[Dataset], keyword: str = keyword) -> None:
        delattr(series[3], keyword)


@refused("pixel spacing of zero", "SeriesError", "PixelSpacing")
def _(series: list[Dataset]) -> None:
    for data in series:
        data.PixelSpacing = [0, 0]


@case("a position that is not a number", Refuses("SeriesError", "ImagePositionPatient|IM002", ("IM002.dcm",)))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    series[2].ImagePositionPatient = ["-30", "20", "-95.125"]
    write(series, folder)
    file = folder / "IM002.dcm"
    file.write_bytes(file.read_bytes().replace(b"-95.125", b"nan    "))
    return []


@refused("orientation of unequal axes", "SeriesError", "perpendicular")
def _(series: list[Dataset]) -> None:
    for data in series:
        data.ImageOrientationPatient = [1, 0, 0, 0.2, 1, 0]


@refused("a single slice without thickness", "SeriesError", "no depth")
def _(series: list[Dataset]) -> list[Dataset]:
    return [altered(series[0], SliceThickness=None)]


@case("a single slice")
def _(folder: Path) -> Sequence[Reads]:
    series = stack(1)
    write(series, folder)
    return [truth(series, remark="SliceThickness")]


@refused("colour images", "ReadError", "(?i)colour|RGB")
def _(series: list[Dataset]) -> None:
    for data in series:
        pixels = np.zeros((7, 9, 3), np.uint8).tobytes() + b"\0"
        altered(data, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, PixelData=pixels)
        altered(data, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)


def cut(name: str, keep: Callable[[bytes], bytes], error: str = "CorruptFileError") -> None:
    """One file that breaks off."""

    @case(name, Refuses(error, "IM003"))
    def _(folder: Path) -> Sequence[Reads]:
        write(stack(size=(64, 64)), folder)
        file = folder / "IM003.dcm"
        file.write_bytes(keep(file.read_bytes()))
        return []


cut("a file breaks off within its pixels", lambda raw: raw[:-100])
cut("a file breaks off before its pixels", lambda raw: raw[: raw.index(b"\x28\x00\x10\x00") + 40], "ReadError")
cut("a file breaks off after its preamble", lambda raw: raw[:200])
cut("a file is empty, and may have been any slice", lambda raw: raw[:0])


@refused("fewer bytes of pixels than rows and columns", "CorruptFileError", "IM002")
def _(series: list[Dataset]) -> None:
    series[2].PixelData = series[2].PixelData[:100]


@refused("rescale slope of zero", "CorruptFileError", "RescaleSlope")
def _(series: list[Dataset]) -> None:
    for data in series:
        altered(data, RescaleSlope=0, RescaleIntercept=0)


@case("deflated and cut", Refuses("CorruptFileError", "IM001"))
def _(folder: Path) -> Sequence[Reads]:
    write(stack(), folder, syntax=DeflatedExplicitVRLittleEndian)
    file = folder / "IM001.dcm"
    file.write_bytes(file.read_bytes()[:-60])
    return []

"""Series whose slices do not lie plainly: tilted gantries, holes, copies, uneven spacing; refused or repaired."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from helpers.bad_catalogue import case, covered, refused
from helpers.bad_series import (
    SAGITTAL,
    Reads,
    copies,
    linear,
    stack,
    stored,
    truth,
    turned,
    write,
)

# -- tilted gantries -----------------------------------------------------------------------------------------------------------


def tilted(name: str, tilt: float, **making: Any) -> None:
    """A sheared grid by default, exact; an upright one on request, linear."""

    @case(name)
    def sheared(folder: Path) -> Sequence[Reads]:
        series = stack(tilt=tilt, **making)
        write(series, folder)
        return [truth(series, remark=f"tilt of {tilt:g} degrees")]

    @case(f"{name}, made upright", repair=("tilt",))
    def upright(folder: Path) -> Sequence[Reads]:
        series = stack(tilt=tilt, scene=linear, **making)
        write(series, folder)
        return [
            Reads(
                linear=True,
                voxels=covered(series),
                repair=f"a tilt of {abs(tilt):g} degrees, onto an upright grid",
                interpolated=len(series),
            )
        ]


for angle in (15, -15, -20):
    tilted(f"gantry tilted by {angle} degrees", angle)
tilted("gantry tilted, oblique", 12.5, orientation=turned(20, 10, -5))
tilted("gantry tilted, sagittal", -18, orientation=SAGITTAL)
tilted("gantry tilted, slices descend", 15, heights=[-2.5 * k for k in range(6)])
tilted("gantry tilted, two slices", 10, heights=[0.0, 5.0])


# -- slices that do not lie evenly ---------------------------------------------------------------------------------------------


@refused("a slice is missing", "MissingSlicesError", "1 of 6 slices are missing.*between IM002.dcm and IM003.dcm", (2, 3))
def _(series: list[Dataset]) -> list[Dataset]:
    return series[:3] + series[4:]


@refused("the last slice but one is missing", "MissingSlicesError", "IM003.dcm and IM004.dcm", (3, 4))
def _(series: list[Dataset]) -> list[Dataset]:
    return series[:4] + series[5:]


@refused("two slices are missing, apart", "MissingSlicesError", "2 of 9 slices", (1, 2, 4, 5))
def _(series: list[Dataset]) -> list[Dataset]:
    return [data for index, data in enumerate(stack(9)) if index not in (2, 6)]


@refused("a slice is missing, gantry tilted", "MissingSlicesError", "1 of 6", (2, 3))
def _(series: list[Dataset]) -> list[Dataset]:
    tilted = stack(tilt=-15)
    return tilted[:3] + tilted[4:]


@case("a slice is missing, interpolated", repair=("gap",))
def _(folder: Path) -> Sequence[Reads]:
    series = stack(scene=linear)
    write(series[:3] + series[4:], folder)
    return [
        Reads(
            linear=True,
            voxels=covered(series),
            shape=(9, 7, 6),
            repair="interpolated 1 missing slice of 6.*IM002.dcm and IM003.dcm",
            interpolated=1,
        )
    ]


@case("a slice is missing, interpolated, gantry tilted", repair=("gap",))
def _(folder: Path) -> Sequence[Reads]:
    series = stack(scene=linear, tilt=20)
    write(series[:3] + series[4:], folder)
    return [
        Reads(
            linear=True,
            voxels=covered(series),
            shape=(9, 7, 6),
            repair="interpolated 1 missing",
            remark="tilt of 20 degrees",
            interpolated=1,
        )
    ]


@case("a slice is missing, interpolated and made upright", repair=("gap", "tilt"))
def _(folder: Path) -> Sequence[Reads]:
    series = stack(scene=linear, tilt=20, orientation=turned(0, 30, 0))
    write(series[:3] + series[4:], folder)
    return [Reads(linear=True, voxels=covered(series), repair="upright grid", interpolated=6)]


@refused(
    "a copy of a slice",
    "DuplicateSlicesError",
    "1 of 7 images lie at the position of another, as IM002.dcm and IM006.dcm",
    (2, 6),
)
def _(series: list[Dataset]) -> list[Dataset]:
    return [*series, *copies(series[2:3], 2, InstanceNumber=3)]


@refused("another image at the place of a slice", "DuplicateSlicesError", "IM002.dcm and IM006.dcm", (2, 6))
def _(series: list[Dataset]) -> list[Dataset]:
    return [*series, *_other(series[2])]


@refused("another image at a place, copies dropped", "DuplicateSlicesError", "no exact copies", (2, 6), repair=("duplicates",))
def _(series: list[Dataset]) -> list[Dataset]:
    return [*series, *_other(series[2])]


def _other(data: Dataset) -> list[Dataset]:
    return copies([data], 2, InstanceNumber=3, PixelData=(stored(data) + 1).astype(np.int16).tobytes())


@case("copies dropped", repair=("duplicates",))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    write([*series, *copies(series[1:3], 2)], folder)
    return [truth(series, repair="dropped 2 exact copies of slices: IM006.dcm, IM007.dcm")]


@case("the whole series twice, copies dropped", repair=("duplicates",))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    write(series, folder / "a")
    write(copies(series, 2), folder / "b")
    return [truth(series, repair="dropped 6 exact copies")]


@case("copies in a zip archive dropped", repair=("duplicates",))
def _(folder: Path) -> Sequence[Reads]:
    series = stack()
    write([*series, *copies(series[1:3], 2)], folder / "unpacked")
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        for file in sorted((folder / "unpacked").iterdir()):
            archive.write(file, file.name)
            file.unlink()
    (folder / "unpacked").rmdir()
    return [truth(series, repair="dropped 2 exact copies")]


@refused("a slice is missing and another doubled", "SeriesError", "IM002", repair=("gap",))
def _(series: list[Dataset]) -> list[Dataset]:
    return [*series[:4], *series[5:], *copies(series[2:3], 2)]


@case("a slice is missing and another doubled, both repaired", repair=("gap", "duplicates"))
def _(folder: Path) -> Sequence[Reads]:
    series = stack(scene=linear)
    write([*series[:4], *series[5:], *copies(series[2:3], 2)], folder)
    return [
        Reads(
            linear=True,
            voxels=covered(series),
            shape=(9, 7, 6),
            repair="dropped 1 exact copy.*interpolated 1 missing",
            interpolated=1,
        )
    ]


UNEVEN = {
    "one slice is out of place": [0, 2.5, 5, 8.2, 10, 12.5],
    "spacing grows smoothly": [0, 2.5, 5.1, 7.8, 10.6, 13.5],
    "spacing changes once": [0, 2.5, 5, 10, 15, 20, 25],
    "irregular jitter of 0.3 mm": [0, 2.8, 4.7, 7.6, 10.2, 12.3],
}
for name, heights in UNEVEN.items():

    @refused(name, "SpacingError", "unevenly spaced")
    def _(series: list[Dataset], heights: Sequence[float] = heights) -> list[Dataset]:
        return stack(heights=heights)

    @case(f"{name}, resampled", repair=("spacing",))
    def _(folder: Path, heights: Sequence[float] = heights) -> Sequence[Reads]:
        series = stack(heights=heights, scene=linear)
        write(series, folder)
        return [Reads(linear=True, voxels=covered(series), repair=f"resampled {len(heights)} uneven slices", interpolated=-1)]


@refused("slices shift sideways at random", "SpacingError", "shift sideways unevenly", (3,))
def _(series: list[Dataset]) -> None:
    series[3].ImagePositionPatient[0] += 4


@refused("all positions are one", "ReadError", "all 6 images lie at one position|holds 6 volumes")
def _(series: list[Dataset]) -> None:
    for data in series:
        data.ImagePositionPatient = [0, 0, 0]


@refused("slices run along their own plane", "SeriesError", "off the normal")
def _(series: list[Dataset]) -> None:
    for index, data in enumerate(series):
        data.ImagePositionPatient = [0, 20 * index, 0.5 * index]

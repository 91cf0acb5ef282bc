"""Options of reading images: series, repairs, polarity, pixel size, SUV, DPI, NIfTI transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from voxelry.errors import UsageError, nearest

Polarity = Literal["dense-bright", "stored"]
PixelSize = Literal["auto", "calibrated", "imager", "none"]
Transform = Literal["sform", "qform"]
Repair = Literal["gap", "duplicates", "spacing", "tilt"]

POLARITIES: tuple[str, ...] = get_args(Polarity)
PIXEL_SIZES: tuple[str, ...] = get_args(PixelSize)
TRANSFORMS: tuple[str, ...] = get_args(Transform)
REPAIRS: tuple[str, ...] = get_args(Repair)


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading an image; by default nothing is repaired, rescaled or chosen.

    Attributes:
        series: which of several volumes: a SeriesInstanceUID, ``largest``, or ``key=value`` as `inspect` lists them.
        repair: permitted repairs, recorded in `Source.repairs`: ``gap`` interpolates missing slices, ``duplicates`` drops exact
            copies, ``spacing`` resamples uneven slices to a regular grid, ``tilt`` resamples a sheared grid to an orthogonal one.
        polarity: polarity of radiographs: ``dense-bright`` makes dense tissue bright, ``stored`` leaves values alone.
        pixel_size: pixel size of radiographs: ``auto`` (calibrated, else by the imager with magnification, else none),
            ``calibrated``, ``imager``, or ``none``.
        suv: scale PET to standardised uptake values by body weight.
        dpi: take the pixel size of a picture from its DPI.
        transform: which affine of a NIfTI file is preferred where both are coded and differ.
    """

    series: str | None = None
    repair: tuple[Repair, ...] = ()
    polarity: Polarity = "dense-bright"
    pixel_size: PixelSize = "auto"
    suv: bool = False
    dpi: bool = False
    transform: Transform = "sform"

    def __post_init__(self) -> None:
        for policy in self.repair:
            _check("repair", policy, REPAIRS)
        _check("polarity", self.polarity, POLARITIES)
        _check("pixel_size", self.pixel_size, PIXEL_SIZES)
        _check("transform", self.transform, TRANSFORMS)


def _check(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{what} {value!r} is unknown", remedy=nearest(value, known))


PLAIN = ReadOptions()
"""The defaults."""

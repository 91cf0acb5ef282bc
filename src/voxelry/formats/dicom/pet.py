"""PET elements of a DICOM image: injected dose, half-life, body weight, times and decay correction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from voxelry.formats.dicom.elements import text_of

PET_TAGS = (
    "DecayCorrection",
    "CorrectedImage",
    "SUVType",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ActualFrameDuration",
    "RadiopharmaceuticalInformationSequence",
    0x70531000,
    0x70531009,
)
"""The elements that `pet_facts` reads; the last two are Philips'."""


@dataclass(frozen=True)
class PetFacts:
    """Dose, body weight and times of a PET image; None where they are missing.

    Attributes:
        decay_correction: DecayCorrection: ``START``, ``ADMIN`` or ``NONE``.
        corrections: CorrectedImage: ``DECY``, ``ATTN``...
        suv_type: SUVType of images in GML: ``BW``, ``LBM``...
        weight: body weight in kg.
        dose: injected dose in Bq at the time of injection.
        half_life: half-life of the radionuclide in s.
        injected: time of injection, with the date of the series where only a time is stored.
        series_start: start of the series.
        acquired: start of the acquisition.
        duration: duration of the frame in s.
        suv_factor: Philips: factor from stored counts to SUV.
        activity_factor: Philips: factor from stored counts to Bq/ml.
    """

    decay_correction: str
    corrections: tuple[str, ...]
    suv_type: str
    weight: float | None
    dose: float | None
    half_life: float | None
    injected: datetime | None
    series_start: datetime | None
    acquired: datetime | None
    duration: float | None
    suv_factor: float | None
    activity_factor: float | None


def pet_facts(data: Any) -> PetFacts:
    """The elements of a PET data set; missing and unreadable ones are None."""
    tracer = _item(data, "RadiopharmaceuticalInformationSequence")
    series_start = _moment(_text(data, "SeriesDate") + _text(data, "SeriesTime"))
    acquired = _moment(_text(data, "AcquisitionDate") + _text(data, "AcquisitionTime"))
    day = _text(data, "SeriesDate") or _text(data, "AcquisitionDate")
    duration = _positive(_text(data, "ActualFrameDuration"))
    return PetFacts(
        decay_correction=_text(data, "DecayCorrection").upper(),
        corrections=tuple(value.strip().upper() for value in _text(data, "CorrectedImage").split("\\")),
        suv_type=_text(data, "SUVType").upper(),
        weight=_positive(_text(data, "PatientWeight")),
        dose=_positive(_text(tracer, "RadionuclideTotalDose")),
        half_life=_positive(_text(tracer, "RadionuclideHalfLife")),
        injected=_injected(tracer, day, acquired or series_start),
        series_start=series_start,
        acquired=acquired,
        duration=None if duration is None else duration / 1000,
        suv_factor=_positive(_private(data, 0x70531000)),
        activity_factor=_positive(_private(data, 0x70531009)),
    )


def _injected(tracer: Any, day: str, before: datetime | None) -> datetime | None:
    """The time of injection; a time without a date is on the day of the series, or the day before if it would be too late."""
    injected = _moment(_text(tracer, "RadiopharmaceuticalStartDateTime"))
    if injected is not None:
        return injected
    time = _text(tracer, "RadiopharmaceuticalStartTime")
    moment = _moment(day + time) if time else None
    if moment is not None and before is not None and moment > before:
        moment -= timedelta(days=1)
    return moment


def _moment(text: str) -> datetime | None:
    """A DICOM date and time, ``YYYYMMDDHHMMSS.ffffff`` without the time zone; None where either is missing."""
    whole, _, fraction = text.replace(":", "").partition(".")
    fraction = fraction.split("+")[0].split("-")[0]
    whole = whole.split("+")[0].split("-")[0]
    if len(whole) not in (10, 12, 14) or not whole.isdigit():
        return None
    try:
        base = datetime.strptime(whole.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return base + timedelta(seconds=float(f"0.{fraction}")) if fraction.isdigit() else base


def _positive(text: str) -> float | None:
    try:
        value = float(text.split("\\")[0])
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _text(data: Any, keyword: str) -> str:
    return "" if data is None else text_of(data, keyword)


def _private(data: Any, tag: int) -> str:
    """A private decimal string, which pydicom returns as bytes where the file does not state its representation."""
    value = data[tag].value if tag in data else ""
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else str(value)


def _item(data: Any, keyword: str) -> Any:
    """The first item of a sequence, or None."""
    sequence = data.get(keyword)
    return sequence[0] if sequence else None

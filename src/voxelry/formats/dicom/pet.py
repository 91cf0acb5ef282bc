"""PET: from activity to standardised uptake values by body weight, when asked for.

``SUVbw = activity concentration [Bq/ml] * body weight [g] / injected dose [Bq], decayed to the same moment``

(Thie, J Nucl Med 2004;45:1431; the rules for which moment follow the QIBA FDG-PET/CT profile, appendix G.) DecayCorrection
(DICOM PS3.3 section C.8.9.1) says which moment the stored values hold for:

* ``START``: the start of the series: SeriesTime, or the first AcquisitionTime where SeriesTime is later (a derived series).
* ``ADMIN``: the injection: the dose has not decayed.
* ``NONE``: each image its own: the moment in its frame at which activity equals the mean over ActualFrameDuration, from
  AcquisitionTime on.

Units are BQML; CNTS by Philips' factors (7053,1000) or (7053,1009); GML, which is SUV already. Anything else, and whatever is
missing, is an error that names the element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from voxelry.errors import UnsupportedFormatError, UsageError
from voxelry.formats.dicom.voi import rescaled_windows

if TYPE_CHECKING:
    from voxelry.formats.dicom.header import DicomHeader

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
"""The elements that `pet_facts` looks at; the last two are Philips'."""

_NAMES = {
    "weight": "PatientWeight (0010,1030)",
    "dose": "RadionuclideTotalDose (0018,1074)",
    "half_life": "RadionuclideHalfLife (0018,1075)",
    "injected": "RadiopharmaceuticalStartDateTime (0018,1078) or RadiopharmaceuticalStartTime (0018,1072)",
    "series_start": "SeriesDate (0008,0021) and SeriesTime (0008,0031)",
    "acquired": "AcquisitionDate (0008,0022) and AcquisitionTime (0008,0032)",
}


@dataclass(frozen=True)
class PetFacts:
    """What a PET image says of its dose and its clock; None where it says nothing.

    Attributes:
        decay_correction: ``START``, ``ADMIN`` or ``NONE``.
        corrections: CorrectedImage: ``DECY``, ``ATTN``...
        suv_type: of images in GML: ``BW``, ``LBM``...
        weight: of the patient in kg.
        dose: injected, in Bq at `injected`.
        half_life: in s.
        injected, series_start, acquired: moments; `injected` with the date of the series where only a time is stored.
        duration: of the frame, in s.
        suv_factor: Philips: from stored counts to SUV.
        activity_factor: Philips: from stored counts to Bq/ml.
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
    """What the data set of a PET image says; nothing is refused here."""
    tracer = _item(data, "RadiopharmaceuticalInformationSequence")
    series_start = _moment(_text(data, "SeriesDate") + _text(data, "SeriesTime"))
    acquired = _moment(_text(data, "AcquisitionDate") + _text(data, "AcquisitionTime"))
    day = _text(data, "SeriesDate") or _text(data, "AcquisitionDate")
    duration = _positive(_text(data, "ActualFrameDuration"))
    return PetFacts(
        decay_correction=_text(data, "DecayCorrection").upper(),
        corrections=tuple(part.strip().upper() for part in _text(data, "CorrectedImage").split("\\")),
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


def as_suv(images: Sequence[DicomHeader], where: str) -> tuple[list[DicomHeader], str]:
    """The images of a series with a rescale that gives SUV by body weight, in g/ml.

    Args:
        images: planes of one PET series.
        where: the file or folder, for messages.

    Returns:
        The planes with slope and intercept multiplied, in the same order, and a remark that says how.

    Raises:
        UsageError: the series is no PET.
        UnsupportedFormatError: units or a decay correction that SUV cannot be computed from, or an element is missing.
    """
    kinds = sorted({image.modality or "?" for image in images} - {"PT"})
    if kinds:
        raise UsageError(f"{where}: standardised uptake values are of PET, this is {', '.join(kinds)}", remedy="Leave SUV out.")
    moments = [image.pet.acquired for image in images if image.pet is not None and image.pet.acquired is not None]
    first = min(moments, default=None)
    found = [_factor(image, first) for image in images]
    scaled = [
        replace(
            image,
            slope=image.slope * factor,
            intercept=image.intercept * factor,
            windows=rescaled_windows(image.windows, factor),
        )
        for image, (factor, _) in zip(images, found, strict=True)
    ]
    return scaled, f"SUV by body weight: {found[0][1]}"


def _factor(image: DicomHeader, first: datetime | None) -> tuple[float, str]:
    """From rescaled stored values to SUV, and how it was found."""
    facts = image.pet
    if facts is None:
        raise _missing(image, "the elements of a PET image")
    if image.units == "GML":
        if facts.suv_type not in ("", "BW"):
            raise _refused(image, f"Units GML are SUV by {facts.suv_type}, not by body weight")
        return 1.0, "stored as such (GML)"
    if image.units == "CNTS" and facts.suv_factor is not None:
        return facts.suv_factor, f"stored counts times (7053,1000) {facts.suv_factor:g}"
    if image.units == "BQML":
        activity = 1.0
    elif image.units == "CNTS" and facts.activity_factor is not None:
        activity = facts.activity_factor
    elif image.units == "CNTS":
        raise _missing(image, "the factor (7053,1000) or (7053,1009), without which counts are of an unknown scale")
    else:
        raise _refused(image, f"Units {image.units or '(empty)'} cannot become SUV; BQML, CNTS and GML can")
    weight, dose = _need(image, "weight"), _need(image, "dose")
    decayed = dose * _remaining(image, facts, first)
    how = f"{weight:g} kg, {dose / 1e6:.4g} MBq, DecayCorrection {facts.decay_correction}"
    return activity * weight * 1000 / decayed, how


def _remaining(image: DicomHeader, facts: PetFacts, first: datetime | None) -> float:
    """The part of the injected dose that is left at the moment the image's values hold for."""
    if facts.decay_correction == "ADMIN":
        return 1.0
    half_life, injected = _need(image, "half_life"), _need(image, "injected")
    if facts.decay_correction == "START":
        start = facts.series_start
        moment = start if start is not None and (first is None or start <= first) else first
        if moment is None:
            raise _missing(image, _NAMES["series_start"])
        seconds = (moment - injected).total_seconds()
    elif facts.decay_correction == "NONE":
        seconds = (_need(image, "acquired") - injected).total_seconds() + _mean_moment(facts.duration or 0.0, half_life)
    else:
        raise _refused(image, f"DecayCorrection (0054,1102) is '{facts.decay_correction}', not START, ADMIN or NONE")
    if seconds < 0:
        raise _refused(image, f"the dose was injected {-seconds:g} s after the image's moment")
    return float(2 ** (-seconds / half_life))


def _mean_moment(duration: float, half_life: float) -> float:
    """Seconds into a frame at which activity equals its mean over the frame."""
    decay = math.log(2) / half_life
    return math.log(decay * duration / -math.expm1(-decay * duration)) / decay if duration else 0.0


def _need(image: DicomHeader, name: str) -> Any:
    value = getattr(image.pet, name)
    if value is None:
        raise _missing(image, _NAMES[name])
    return value


def _missing(image: DicomHeader, element: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"{image.path}: SUV cannot be computed without {element}", remedy="Read it without SUV, or export it with this element."
    )


def _refused(image: DicomHeader, problem: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(f"{image.path}: {problem}", remedy="Read it without SUV.")


def _injected(tracer: Any, day: str, before: datetime | None) -> datetime | None:
    """The moment of injection; a time alone is on the day of the series, or the day before where that would be too late."""
    stated = _moment(_text(tracer, "RadiopharmaceuticalStartDateTime"))
    if stated is not None:
        return stated
    time = _text(tracer, "RadiopharmaceuticalStartTime")
    moment = _moment(day + time) if time else None
    if moment is not None and before is not None and moment > before:
        moment -= timedelta(days=1)
    return moment


def _moment(text: str) -> datetime | None:
    """A DICOM date and time as ``YYYYMMDDHHMMSS.ffffff``, the clock's zone left out; None where either is missing."""
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
    from voxelry.formats.dicom.header import text_of

    return "" if data is None else text_of(data, keyword)


def _private(data: Any, tag: int) -> str:
    """A private decimal string, which files with implicit representations hold as bytes."""
    value = data[tag].value if tag in data else ""
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else str(value)


def _item(data: Any, keyword: str) -> Any:
    """The first item of a sequence, or None."""
    sequence = data.get(keyword)
    return sequence[0] if sequence else None

"""Standardised uptake values (SUV) of PET by body weight, computed when asked for.

``SUVbw = activity concentration [Bq/ml] * body weight [g] / injected dose [Bq], decayed to the same time``

(Thie, J Nucl Med 2004;45:1431; the rules for that time follow the QIBA FDG-PET/CT profile, appendix G.) DecayCorrection
(DICOM PS3.3 section C.8.9.1) states the time that the stored values refer to:

* ``START``: the start of the series: SeriesTime, or the first AcquisitionTime where SeriesTime is later (a derived series).
* ``ADMIN``: the injection; the dose has not decayed.
* ``NONE``: the time within each frame, from AcquisitionTime on, at which activity equals its mean over ActualFrameDuration.

Units are BQML; CNTS with Philips' factors (7053,1000) or (7053,1009); or GML, which is SUV already. Any other unit, and a missing
element, is an error that names the element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from voxelry.errors import UnsupportedFormatError, UsageError
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pet import PetFacts
from voxelry.formats.dicom.voi import rescaled_windows

_NAMES = {
    "weight": "PatientWeight (0010,1030)",
    "dose": "RadionuclideTotalDose (0018,1074)",
    "half_life": "RadionuclideHalfLife (0018,1075)",
    "injected": "RadiopharmaceuticalStartDateTime (0018,1078) or RadiopharmaceuticalStartTime (0018,1072)",
    "series_start": "SeriesDate (0008,0021) and SeriesTime (0008,0031)",
    "acquired": "AcquisitionDate (0008,0022) and AcquisitionTime (0008,0032)",
}


def as_suv(images: Sequence[DicomHeader], where: str) -> tuple[list[DicomHeader], str]:
    """Change the rescale of PET planes so that grey values are SUV by body weight, in g/ml.

    Args:
        images: planes of one PET series.
        where: the file or folder, for messages.

    Returns:
        The planes with slope and intercept multiplied, in the same order, and a remark on the computation.

    Raises:
        UsageError: the series is not PET.
        UnsupportedFormatError: SUV cannot be computed from these units or this decay correction, or an element is missing.
    """
    modalities = sorted({image.modality or "?" for image in images} - {"PT"})
    if modalities:
        raise UsageError(
            f"{where}: standardised uptake values are of PET, this is {', '.join(modalities)}", remedy="Leave SUV out."
        )
    times = [image.pet.acquired for image in images if image.pet is not None and image.pet.acquired is not None]
    first = min(times, default=None)
    factors = [_factor(image, first) for image in images]
    scaled = [
        replace(
            image,
            slope=image.slope * factor,
            intercept=image.intercept * factor,
            windows=rescaled_windows(image.windows, factor),
        )
        for image, (factor, _) in zip(images, factors, strict=True)
    ]
    return scaled, f"SUV by body weight: {factors[0][1]}"


def _factor(image: DicomHeader, first: datetime | None) -> tuple[float, str]:
    """The factor from rescaled stored values to SUV, and a description of its computation."""
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
    weight, dose = _required(image, "weight"), _required(image, "dose")
    remaining_dose = dose * _remaining_fraction(image, facts, first)
    how = f"{weight:g} kg, {dose / 1e6:.4g} MBq, DecayCorrection {facts.decay_correction}"
    return activity * weight * 1000 / remaining_dose, how


def _remaining_fraction(image: DicomHeader, facts: PetFacts, first: datetime | None) -> float:
    """The fraction of the injected dose that remains at the time the image's values refer to."""
    if facts.decay_correction == "ADMIN":
        return 1.0
    half_life, injected = _required(image, "half_life"), _required(image, "injected")
    if facts.decay_correction == "START":
        start = facts.series_start
        moment = start if start is not None and (first is None or start <= first) else first
        if moment is None:
            raise _missing(image, _NAMES["series_start"])
        seconds = (moment - injected).total_seconds()
    elif facts.decay_correction == "NONE":
        seconds = (_required(image, "acquired") - injected).total_seconds() + _mean_moment(facts.duration or 0.0, half_life)
    else:
        raise _refused(image, f"DecayCorrection (0054,1102) is '{facts.decay_correction}', not START, ADMIN or NONE")
    if seconds < 0:
        raise _refused(image, f"the dose was injected {-seconds:g} s after the image's moment")
    return float(2 ** (-seconds / half_life))


def _mean_moment(duration: float, half_life: float) -> float:
    """Seconds into a frame at which activity equals its mean over the frame."""
    decay = math.log(2) / half_life
    return math.log(decay * duration / -math.expm1(-decay * duration)) / decay if duration else 0.0


def _required(image: DicomHeader, name: str) -> Any:
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

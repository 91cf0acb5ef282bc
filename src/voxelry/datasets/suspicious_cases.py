"""Suspicious cases: those that are unlike the others of their dataset, in sentences to look into. Nothing here is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from voxelry.core.labels import LabelTable
from voxelry.core.sides import side_of
from voxelry.datasets.case_profile import ABSENT, CaseProfile
from voxelry.datasets.mask_fit import MaskFit

FEWEST_CASES = 8
"""With fewer there is no saying what is usual."""

_FAR = 5.0
"""Robust standard deviations (1.4826 times the median distance from the median) from which a value is suspicious."""

_FARTHEST_PLACE = 0.12
"""A label's centre is suspicious only where it is off by this share of the image, too."""

_NO_STEP = 0.25
"""A mask whose step of grey values is below this share of the usual step does not fit."""

_GOOD_STEP = 0.6
"""Moved or mirrored, it fits where the step is at least this share."""

_ONE_SIGN = 0.9
"""The step says something only where it has the same sign in this share of the cases."""

_MANY = 0.1
"""Where a larger share of the cases is far from the others, the dataset has several kinds of cases, and none is suspicious."""

Suspicion = tuple[str, str]
"""Id of a case, and the sentence."""


def suspicious_cases(profiles: Sequence[CaseProfile], table: LabelTable) -> list[Suspicion]:
    """Find cases that are unlike the others: volumes, places, grey values, spacing, masks that do not fit, sides exchanged.

    Args:
        profiles: of all cases that could be read.
        table: the dataset's labels.

    Returns:
        In the order of the cases.

    Example:
        >>> from voxelry.core import LabelTable
        >>> suspicious_cases([], LabelTable.from_id2label({1: "liver"}))
        []
    """
    suspicions = [*_exchanged(profiles, table), *_misfits(profiles), *_unusual(profiles, table)]
    order = {profile.id: number for number, profile in enumerate(profiles)}
    return sorted(suspicions, key=lambda suspicion: order[suspicion[0]])


def _exchanged(profiles: Sequence[CaseProfile], table: LabelTable) -> list[Suspicion]:
    """Labels of the left that lie farther right than their twins."""
    twins = [
        (label.name, label.mirror)
        for label in table.labels
        if label.mirror and label.mirror in table.names and side_of(label.name) == "left" and side_of(label.mirror) == "right"
    ]
    suspicions = []
    for profile in profiles:
        for left, right in twins if profile.orientation else ():
            places = [profile.labels[name].place if name in profile.labels else None for name in (left, right)]
            if places[0] is not None and places[1] is not None and places[0][0] > places[1][0]:
                suspicions.append((profile.id, f"'{left}' lies to the right of '{right}': are left and right exchanged?"))
    return suspicions


def _misfits(profiles: Sequence[CaseProfile]) -> list[Suspicion]:
    """Masks at whose surface grey values do not change as they do in other cases."""
    fits = [(profile, profile.fit) for profile in profiles if profile.fit is not None]
    if len(fits) < FEWEST_CASES:
        return []
    usual = float(np.median([fit.step for _, fit in fits]))
    sign = np.sign(usual)
    if np.mean([np.sign(fit.step) == sign or abs(fit.step) < _NO_STEP * abs(usual) for _, fit in fits]) < _ONE_SIGN:
        return []
    suspicions = []
    for profile, fit in fits:
        if fit.step * sign < _NO_STEP * abs(usual):
            step = f"grey values change by {fit.step:+.2f} of their range at the mask's surface, in other cases by {usual:+.2f}"
            suspicions.append((profile.id, f"the mask may not fit the image: {step}{_explained(fit, usual)}"))
    return suspicions


def _explained(fit: MaskFit, usual: float) -> str:
    """What would make the mask fit, as the end of a sentence."""
    wanted = _GOOD_STEP * abs(usual)
    best, shift = (fit.highest, fit.highest_shift) if usual > 0 else (-fit.lowest, fit.lowest_shift)
    mirrored = [step * np.sign(usual) for step in fit.mirrored]
    axis = int(np.argmax(mirrored))
    if mirrored[axis] >= max(wanted, best):
        return f"; mirrored along axis {axis} it would fit"
    if best >= wanted:
        return f"; moved by {shift} voxels it would fit"
    return ""


def _unusual(profiles: Sequence[CaseProfile], table: LabelTable) -> list[Suspicion]:
    """Values far from those of the other cases."""
    suspicions: list[Suspicion] = []
    for what, unit, least, values in _columns(profiles, table):
        known = [(profile, value) for profile, value in zip(profiles, values, strict=True) if value is not None]
        if len(known) >= FEWEST_CASES:
            numbers = np.array([value for _, value in known])
            far = far_values(numbers, least)
            for place in np.flatnonzero(far) if far.mean() <= _MANY else ():
                text = f"{what} is {numbers[place]:.4g}{unit}, in other cases {np.median(numbers):.4g}{unit}"
                suspicions.append((known[place][0].id, text))
    return [*suspicions, *_odd_orientations(profiles)]


def _columns(profiles: Sequence[CaseProfile], table: LabelTable) -> Iterator[tuple[str, str, float, list[float | None]]]:
    """What is compared: in words, its unit, the least distance that matters, and the value of each case."""
    unit, axes = size_unit(profiles), _axis_names(profiles)
    for label in table.names:
        own = [profile.labels.get(label) or ABSENT for profile in profiles]
        yield f"the size of '{label}'", f" {unit}", 0.0, [each.size if each.voxels else None for each in own]
        for axis, name in enumerate(axes):
            what = f"the centre of '{label}' from {name}, as a share of the image,"
            yield what, "", _FARTHEST_PLACE, [each.place[axis] if each.place else None for each in own]
    for channel in range(min((len(profile.histograms) for profile in profiles), default=0)):
        histograms = [profile.histograms[channel] for profile in profiles]
        name = histograms[0].channel
        yield f"the median grey value of {name}", "", 0.0, [histogram.median for histogram in histograms]
        yield f"percentile 99.5 of the grey values of {name}", "", 0.0, [histogram.high for histogram in histograms]
    for axis in range(min((len(profile.shape) for profile in profiles), default=0)):
        spacings = [profile.spacing[axis] if profile.spacing else None for profile in profiles]
        yield f"the spacing along axis {axis}", " mm", 0.0, spacings


def far_values(values: NDArray[np.float64], least: float = 0.0) -> NDArray[np.bool_]:
    """``(N,)``: values more than `_FAR` robust standard deviations, and more than `least`, from the median."""
    distance = np.abs(values - np.median(values))
    spread = max(1.4826 * float(np.median(distance)), 0.02 * abs(float(np.median(values))), 1e-9)
    result: NDArray[np.bool_] = (distance > _FAR * spread) & (distance > least)
    return result


def size_unit(profiles: Sequence[CaseProfile]) -> str:
    """The unit of sizes: ml, mm^2 of pictures, voxels where their size is unknown."""
    if any(profile.spacing is None for profile in profiles):
        return "voxels"
    return "ml" if all(profile.orientation for profile in profiles) else "mm^2"


def _axis_names(profiles: Sequence[CaseProfile]) -> tuple[str, ...]:
    if all(profile.orientation for profile in profiles):
        return ("left to right", "back to front", "feet to head")
    return tuple(f"axis {axis}" for axis in range(min((len(profile.shape) for profile in profiles), default=0)))


def _odd_orientations(profiles: Sequence[CaseProfile]) -> list[Suspicion]:
    """Cases whose axes run otherwise than those of nearly all others."""
    orientations = Counter(profile.orientation for profile in profiles)
    if len(profiles) < FEWEST_CASES:
        return []
    usual, count = orientations.most_common(1)[0]
    odd = [profile for profile in profiles if profile.orientation != usual]
    if count < _ONE_SIGN * len(profiles):
        return []
    return [(profile.id, f"its axes run {profile.orientation}, those of {count} other cases {usual}") for profile in odd]

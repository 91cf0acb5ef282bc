"""Lesions of one patient over several dates: numbers that stay with a lesion, and what happens to it from date to date."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from voxelry.base.listing import shown
from voxelry.cohort.lesion_matching import LesionChange, lesion_changes
from voxelry.cohort.registration import Registration, Transform, register
from voxelry.core.labels import Label, LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import GeometryError, LabelError, UsageError
from voxelry.metrics.instances import connected_objects

_LONGEST_NAME = 64


@dataclass(frozen=True, eq=False)
class Examination:
    """A patient at one date.

    Attributes:
        name: in tables and messages.
        date: when it was.
        volume: the scan.
        labels: on the scan's grid, with the lesions among them.

    Example:
        >>> from datetime import date
        >>> from voxelry.cohort import Examination
        >>> from voxelry.phantom import small_phantom
        >>> phantom = small_phantom()
        >>> Examination("first", date(2026, 1, 5), phantom.volume, phantom.labels).date.isoformat()
        '2026-01-05'
    """

    name: str
    date: date
    volume: Volume
    labels: LabelMap


@dataclass(frozen=True)
class DatedChange:
    """What happened from one date to the next.

    Attributes:
        label: the label of the lesions.
        later: place of the later date, from 1.
        change: the change; ids are the numbers of lesions over all dates.
    """

    label: str
    later: int
    change: LesionChange


@dataclass(frozen=True, eq=False)
class FollowUp:
    """A patient over time.

    Attributes:
        examinations: in the order of their dates; instance ids of lesions are numbers that stay with a lesion from date to date,
            and `Source.tracking` of the labels has a tracking id and UID for each.
        registrations: from the first examination to each later one.
        changes: in the order of dates, then of lesions.
    """

    examinations: tuple[Examination, ...]
    registrations: tuple[Registration, ...]
    changes: tuple[DatedChange, ...]


@dataclass
class _Numbers:
    """The numbers that lesions have over all dates."""

    tracking: dict[int, tuple[str, str]] = field(default_factory=dict)

    def new(self, label: str, about: str, known: tuple[str, str] | None) -> int:
        """The next number; `about` tells the lesion from any other, `known` is what its file tracks it by."""
        number = len(self.tracking) + 1
        digest = hashlib.sha256(f"lesion {about}".encode()).digest()[:16]
        name = f"{label[: _LONGEST_NAME - len(str(number)) - 1]} {number}"
        self.tracking[number] = known or (name, f"2.25.{UUID(bytes=digest).int}")
        return number


def compare_dates(
    examinations: Sequence[Examination], lesions: Sequence[str] = (), transform: Transform = "affine", tolerance: float = 2.0
) -> FollowUp:
    """Register the examinations of a patient, and match their lesions from each date to the next.

    A lesion keeps its number while it is there. Of one that splits the largest piece keeps it, and one that several merged into
    has that of the largest of them. Every later examination is registered to the first, so that errors do not add up.

    Args:
        examinations: two or more, in any order.
        lesions: names of the labels whose objects are followed; empty for those of kind ``thing``, or for the only label.
            Without instance ids the objects are connected components.
        transform: ``rigid``, or ``affine`` after a rigid one.
        tolerance: mm by which lesions of two dates may miss each other.

    Returns:
        Numbered lesions, registrations and changes.

    Raises:
        UsageError: fewer than two dates, or a date twice.
        LabelError: labels that are not there, or none to follow.
        GeometryError: pictures, or scans that cannot be registered.

    Example:
        >>> from datetime import date
        >>> from voxelry.cohort import Examination
        >>> from voxelry.phantom import coarse_acquisition, dated_phantoms
        >>> dated, _ = dated_phantoms(3, acquisition=coarse_acquisition("torso-ct"), fates=("vanish",))
        >>> days = (date(2026, 1, 5), date(2026, 4, 7))
        >>> course = compare_dates(
        ...     [Examination(str(d), d, e.phantom.volume, e.phantom.labels) for d, e in zip(days, dated)], transform="rigid"
        ... )
        >>> [(change.change.kind, change.change.first) for change in course.changes]
        [('gone', (1,))]
    """
    ordered = sorted(examinations, key=lambda each: each.date)
    _check_dates(ordered)
    names = _lesion_labels([each.labels.table for each in ordered], lesions)
    aligned = [replace(each, labels=each.labels.on_grid(each.volume.geometry)) for each in ordered]
    registrations = tuple(register(aligned[0].volume, each.volume, transform) for each in aligned[1:])
    numbers, changes = _Numbers(), list[DatedChange]()
    ids = [np.zeros(each.labels.layers.shape, np.uint32) for each in aligned]
    for name in names:
        changes += _follow(name, aligned, registrations, tolerance, numbers, ids)
    changes.sort(key=lambda each: each.later)
    numbered = tuple(_numbered(each, names, own, numbers) for each, own in zip(aligned, ids, strict=True))
    return FollowUp(numbered, registrations, tuple(changes))


def _check_dates(ordered: Sequence[Examination]) -> None:
    if len(ordered) < 2:
        only = f" ({ordered[0].name}, {ordered[0].date})" if ordered else ""
        raise UsageError(
            f"{len(ordered)} examination{only} cannot be followed up", remedy="Give at least two dates of a patient."
        )
    for before, after in pairwise(ordered):
        if before.date == after.date:
            raise UsageError(
                f"'{before.name}' and '{after.name}' are both of {after.date}",
                remedy="Give one examination a date, or state other dates.",
            )
    for each in ordered:
        if each.volume.geometry.affine is None:
            raise GeometryError(f"{each.name}: a picture has no position in the patient", remedy="Follow up volumes.")


def _lesion_labels(tables: Sequence[LabelTable], asked: Sequence[str]) -> list[str]:
    """Names of the labels to follow, in the order of the tables."""
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise LabelError(f"no label {shown(unknown)}", remedy=f"Known: {', '.join(names)}.")
    things = [name for name in names if any(name in table.names and table[name].kind == "thing" for table in tables)]
    chosen = [name for name in names if name in asked] or things or (names if len(names) == 1 else [])
    if not chosen:
        raise LabelError(
            f"none of the labels {shown(names)} is of kind thing, so it is not known which are lesions",
            remedy="Name the labels of the lesions (--lesion NAME).",
        )
    return chosen


def _objects(labels: LabelMap, name: str) -> NDArray[np.uint32]:
    """``(*spatial)`` instance ids of a label's objects: those of the map, else connected components."""
    if name not in labels.table.names:
        return np.zeros(labels.geometry.shape, np.uint32)
    mask, layer = labels.mask(name), labels.table[name].layer
    if labels.instances is not None and labels.table[name].kind == "thing":
        return np.where(mask, labels.instances[layer], 0).astype(np.uint32)
    return connected_objects(mask).ids.astype(np.uint32)


def _follow(
    name: str,
    aligned: Sequence[Examination],
    registrations: Sequence[Registration],
    tolerance: float,
    numbers: _Numbers,
    ids: list[NDArray[np.uint32]],
) -> list[DatedChange]:
    """Number the lesions of one label at all dates, into `ids`; what happens to them."""
    matrices = [np.eye(4), *(registration.matrix for registration in registrations)]
    changes: list[DatedChange] = []
    before, own = np.zeros(0, np.uint32), dict[int, int]()
    for later, each in enumerate(aligned):
        after = _objects(each.labels, name)
        sizes = _sizes(after)
        first = later == 0
        if first:
            differences = [LesionChange("new", (), (id,), 0.0, 0.0) for id in sizes]
        else:
            between = Registration(matrices[later] @ np.linalg.inv(matrices[later - 1]), registrations[later - 1].kind, 0, 0)
            grids = aligned[later - 1].volume.geometry, each.volume.geometry
            differences = lesion_changes(before, grids[0], after, grids[1], between, tolerance)
        given: dict[int, int] = {}
        largest = _sizes(before)
        for change in differences:
            given |= _given(change, own, largest, sizes, lambda id: _new(numbers, name, each, after, id))  # noqa: B023
        if not first:
            changes += [DatedChange(name, later, _renumbered(change, own, given)) for change in differences]
        if name in each.labels.table.names:
            layer = ids[later][each.labels.table[name].layer]
            layer[after > 0] = _lookup(given)[after[after > 0]]
        before, own = after, given
    return changes


def _given(change: LesionChange, own: dict[int, int], before: dict[int, int], after: dict[int, int], new: Any) -> dict[int, int]:
    """Numbers of a change's lesions at the later date by their ids there."""
    heir = max(change.second, key=lambda id: after[id], default=None)
    parent = max(change.first, key=lambda id: before[id], default=None)
    return {id: own[parent] if id == heir and parent is not None else new(id) for id in change.second}


def _new(numbers: _Numbers, name: str, each: Examination, ids: NDArray[np.uint32], id: int) -> int:
    """A number for a lesion that was not there before."""
    known = {instance: (text, uid) for instance, text, uid in each.labels.source.tracking}
    voxels = np.flatnonzero(ids == id)
    about = f"{each.volume.source.series_uid or each.name} {each.date} {name} {len(voxels)} {voxels[0]} {voxels[-1]}"
    own = known.get(id) if each.labels.instances is not None else None
    return numbers.new(name, about, own)


def _sizes(ids: NDArray[np.uint32]) -> dict[int, int]:
    values, counts = np.unique(ids[ids > 0], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _lookup(given: dict[int, int]) -> NDArray[np.uint32]:
    table = np.zeros(max(given, default=0) + 1, np.uint32)
    for id, number in given.items():
        table[id] = number
    return table


def _renumbered(change: LesionChange, own: dict[int, int], given: dict[int, int]) -> LesionChange:
    first, second = tuple(own[id] for id in change.first), tuple(given[id] for id in change.second)
    return replace(change, first=first, second=second)


def _numbered(each: Examination, names: Sequence[str], ids: NDArray[np.uint32], numbers: _Numbers) -> Examination:
    """The examination with the numbers of lesions as instance ids; other labels have none."""
    labels = each.labels
    table = LabelTable(
        labels=tuple(_as_thing(label, label.name in names) for label in labels.table.labels), ignore=labels.table.ignore
    )
    present = sorted(set(np.unique(ids).tolist()) - {0})
    tracking = tuple((number, *numbers.tracking[number]) for number in present)
    return replace(each, labels=replace(labels, table=table, instances=ids, source=replace(labels.source, tracking=tracking)))


def _as_thing(label: Label, is_lesion: bool) -> Label:
    return label.model_copy(update={"kind": "thing" if is_lesion else "stuff"})

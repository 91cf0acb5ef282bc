"""Several images at one place, told apart: echoes, b-values, phases, time points, acquisitions, and stacks side by side.

Only what is needed parts planes. A set that lies evenly, one plane at each place, is left whole whatever its facts say. Where
several images lie at one place, the facts of `dicom_header.FACTS` are tried in their order, alone, in pairs and in threes: a
choice is good when each of its parts has one image at a place and lies evenly. Times differ a little from slice to slice, so
that no value is shared by a volume; the images at each place are then numbered by time (or, last, by InstanceNumber), where every
place has equally many. What nothing tells apart stays together, and is refused when it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from voxelry.formats.dicom.header import FACTS, DicomHeader
from voxelry.formats.dicom.stacks.layout import has_image_plane, in_plane_corners, measure_layout, position_numbers

FACT_NAMES = {
    "EchoNumbers": "echo",
    "EchoTime": "echo_time",
    "DiffusionBValue": "b",
    "DiffusionGradientOrientation": "gradient",
    "TemporalPositionIdentifier": "time_point",
    "NominalPercentageOfCardiacPhase": "cardiac_phase",
    "InversionTime": "inversion_time",
    "FlipAngle": "flip_angle",
    "KVP": "kvp",
    "ConvolutionKernel": "kernel",
    "SliceThickness": "thickness",
    "ImageType": "type",
    "AcquisitionNumber": "acquisition",
    "StackID": "stack",
    "TriggerTime": "trigger_time",
    "FrameReferenceTime": "frame_time",
    "AcquisitionTime": "acquisition_time",
    "ContentTime": "content_time",
}
"""What each fact is called where a volume is shown or asked for."""

_TIMES = ("TriggerTime", "FrameReferenceTime", "AcquisitionTime", "ContentTime")
_RANKED = ("TemporalPositionIdentifier", *_TIMES, "EchoTime")
_MOST_FACTS = 3
_FEWEST_PLANES = 3
_MOST_STACKS = 16
_MOST_STATIONS = 8

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class PlaneSubset:
    """Planes that belong together.

    Attributes:
        planes: in the order given.
        facts: what tells them from the other parts, by the names of `FACT_NAMES`.
        remarks: how, where that needs saying.
    """

    planes: tuple[DicomHeader, ...]
    facts: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def split_phases(planes: Sequence[DicomHeader]) -> list[PlaneSubset]:
    """Split planes of one orientation, size and frame of reference into volumes.

    Args:
        planes: sorted by file.

    Returns:
        Parts that hold every plane once; copies of one instance stay with their original.
    """
    whole = [PlaneSubset(tuple(planes))]
    if len(planes) == 1 or not all(has_image_plane(plane) for plane in planes):
        return whole
    distinct, copies = _without_copies(planes)
    layout = measure_layout(distinct)
    if len(distinct) == 1 or (layout is not None and layout.even and not layout.duplicates):
        return whole
    parts = _by_stack(distinct) or _by_fact(distinct) or [PlaneSubset(tuple(distinct))]
    return [_with_copies(part, copies) for part in parts]


def _without_copies(planes: Sequence[DicomHeader]) -> tuple[list[DicomHeader], dict[tuple[str, int], list[DicomHeader]]]:
    """The first plane of each instance and frame, and its copies."""
    distinct: list[DicomHeader] = []
    copies: dict[tuple[str, int], list[DicomHeader]] = {}
    for plane in planes:
        name = (plane.sop_instance, plane.frame)
        if plane.sop_instance and name in copies:
            copies[name].append(plane)
        else:
            copies[name] = []
            distinct.append(plane)
    return distinct, copies


def _with_copies(part: PlaneSubset, copies: dict[tuple[str, int], list[DicomHeader]]) -> PlaneSubset:
    more = [copy for plane in part.planes if plane.sop_instance for copy in copies[plane.sop_instance, plane.frame]]
    return PlaneSubset((*part.planes, *more), part.facts, part.remarks)


def _by_stack(planes: Sequence[DicomHeader]) -> list[PlaneSubset]:
    """Parallel stacks whose corners lie apart, as of two knees; empty where that gives no even stacks."""
    places = in_plane_corners(planes)
    stacks: dict[tuple[float, float], list[DicomHeader]] = {}
    for plane, corner in zip(planes, places, strict=True):
        stacks.setdefault(corner, []).append(plane)
    if not 1 < len(stacks) <= _MOST_STACKS or not all(_is_volume(stack) for stack in stacks.values()):
        return []
    return [PlaneSubset(tuple(stack), {"corner": f"{x:g}x{y:g}"}) for (x, y), stack in stacks.items()]


def _is_volume(planes: Sequence[DicomHeader]) -> bool:
    """Enough planes to see that they lie evenly, one at each place."""
    layout = measure_layout(planes)
    return layout is not None and layout.even and not layout.duplicates and len(planes) >= _FEWEST_PLANES


def _by_fact(planes: Sequence[DicomHeader]) -> list[PlaneSubset]:
    """Parts by the fewest facts that make each a volume; empty where none do."""
    places = np.array(position_numbers(planes))
    most = int(np.bincount(places).max())
    if most == 1:
        return _first(planes, places, 1, [name for name in FACTS if name not in _TIMES], even=True)
    told = _different([name for name in FACTS if _tells(_codes(planes, name), places)], planes)
    return (
        _first(planes, places, most, told, even=True)
        or _ranked(planes, places, most)
        or _first(planes, places, most, told, even=False)
        or _in_steps(planes, most, told)
    )


def _codes(planes: Sequence[DicomHeader], keyword: str) -> Codes:
    """A number for each plane, equal where the fact is; ascending with its value."""
    index = FACTS.index(keyword)
    values = [plane.facts[index][1] for plane in planes]
    order = {value: number for number, value in enumerate(sorted(set(values), key=_ascending))}
    return np.array([order[value] for value in values])


def _ascending(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _different(keywords: Sequence[str], planes: Sequence[DicomHeader]) -> list[str]:
    """The facts without those that part the planes just as an earlier one does."""
    kept: dict[tuple[int, ...], str] = {}
    for name in keywords:
        codes = _codes(planes, name).tolist()
        first = {code: number for number, code in enumerate(dict.fromkeys(codes))}
        kept.setdefault(tuple(first[code] for code in codes), name)
    return list(kept.values())


def _tells(codes: Codes, places: Codes) -> bool:
    """Two images at one place differ in it."""
    pairs = np.unique(np.stack([places, codes]), axis=1)
    return bool(pairs.shape[1] > len(np.unique(places)))


def _first(planes: Sequence[DicomHeader], places: Codes, most: int, keywords: Sequence[str], *, even: bool) -> list[PlaneSubset]:
    """Parts by the first choice of facts that leaves one image at a place; with `even`, each part a volume too."""
    known = {name: _codes(planes, name) for name in keywords}
    for choice in _choices([name for name in keywords if known[name].max() > 0]):
        classes = np.unique(np.stack([known[name] for name in choice], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        count = int(classes.max()) + 1
        if count > _most_parts(most, even=even):
            continue
        if len(np.unique(np.stack([places, classes]), axis=1)[0]) < len(planes):
            continue
        parts = _parts(planes, classes, choice)
        if not even or _are_volumes(parts, len(np.unique(places))):
            return parts
    return []


def _most_parts(most: int, *, even: bool) -> int:
    """How many parts are believed where `most` images lie at one place: stations and gaps make a few more of whole volumes."""
    return max(2 * most, _MOST_STATIONS) if even else most


def _choices(keywords: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, _MOST_FACTS + 1):
        yield from combinations(keywords, size)


def _are_volumes(parts: Sequence[PlaneSubset], places: int) -> bool:
    """Every part lies evenly; a few planes only where there are no more places."""
    if places < _FEWEST_PLANES:
        return all(len(part.planes) <= places for part in parts)
    return all(_is_volume(part.planes) for part in parts)


def _parts(planes: Sequence[DicomHeader], classes: Codes, choice: Sequence[str]) -> list[PlaneSubset]:
    """Parts named by the facts they share; times by their order, which reads better than a clock."""
    parts: list[PlaneSubset] = []
    timed = len(choice) == 1 and choice[0] in _TIMES
    for number in range(int(classes.max()) + 1):
        members = tuple(plane for plane, own in zip(planes, classes, strict=True) if own == number)
        facts = {FACT_NAMES[name]: dict(members[0].facts)[name].replace(",", " ") or "none" for name in choice}
        remarks = (f"phases told apart by {choice[0]}",) if timed else ()
        parts.append(PlaneSubset(members, {"phase": str(number + 1)} if timed else facts, remarks))
    return parts


def _ranked(planes: Sequence[DicomHeader], places: Codes, most: int) -> list[PlaneSubset]:
    """The k-th image at every place, by the first time that orders the images at each; empty where places differ in number.

    InstanceNumber alone does not order images of one folder that all lie at one place: they may be slices that lost theirs.
    """
    if len(set(np.bincount(places).tolist())) > 1:
        return []
    lost = places.max() == 0 and len({plane.path.parent for plane in planes}) < len(planes)
    for name in _RANKED if lost else (*_RANKED, "InstanceNumber"):
        values = [_time(plane, name) for plane in planes]
        if all(value is not None for value in values):
            ranks = _ranks(np.array(values, dtype=np.float64), places, most)
            if ranks is not None:
                return _parts_by_rank(planes, ranks, most, name)
    return []


def _time(plane: DicomHeader, name: str) -> float | None:
    text = plane.instance_number if name == "InstanceNumber" else dict(plane.facts)[name]
    try:
        return float(text)
    except ValueError:
        return None


def _ranks(values: NDArray[np.float64], places: Codes, most: int) -> Codes | None:
    """The rank of each image among those at its place; None where two are equal."""
    order = np.lexsort((values, places))
    table = values[order].reshape(-1, most)
    if (np.diff(table, axis=1) <= 0).any():
        return None
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.tile(np.arange(most), len(table))
    return ranks


def _parts_by_rank(planes: Sequence[DicomHeader], ranks: Codes, most: int, name: str) -> list[PlaneSubset]:
    remark = f"phases told apart by the order of {name} at each place"
    return [
        PlaneSubset(
            tuple(p for p, rank in zip(planes, ranks, strict=True) if rank == number), {"phase": str(number + 1)}, (remark,)
        )
        for number in range(most)
    ]


def _in_steps(planes: Sequence[DicomHeader], most: int, told: Sequence[str]) -> list[PlaneSubset]:
    """By one fact that leaves fewer images at each place, and then each part again, as echoes of unnamed phases need."""
    for name in told:
        classes = _codes(planes, name)
        sizes = Counter(classes.tolist())
        if not 1 < len(sizes) <= most:
            continue
        parts = _parts(planes, classes, (name,))
        finer = [_by_fact(part.planes) for part in parts]
        if all(finer):
            return [
                PlaneSubset(inner.planes, {**part.facts, **inner.facts}, (*part.remarks, *inner.remarks))
                for part, inside in zip(parts, finer, strict=True)
                for inner in inside
            ]
    return []

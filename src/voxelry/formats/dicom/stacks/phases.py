"""Splits images at the same slice positions into volumes: echoes, b-values, phases, time points, acquisitions, parallel stacks.

Planes are split only where necessary. Evenly spaced planes, one at each position, stay together whatever their facts are. Where
several images are at one position, the facts of `header.FACTS` are tried in their order, alone, in pairs and in threes; a
combination is accepted if each of its subsets has one image at each position and is evenly spaced. Times differ slightly from
slice to slice, so that no value is common to a volume; the images at each position are then ranked by time (or, last, by
InstanceNumber), if every position has equally many. Images that nothing distinguishes stay together, and reading refuses them.
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
"""The names of facts in listings and in selections by `series`."""

_TIMES = ("TriggerTime", "FrameReferenceTime", "AcquisitionTime", "ContentTime")
_RANKING_FACTS = ("TemporalPositionIdentifier", *_TIMES, "EchoTime")
_MOST_FACTS = 3
_FEWEST_PLANES = 3
_MOST_STACKS = 16
_MOST_STATIONS = 8

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class PlaneSubset:
    """Planes of one volume.

    Attributes:
        planes: in the order of their files.
        facts: the facts that distinguish them from the other subsets, by the names of `FACT_NAMES`.
        remarks: how they were distinguished, for people; empty for plain facts.
    """

    planes: tuple[DicomHeader, ...]
    facts: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def split_phases(planes: Sequence[DicomHeader]) -> list[PlaneSubset]:
    """Split planes of one orientation, size and frame of reference into volumes.

    Args:
        planes: sorted by file.

    Returns:
        Subsets that hold every plane once; copies of an instance stay with their original.
    """
    if len(planes) == 1 or not all(has_image_plane(plane) for plane in planes):
        return [PlaneSubset(tuple(planes))]
    distinct, copies = _distinct_instances(planes)
    layout = measure_layout(distinct)
    if len(distinct) == 1 or (layout is not None and layout.even and not layout.duplicates):
        return [PlaneSubset(tuple(planes))]
    subsets = _by_stack(distinct) or _by_fact(distinct) or [PlaneSubset(tuple(distinct))]
    return [_with_copies(subset, copies) for subset in subsets]


PlaneName = tuple[str, int, tuple[int, int] | None]
"""Instance, frame and tile of a plane."""


def _name(plane: DicomHeader) -> PlaneName:
    return plane.sop_instance, plane.frame, plane.tile


def _distinct_instances(planes: Sequence[DicomHeader]) -> tuple[list[DicomHeader], dict[PlaneName, list[DicomHeader]]]:
    """The first plane of each instance, frame and tile, and its copies."""
    distinct: list[DicomHeader] = []
    copies: dict[PlaneName, list[DicomHeader]] = {}
    for plane in planes:
        name = _name(plane)
        if plane.sop_instance and name in copies:
            copies[name].append(plane)
        else:
            copies[name] = []
            distinct.append(plane)
    return distinct, copies


def _with_copies(subset: PlaneSubset, copies: dict[PlaneName, list[DicomHeader]]) -> PlaneSubset:
    own = [copy for plane in subset.planes if plane.sop_instance for copy in copies[_name(plane)]]
    return PlaneSubset((*subset.planes, *own), subset.facts, subset.remarks)


def _by_stack(planes: Sequence[DicomHeader]) -> list[PlaneSubset]:
    """Parallel stacks with different corners, as of two knees; empty where these are not evenly spaced."""
    stacks: dict[tuple[float, float], list[DicomHeader]] = {}
    for plane, corner in zip(planes, in_plane_corners(planes), strict=True):
        stacks.setdefault(corner, []).append(plane)
    if not 1 < len(stacks) <= _MOST_STACKS or not all(_is_volume(stack) for stack in stacks.values()):
        return []
    return [PlaneSubset(tuple(stack), {"corner": f"{x:g}x{y:g}"}) for (x, y), stack in stacks.items()]


def _is_volume(planes: Sequence[DicomHeader]) -> bool:
    """Evenly spaced planes, one at each position, and enough of them to tell."""
    layout = measure_layout(planes)
    return layout is not None and layout.even and not layout.duplicates and len(planes) >= _FEWEST_PLANES


def _by_fact(planes: Sequence[DicomHeader]) -> list[PlaneSubset]:
    """Subsets by the fewest facts that make each a volume; empty where none do."""
    positions = np.array(position_numbers(planes))
    most = int(np.bincount(positions).max())
    if most == 1:
        return _by_combination(planes, positions, 1, [name for name in FACTS if name not in _TIMES], even=True)
    facts = _without_equivalents([name for name in FACTS if _distinguishes(_codes(planes, name), positions)], planes)
    return (
        _by_combination(planes, positions, most, facts, even=True)
        or _by_rank(planes, positions, most)
        or _by_combination(planes, positions, most, facts, even=False)
        or _by_nested_facts(planes, most, facts)
    )


def _codes(planes: Sequence[DicomHeader], keyword: str) -> Codes:
    """``(planes,)`` a number for the value of a fact, ascending with it."""
    index = FACTS.index(keyword)
    values = [plane.facts[index][1] for plane in planes]
    order = {value: number for number, value in enumerate(sorted(set(values), key=_sort_key))}
    return np.array([order[value] for value in values])


def _sort_key(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _without_equivalents(keywords: Sequence[str], planes: Sequence[DicomHeader]) -> list[str]:
    """The facts without those that split the planes exactly as an earlier fact does."""
    first_names: dict[tuple[int, ...], str] = {}
    for name in keywords:
        codes = _codes(planes, name).tolist()
        order = {code: number for number, code in enumerate(dict.fromkeys(codes))}
        first_names.setdefault(tuple(order[code] for code in codes), name)
    return list(first_names.values())


def _distinguishes(codes: Codes, positions: Codes) -> bool:
    """Two images at one position differ in a fact."""
    pairs = np.unique(np.stack([positions, codes]), axis=1)
    return bool(pairs.shape[1] > len(np.unique(positions)))


def _by_combination(
    planes: Sequence[DicomHeader], positions: Codes, most: int, keywords: Sequence[str], *, even: bool
) -> list[PlaneSubset]:
    """Subsets by the first combination of facts that leaves one image at each position; with `even`, each a volume too."""
    codes = {name: _codes(planes, name) for name in keywords}
    for combination in _combinations([name for name in keywords if codes[name].max() > 0]):
        columns = np.stack([codes[name] for name in combination], axis=1)
        classes = np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)
        count = int(classes.max()) + 1
        if count > _most_subsets(most, even=even):
            continue
        if len(np.unique(np.stack([positions, classes]), axis=1)[0]) < len(planes):
            continue
        subsets = _subsets(planes, classes, combination)
        if not even or _are_volumes(subsets, len(np.unique(positions))):
            return subsets
    return []


def _most_subsets(most: int, *, even: bool) -> int:
    """The largest plausible number of subsets for `most` images at one position: stations and gaps add a few whole volumes."""
    return max(2 * most, _MOST_STATIONS) if even else most


def _combinations(keywords: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, _MOST_FACTS + 1):
        yield from combinations(keywords, size)


def _are_volumes(subsets: Sequence[PlaneSubset], positions: int) -> bool:
    """Every subset is evenly spaced; subsets of a few planes count only where there are no more positions."""
    if positions < _FEWEST_PLANES:
        return all(len(subset.planes) <= positions for subset in subsets)
    return all(_is_volume(subset.planes) for subset in subsets)


def _subsets(planes: Sequence[DicomHeader], classes: Codes, combination: Sequence[str]) -> list[PlaneSubset]:
    """Subsets named by the facts they share; by their order where the fact is a time."""
    subsets: list[PlaneSubset] = []
    is_time = len(combination) == 1 and combination[0] in _TIMES
    for number in range(int(classes.max()) + 1):
        members = tuple(plane for plane, code in zip(planes, classes, strict=True) if code == number)
        facts = {FACT_NAMES[name]: dict(members[0].facts)[name].replace(",", " ") or "none" for name in combination}
        remarks = (f"phases distinguished by {combination[0]}",) if is_time else ()
        subsets.append(PlaneSubset(members, {"phase": str(number + 1)} if is_time else facts, remarks))
    return subsets


def _by_rank(planes: Sequence[DicomHeader], positions: Codes, most: int) -> list[PlaneSubset]:
    """The k-th image at every position, by the first time that orders the images at each; empty where positions differ in number.

    InstanceNumber alone does not rank images of one folder at a single position: they may be slices whose positions are lost.
    """
    if len(set(np.bincount(positions).tolist())) > 1:
        return []
    is_lost = positions.max() == 0 and len({plane.path.parent for plane in planes}) < len(planes)
    for name in _RANKING_FACTS if is_lost else (*_RANKING_FACTS, "InstanceNumber"):
        values = [_ranking_value(plane, name) for plane in planes]
        if all(value is not None for value in values):
            ranks = _ranks(np.array(values, dtype=np.float64), positions, most)
            if ranks is not None:
                return _ranked_subsets(planes, ranks, most, name)
    return []


def _ranking_value(plane: DicomHeader, name: str) -> float | None:
    text = plane.instance_number if name == "InstanceNumber" else dict(plane.facts)[name]
    try:
        return float(text)
    except ValueError:
        return None


def _ranks(values: NDArray[np.float64], positions: Codes, most: int) -> Codes | None:
    """The rank of each image among those at its position; None where two are equal."""
    order = np.lexsort((values, positions))
    table = values[order].reshape(-1, most)
    if (np.diff(table, axis=1) <= 0).any():
        return None
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.tile(np.arange(most), len(table))
    return ranks


def _ranked_subsets(planes: Sequence[DicomHeader], ranks: Codes, most: int, name: str) -> list[PlaneSubset]:
    remark = f"phases distinguished by the order of {name} at each position"
    members = [tuple(plane for plane, rank in zip(planes, ranks, strict=True) if rank == number) for number in range(most)]
    return [PlaneSubset(ranked, {"phase": str(number)}, (remark,)) for number, ranked in enumerate(members, start=1)]


def _by_nested_facts(planes: Sequence[DicomHeader], most: int, facts: Sequence[str]) -> list[PlaneSubset]:
    """By one fact that leaves fewer images at each position, and each subset again by others, as for echoes of unnamed phases."""
    for name in facts:
        classes = _codes(planes, name)
        sizes = Counter(classes.tolist())
        if not 1 < len(sizes) <= most:
            continue
        outer_subsets = _subsets(planes, classes, (name,))
        nested = [_by_fact(outer.planes) for outer in outer_subsets]
        if all(nested):
            return [
                PlaneSubset(inner.planes, {**outer.facts, **inner.facts}, (*outer.remarks, *inner.remarks))
                for outer, inner_subsets in zip(outer_subsets, nested, strict=True)
                for inner in inner_subsets
            ]
    return []

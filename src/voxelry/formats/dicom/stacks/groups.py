"""Which planes form a volume: a SeriesInstanceUID often holds several, and a folder holds several series.

Planes are parted in three steps, each from headers alone:

1. Always: by archive, patient, series, frame of reference, modality, class, size, photometric interpretation, localizer or
   not, orientation, and pixel spacing (within the tolerances of `alike`). Radiographs are a group each.
2. Where one folder holds a whole series, and others hold copies of some or all of it: by folder.
3. Where several images lie at one place, or planes do not lie evenly: by the facts of `dicom_header.FACTS`, see `phases`. A fact
   that changes from slice to slice of one regular volume, as AcquisitionNumber may, parts nothing.

Planes without position, orientation or pixel spacing stay with the largest group that they may belong to, so that reading
refuses by naming them. Planes are never dropped, and never merged across a frame of reference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.formats.dicom.header import FACTS, DicomHeader
from voxelry.formats.dicom.stacks.consistency import ORIENTATION_TOLERANCE, PIXEL_SPACING_TOLERANCE_MM
from voxelry.formats.dicom.stacks.layout import has_image_plane, plane_axes
from voxelry.formats.dicom.stacks.phases import FACT_NAMES, PlaneSubset, split_phases

_TOMOGRAPHIC = frozenset({"CT", "MR", "PT"})


@dataclass(frozen=True)
class PlaneGroup:
    """The planes of one volume, or what has to be refused as one.

    Attributes:
        key: names it among the groups found together: the SeriesInstanceUID, and what parts it from the series' other groups.
        planes: in the order of their files.
        facts: what parts it from the other groups of its series, by name.
        traits: all that it may be asked for by: `facts`, and what all its planes share.
        remarks: how it was told apart, where that needs saying.
        siblings: groups of its series, itself included.
    """

    key: str
    planes: tuple[DicomHeader, ...]
    facts: dict[str, str]
    traits: dict[str, str]
    remarks: tuple[str, ...] = ()
    siblings: int = 1

    @property
    def first(self) -> DicomHeader:
        """Its first plane, for what all share."""
        return self.planes[0]

    @property
    def is_picture(self) -> bool:
        """A radiograph, read as a picture."""
        return self.first.is_projection

    @property
    def is_capture(self) -> bool:
        """A screenshot or a dose report: a secondary capture, or such a page in the guise of a CT, MR or PET, without a place."""
        first = self.first
        if self.is_picture or any(plane.position or plane.orientation for plane in self.planes):
            return False
        page = first.samples > 1 or "SECONDARY" in first.image_type
        return "Secondary Capture" in first.sop_class or (page and first.modality in _TOMOGRAPHIC)

    @property
    def voxels(self) -> int:
        """How many voxels its planes hold."""
        return sum(plane.rows * plane.columns * (plane.frames if self.is_picture else 1) for plane in self.planes)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, each once."""
        return tuple(dict.fromkeys(plane.path for plane in self.planes))

    @property
    def title(self) -> str:
        """What it is, for a list of choices; names no patient."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        count = f"{len(self.planes)} image" + ("s" if len(self.planes) > 1 else "")
        number = f"series number {self.first.number or '?'}"
        parts = (f"'{self.first.description}' {self.first.modality or '?'}", number, facts, count)
        return ", ".join(part for part in parts if part)


def group_planes(planes: Sequence[DicomHeader]) -> list[PlaneGroup]:
    """Group planes into volumes.

    Args:
        planes: of images, from anywhere, in any order.

    Returns:
        Groups in the order of their series' first file, every plane in exactly one.
    """
    series: dict[tuple[Any, ...], list[DicomHeader]] = {}
    for plane in sorted(planes, key=lambda plane: (str(plane.path), plane.frame)):
        series.setdefault((str(plane.archive), plane.patient, plane.series, _own(plane)), []).append(plane)
    return _disambiguated([group for members in series.values() for group in _of_series(members)])


def _own(plane: DicomHeader) -> str:
    """What parts planes beyond their series.

    Radiographs are apart. Files whose series was stripped belong together in a folder, if they name a frame of reference.
    """
    if plane.is_projection or not (plane.series or plane.frame_of_reference):
        return str(plane.path)
    return "" if plane.series else str(plane.path.parent)


def _disambiguated(groups: list[PlaneGroup]) -> list[PlaneGroup]:
    """Groups of one key, of other patients, archives or radiographs, told apart."""
    count = Counter(group.key for group in groups)
    for name in ("archive", "file", "part"):
        number: Counter[str] = Counter()
        for index, group in enumerate(groups):
            number[group.key] += 1
            value = str(number[group.key]) if name == "part" else group.traits.get(name, "")
            if count[group.key] > 1 and value:
                told = {**group.facts, name: value}
                groups[index] = replace(
                    group, key=_key(group.key.partition("/")[0], told), facts=told, traits={**group.traits, **told}
                )
        count = Counter(group.key for group in groups)
    return groups


def _of_series(members: Sequence[DicomHeader]) -> list[PlaneGroup]:
    parts: list[PlaneSubset] = []
    for folder, copy in _by_folder(members):
        named = {"folder": folder} if folder else {}
        for kind in _kinds(copy):
            parts += [PlaneSubset(part.planes, {**named, **part.facts}, part.remarks) for part in split_phases(kind)]
    traits = [_traits(part) for part in parts]
    facts = _telling(parts, traits)
    uid = members[0].series or members[0].name
    return [
        PlaneGroup(_key(uid, told), part.planes, told, {**trait, **told}, part.remarks, len(parts))
        for part, trait, told in zip(parts, traits, facts, strict=True)
    ]


def _key(uid: str, facts: dict[str, str]) -> str:
    told = ",".join(f"{name}={value}" for name, value in facts.items())
    return f"{uid}/{told}" if told else uid


def _telling(parts: Sequence[PlaneSubset], traits: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The fewest traits that tell each part from the others, with a number where none does."""
    if len(parts) == 1:
        return [{}]
    chosen = list(dict.fromkeys(name for part in parts for name in part.facts))
    for name in _HARD:
        values = {tuple(trait.get(key, "") for key in chosen) for trait in traits}
        finer = {tuple(trait.get(key, "") for key in (*chosen, name)) for trait in traits}
        if len(finer) > len(values):
            chosen.append(name)
    told = [{name: trait[name] for name in chosen if trait.get(name)} for trait in traits]
    seen = Counter(tuple(row.items()) for row in told)
    return [
        {**row, "part": str(number)} if seen[tuple(row.items())] > 1 or not row else row
        for number, row in enumerate(told, start=1)
    ]


_HARD = ("modality", "kind", "size", "photometric", "plane", "spacing", "frame_of_reference", "class")


def _traits(part: PlaneSubset) -> dict[str, str]:
    """What all planes of a part share, as text without commas."""
    first = part.planes[0]
    traits = {
        "modality": first.modality,
        "kind": "localizer" if first.is_localizer else "image",
        "size": f"{first.columns}x{first.rows}",
        "photometric": first.photometric,
        "plane": _plane_name(first),
        "spacing": "" if first.pixel_spacing is None else "x".join(f"{size:.6g}" for size in first.pixel_spacing[::-1]),
        "frame_of_reference": first.frame_of_reference,
        "class": first.sop_class,
        "series": first.series,
        "study": first.study,
        "number": first.number,
        "description": first.description,
        "archive": "" if first.archive is None else first.archive.name.replace(",", " "),
        "file": first.name.replace(",", " ") if first.is_projection else "",
    }
    for index, keyword in enumerate(FACTS):
        values = {plane.facts[index][1] for plane in part.planes}
        if len(values) == 1:
            traits[FACT_NAMES[keyword]] = values.pop().replace(",", " ")
    return {**traits, **part.facts}


def _plane_name(plane: DicomHeader) -> str:
    """``axial``, ``coronal`` or ``sagittal``, whichever is nearest."""
    if not has_image_plane(plane):
        return ""
    normal = plane_axes(plane)[2]
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]


def _by_folder(members: Sequence[DicomHeader]) -> list[tuple[str, list[DicomHeader]]]:
    """The series as it is; or by folder, where one folder holds it all and the others repeat some or all of it."""
    folders: dict[Path, list[DicomHeader]] = {}
    for plane in members:
        folders.setdefault(plane.path.parent, []).append(plane)
    instances = [{(plane.sop_instance, plane.frame) for plane in inside} for inside in folders.values()]
    everything = set().union(*instances)
    if len(folders) == 1 or everything not in instances or any(not uid for uid, _ in everything):
        return [("", list(members))]
    shown = _short_names(list(folders))
    return [(shown[folder], inside) for folder, inside in folders.items()]


def _short_names(folders: Sequence[Path]) -> dict[Path, str]:
    """Each folder by as much of the end of its path as tells it from the others."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return {folder: "/".join(folder.parts[-depth:]).replace(",", " ") for folder in folders}


def _kinds(members: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Planes that share all that one volume must share."""
    kinds: dict[tuple[Any, ...], list[DicomHeader]] = {}
    for plane in members:
        kinds.setdefault(_shared(plane), []).append(plane)
    return [grid for kind in kinds.values() for grid in _grids(kind)]


def _shared(plane: DicomHeader) -> tuple[Any, ...]:
    return (
        plane.frame_of_reference,
        plane.modality,
        plane.sop_class_uid,
        plane.rows,
        plane.columns,
        plane.samples,
        plane.photometric,
        plane.is_localizer,
    )


def _grids(planes: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """By orientation and pixel spacing, each group around its most common value."""
    placed = [plane for plane in planes if has_image_plane(plane)]
    homeless = [plane for plane in planes if not has_image_plane(plane)]
    common = Counter((plane.orientation, plane.pixel_spacing) for plane in placed)
    grids: list[tuple[Any, Any, list[DicomHeader]]] = []
    home: dict[Any, list[DicomHeader]] = {}
    for (orientation, spacing), _ in common.most_common():
        grid = next((grid for grid in grids if _alike(grid, orientation, spacing)), None)
        if grid is None:
            grid = (orientation, spacing, [])
            grids.append(grid)
        home[orientation, spacing] = grid[2]
    for plane in placed:
        home[plane.orientation, plane.pixel_spacing].append(plane)
    found = [grid[2] for grid in grids]
    if homeless:
        largest = max(found, key=len, default=None)
        if largest is None:
            return [homeless]
        largest += homeless
    return found


def _alike(grid: tuple[Any, Any, Any], orientation: Any, spacing: Any) -> bool:
    return _near(grid[0], orientation, ORIENTATION_TOLERANCE) and _near(grid[1], spacing, PIXEL_SPACING_TOLERANCE_MM)


def _near(one: Sequence[float], other: Sequence[float], limit: float) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= limit


def approximate_grid(group: PlaneGroup, spacing: float | None) -> Geometry | None:
    """The grid that a group's planes suggest, for showing what cannot be read; None where they suggest none.

    Args:
        group: any.
        spacing: mm from a plane to the next; None for a single one, whose thickness is taken.

    Returns:
        A geometry of ``(columns, rows, planes)``, its origin that of the first file's plane.
    """
    first = group.first
    step = spacing or first.slice_thickness or first.spacing_between
    if not has_image_plane(first) or not step or first.pixel_spacing is None or min(first.pixel_spacing) <= 0:
        return None
    across, down, normal = plane_axes(first)
    affine = np.eye(4)
    affine[:3, 0] = across * first.pixel_spacing[1]
    affine[:3, 1] = down * first.pixel_spacing[0]
    affine[:3, 2] = normal * step
    affine[:3, 3] = first.position
    return Geometry((first.columns, first.rows, len(group.planes)), flip_lps_ras(affine))

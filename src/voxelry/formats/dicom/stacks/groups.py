"""Groups image planes into volumes: a SeriesInstanceUID often holds several volumes, and a folder several series.

Planes are split in three steps, from headers alone:

1. Always: by archive, patient, series, frame of reference, modality, SOP class, size, photometric interpretation, localizer or
   not, orientation, and pixel spacing (within the tolerances of `consistency`). Every radiograph is a group of its own.
2. Where one folder holds a whole series, and others hold copies of some or all of it: by folder.
3. Where several images are at one position, or positions are uneven: by the facts of `header.FACTS`, see `phases`. A fact that
   changes from slice to slice of one regular volume, as AcquisitionNumber may, splits nothing.

Planes without position, orientation or pixel spacing stay with the largest group that they may belong to, so that the error on
reading names them. Planes are never dropped, and never merged across frames of reference.
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
    """The planes of one volume, whether or not it can be read.

    Attributes:
        key: unique name in a listing: the SeriesInstanceUID and, where its series has several groups, `facts`.
        planes: in the order of their files.
        facts: the facts that distinguish it from the other groups of its series, by name.
        traits: every name and value it can be selected by: `facts`, and attributes that all its planes share.
        remarks: how it was distinguished, for people; empty for plain facts.
        siblings: number of groups of its series, itself included.

    Example:
        >>> from voxelry.formats.dicom.stacks.groups import group_planes
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> [group] = group_planes(scan_headers(folder).planes)
        >>> group.title
        "'SYNTHETIC PHANTOM CT' CT, series number 1, 12 images"
    """

    key: str
    planes: tuple[DicomHeader, ...]
    facts: dict[str, str]
    traits: dict[str, str]
    remarks: tuple[str, ...] = ()
    siblings: int = 1

    @property
    def first(self) -> DicomHeader:
        """Its first plane, for the attributes that all share."""
        return self.planes[0]

    @property
    def is_picture(self) -> bool:
        """A radiograph, which is read as a 2D picture."""
        return self.first.is_projection

    @property
    def is_capture(self) -> bool:
        """A screenshot or dose report without a position: a secondary capture, or such a page stored as CT, MR or PET."""
        first = self.first
        if self.is_picture or any(plane.position or plane.orientation for plane in self.planes):
            return False
        is_page = first.samples > 1 or "SECONDARY" in first.image_type
        return "Secondary Capture" in first.sop_class or (is_page and first.modality in _TOMOGRAPHIC)

    @property
    def voxels(self) -> int:
        """Number of voxels of its planes."""
        return sum(plane.rows * plane.columns * (plane.frames if self.is_picture else 1) for plane in self.planes)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, each once."""
        return tuple(dict.fromkeys(plane.path for plane in self.planes))

    @property
    def title(self) -> str:
        """A description for a list of choices; it names no patient."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        count = f"{len(self.planes)} image" + ("s" if len(self.planes) > 1 else "")
        number = f"series number {self.first.number or '?'}"
        series = f"'{self.first.description}' {self.first.modality or '?'}"
        kind = "localizer" if self.first.is_localizer and "kind" not in self.facts else ""
        return ", ".join(filter(None, (series, number, kind, facts, count)))


def group_planes(planes: Sequence[DicomHeader]) -> list[PlaneGroup]:
    """Group planes into volumes.

    Args:
        planes: planes of images, from anywhere, in any order.

    Returns:
        Groups in the order of the first files of their series, every plane in exactly one.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> from voxelry.formats.dicom import scan_headers
        >>> [len(group.planes) for group in group_planes(scan_headers(folder).planes)]
        [12]
    """
    series: dict[tuple[Any, ...], list[DicomHeader]] = {}
    for plane in sorted(planes, key=lambda plane: (str(plane.path), plane.frame)):
        series.setdefault((str(plane.archive), plane.patient, plane.series, _separation_key(plane)), []).append(plane)
    return _disambiguated([group for members in series.values() for group in _of_series(members)])


def _separation_key(plane: DicomHeader) -> str:
    """A key that separates planes beyond their series: radiographs, and files whose SeriesInstanceUID was removed.

    The latter belong together within a folder if they state a frame of reference.
    """
    if plane.is_projection or not (plane.series or plane.frame_of_reference):
        return str(plane.path)
    return "" if plane.series else str(plane.path.parent)


def _disambiguated(groups: list[PlaneGroup]) -> list[PlaneGroup]:
    """Groups with unique keys: equal keys of several patients, archives or radiographs get more facts."""
    count = Counter(group.key for group in groups)
    for name in ("archive", "file", "part"):
        number: Counter[str] = Counter()
        for index, group in enumerate(groups):
            number[group.key] += 1
            value = str(number[group.key]) if name == "part" else group.traits.get(name, "")
            if count[group.key] > 1 and value:
                facts = {**group.facts, name: value}
                key = _key(group.key.partition("/")[0], facts)
                groups[index] = replace(group, key=key, facts=facts, traits={**group.traits, **facts})
        count = Counter(group.key for group in groups)
    return groups


def _of_series(members: Sequence[DicomHeader]) -> list[PlaneGroup]:
    subsets: list[PlaneSubset] = []
    for folder, folder_planes in _by_folder(members):
        folder_fact = {"folder": folder} if folder else {}
        for planes in _by_grid(folder_planes):
            subsets += [replace(subset, facts={**folder_fact, **subset.facts}) for subset in split_phases(planes)]
    traits = [_traits(subset) for subset in subsets]
    facts = _distinguishing_facts(subsets, traits)
    uid = members[0].series or members[0].name
    return [
        PlaneGroup(_key(uid, own), subset.planes, own, {**trait, **own}, subset.remarks, len(subsets))
        for subset, trait, own in zip(subsets, traits, facts, strict=True)
    ]


def _key(uid: str, facts: dict[str, str]) -> str:
    pairs = ",".join(f"{name}={value}" for name, value in facts.items())
    return f"{uid}/{pairs}" if pairs else uid


def _distinguishing_facts(subsets: Sequence[PlaneSubset], traits: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The fewest traits that distinguish each subset from the others, with a number where none does."""
    if len(subsets) == 1:
        return [{}]
    names = list(dict.fromkeys(name for subset in subsets for name in subset.facts))
    for name in _GRID_TRAITS:
        values = {tuple(trait.get(key, "") for key in names) for trait in traits}
        finer_values = {tuple(trait.get(key, "") for key in (*names, name)) for trait in traits}
        if len(finer_values) > len(values):
            names.append(name)
    facts = [{name: trait[name] for name in names if trait.get(name)} for trait in traits]
    count = Counter(tuple(own.items()) for own in facts)
    return [
        {**own, "part": str(number)} if count[tuple(own.items())] > 1 or not own else own
        for number, own in enumerate(facts, start=1)
    ]


_GRID_TRAITS = ("modality", "kind", "size", "photometric", "plane", "spacing", "frame_of_reference", "class")


def _traits(subset: PlaneSubset) -> dict[str, str]:
    """The attributes that all planes of a subset share, as text without commas."""
    first = subset.planes[0]
    traits = {
        "modality": first.modality,
        "kind": "localizer" if first.is_localizer else "image",
        "size": f"{first.columns}x{first.rows}",
        "photometric": first.photometric,
        "plane": _orientation_name(first),
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
        values = {plane.facts[index][1] for plane in subset.planes}
        if len(values) == 1:
            traits[FACT_NAMES[keyword]] = values.pop().replace(",", " ")
    return {**traits, **subset.facts}


def _orientation_name(plane: DicomHeader) -> str:
    """The nearest of ``axial``, ``coronal`` and ``sagittal``; empty without a position."""
    if not has_image_plane(plane):
        return ""
    normal = plane_axes(plane)[2]
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal)))]


def _by_folder(members: Sequence[DicomHeader]) -> list[tuple[str, list[DicomHeader]]]:
    """The whole series; or its planes by folder, where one folder holds them all and the others hold copies."""
    folders: dict[Path, list[DicomHeader]] = {}
    for plane in members:
        folders.setdefault(plane.path.parent, []).append(plane)
    instances = [{(plane.sop_instance, plane.frame) for plane in planes} for planes in folders.values()]
    all_instances = set().union(*instances)
    if len(folders) == 1 or all_instances not in instances or any(not uid for uid, _ in all_instances):
        return [("", list(members))]
    names = _short_names(list(folders))
    return [(names[folder], planes) for folder, planes in folders.items()]


def _short_names(folders: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of the folders' paths that distinguish them."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return {folder: "/".join(folder.parts[-depth:]).replace(",", " ") for folder in folders}


def _by_grid(members: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Planes that agree in every attribute, orientation and pixel spacing that one volume shares."""
    kinds: dict[tuple[Any, ...], list[DicomHeader]] = {}
    for plane in members:
        kinds.setdefault(_shared_attributes(plane), []).append(plane)
    return [planes for kind in kinds.values() for planes in _by_orientation_and_spacing(kind)]


def _shared_attributes(plane: DicomHeader) -> tuple[Any, ...]:
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


def _by_orientation_and_spacing(planes: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Planes by orientation and pixel spacing, within tolerances around the most common values."""
    with_position = [plane for plane in planes if has_image_plane(plane)]
    without_position = [plane for plane in planes if not has_image_plane(plane)]
    values = Counter((plane.orientation, plane.pixel_spacing) for plane in with_position)
    grids: list[tuple[Any, Any, list[DicomHeader]]] = []
    planes_of: dict[Any, list[DicomHeader]] = {}
    for (orientation, spacing), _ in values.most_common():
        grid = next((grid for grid in grids if _is_same_grid(grid, orientation, spacing)), None)
        if grid is None:
            grid = (orientation, spacing, [])
            grids.append(grid)
        planes_of[orientation, spacing] = grid[2]
    for plane in with_position:
        planes_of[plane.orientation, plane.pixel_spacing].append(plane)
    groups = [grid[2] for grid in grids]
    if not groups:
        return [without_position]
    if without_position:
        largest = max(groups, key=len)
        largest += without_position
    return groups


def _is_same_grid(grid: tuple[Any, Any, Any], orientation: Any, spacing: Any) -> bool:
    return _is_near(grid[0], orientation, ORIENTATION_TOLERANCE) and _is_near(grid[1], spacing, PIXEL_SPACING_TOLERANCE_MM)


def _is_near(values: Sequence[float], others: Sequence[float], tolerance: float) -> bool:
    return max(abs(value - other) for value, other in zip(values, others, strict=True)) <= tolerance


def approximate_grid(group: PlaneGroup, spacing: float | None) -> Geometry | None:
    """An approximate grid of a group's planes, for listing volumes that cannot be read.

    Args:
        group: any group.
        spacing: distance of neighbouring planes in mm; None for a single plane, whose slice thickness is used.

    Returns:
        A geometry of ``(columns, rows, planes)`` with the origin of the first file's plane; None where the headers state too
        little.
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

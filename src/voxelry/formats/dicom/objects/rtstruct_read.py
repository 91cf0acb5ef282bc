"""RTSTRUCT as labels: the structures of a radiotherapy structure set, filled on the slices of the series they were drawn on.

How a contour becomes voxels is said in `contours`. A contour belongs to the slice nearest to it, within `SLICE_TOLERANCE`; on an
oblique or tilted series as well, since its points are brought to voxel indices first. Only CLOSED_PLANAR and CLOSEDPLANAR_XOR
contours enclose anything: points and open lines are left out with a remark. Slices between contours are not filled in.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from voxelry.core.geometry import Geometry, flip_lps_ras
from voxelry.core.labels import ANATOMICAL_STRUCTURE, Label, LabelTable
from voxelry.core.volume import LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, GridMismatchError, LabelError, SelectionError, nearest
from voxelry.formats.dicom.elements import PARSE_ERRORS
from voxelry.formats.dicom.objects.contours import fill
from voxelry.formats.dicom.objects.referenced import Referenced, compared, find_image, referenced
from voxelry.formats.dicom.objects.seg_read import code_of
from voxelry.formats.label_layers import SegmentBox, clean_name, layered, match, unique_names
from voxelry.formats.reader import read

SLICE_TOLERANCE = 0.25
"""Slices: how far a contour may lie from its slice; half way between two it could belong to either."""

_PLANAR = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_SOME_AWAY = 0.02


@dataclass(frozen=True, eq=False)
class _Structure:
    """One structure: its label, its closed contours (``(points, 3)`` mm, LPS+), how many of each other type were left out."""

    label: Label
    contours: Sequence[NDArray[np.float64]]
    left_out: Counter[str]


def read_rtstruct(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
) -> LabelMap:
    """Read a structure set as labels on the grid of its image.

    Args:
        path: a DICOM RTSTRUCT file.
        table: which structures are wanted, found by name, then by code; the others are left out with a remark. None takes all,
            numbered by ROI number where those fit, with their names, codes and colours.
        reference: the image, or its path; None looks for the series that the file names in the file's folder and the one above.

    Returns:
        A LabelMap ``(columns, rows, slices)``, on several layers where structures overlap. A structure without contours stays in
        the table, empty. `Source.remarks` says what was left out.

    Raises:
        MissingFileError: the series it was drawn on is not beside the file.
        GridMismatchError: contours that lie on no slice of the reference, or another frame of reference.
        LabelError: none of the structures is in `table`, or structures overlap on one of its layers.
        CorruptFileError: damaged, or contradicting itself.
    """
    file = Path(path)
    try:
        data = pydicom.dcmread(file)
        structures = _structures(data)
        wanted = referenced(data)
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{file}: cannot be read as a structure set ({error})", remedy="Export it again.") from error
    image = reference if isinstance(reference, Volume) else _image(file, reference, wanted)
    if image.geometry.affine is None:
        raise GridMismatchError(f"{file}: contours lie in space, {image.source.name} is a picture", remedy="Name its series.")
    labels, remarks = _named(file, structures, table)
    remarks += compared(file, wanted, image)
    boxes = {}
    for number in labels:
        boxes[number], said = _boxes(file, structures[number], image.geometry)
        remarks += [f"structure '{structures[number].label.name}': {words}" for words in said]
    source = Source("rtstruct", (str(file),), image.source.series_uid, image.source.instances, tuple(remarks))
    found = layered(boxes, image.geometry, labels, table, source)
    return replace(found, source=source)


def _image(file: Path, reference: str | os.PathLike[str] | None, wanted: Referenced) -> Volume:
    """The image by its path, or the one that the file names; of several series at a path, that which it names."""
    if reference is None:
        return find_image(file, wanted)
    try:
        return read(reference)
    except SelectionError:
        return read(reference, series=wanted.series)


def _structures(data: Dataset) -> dict[int, _Structure]:
    """ROI number -> structure, in the order of the file."""
    colours: dict[int, Any] = {}
    items: dict[int, list[Dataset]] = {}
    for roi in data.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        colours[number] = roi.get("ROIDisplayColor")
        items.setdefault(number, []).extend(roi.get("ContourSequence") or [])
    codes = {int(one.ReferencedROINumber): one for one in data.get("RTROIObservationsSequence") or []}
    found = {}
    for roi in data.StructureSetROISequence:
        number = int(roi.ROINumber)
        contours = items.get(number, [])
        kinds = [str(item.get("ContourGeometricType", "")) for item in contours]
        closed = [_points(item) for item, kind in zip(contours, kinds, strict=True) if kind in _PLANAR]
        label = _label(roi, number, codes.get(number, Dataset()), colours.get(number))
        found[number] = _Structure(label, closed, Counter(kind for kind in kinds if kind not in _PLANAR))
    names = unique_names({number: one.label for number, one in found.items()})
    return {number: replace(one, label=names[number]) for number, one in found.items()}


def _points(item: Dataset) -> NDArray[np.float64]:
    points = np.array([float(value) for value in item.ContourData], dtype=np.float64)
    if not points.size or points.size % 3 or not np.isfinite(points).all():
        raise ValueError(f"a contour of {points.size} coordinates")
    return points.reshape(-1, 3)


def _label(roi: Dataset, number: int, observed: Dataset, color: Any) -> Label:
    kind = observed.get("RTROIIdentificationCodeSequence")
    usable = color is not None and len(color) == 3 and all(0 <= int(part) <= 255 for part in color)
    return Label(
        value=number if 0 < number <= 65535 else 65535,
        name=clean_name(str(roi.get("ROIName", "")), number),
        category=ANATOMICAL_STRUCTURE,
        type=code_of(kind),
        modifier=code_of(kind[0].get("SegmentedPropertyTypeModifierCodeSequence")) if kind else None,
        color=(int(color[0]), int(color[1]), int(color[2])) if usable else None,
    )


def _named(file: Path, structures: dict[int, _Structure], table: LabelTable | None) -> tuple[dict[int, Label], list[str]]:
    """ROI number -> label, and remarks of what is left out."""
    if table is None:
        values = {one.label.value for one in structures.values()}
        fits = len(values) == len(structures) and all(number == one.label.value for number, one in structures.items())
        renumbered = {
            number: one.label if fits else one.label.model_copy(update={"value": index})
            for index, (number, one) in enumerate(structures.items(), start=1)
        }
        return renumbered, [] if fits else ["ROI numbers that are no label values were numbered from 1"]
    found = {number: match(one.label, table) for number, one in structures.items()}
    labels = {number: label for number, label in found.items() if label is not None}
    others = [structures[number].label.name for number, label in found.items() if label is None]
    if not labels:
        first = others[0] if others else ""
        raise LabelError(
            f"{file}: none of its structures ({', '.join(others)[:200]}) is in the table", remedy=nearest(first, table.names)
        )
    return labels, [f"structures not in the table are left out: {', '.join(others)}"] if others else []


def _boxes(file: Path, structure: _Structure, geometry: Geometry) -> tuple[list[SegmentBox], list[str]]:
    """The voxels of one structure, slice by slice, and what is to be said of it."""
    slices: dict[int, list[NDArray[np.float64]]] = {}
    away = 0.0
    for contour in structure.contours:
        index = geometry.index(flip_lps_ras(contour))
        place, off = _slice_of(file, structure.label.name, index, geometry)
        away = max(away, off)
        slices.setdefault(place, []).append(index[:, :2])
    said = [f"{count} contours of type {kind or 'none'} enclose nothing" for kind, count in structure.left_out.items()]
    if away > _SOME_AWAY:
        said.append(f"contours up to {away:.2g} slices off their slice")
    boxes, overlaps, repeated, clipped = [], 0, 0, 0
    for place, contours in sorted(slices.items()):
        filled = fill(contours, (geometry.shape[0], geometry.shape[1]))
        overlaps, repeated, clipped = overlaps + filled.overlaps, repeated + filled.repeated, clipped + filled.clipped
        if filled.inside.any():
            boxes.append(SegmentBox((*filled.start, place), filled.inside[:, :, None]))
    said += [f"{overlaps} contours overlap others in part: joined"] if overlaps else []
    said += [f"{repeated} contours are there twice"] if repeated else []
    said += [f"cut at the image's border on {clipped} slices"] if clipped else []
    between = max(slices) - min(slices) + 1 - len(slices) if slices else 0
    said += [f"no contour on {between} slices between others: empty there"] if between else []
    return boxes, said or ([] if structure.contours else ["no contours: empty"])


def _slice_of(file: Path, name: str, index: NDArray[np.float64], geometry: Geometry) -> tuple[int, float]:
    """The slice that a contour lies on, and how far from it, in slices."""
    heights = index[:, 2]
    place = int(np.clip(np.round(heights.mean()), -1, geometry.shape[2]))
    off = float(np.abs(heights - place).max())
    if 0 <= place < geometry.shape[2] and off <= SLICE_TOLERANCE:
        return place, off
    spread = float(np.ptp(heights))
    how = (
        f"runs across {spread:.3g} slices" if spread > 2 * SLICE_TOLERANCE
        else f"lies at slice {heights.mean():.4g} of 0..{geometry.shape[2] - 1}"
    )  # fmt: skip
    raise GridMismatchError(
        f"{file}: a contour of structure '{name}' {how}: on no slice of the image",
        remedy="Name the image that it was drawn on, with all its slices.",
    )

"""Reader of RTSTRUCT: the structures of a radiotherapy structure set, filled on the slices of the series they were drawn on.

`contours` defines which voxels a contour encloses. A contour belongs to the slice nearest to it, within `SLICE_TOLERANCE`, on an
oblique or tilted series too, since its points are converted to voxel indices first. Only CLOSED_PLANAR and CLOSEDPLANAR_XOR
contours enclose voxels: points and open lines are left out with a remark. Slices between contours are not interpolated.
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
from voxelry.formats.dicom.objects.referenced_image import ReferencedImage, check_same_image, find_image, referenced_image
from voxelry.formats.dicom.objects.seg_read import code_of
from voxelry.formats.label_layers import SegmentBox, clean_name, match, stack_segments, unique_names
from voxelry.formats.reader import read

SLICE_TOLERANCE = 0.25
"""Largest distance of a contour from its slice, in slices; half way between two it could belong to either."""

_PLANAR = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_REMARKABLE_OFFSET = 0.02
"""Slices: from this distance on a contour off its slice is remarked."""


@dataclass(frozen=True, eq=False)
class _Structure:
    """One structure: its label, its closed contours (``(points, 3)`` mm, LPS+), the number left out of each other type."""

    label: Label
    contours: Sequence[NDArray[np.float64]]
    ignored: Counter[str]


def read_rtstruct(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    *,
    reference: Volume | str | os.PathLike[str] | None = None,
) -> LabelMap:
    """Read a structure set as labels on the grid of its image.

    Args:
        path: a DICOM RTSTRUCT file.
        table: the structures to read, matched by name, then by code; the others are left out with a remark. None takes all,
            numbered by ROI number where those fit, with their names, codes and colours.
        reference: the image, or its path; None looks for the series that the file names in the file's folder and the one above.

    Returns:
        A LabelMap ``(columns, rows, slices)``, on several layers where structures overlap. A structure without contours stays in
        the table, empty. `Source.remarks` lists what was left out.

    Raises:
        MissingFileError: the series that it was drawn on is not beside the file.
        GridMismatchError: contours that lie on no slice of the reference, or another frame of reference.
        LabelError: none of the structures is in `table`, or structures overlap on one of its layers.
        CorruptFileError: damaged, or contradicting itself.
    """
    file = Path(path)
    try:
        data = pydicom.dcmread(file)
        structures = _structures(data)
        named = referenced_image(data)
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{file}: cannot be read as a structure set ({error})", remedy="Export it again.") from error
    image = reference if isinstance(reference, Volume) else _image(file, reference, named)
    if image.geometry.affine is None:
        raise GridMismatchError(f"{file}: contours lie in space, {image.source.name} is a picture", remedy="Name its series.")
    labels, remarks = _labels(file, structures, table)
    remarks += check_same_image(file, named, image)
    boxes = {}
    for number in labels:
        boxes[number], own_remarks = _boxes(file, structures[number], image.geometry)
        remarks += [f"structure '{structures[number].label.name}': {text}" for text in own_remarks]
    source = Source("rtstruct", (str(file),), image.source.series_uid, image.source.instances, tuple(remarks))
    return replace(stack_segments(boxes, image.geometry, labels, table, source), source=source)


def _image(file: Path, reference: str | os.PathLike[str] | None, named: ReferencedImage) -> Volume:
    """The image at a path, or the one that the file names; of several series at a path, the one that the file names."""
    if reference is None:
        return find_image(file, named)
    try:
        return read(reference)
    except SelectionError:
        return read(reference, series=named.series)


def _structures(data: Dataset) -> dict[int, _Structure]:
    """ROI number -> structure, in the order of the file."""
    colours: dict[int, Any] = {}
    items: dict[int, list[Dataset]] = {}
    for roi in data.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        colours[number] = roi.get("ROIDisplayColor")
        items.setdefault(number, []).extend(roi.get("ContourSequence") or [])
    codes = {int(item.ReferencedROINumber): item for item in data.get("RTROIObservationsSequence") or []}
    structures = {}
    for roi in data.StructureSetROISequence:
        number = int(roi.ROINumber)
        contours = items.get(number, [])
        kinds = [str(item.get("ContourGeometricType", "")) for item in contours]
        closed = [_points(item) for item, kind in zip(contours, kinds, strict=True) if kind in _PLANAR]
        label = _label(roi, number, codes.get(number, Dataset()), colours.get(number))
        structures[number] = _Structure(label, closed, Counter(kind for kind in kinds if kind not in _PLANAR))
    names = unique_names({number: structure.label for number, structure in structures.items()})
    return {number: replace(structure, label=names[number]) for number, structure in structures.items()}


def _points(item: Dataset) -> NDArray[np.float64]:
    points = np.array([float(value) for value in item.ContourData], dtype=np.float64)
    if not points.size or points.size % 3 or not np.isfinite(points).all():
        raise ValueError(f"a contour of {points.size} coordinates")
    return points.reshape(-1, 3)


def _label(roi: Dataset, number: int, observation: Dataset, color: Any) -> Label:
    kind = observation.get("RTROIIdentificationCodeSequence")
    usable = color is not None and len(color) == 3 and all(0 <= int(channel) <= 255 for channel in color)
    return Label(
        value=number if 0 < number <= 65535 else 65535,
        name=clean_name(str(roi.get("ROIName", "")), number),
        category=ANATOMICAL_STRUCTURE,
        type=code_of(kind),
        modifier=code_of(kind[0].get("SegmentedPropertyTypeModifierCodeSequence")) if kind else None,
        color=(int(color[0]), int(color[1]), int(color[2])) if usable else None,
    )


def _labels(file: Path, structures: dict[int, _Structure], table: LabelTable | None) -> tuple[dict[int, Label], list[str]]:
    """ROI number -> label, and remarks on structures that are left out or renumbered."""
    if table is None:
        values = {structure.label.value for structure in structures.values()}
        fits = len(values) == len(structures) and all(number == item.label.value for number, item in structures.items())
        renumbered = {
            number: item.label if fits else item.label.model_copy(update={"value": index})
            for index, (number, item) in enumerate(structures.items(), start=1)
        }
        return renumbered, [] if fits else ["ROI numbers that are no label values were numbered from 1"]
    matches = {number: match(structure.label, table) for number, structure in structures.items()}
    labels = {number: label for number, label in matches.items() if label is not None}
    others = [structures[number].label.name for number, label in matches.items() if label is None]
    if not labels:
        first = others[0] if others else ""
        raise LabelError(
            f"{file}: none of its structures ({', '.join(others)[:200]}) is in the table", remedy=nearest(first, table.names)
        )
    return labels, [f"structures not in the table are left out: {', '.join(others)}"] if others else []


def _boxes(file: Path, structure: _Structure, geometry: Geometry) -> tuple[list[SegmentBox], list[str]]:
    """The voxels of one structure, slice by slice, and remarks on its contours."""
    slices: dict[int, list[NDArray[np.float64]]] = {}
    largest = 0.0
    for contour in structure.contours:
        index = geometry.index(flip_lps_ras(contour))
        k, offset = _slice_of(file, structure.label.name, index, geometry)
        largest = max(largest, offset)
        slices.setdefault(k, []).append(index[:, :2])
    remarks = [f"{count} contours of type {kind or 'none'} enclose nothing" for kind, count in structure.ignored.items()]
    if largest > _REMARKABLE_OFFSET:
        remarks.append(f"contours up to {largest:.2g} slices off their slice")
    boxes, overlaps, repeated, clipped = [], 0, 0, 0
    for k, contours in sorted(slices.items()):
        filled = fill(contours, (geometry.shape[0], geometry.shape[1]))
        overlaps, repeated, clipped = overlaps + filled.overlaps, repeated + filled.repeated, clipped + filled.clipped
        if filled.inside.any():
            boxes.append(SegmentBox((*filled.start, k), filled.inside[:, :, None]))
    remarks += [f"{overlaps} contours overlap others in part: joined"] if overlaps else []
    remarks += [f"{repeated} contours are there twice"] if repeated else []
    remarks += [f"cut at the image's border on {clipped} slices"] if clipped else []
    between = max(slices) - min(slices) + 1 - len(slices) if slices else 0
    remarks += [f"no contour on {between} slices between others: empty there"] if between else []
    return boxes, remarks or ([] if structure.contours else ["no contours: empty"])


def _slice_of(file: Path, name: str, index: NDArray[np.float64], geometry: Geometry) -> tuple[int, float]:
    """The slice that a contour lies on, and its distance from it, in slices."""
    heights = index[:, 2]
    k = int(np.clip(np.round(heights.mean()), -1, geometry.shape[2]))
    offset = float(np.abs(heights - k).max())
    if 0 <= k < geometry.shape[2] and offset <= SLICE_TOLERANCE:
        return k, offset
    spread = float(np.ptp(heights))
    how = (
        f"runs across {spread:.3g} slices" if spread > 2 * SLICE_TOLERANCE
        else f"lies at slice {heights.mean():.4g} of 0..{geometry.shape[2] - 1}"
    )  # fmt: skip
    raise GridMismatchError(
        f"{file}: a contour of structure '{name}' {how}: on no slice of the image",
        remedy="Name the image that it was drawn on, with all its slices.",
    )

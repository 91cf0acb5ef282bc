"""DICOM segmentations as label maps: BINARY and LABELMAP, frames in any order, empty ones left out.

A SEG describes another image: its frames lie on planes of that image's grid, and planes without a label may be missing (DICOM
PS3.3 section A.51). So the map read here ends with its outermost frames; `LabelMap.on_grid` lays it onto a larger grid.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from voxelry.errors import CorruptFileError, LabelError, SeriesError, UnsupportedFormatError, nearest
from voxelry.geometry import GRID_TOLERANCE_VOXEL, Geometry, flip_lps_ras
from voxelry.labels import ANATOMICAL_STRUCTURE, Code, Label, LabelTable
from voxelry.read.dicom_header import PARSE_ERRORS
from voxelry.volume import SPARSE, LabelMap, Source

_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, Label Map Segmentation Storage."""


@dataclass(frozen=True)
class _Plane:
    """Where one frame lies: position of its first pixel in mm (LPS+), None for projections; its segment, 0 for label maps."""

    position: tuple[float, ...] | None
    segment: int


def is_dicom_seg(path: str | os.PathLike[str]) -> bool:
    """Whether a DICOM file is a segmentation."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except PARSE_ERRORS:
        return False
    return str(header.get("SOPClassUID", "")) in _CLASSES


def read_dicom_seg(path: str | os.PathLike[str], table: LabelTable | None = None) -> LabelMap:
    """Read a segmentation.

    Args:
        path: a DICOM SEG file.
        table: what to call the segments; each is found in it by its label, or by its codes. None makes a table of the
            segments' own numbers, labels and codes.

    Returns:
        A LabelMap on the grid its frames span, ``(columns, rows, slices)`` in RAS+ mm, or ``(rows, columns)`` for a radiograph;
        one layer, or more where segments overlap.

    Raises:
        UnsupportedFormatError: FRACTIONAL segments, which are probabilities.
        LabelError: a segment that `table` does not know.
        SeriesError: frames that are not planes of one regular grid.
        CorruptFileError: damaged, or contradicting itself.
    """
    file = Path(path)
    try:
        seg = pydicom.dcmread(file)
        if seg.get("SegmentationType") == "FRACTIONAL":
            raise UnsupportedFormatError(
                f"{file}: its segments are FRACTIONAL, probabilities and no labels", remedy="Threshold them where they were made."
            )
        if seg.get("DimensionOrganizationType") == "TILED_FULL" or "TotalPixelMatrixRows" in seg:
            raise UnsupportedFormatError(f"{file}: a tiled segmentation, as of whole-slide microscopy, is not read")
        frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
        planes = [_plane(frame, seg) for frame in seg.PerFrameFunctionalGroupsSequence]
        labels = {int(item.SegmentNumber): _label(item) for item in seg.SegmentSequence if int(item.SegmentNumber) > 0}
        geometry, places = _grid(seg, planes, file)
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{file}: cannot be read as a segmentation ({error})", remedy="Export it again.") from error
    if len(planes) != len(frames):
        raise CorruptFileError(f"{file}: {len(frames)} frames, but {len(planes)} are described", remedy="Export it again.")
    known = _named(labels, table, file)
    stacks = _stacks(frames, planes, places, geometry, known, file)
    return _layered(stacks, geometry, known, table, _source(seg, file))


def _plane(frame: Dataset, seg: Dataset) -> _Plane:
    position = frame.get("PlanePositionSequence")
    shared = seg.SharedFunctionalGroupsSequence[0]
    segments = frame.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return _Plane(
        tuple(float(value) for value in position[0].ImagePositionPatient) if position else None,
        int(segments[0].ReferencedSegmentNumber) if segments and seg.SegmentationType == "BINARY" else 0,
    )


def _grid(seg: Dataset, planes: Sequence[_Plane], file: Path) -> tuple[Geometry, list[int]]:
    """The grid that the frames span, and each frame's slice on it."""
    shared, first = seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]
    measures = (shared.get("PixelMeasuresSequence") or first.get("PixelMeasuresSequence") or [Dataset()])[0]
    spacing = [float(value) for value in measures.get("PixelSpacing") or ()]
    if any(plane.position is None for plane in planes):
        return Geometry((seg.Rows, seg.Columns), None, (spacing[0], spacing[1]) if spacing else None), [0] * len(planes)
    orientation = (shared.get("PlaneOrientationSequence") or first.get("PlaneOrientationSequence"))[0].ImageOrientationPatient
    across, down = np.array(orientation[:3], dtype=np.float64), np.array(orientation[3:], dtype=np.float64)
    normal = np.cross(across, down)
    positions = np.array([plane.position for plane in planes])
    heights = positions @ normal
    step = _step(np.unique(heights.round(3)), measures, file)
    origin = positions[int(heights.argmin())]
    places = np.round((heights - heights.min()) / step).astype(int)
    expected = origin + places[:, None] * step * normal
    worst = float(np.abs(positions - expected).max())
    if worst > max(GRID_TOLERANCE_VOXEL * min(step, *spacing), 0.05):
        raise SeriesError(
            f"{file}: frames lie up to {worst:.3g} mm off a regular stack of {step:.4g} mm",
            remedy="Export it on its image's grid.",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = across * spacing[1], down * spacing[0], normal * step, origin
    return Geometry((seg.Columns, seg.Rows, int(places.max()) + 1), flip_lps_ras(affine)), places.tolist()


def _step(heights: NDArray[np.float64], measures: Dataset, file: Path) -> float:
    """Distance between slices in mm: as stored, else the smallest between frames, else the thickness."""
    for value in (
        measures.get("SpacingBetweenSlices"),
        None if len(heights) < 2 else np.diff(heights).min(),
        measures.get("SliceThickness"),
    ):
        if value is not None and float(value) > 0:
            return float(value)
    raise SeriesError(f"{file}: one frame, and no distance between slices is stored", remedy="Export it with SliceThickness.")


def _label(item: Dataset) -> Label:
    """A segment as a label of its own number."""

    def code(sequence: Any) -> Code | None:
        if not sequence:
            return None
        value = sequence[0].get("CodeValue") or sequence[0].get("LongCodeValue") or ""
        scheme = str(sequence[0].CodingSchemeDesignator)
        return Code(value=str(value), scheme=scheme, meaning=str(sequence[0].CodeMeaning)[:64])

    kind = item.get("SegmentedPropertyTypeCodeSequence")
    return Label(
        value=int(item.SegmentNumber),
        name=str(item.SegmentLabel)[:64],
        category=code(item.get("SegmentedPropertyCategoryCodeSequence")) or ANATOMICAL_STRUCTURE,
        type=code(kind),
        modifier=code(kind[0].get("SegmentedPropertyTypeModifierCodeSequence")) if kind else None,
    )


def _named(segments: dict[int, Label], table: LabelTable | None, file: Path) -> dict[int, Label]:
    """Segment number -> the label it stands for."""
    if table is None:
        names = [label.name for label in segments.values()]
        return {
            n: one if names.count(one.name) == 1 else one.model_copy(update={"name": f"{one.name[:56]} {n}"})
            for n, one in segments.items()
        }
    by_name = {label.name.lower(): label for label in table.labels}
    by_code: dict[tuple[Code | None, Code | None], Label] = {
        (label.type, label.modifier): label for label in table.labels if label.type is not None
    }
    found = {n: by_name.get(one.name.lower()) or by_code.get((one.type, one.modifier)) for n, one in segments.items()}
    unknown = [segments[n].name for n, label in found.items() if label is None]
    if unknown:
        raise LabelError(f"{file}: segment '{unknown[0]}' is not in the table", remedy=nearest(unknown[0], table.names))
    return {n: label for n, label in found.items() if label is not None}


def _stacks(
    frames: NDArray[Any], planes: Sequence[_Plane], places: Sequence[int], geometry: Geometry, known: dict[int, Label], file: Path
) -> dict[int, NDArray[np.bool_]]:
    """Segment number -> mask on the grid, for the segments that have a voxel."""
    masks: dict[int, NDArray[np.bool_]] = {}
    flat = geometry.ndim == 2
    for frame, plane, place in zip(frames, planes, places, strict=True):
        numbers = [plane.segment] if plane.segment else [int(value) for value in np.unique(frame) if value]
        for number in numbers:
            if number not in known:
                raise CorruptFileError(
                    f"{file}: a frame is of segment {number}, which is not described", remedy="Export it again."
                )
            inside = frame != 0 if plane.segment else frame == number
            if inside.any():
                mask = masks.setdefault(number, np.zeros(geometry.shape, dtype=bool))
                target = mask if flat else mask[:, :, place]
                target |= inside if flat else inside.T
    return masks


def _layered(
    masks: dict[int, NDArray[np.bool_]], geometry: Geometry, known: dict[int, Label], table: LabelTable | None, source: Source
) -> LabelMap:
    """Masks on as few layers as hold them without overlap, in the order of the segments; a given table says the layers itself."""
    highest = max((label.value for label in known.values()), default=0)
    kind = np.uint8 if highest < 256 else np.uint16
    layers = [np.zeros(geometry.shape, dtype=kind) for _ in range(table.layers if table else 1)]
    placed = dict(known)
    for number, mask in sorted(masks.items()):
        label = known[number]
        free = [index for index, layer in enumerate(layers) if not layer[mask].any()]
        if table is not None:
            free = [label.layer] if label.layer in free else []
            if not free:
                raise LabelError(
                    f"{source.name}: segment '{label.name}' overlaps another", remedy="Give them layers in the table."
                )
        elif not free:
            layers.append(np.zeros(geometry.shape, dtype=kind))
            free = [len(layers) - 1]
        layers[free[0]][mask] = label.value
        placed[number] = label.model_copy(update={"layer": free[0]})
    return LabelMap(np.stack(layers), geometry, table or LabelTable(labels=tuple(placed.values())), source)


def _source(seg: Dataset, file: Path) -> Source:
    return Source(kind=SPARSE, files=(str(file),), series_uid=str(seg.get("SeriesInstanceUID", "")))

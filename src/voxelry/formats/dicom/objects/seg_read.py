"""DICOM segmentations: BINARY and LABELMAP as label maps, FRACTIONAL as probabilities until someone names a threshold.

A SEG describes another image: its frames lie on planes of that image's grid, in any order, and planes without a label may be
missing (DICOM PS3.3 section A.51). So the map read here ends with its outermost frames; `LabelMap.on_grid` lays it onto a larger
grid. Whole-slide segmentations, which are tiled, are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from voxelry.core.geometry import Geometry
from voxelry.core.labels import ANATOMICAL_STRUCTURE, Code, Label, LabelTable
from voxelry.core.volume import SPARSE, LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, LabelError, ReadError, UnsupportedFormatError, UsageError
from voxelry.formats.dicom.elements import PARSE_ERRORS
from voxelry.formats.dicom.objects.seg_planes import Plane, grid_of, planes_of
from voxelry.formats.dicom.pixels.panics import panics_as_errors
from voxelry.formats.label_layers import SegmentBox, clean_name, layered, matched, unique_names

MAX_FRAME = 2**26
"""Pixels of the largest frame that is decoded: a damaged header claims any size."""

_TOO_DAMAGED = "Export it again."


@dataclass(frozen=True, eq=False)
class _Segmentation:
    """A file whose header was understood.

    Attributes:
        seg: the data set.
        planes: of each frame, and `places`, its slice of `geometry`.
        labels: segment number -> the segment as a label of that value.
    """

    file: Path
    seg: Dataset
    planes: Sequence[Plane]
    geometry: Geometry
    places: Sequence[int]
    labels: dict[int, Label]

    @property
    def is_fractional(self) -> bool:
        return bool(self.seg.get("SegmentationType") == "FRACTIONAL")

    @property
    def source(self) -> Source:
        uid, frame = (str(self.seg.get(name, "")) for name in ("SeriesInstanceUID", "FrameOfReferenceUID"))
        return Source(kind=SPARSE, files=(str(self.file),), series_uid=uid, frame_of_reference=frame)

    def frames(self) -> Iterator[tuple[Plane, tuple[int, ...], NDArray[Any]]]:
        """Each frame with its plane, the first voxel of its slice, and its pixels laid as the grid's axes are."""
        flat = self.geometry.ndim == 2
        for plane, place, frame in zip(self.planes, self.places, _decoded(self.seg, self.file), strict=True):
            yield plane, (0, 0) if flat else (0, 0, place), frame if flat else frame.T[:, :, None]


def read_dicom_seg(path: str | os.PathLike[str], table: LabelTable | None = None, threshold: float | None = None) -> LabelMap:
    """Read a segmentation as labels.

    Args:
        path: a DICOM SEG file.
        table: what to call the segments; each is found in it by its label, or by its codes. None makes a table of the
            segments' own numbers, labels, codes and colours.
        threshold: of FRACTIONAL segments: from which fraction (0..1) on a voxel belongs to its segment.

    Returns:
        A LabelMap on the grid its frames span, ``(columns, rows, slices)`` in RAS+ mm, or ``(rows, columns)`` for a radiograph;
        one layer, or more where segments overlap. Segments without a voxel stay in the table.

    Raises:
        LabelError: a segment that `table` does not know; FRACTIONAL segments and no threshold.
        UsageError: a threshold for segments that are not FRACTIONAL, or beyond 0..1.
        SeriesError: frames that are not planes of one regular grid.
        UnsupportedFormatError: a tiled segmentation.
        CorruptFileError: damaged, or contradicting itself.
    """
    found = _open(Path(path))
    if found.is_fractional and threshold is None:
        raise LabelError(
            f"{found.file}: its segments are FRACTIONAL, probabilities and no labels",
            remedy="Name a threshold, as `threshold=0.5`; `read` gives the probabilities.",
        )
    if threshold is not None and (not found.is_fractional or not 0 < threshold <= 1):
        raise UsageError(
            f"{found.file}: threshold {threshold:g} for {found.seg.get('SegmentationType')} segments",
            remedy="A threshold above 0 and up to 1 is for FRACTIONAL segments.",
        )
    names = matched(found.labels, table, str(found.file)) if table is not None else unique_names(found.labels)
    boxes: dict[int, list[SegmentBox]] = {}
    for plane, start, frame in found.frames():
        for number, inside in _segments(plane, frame, _least(found.seg, threshold)):
            if number not in names:
                raise CorruptFileError(
                    f"{found.file}: a frame is of segment {number}, which is not described", remedy=_TOO_DAMAGED
                )
            if inside.any():
                boxes.setdefault(number, []).append(SegmentBox(start, inside))
    return layered(boxes, found.geometry, names, table, found.source)


def read_dicom_seg_image(path: str | os.PathLike[str]) -> Volume:
    """Read a FRACTIONAL segmentation as an image of probabilities (or of occupied fractions), a channel a segment.

    Args:
        path: a DICOM SEG file.

    Returns:
        A Volume ``(segments, *spatial)`` float32, 0..1, on the grid that its frames span; `Volume.channel_names` are the names
        of the segments.

    Raises:
        UsageError: segments that are labels.
        ReadError: as `read_dicom_seg`.
    """
    found = _open(Path(path))
    if not found.is_fractional:
        raise UsageError(f"{found.file}: a segmentation holds labels, no image", remedy="Use `read_labels`.")
    kind = str(found.seg.get("SegmentationFractionalType", "PROBABILITY")).lower()
    source = found.source
    return Volume(
        partial(_fractions, found),
        found.geometry,
        channels=len(found.labels),
        modality="SEG",
        source=replace(source, remarks=(f"fractional segments: {kind}",)),
        channel_names=tuple(label.name for label in unique_names(found.labels).values()),
    )


def _fractions(found: _Segmentation) -> NDArray[np.float32]:
    """``(C, *spatial)``, 0 where no frame lies."""
    channel = {number: index for index, number in enumerate(found.labels)}
    scale = np.float32(_maximum(found.seg))
    values = np.zeros((len(channel), *found.geometry.shape), dtype=np.float32)
    for plane, start, frame in found.frames():
        box = tuple(slice(first, first + size) for first, size in zip(start, frame.shape, strict=True))
        np.maximum(values[channel[plane.segment]][box], frame / scale, out=values[channel[plane.segment]][box])
    return values


def _open(file: Path) -> _Segmentation:
    """Parse and check everything but the pixels."""
    try:
        seg = pydicom.dcmread(file)
        _check(seg, file)
        planes = planes_of(seg, file)
        labels = {int(item.SegmentNumber): _label(item) for item in seg.SegmentSequence if int(item.SegmentNumber) > 0}
        geometry, places = grid_of(seg, planes, file)
        unknown = {plane.segment for plane in planes} - set(labels) - {0}
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{file}: cannot be read as a segmentation ({error})", remedy=_TOO_DAMAGED) from error
    if unknown:
        raise CorruptFileError(f"{file}: a frame is of segment {min(unknown)}, which is not described", remedy=_TOO_DAMAGED)
    return _Segmentation(file, seg, planes, geometry, places, labels)


def _check(seg: Dataset, file: Path) -> None:
    """Refuse what is not read, and a claim of more pixels than the file can hold."""
    if seg.get("DimensionOrganizationType") == "TILED_FULL" or "TotalPixelMatrixRows" in seg:
        raise UnsupportedFormatError(f"{file}: a tiled segmentation, as of whole-slide microscopy, is not read")
    if seg.get("SegmentationType") not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise CorruptFileError(f"{file}: SegmentationType {seg.get('SegmentationType')!r} is unknown", remedy=_TOO_DAMAGED)
    pixels, frames = int(seg.Rows) * int(seg.Columns), int(seg.get("NumberOfFrames") or 1)
    if not 0 < pixels <= MAX_FRAME or frames < 1:
        raise CorruptFileError(f"{file}: {frames} frames of {seg.Rows} x {seg.Columns} pixels cannot be", remedy=_TOO_DAMAGED)
    if seg.SegmentationType != "LABELMAP" and any(int(item.SegmentNumber) < 1 for item in seg.SegmentSequence):
        raise CorruptFileError(f"{file}: a segment has the number 0", remedy=_TOO_DAMAGED)
    if not seg.file_meta.TransferSyntaxUID.is_compressed or seg.file_meta.TransferSyntaxUID.is_deflated:
        wanted = -(-pixels * frames * int(seg.BitsAllocated) // 8)
        if len(seg.PixelData) < wanted:
            raise CorruptFileError(
                f"{file}: {len(seg.PixelData)} bytes of pixels, the header promises {wanted}", remedy=_TOO_DAMAGED
            )


def _decoded(seg: Dataset, file: Path) -> Iterator[NDArray[Any]]:
    """The frames ``(rows, columns)``, one after the other."""
    try:
        if seg.BitsAllocated == 1 and (
            not seg.file_meta.TransferSyntaxUID.is_compressed or seg.file_meta.TransferSyntaxUID.is_deflated
        ):
            yield from _unpacked(seg)
        else:
            with panics_as_errors():
                for frame in iter_pixels(seg):
                    if frame.shape != (seg.Rows, seg.Columns):
                        raise ValueError(f"a frame of shape {frame.shape}")
                    yield frame
    except MemoryError as error:
        raise ReadError(f"{file}: its frames do not fit into memory") from error
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{file}: its frames cannot be decoded ({error})", remedy=_TOO_DAMAGED) from error


def _unpacked(seg: Dataset) -> Iterator[NDArray[np.uint8]]:
    """Frames of one bit a pixel; frames need not begin with a byte (DICOM PS3.5 section 8.1.1)."""
    packed = np.frombuffer(seg.PixelData, dtype=np.uint8)
    size = prod((seg.Rows, seg.Columns))
    for start in range(0, size * int(seg.get("NumberOfFrames") or 1), size):
        part = packed[start // 8 : (start + size + 7) // 8]
        yield np.unpackbits(part, bitorder="little")[start % 8 :][:size].reshape(seg.Rows, seg.Columns)


def _segments(plane: Plane, frame: NDArray[Any], least: float) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The segments of one frame with their masks."""
    if plane.segment:
        yield plane.segment, frame >= least
    else:
        for value in np.flatnonzero(np.bincount(frame.ravel())):
            if value:
                yield int(value), frame == value


def _least(seg: Dataset, threshold: float | None) -> float:
    """The smallest stored value of a segment's voxel."""
    return 1 if threshold is None else threshold * _maximum(seg)


def _maximum(seg: Dataset) -> int:
    """The stored value of fraction 1."""
    return max(1, int(seg.get("MaximumFractionalValue") or 255))


def _label(item: Dataset) -> Label:
    """A segment as a label of its own number."""
    kind = item.get("SegmentedPropertyTypeCodeSequence")
    number = int(item.SegmentNumber)
    return Label(
        value=number,
        name=clean_name(str(item.get("SegmentLabel", "")), number),
        category=code_of(item.get("SegmentedPropertyCategoryCodeSequence")) or ANATOMICAL_STRUCTURE,
        type=code_of(kind),
        modifier=code_of(kind[0].get("SegmentedPropertyTypeModifierCodeSequence")) if kind else None,
        color=_color(item),
    )


def code_of(sequence: Any) -> Code | None:
    """The first code of a DICOM code sequence, None where it is empty or has no value."""
    if not sequence:
        return None
    value = sequence[0].get("CodeValue") or sequence[0].get("LongCodeValue") or sequence[0].get("URNCodeValue")
    if not value:
        return None
    scheme = str(sequence[0].get("CodingSchemeDesignator", ""))
    return Code(value=str(value), scheme=scheme, meaning=str(sequence[0].get("CodeMeaning", ""))[:64])


def _color(item: Dataset) -> tuple[int, int, int] | None:
    """RGB of the recommended CIELab colour (DICOM PS3.3 section C.10.7.1.1)."""
    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return None
    from highdicom.color import CIELabColor

    red, green, blue = CIELabColor.from_dicom_value([int(part) for part in value]).to_rgb(clip=True)
    return red, green, blue

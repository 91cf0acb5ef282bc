"""Reader of DICOM SEG: BINARY and LABELMAP as label maps, FRACTIONAL as probabilities, or as labels from a threshold.

A SEG describes another image: its frames lie on planes of that image's grid, in any order, and planes without a label may be
missing (DICOM PS3.3 section A.51). So the map read here ends with its outermost frames; `LabelMap.on_grid` lays it onto a larger
grid. Whole-slide segmentations, which are tiled, are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import iter_pixels

from voxelry.core.geometry import Geometry
from voxelry.core.labels import ANATOMICAL_STRUCTURE, Label, LabelTable
from voxelry.core.volume import SPARSE, LabelMap, Source, Volume
from voxelry.errors import CorruptFileError, LabelError, ReadError, UnsupportedFormatError, UsageError
from voxelry.formats.dicom.elements import PARSE_ERRORS, integer_of, items_of, quiet_pydicom, short_message, text_of
from voxelry.formats.dicom.objects.references import code_of
from voxelry.formats.dicom.objects.seg_planes import SegFrame, SegGrid, grid_of, seg_frames, source_instances
from voxelry.formats.dicom.objects.stored_object import read_object
from voxelry.formats.dicom.pixels.codecs import decode_compressed
from voxelry.formats.dicom.pixels.frame_format import FrameFormat
from voxelry.formats.dicom.pixels.transfer_syntaxes import TRANSFER_SYNTAXES, TransferSyntax
from voxelry.formats.file_content import FileContent
from voxelry.formats.file_segments import gathered
from voxelry.formats.label_layers import SegmentBox, clean_name, match_segments, unique_names
from voxelry.formats.object_layers import LabelledObject, stack_objects

MAX_FRAME = 2**26
"""Most pixels of a frame that is decoded: a damaged header may claim any size."""

FREE_VOXELS = 2**29
"""The grid that frames span may always have so many voxels (512 x 512 x 2048)..."""

VOXELS_PER_BYTE = 256
"""... and so many for each byte of the file: frames far apart must not claim any grid."""

_TOO_DAMAGED = "Export it again."


@dataclass(frozen=True, eq=False)
class _Segmentation:
    """A file whose header is parsed and checked.

    Attributes:
        seg: the data set.
        frames: position and segment of each frame.
        grid: the grid that they span.
        labels: segment number -> the segment as a label of that value.
        instances: the image that each slice was drawn on.
        remarks: what was decided.
    """

    file: Path
    seg: Dataset
    frames: Sequence[SegFrame]
    grid: SegGrid
    labels: dict[int, Label]
    instances: tuple[tuple[str, int] | None, ...]
    remarks: tuple[str, ...]

    @property
    def geometry(self) -> Geometry:
        return self.grid.geometry

    @property
    def is_fractional(self) -> bool:
        return bool(self.seg.get("SegmentationType") == "FRACTIONAL")

    @property
    def notes(self) -> dict[int, str]:
        """Segment number -> the text that describes it."""
        return {int(item.SegmentNumber): text_of(item, "SegmentDescription") for item in items_of(self.seg, "SegmentSequence")}

    def tracking(self, instances: Mapping[int, int]) -> tuple[tuple[int, str, str], ...]:
        """Instance id, tracking id and UID of the segments that are objects and tracked, by their numbers."""
        rows = [
            (instances.get(int(item.SegmentNumber), 0), text_of(item, "TrackingID"), text_of(item, "TrackingUID"))
            for item in items_of(self.seg, "SegmentSequence")
        ]
        return tuple(row for row in rows if all(row))

    @property
    def source(self) -> Source:
        return Source(
            kind=SPARSE,
            files=(str(self.file),),
            series_uid=text_of(self.seg, "SeriesInstanceUID"),
            instances=self.instances,
            remarks=self.remarks,
            frame_of_reference=text_of(self.seg, "FrameOfReferenceUID"),
            is_spacing_assumed=self.grid.is_assumed,
        )

    def pixels(self) -> Iterator[tuple[SegFrame, tuple[int, ...], NDArray[Any]]]:
        """Each frame, the first voxel of its slice, and its pixels in the order of the grid's axes."""
        flat = self.geometry.ndim == 2
        for frame, k, pixels in zip(self.frames, self.grid.slices, _decoded(self.seg, self.file), strict=True):
            yield frame, (0, 0) if flat else (0, 0, k), pixels if flat else pixels.T[:, :, None]


def read_dicom_seg(
    path: str | os.PathLike[str],
    table: LabelTable | None = None,
    threshold: float | None = None,
    content: FileContent | None = None,
) -> LabelMap:
    """Read a segmentation as labels.

    Args:
        path: a DICOM SEG file.
        table: the labels that the segments stand for, matched by name, or by codes. None makes a table of the segments' own
            numbers, labels, codes and colours.
        threshold: for FRACTIONAL segments: the fraction (0..1) from which a voxel belongs to its segment.
        content: of `path`, where it is open already; None opens it.

    Returns:
        A LabelMap on the grid its frames span, ``(columns, rows, slices)`` in RAS+ mm, or ``(rows, columns)`` for a radiograph;
        one layer, or more where segments overlap. Segments without a voxel stay in the table.

    Raises:
        LabelError: a segment that `table` does not know; FRACTIONAL segments and no threshold.
        UsageError: a threshold for segments that are not FRACTIONAL, or beyond 0..1.
        SeriesError: frames that are not planes of one regular grid.
        UnsupportedFormatError: a tiled segmentation, or an unknown transfer syntax.
        CorruptFileError: damaged, or contradicting itself.
    """
    segmentation = _open(Path(path), content)
    if segmentation.is_fractional and threshold is None:
        raise LabelError(
            f"{segmentation.file}: its segments are FRACTIONAL: probabilities, not labels",
            remedy="Name a threshold, as `threshold=0.5`; `read` gives the probabilities.",
        )
    if threshold is not None and (not segmentation.is_fractional or not 0 < threshold <= 1):
        raise UsageError(
            f"{segmentation.file}: threshold {threshold:g} for {segmentation.seg.get('SegmentationType')} segments",
            remedy="A threshold above 0 and up to 1 is for FRACTIONAL segments.",
        )
    joined = gathered(segmentation.labels, segmentation.notes)
    names = match_segments(joined.labels, table, str(segmentation.file)) if table is not None else unique_names(joined.labels)
    boxes: dict[int, list[SegmentBox]] = {}
    for frame, start, pixels in segmentation.pixels():
        for number, inside in _segments(frame, pixels, _least(segmentation.seg, threshold)):
            if number not in joined.owner:
                raise CorruptFileError(
                    f"{segmentation.file}: a frame is of segment {number}, which is not described", remedy=_TOO_DAMAGED
                )
            if inside.any():
                boxes.setdefault(number, []).append(SegmentBox(start, inside))
    objects = [LabelledObject(joined.owner[number], joined.instances.get(number, 0), own) for number, own in boxes.items()]
    source = replace(segmentation.source, tracking=segmentation.tracking(joined.instances))
    return stack_objects(objects, segmentation.geometry, names, table, source, by_id=bool(joined.instances))


def read_dicom_seg_image(path: str | os.PathLike[str], content: FileContent | None = None) -> Volume:
    """Read a FRACTIONAL segmentation as an image of probabilities (or occupied fractions), one channel for each segment.

    Args:
        path: a DICOM SEG file.
        content: as `read_dicom_seg`.

    Returns:
        A Volume ``(segments, *spatial)`` float32, 0..1, on the grid that its frames span; `Volume.channel_names` are the names
        of the segments.

    Raises:
        UsageError: segments that are labels.
        ReadError: as `read_dicom_seg`.
    """
    segmentation = _open(Path(path), content)
    if not segmentation.is_fractional:
        raise UsageError(f"{segmentation.file}: a segmentation holds labels, not an image", remedy="Use `read_labels`.")
    kind = str(segmentation.seg.get("SegmentationFractionalType", "PROBABILITY")).lower()
    source = segmentation.source
    return Volume(
        partial(_fractions, segmentation),
        segmentation.geometry,
        channels=len(segmentation.labels),
        modality="SEG",
        source=replace(source, remarks=(*source.remarks, f"fractional segments: {kind}")),
        channel_names=tuple(label.name for label in unique_names(segmentation.labels).values()),
    )


def _fractions(segmentation: _Segmentation) -> NDArray[np.float32]:
    """``(C, *spatial)``, 0 where there is no frame."""
    channel = {number: index for index, number in enumerate(segmentation.labels)}
    scale = np.float32(_maximum(segmentation.seg))
    values = np.zeros((len(channel), *segmentation.geometry.shape), dtype=np.float32)
    for frame, start, pixels in segmentation.pixels():
        box = tuple(slice(first, first + size) for first, size in zip(start, pixels.shape, strict=True))
        np.maximum(values[channel[frame.segment]][box], pixels / scale, out=values[channel[frame.segment]][box])
    return values


def _open(file: Path, content: FileContent | None) -> _Segmentation:
    """Parse a file and check everything but its pixels."""
    try:
        with quiet_pydicom():
            seg = read_object(file, content)
            _check(seg, file)
            labels = _labels(seg, file)
            frames, remarks = seg_frames(seg, list(labels), file)
            grid = grid_of(seg, frames, file)
            _check_span(prod(grid.geometry.shape), file)
            instances = source_instances(seg, grid)
    except PARSE_ERRORS as error:
        raise CorruptFileError(
            f"{file}: cannot be read as a segmentation ({short_message(error)})", remedy=_TOO_DAMAGED
        ) from error
    return _Segmentation(file, seg, frames, grid, labels, instances, (*remarks, *grid.remarks))


def _check_span(voxels: int, file: Path) -> None:
    """Refuse frames that span a grid out of all proportion to their file, before it is allocated."""
    size = file.stat().st_size
    if voxels > max(FREE_VOXELS, VOXELS_PER_BYTE * size):
        raise CorruptFileError(
            f"{file}: {size} bytes, whose frames lie so far apart that they span {voxels} voxels", remedy=_TOO_DAMAGED
        )


def _labels(seg: Dataset, file: Path) -> dict[int, Label]:
    """Segment number -> label; of a label map without the background, number 0.

    Raises:
        CorruptFileError: a segment without a number, or two of one.
    """
    labels: dict[int, Label] = {}
    for item in items_of(seg, "SegmentSequence"):
        number, name = integer_of(item, "SegmentNumber"), text_of(item, "SegmentLabel")
        if number is None or number < (0 if seg.SegmentationType == "LABELMAP" else 1):
            stated = "no number" if number is None else f"the number {number}"
            raise CorruptFileError(f"{file}: segment '{name}' has {stated}", remedy=_TOO_DAMAGED)
        if number in labels:
            raise CorruptFileError(
                f"{file}: the segments '{labels[number].name}' and '{name}' are both number {number}, by which frames name them",
                remedy=_TOO_DAMAGED,
            )
        if number:
            labels[number] = _label(item, number)
    return labels


def _check(seg: Dataset, file: Path) -> None:
    """Refuse segmentations that are not read, and headers that claim more pixels than the file can hold."""
    if seg.get("DimensionOrganizationType") == "TILED_FULL" or "TotalPixelMatrixRows" in seg:
        raise UnsupportedFormatError(f"{file}: a tiled segmentation, as of whole-slide microscopy, is not read")
    if seg.get("SegmentationType") not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise CorruptFileError(f"{file}: SegmentationType {seg.get('SegmentationType')!r} is unknown", remedy=_TOO_DAMAGED)
    pixels, frames = int(seg.Rows) * int(seg.Columns), int(seg.get("NumberOfFrames") or 1)
    if not 0 < pixels <= MAX_FRAME or frames < 1:
        raise CorruptFileError(f"{file}: {frames} frames of {seg.Rows} x {seg.Columns} pixels cannot be", remedy=_TOO_DAMAGED)
    _check_span(pixels * frames // 8, file)  # of a stack of frames one on the other, as overlapping segments are
    row = TRANSFER_SYNTAXES[seg.file_meta.TransferSyntaxUID]
    if row.is_native:
        _check_native(seg, pixels, frames, file, row)


def _check_native(seg: Dataset, pixels: int, frames: int, file: Path, row: TransferSyntax) -> None:
    """Refuse uncompressed pixels that are fewer, or more by a frame, than the header states, or compressed after all."""
    if seg["PixelData"].is_undefined_length:
        raise CorruptFileError(
            f"{file}: its frames are compressed, which its transfer syntax '{row.name}' denies", remedy=_TOO_DAMAGED
        )
    size, stored = -(-pixels * frames * int(seg.BitsAllocated) // 8), len(seg.PixelData)
    if stored < size or stored >= size + 1 + -(-pixels * int(seg.BitsAllocated) // 8):
        raise CorruptFileError(f"{file}: {stored} bytes of pixels, the header promises {size}", remedy=_TOO_DAMAGED)


def _decoded(seg: Dataset, file: Path) -> Iterator[NDArray[Any]]:
    """The pixels of the frames ``(rows, columns)``, one after the other."""
    try:
        if not TRANSFER_SYNTAXES[seg.file_meta.TransferSyntaxUID].is_native:
            yield from _decompressed(seg, file)
        elif seg.BitsAllocated == 1:
            yield from _unpacked(seg)
        else:
            for frame in iter_pixels(seg):
                if frame.shape != (seg.Rows, seg.Columns):
                    raise ValueError(f"a frame of shape {frame.shape}")
                yield frame
    except MemoryError as error:
        raise ReadError(f"{file}: its frames do not fit into memory") from error
    except PARSE_ERRORS as error:
        raise CorruptFileError(f"{file}: its frames cannot be decoded ({error})", remedy=_TOO_DAMAGED) from error


def _decompressed(seg: Dataset, file: Path) -> Iterator[NDArray[Any]]:
    """Compressed frames."""
    count, bits = int(seg.get("NumberOfFrames") or 1), (int(seg.BitsAllocated), int(seg.BitsStored))
    stored = FrameFormat(file, str(seg.file_meta.TransferSyntaxUID), (int(seg.Rows), int(seg.Columns)), *bits, is_signed=False)
    frames = list(generate_frames(seg.PixelData, number_of_frames=count))
    if len(frames) != count:
        raise ValueError(f"{len(frames)} frames, the header states {count}")
    for data in frames:
        yield decode_compressed(data, stored)


def _unpacked(seg: Dataset) -> Iterator[NDArray[np.uint8]]:
    """Frames of one bit per pixel; a frame need not begin at a byte (DICOM PS3.5 section 8.1.1)."""
    packed = np.frombuffer(seg.PixelData, dtype=np.uint8)
    size = prod((seg.Rows, seg.Columns))
    for start in range(0, size * int(seg.get("NumberOfFrames") or 1), size):
        stretch = packed[start // 8 : (start + size + 7) // 8]
        yield np.unpackbits(stretch, bitorder="little")[start % 8 :][:size].reshape(seg.Rows, seg.Columns)


def _segments(frame: SegFrame, pixels: NDArray[Any], least: float) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The segments of one frame with their masks."""
    if frame.segment:
        yield frame.segment, pixels >= least
    else:
        for value in np.flatnonzero(np.bincount(pixels.ravel())):
            if value:
                yield int(value), pixels == value


def _least(seg: Dataset, threshold: float | None) -> float:
    """The smallest stored value of a voxel that belongs to its segment."""
    return 1 if threshold is None else threshold * _maximum(seg)


def _maximum(seg: Dataset) -> int:
    """The stored value of fraction 1."""
    return max(1, int(seg.get("MaximumFractionalValue") or 255))


def _label(item: Dataset, number: int) -> Label:
    """A segment as a label whose value is its number."""
    kinds = items_of(item, "SegmentedPropertyTypeCodeSequence")
    return Label(
        value=number,
        name=clean_name(text_of(item, "SegmentLabel"), number),
        category=code_of(item, "SegmentedPropertyCategoryCodeSequence") or ANATOMICAL_STRUCTURE,
        type=code_of(item, "SegmentedPropertyTypeCodeSequence"),
        modifier=code_of(kinds[0], "SegmentedPropertyTypeModifierCodeSequence") if kinds else None,
        color=_color(item),
    )


def _color(item: Dataset) -> tuple[int, int, int] | None:
    """RGB of the recommended CIELab colour (DICOM PS3.3 section C.10.7.1.1)."""
    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return None
    from highdicom.color import CIELabColor

    red, green, blue = CIELabColor.from_dicom_value([int(channel) for channel in value]).to_rgb(clip=True)
    return red, green, blue

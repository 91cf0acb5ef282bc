"""Writer of DICOM SEG (PS3.3 A.51) that refers to the instances of the segmented series, with highdicom.

Three kinds: BINARY (one bit per voxel and segment; overlap allowed), LABELMAP (PS3.3 C.8.20.2, one number per voxel; much
smaller, read by fewer programs) and FRACTIONAL (probabilities in 255 steps). Every instance of the scan is referenced; each frame
has its position and names its slice. `seg_profiles` decides whether labels and slices without a voxel are written.

A sheared (tilted) scan is refused: a segmentation object states the position of each frame, but readers take them for a straight
stack. A scan that the reader repaired keeps its grid: slices that were never stored have a position and no source image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from highdicom import UID
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from voxelry.base.files import atomic_path
from voxelry.base.library_file import library_file
from voxelry.core.labels import LabelTable
from voxelry.core.volume import LabelMap, Volume
from voxelry.errors import ExportError, GridMismatchError, UsageError, nearest
from voxelry.formats.dicom.objects.derived_object import EQUIPMENT, checked_text, series_number
from voxelry.formats.dicom.objects.flat_frames import restore_references, single_frame_headers
from voxelry.formats.dicom.objects.planewise_segmentation import PlanewiseSegmentation, layers_overlap
from voxelry.formats.dicom.objects.seg_profiles import profile_of
from voxelry.formats.dicom.objects.segment_descriptions import PRIVATE_SCHEME, Algorithm, describe, property_type, trackings
from voxelry.formats.dicom.objects.source_series import source_series
from voxelry.formats.file_segments import MOST_SEGMENTS, Segment, segment_numbers, segments_of, segments_of_table

Kind = Literal["binary", "labelmap"]
Compression = Literal["none", "rle", "deflate"]

KINDS = ("binary", "labelmap")
COMPRESSIONS = MappingProxyType({"none": ExplicitVRLittleEndian, "rle": RLELossless, "deflate": DeflatedExplicitVRLittleEndian})
"""Name -> transfer syntax: uncompressed, run lengths frame by frame, or the whole data set deflated."""

_UTF8 = "ISO_IR 192"
_SERIES_OFFSET = 1000
_MOST_BINARY_FRAMES = 5000
"""Instances of more frames are written as a LABELMAP, where no kind is named: a BINARY has a frame for each segment and slice."""
_LARGEST_VALUE = 2**32 - 2
"""Bytes of a DICOM element."""


def write_dicom_seg(
    labels: LabelMap,
    source: Volume,
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    compression: Compression = "none",
    profile: str = "archive",
    algorithm: Algorithm | None = None,
    series_description: str = "Segmentation",
) -> Path:
    """Write labels as a DICOM SEG that refers to their scan.

    Segments are numbered 1..n in the order of the table, instances of a label in the order of their ids. Voxels of the table's
    ignore value belong to no segment. The series and the instance get fresh UIDs; patient, study and frame of reference are the
    scan's.

    Args:
        labels: on the scan's grid (axes may be flipped or permuted; they are re-indexed), on any number of layers.
        source: the scan as read from DICOM: ``(column, row, slice)``, or ``(rows, cols)`` for a projection.
        path: the file; replaced if it exists.
        kind: ``binary``, or ``labelmap`` for labels that do not overlap. None: ``binary``, but ``labelmap`` for instances that do
            not overlap and would make more than 5000 frames.
        compression: a name of `COMPRESSIONS`; ``rle`` needs ``labelmap``.
        profile: the kind of viewer it is for: a name of `seg_profiles.PROFILES`.
        algorithm: the algorithm that made the labels; None for voxelry of this version.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The path.

    Raises:
        UsageError: an unknown kind, compression or profile.
        ExportError: the source is not DICOM or not as read, its grid is sheared, labels overlap in a labelmap, the table is
            empty, or a text cannot be written.
        GridMismatchError: the labels lie on another grid.
        LabelError: values that the table does not know.

    Example:
        >>> import voxelry as vx
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.phantom.dicom import write_dicom
        >>> phantom = small_phantom()
        >>> scan = vx.read(write_dicom(phantom, "scan")[0])
        >>> from voxelry.formats.dicom.objects import write_dicom_seg
        >>> path = write_dicom_seg(phantom.labels, scan, "organs.seg.dcm", profile="ohif")
        >>> "liver" in vx.read_labels(path).table.names
        True
    """
    _check_choice(kind, compression)
    emptiness = profile_of(profile)
    _check_grid(source, labels.table, path)
    if labels.table.layers > len(labels.layers):
        raise ExportError(f"{path}: the table has {labels.table.layers} layers, the labels {len(labels.layers)}")
    aligned = labels.on_grid(source.geometry)
    segments = segments_of(aligned, absent=emptiness.describes_absent)
    if len(segments) > MOST_SEGMENTS:
        raise ExportError(
            f"{path}: {len(segments)} labels and instances, of which DICOM numbers at most {MOST_SEGMENTS}",
            remedy="Write .nii.gz, which keeps ids in a file beside the labels, or leave out the smallest objects.",
        )
    numbers = segment_numbers(aligned, segments)
    overlap = len(numbers) > 1 and layers_overlap(numbers)
    if kind == "labelmap" and overlap:
        raise ExportError(f"{path}: labels overlap, which a LABELMAP cannot hold", remedy="Write the kind 'binary'.")
    kind = kind or _kind(segments, overlap)
    _check_size(numbers, segments, kind, path)
    frames = _frames(numbers.max(axis=0)) if kind == "labelmap" else np.moveaxis(np.stack([_frames(n) for n in numbers]), 0, -1)
    writer = _SegWriter(source, Path(path), algorithm or Algorithm(), series_description, COMPRESSIONS[compression])
    omits = emptiness.omits_empty_frames and any(s.present for s in segments)
    return writer.write(frames, segments, kind.upper(), omit_empty_frames=omits, labels=aligned)


def write_fractional_seg(
    probabilities: Volume,
    table: LabelTable,
    source: Volume,
    path: str | os.PathLike[str],
    *,
    compression: Compression = "none",
    algorithm: Algorithm | None = None,
    series_description: str = "Probabilities",
) -> Path:
    """Write probabilities as a FRACTIONAL DICOM SEG, rounded to 1/255.

    Args:
        probabilities: one channel per label, background left out, values 0..1, on the scan's grid.
        table: the labels, in the order of the channels.
        source: the scan as read from DICOM.
        path: the file; replaced if it exists.
        compression: a name of `COMPRESSIONS`.
        algorithm: the algorithm that made them; None for voxelry of this version.
        series_description: the name that viewers list the series by, at most 64 characters.

    Returns:
        The path.

    Raises:
        UsageError: an unknown compression.
        ExportError: as for `write_dicom_seg`; or channels that are not the labels, or values beyond 0..1.
        GridMismatchError: the probabilities lie on another grid.

    Example:
        >>> import voxelry as vx
        >>> from voxelry.phantom import small_phantom
        >>> from voxelry.phantom.dicom import write_dicom
        >>> phantom = small_phantom()
        >>> scan = vx.read(write_dicom(phantom, "scan")[0])
        >>> import numpy as np
        >>> from voxelry.formats.dicom.objects import write_fractional_seg
        >>> half = np.full((1, *scan.geometry.shape), 0.5, np.float32)
        >>> table = vx.LabelTable(labels=(vx.Label(value=1, name="liver"),))
        >>> path = write_fractional_seg(vx.Volume(half, scan.geometry), table, scan, "liver.seg.dcm")
        >>> round(float(vx.read(path).array.max()), 2)
        0.5
    """
    _check_choice("labelmap", compression)
    _check_grid(source, table, path)
    if probabilities.channels != len(table):
        raise ExportError(f"{path}: {probabilities.channels} channels of probabilities for {len(table)} labels")
    frames = _quantised(_on_grid(probabilities, source, path), path)
    segments = segments_of_table(table)
    writer = _SegWriter(source, Path(path), algorithm or Algorithm(), series_description, COMPRESSIONS[compression])
    return writer.write(frames, segments, "FRACTIONAL", omit_empty_frames=bool(frames.any()))


def _frame_count(segments: Sequence[Segment]) -> int:
    """Frames of a BINARY, one for each slice of each segment's box."""
    boxes = [segment.item.box for segment in segments if segment.item is not None and segment.item.box is not None]
    return sum(box[2].stop - box[2].start if len(box) == 3 else 1 for box in boxes)


def _kind(segments: Sequence[Segment], overlap: bool) -> Kind:
    """The kind of a segmentation for which none is named."""
    many = any(segment.instance for segment in segments) and _frame_count(segments) > _MOST_BINARY_FRAMES
    return "labelmap" if many and not overlap else "binary"


def _check_size(numbers: NDArray[Any], segments: Sequence[Segment], kind: Kind, path: str | os.PathLike[str]) -> None:
    """Refuse a BINARY whose frames together are longer than a DICOM element can be."""
    rows_by_columns = prod(numbers.shape[1:3])
    size = _frame_count(segments) * rows_by_columns // 8
    if kind == "binary" and size > _LARGEST_VALUE:
        raise ExportError(
            f"{path}: {len(segments)} segments take {size} bytes of frames, a DICOM element holds {_LARGEST_VALUE}",
            remedy="Write the kind 'labelmap' where they do not overlap, else .nii.gz.",
        )


def _check_choice(kind: str | None, compression: str) -> None:
    if kind is not None and kind not in KINDS:
        raise UsageError(f"kind of DICOM SEG '{kind}' is unknown", remedy=nearest(kind, KINDS))
    if compression not in COMPRESSIONS:
        raise UsageError(f"compression '{compression}' is unknown", remedy=nearest(compression, COMPRESSIONS))
    if kind == "binary" and compression == "rle":
        raise UsageError("BINARY frames cannot be RLE compressed", remedy="Use 'none' or 'deflate', or the kind 'labelmap'.")


def _check_grid(source: Volume, table: LabelTable, path: str | os.PathLike[str]) -> None:
    if not len(table):
        raise ExportError(f"{path}: the label table is empty, and a DICOM SEG needs a segment", remedy="Name the labels.")
    if not source.geometry.is_orthogonal:
        raise ExportError(
            f"{path}: the scan's slices are sheared (gantry tilt), and readers of a DICOM SEG take its slices for a straight "
            "stack: they would misplace it or refuse it",
            remedy="Read the scan with repair 'tilt' and put the labels on that grid, or write RTSTRUCT on the original slices.",
        )


def _frames(spatial: NDArray[Any]) -> NDArray[Any]:
    """``(column, row, slice)``, or ``(rows, cols)`` -> ``(slice, row, column)``, contiguous."""
    return spatial[None] if spatial.ndim == 2 else np.ascontiguousarray(spatial.T)


def _on_grid(probabilities: Volume, source: Volume, path: str | os.PathLike[str]) -> NDArray[Any]:
    change = probabilities.geometry.reindexing_to(source.geometry)
    if change is None:
        raise GridMismatchError(
            f"{path}: the probabilities lie on another grid ({probabilities.geometry.describe()}) than the scan "
            f"({source.geometry.describe()})",
            remedy="Resample them onto the scan's grid first.",
        )
    return change.apply(probabilities.array)


def _quantised(probabilities: NDArray[Any], path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """``(C, *spatial)`` 0..1 -> ``(slice, row, column, C)`` in steps of 1/255, channel by channel."""
    steps = []
    for channel in probabilities:
        low, high = float(channel.min()), float(channel.max())
        if not (low >= 0 and high <= 1):
            raise ExportError(
                f"{path}: values {low:g}..{high:g} are not probabilities 0..1",
                remedy="Give softmax or sigmoid outputs, not logits.",
            )
        steps.append(_frames(np.rint(channel * 255).astype(np.uint8)))
    return np.moveaxis(np.stack(steps), 0, -1)


@dataclass(frozen=True)
class _SegWriter:
    """The arguments that all kinds of segmentation objects share."""

    source: Volume
    path: Path
    algorithm: Algorithm
    series_description: str
    syntax: str

    def write(
        self,
        frames: NDArray[Any],
        segments: Sequence[Segment],
        kind: str,
        *,
        omit_empty_frames: bool,
        labels: LabelMap | None = None,
    ) -> Path:
        """Write ``(slice, row, column[, layer])`` as segments, of `labels`; the file appears once it is complete."""
        for text in (self.algorithm.name, self.algorithm.version, self.series_description):
            checked_text(text, self.path)
        series = source_series(self.source, self.path)
        images = single_frame_headers(series, self.source.geometry)
        known = {} if labels is None else trackings(labels, segments, self.source.source.series_uid)
        descriptions = [describe(segment, self.algorithm, known.get(segment.number)) for segment in segments]
        is_private = any(property_type(segment.label).scheme == PRIVATE_SCHEME for segment in segments)
        seg = self._data_set(images, frames, descriptions, kind, is_private, omit_empty_frames=omit_empty_frames)
        restore_references(seg, series, images)
        seg.SeriesDescription = self.series_description
        if self.source.geometry.ndim == 2:
            seg.PatientOrientation = series.headers[0].get("PatientOrientation")
        _compress(seg, self.syntax)
        with atomic_path(self.path) as temporary, library_file(temporary) as file:
            seg.save_as(file)
        return self.path

    def _data_set(
        self,
        images: Sequence[Dataset],
        frames: NDArray[Any],
        descriptions: Sequence[Dataset],
        kind: str,
        is_private: bool,
        *,
        omit_empty_frames: bool,
    ) -> Dataset:
        """The data set by highdicom; its errors become an `ExportError` that does not show values of the headers."""
        private = [CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="voxelry labels that no published table knows")]
        try:
            with warnings.catch_warnings():
                # Copied patient and study attributes may break their rules; the warnings would print their values.
                warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|highdicom)\.")
                return PlanewiseSegmentation(
                    source_images=images,
                    pixel_array=frames,
                    segmentation_type=kind,
                    segment_descriptions=descriptions,
                    series_instance_uid=UID(),
                    series_number=series_number(images[0], _SERIES_OFFSET),
                    sop_instance_uid=UID(),
                    instance_number=1,
                    **EQUIPMENT,
                    content_label="SEGMENTATION",
                    content_description="Made by software for research, not reviewed",
                    transfer_syntax_uid=ExplicitVRLittleEndian,
                    omit_empty_frames=omit_empty_frames,
                    specific_character_set=_UTF8,
                    coding_schemes=private if is_private else None,
                )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ExportError(
                f"{self.path}: the headers of the source series do not allow a DICOM SEG ({type(error).__name__} in highdicom)",
                remedy="Write NIfTI, or repair the series.",
            ) from error


def _compress(seg: Dataset, syntax: str) -> None:
    """Compress uncompressed frames into run lengths; a deflated data set pydicom compresses when it writes the file."""
    if syntax == RLELossless:
        from rle.utils import encode_array

        shape = (int(seg.NumberOfFrames), seg.Rows, seg.Columns)
        frames = np.frombuffer(seg.PixelData, f"<u{seg.BitsAllocated // 8}", prod(shape)).reshape(shape)
        sizes = {"number_of_frames": shape[0], "rows": seg.Rows, "columns": seg.Columns}
        seg.PixelData = encapsulate(list(encode_array(frames, samples_per_pixel=1, bits_allocated=seg.BitsAllocated, **sizes)))
        seg["PixelData"].VR = "OB"
    seg.file_meta.TransferSyntaxUID = syntax

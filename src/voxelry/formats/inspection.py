"""Inspection of a file or folder tree by headers alone: a row for each volume or file, with what `read` would give."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxelry.base.notebook_progress import shows_progress
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.volume import Volume
from voxelry.errors import GeometryError, MissingFileError, ReadError
from voxelry.formats.detection import detect, head_of, header_beside
from voxelry.formats.dicom.archive import is_zip
from voxelry.formats.dicom.dicom_reader import check_group, may_belong
from voxelry.formats.dicom.elements import uid
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.patients import Patient, Pseudonyms
from voxelry.formats.dicom.scan import HeaderScan, UnreadableFile, scan_headers
from voxelry.formats.dicom.stacks.groups import PlaneGroup, approximate_grid, group_planes
from voxelry.formats.dicom.stacks.layout import StackLayout, measure_layout
from voxelry.formats.file_format import Format
from voxelry.formats.read_options import PLAIN
from voxelry.formats.reader import read_file
from voxelry.formats.table import claims_image, claims_labels

IMAGE, LABELS, OBJECT, OTHER = "image", "labels", "object", "other"
"""Kinds of rows: an image, or a file named like one; a mask; another DICOM object; a file that is no scan."""


@dataclass(frozen=True)
class InspectRow:
    """One volume, or one file. Patients are named only on request.

    Attributes:
        path: the file, or the folder or archive that holds the files of the volume's series.
        format: as ``dicom``, ``nifti``, ``png``; empty where unknown.
        kind: ``image``, ``labels``, ``object`` (DICOM that is neither, a screenshot beside scans) or ``other`` (no scan).
        key: the `series` argument of `read`; empty where the path is enough.
        patient: a pseudonym, ``patient-1``...; the same patient has the same one within a listing.
        name: the patient's name and id, only on request.
        modality: DICOM's term, empty where unknown.
        description: description of the series.
        shape: ``(C, *spatial)``; empty where unknown.
        spacing: mm along each spatial axis, or None.
        orientation: as ``RAS``, or None for pictures.
        tilt: angle in degrees between the slice axis and the slices' normal, as of a tilted gantry; 0 for upright volumes.
        gaps: slices that are missing between others.
        duplicates: images at the position of another.
        facts: what distinguishes it from the other volumes of its series: ``echo``, ``phase``, ``b``...
        siblings: volumes of its series, itself included.
        syntax: names of the transfer syntaxes of its files.
        n_files: number of its files.
        readable: `read` can read it, as far as the headers show.
        reason: what `read` returns, or why it fails and the remedy.
        remarks: decisions of the reader.
    """

    path: str
    format: str
    kind: str = IMAGE
    key: str = ""
    patient: str = ""
    name: str = ""
    modality: str = ""
    description: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    tilt: float = 0.0
    gaps: int = 0
    duplicates: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    siblings: int = 1
    syntax: tuple[str, ...] = ()
    n_files: int = 1
    readable: bool = False
    reason: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def is_failure(self) -> bool:
        """An image that cannot be read."""
        return self.kind == IMAGE and not self.readable


@shows_progress
def inspect(path: str | os.PathLike[str], *, names: bool = False, progress: ProgressCallback = no_progress) -> list[InspectRow]:
    """List the volumes and files of a file or folder tree. Pixels are not decoded.

    Args:
        path: a file, a zip archive, a DICOMDIR, or a folder that is searched at every depth; hidden files are left out.
        names: show names and ids of patients.
        progress: called as headers are read.

    Returns:
        A row for each DICOM volume and for each other file, sorted by path. ``read(row.path, series=row.key or None)`` reads a
        row that is `readable`.

    Raises:
        MissingFileError: nothing is there, or the folder holds no file.

    Examples:
        >>> import numpy as np
        >>> from voxelry import Geometry, Volume
        >>> from voxelry.formats import inspect, write
        >>> path = write(Volume(np.zeros((1, 8, 8, 4), np.int16), Geometry.from_spacing((8, 8, 4), (1, 1, 2.5))), "scan.nii.gz")
        >>> [(row.format, row.shape, row.readable) for row in inspect(path)]
        [('nifti', (1, 8, 8, 4), True)]
    """
    place = Path(path)
    headers = scan_headers(place, progress)
    if headers.is_empty:
        raise MissingFileError(f"{place}: the folder holds no file", remedy="Check the path.")
    everything = group_planes(headers.planes)
    groups = [group for group in everything if not group.is_capture] or everything
    captures = [group for group in everything if group.is_capture and groups is not everything]
    people = Pseudonyms([*headers.planes, *headers.other_objects], names=names)
    rows = [
        *(_of_group(group, groups, headers, people.of(group.first)) for group in groups),
        *(replace(_of_group(group, [group], headers, people.of(group.first)), kind=OBJECT) for group in captures),
        *(_of_object(header, people.of(header)) for header in headers.other_objects),
        *(_of_broken(broken) for broken in headers.unreadable),
        *(_of_broken(UnreadableFile(file, error)) for file, error in headers.refused),
        *(
            _of_stranger(file, alone=not place.is_dir())
            for file in headers.non_dicom_files
            if file in (place, header_beside(file))
        ),
    ]
    return sorted(rows, key=lambda row: row.path)


def _home(group: PlaneGroup, groups: Sequence[PlaneGroup]) -> tuple[Path, bool]:
    """The path from which `read` reads a group, and whether `series` is needed there.

    The only file, the archive, the folder of a copy or of files without a series, or else the deepest folder that holds all files
    of its series, so that reading it groups the planes in the same way.
    """
    first = group.first
    home = first.archive or _common(group.files)
    if first.archive is None and first.series and not group.is_picture:
        copy = _common(group.files)
        if "folder" in group.facts and not _others_below(copy, group, groups):
            return copy, False
        home = _common({path for other in groups if _same_series(other, group) for path in other.files})
    return home, _others_below(home, group, groups) > 0


def _common(files: Collection[Path]) -> Path:
    """The only file, or the deepest folder that holds all."""
    return next(iter(files)) if len(files) == 1 else Path(os.path.commonpath([path.parent for path in files]))


def _others_below(home: Path, group: PlaneGroup, groups: Sequence[PlaneGroup]) -> int:
    """The number of other groups that have planes below a folder, or in a file."""
    return sum(other is not group and any(path.is_relative_to(home) for path in other.files) for other in groups)


def _same_series(group: PlaneGroup, other: PlaneGroup) -> bool:
    plane, other_plane = group.first, other.first
    same = (plane.archive, plane.patient, plane.series) == (other_plane.archive, other_plane.patient, other_plane.series)
    return same and group.is_picture == other.is_picture


def _of_group(group: PlaneGroup, groups: Sequence[PlaneGroup], headers: HeaderScan, patient: Patient) -> InspectRow:
    """The row of a volume."""
    first = group.first
    home, chosen = _home(group, groups)
    layout = None if group.is_picture else measure_layout(group.planes)
    row = InspectRow(
        path=str(home),
        format="dicom",
        key=group.key if chosen else "",
        patient=patient.pseudonym,
        name=patient.name,
        modality=first.modality,
        description=first.description,
        facts=group.facts,
        siblings=group.siblings,
        syntax=tuple(dict.fromkeys(uid(plane.syntax).name for plane in group.planes)),
        n_files=len(group.files),
    )
    row = _with_grid(row, group, layout)
    near = [broken for broken in headers.unreadable if broken.series or broken.path.is_relative_to(home)]
    unreadable = next((broken for broken in near if may_belong(broken, group, alone=not chosen)), None)
    if unreadable is not None:
        return replace(row, reason=f"a file of it cannot be read, or may be one of it: {unreadable.error}")
    row = _judged(row, lambda: check_group(group, str(home)))
    if row.readable and chosen:
        total = 1 + _others_below(home, group, groups)
        return replace(row, reason=f"{row.reason}; one of {total} volumes there, to be chosen by its key")
    return row


def _with_grid(row: InspectRow, group: PlaneGroup, layout: StackLayout | None) -> InspectRow:
    """The row with the positions of its planes, whether or not they can be read."""
    first = group.first
    if layout is None:
        return replace(row, shape=(first.samples, first.rows, first.columns) if group.is_picture else ())
    row = replace(
        row,
        shape=(first.samples, first.columns, first.rows, len(group.planes)),
        tilt=round(layout.tilt, 3),
        gaps=layout.missing,
        duplicates=layout.duplicates,
    )
    try:
        grid = approximate_grid(group, layout.spacing)
    except GeometryError:
        return row
    if grid is None:
        return row
    return replace(row, spacing=grid.spacing, orientation=grid.orientation)


def _of_object(header: DicomHeader, patient: Patient) -> InspectRow:
    """The row of a DICOM object that is no image."""
    kind = LABELS if header.object_format else OBJECT
    reason = f"{header.sop_class} is not an image" + ("; `read_labels` reads it" if kind == LABELS else "")
    return InspectRow(
        path=str(header.path),
        format="dicom",
        kind=kind,
        patient=patient.pseudonym,
        name=patient.name,
        modality=header.modality,
        description=header.description,
        syntax=(uid(header.syntax).name,),
        reason=reason,
    )


def _of_broken(broken: UnreadableFile) -> InspectRow:
    return InspectRow(str(broken.path), "", reason=_reason(broken.error, str(broken.path)))


def _of_stranger(file: Path, *, alone: bool) -> InspectRow:
    """The row of a file that is not DICOM. A file of no known format is a failure only if its ending is that of an image."""
    if not file.is_file():
        return InspectRow(str(file), "", kind=OTHER, reason="not DICOM; of an archive nothing else is read")
    blank = InspectRow(str(file), "", kind=IMAGE if alone or claims_image(file) or claims_labels(file) else OTHER)
    try:
        if is_zip(head_of(file)):
            return replace(blank, reason="a zip archive without DICOM")
        form = detect(file)
    except ReadError as error:
        return replace(blank, reason=_reason(error, blank.path))
    blank = replace(blank, format=form.name, kind=LABELS if form.kind == "labels" else IMAGE)
    return _of_header(file, form, blank) if form.read_header else _judged(blank, lambda: read_file(file, PLAIN))


def _judged(row: InspectRow, reading: Callable[[], Volume]) -> InspectRow:
    """The row completed from the header as a reader understands it."""
    try:
        volume = reading()
    except (ReadError, GeometryError) as error:
        return replace(row, readable=False, reason=_reason(error, row.path))
    geometry = volume.geometry
    return replace(
        row,
        shape=volume.shape,
        spacing=geometry.spacing,
        orientation=geometry.orientation,
        readable=True,
        reason=f"{geometry.ndim}D, {volume.channels} channel" + ("s" if volume.channels > 1 else ""),
        remarks=volume.source.remarks,
    )


def _of_header(file: Path, form: Format, row: InspectRow) -> InspectRow:
    """The row completed by a header whose pixels would be decoded on reading."""
    try:
        header = form.call(form.read_header, file)
    except ReadError as error:
        return replace(row, reason=_reason(error, row.path))
    return replace(row, shape=header.shape, readable=True, reason=f"2D, {header.mode}")


def _reason(error: Exception, path: str) -> str:
    """The error without the path that its row has already."""
    return str(error).removeprefix(f"{path}: ")

"""Reads DICOM images: the selected volume of a folder, zip archive or DICOMDIR; a slice, radiograph or multi-frame file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelry.base.listing import shown
from voxelry.core.volume import Source, Volume
from voxelry.errors import MissingFileError, PartlyReadError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.archive import UnpackedFolder, unpack_planes
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.objects.seg_read import read_dicom_seg_image
from voxelry.formats.dicom.pixels.decode import decode_padding, decode_slices, decoding_bytes
from voxelry.formats.dicom.pixels.grey_values import shown_windows
from voxelry.formats.dicom.scan import HeaderScan, UnreadableFile, scan_headers
from voxelry.formats.dicom.stacks.groups import PlaneGroup, group_planes
from voxelry.formats.dicom.stacks.select import select_group
from voxelry.formats.dicom.stacks.stack import SliceStack, assemble, decode_stack, decode_stack_outside
from voxelry.formats.dicom.suv import as_suv
from voxelry.formats.dicom.xray import read_projection
from voxelry.formats.file_content import FileContent
from voxelry.formats.read_options import PLAIN, ReadOptions

_SHOWN = 3


def read_dicom(path: str | os.PathLike[str], options: ReadOptions = PLAIN, content: FileContent | None = None) -> Volume:
    """The only volume of a file, folder or archive, or the one that `options.series` selects.

    Headers are read at once, each file opened once; pixels when `Volume.array` is first used. Files that are not DICOM, DICOM
    objects that are not images, and screenshots beside scans are left out with a remark. `stacks.groups` says which planes form a
    volume.

    Args:
        path: a DICOM file, a folder searched at every depth, a zip archive, or a DICOMDIR.
        options: the series to select, repairs, polarity, pixel size, SUV.
        content: of `path`, where it is a file that is open already; None opens it.

    Returns:
        A Volume ``(1, columns, rows, slices)``, RAS+; ``(1, rows, columns)`` for a radiograph; of a FRACTIONAL segmentation see
        `read_dicom_seg_image`.

    Raises:
        MissingFileError: there is no DICOM file.
        UnsupportedFormatError: DICOM, but no image.
        UsageError: a segmentation that holds labels.
        SelectionError: several volumes; the choices are listed.
        SeriesError: planes that are not a regular stack; with the files concerned.
        CorruptFileError: a file that is truncated and belongs, or may belong, to the volume.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> read_dicom(folder).shape
        (1, 16, 12, 12)
    """
    file = Path(path)
    headers = scan_headers(file, content=content)
    if [(header.path, header.object_format) for header in headers.other_objects] == [(file, "dicom-seg")]:
        return read_dicom_seg_image(file, content)
    groups = _groups(headers, file)
    group = select_group(groups, options.series, str(file))
    _refuse_unreadable(group, headers, alone=options.series is None)
    return volume_of_group(group, str(file), options, _remarks(headers, groups))


def read_all_dicom(
    path: str | os.PathLike[str], options: ReadOptions = PLAIN, content: FileContent | None = None
) -> list[Volume]:
    """Every volume of a file, folder or archive; see `reader.read_all`.

    Args:
        path: as `read_dicom`.
        options: as `read_dicom`, without a series.
        content: as `read_dicom`.

    Raises:
        PartlyReadError: some volumes cannot be read.
        ReadError: as `read_dicom`, where there is only one.

    Example:
        >>> from voxelry.phantom.acquisition import Acquisition
        >>> from voxelry.phantom.dicom import write_dicom
        >>> from voxelry.phantom.phantom import make_phantom
        >>> coarse = Acquisition((20, 20, 20), (320, 240, 240), "LPS")
        >>> [folder] = write_dicom(make_phantom("torso-ct", 0, coarse), "scan")
        >>> [volume.modality for volume in read_all_dicom(folder)]
        ['CT']
    """
    folder = Path(path)
    headers = scan_headers(folder, content=content)
    groups = _groups(headers, folder)
    volumes: list[Volume] = []
    failed: dict[str, ReadError] = {}
    for group in groups:
        try:
            _refuse_unreadable(group, headers, alone=len(groups) == 1)
            suv = options.suv and group.first.modality == "PT"
            volumes.append(volume_of_group(group, str(folder), replace(options, suv=suv), _remarks(headers, groups)))
        except ReadError as error:
            failed[group.key] = error
    known = {group.first.series for group in groups}
    for unreadable in headers.unreadable:
        is_there = not isinstance(unreadable.error, MissingFileError)
        if is_there and unreadable.is_of_series and unreadable.series not in known:
            failed.setdefault(unreadable.series, unreadable.error)
    if failed and len(failed) + len(volumes) == 1:
        raise next(iter(failed.values()))
    if failed:
        reasons = [(key, str(error)) for key, error in failed.items()]
        raise PartlyReadError(
            f"{folder}: {len(failed)} of {len(failed) + len(volumes)} volumes cannot be read: "
            + "; ".join(f"{k}: {r}" for k, r in reasons),
            remedy="The others are in the error's `volumes`; `inspect` lists all, `read` takes one by `series`.",
            volumes=volumes,
            failed=reasons,
        )
    return volumes


def volume_of_group(group: PlaneGroup, where: str, options: ReadOptions = PLAIN, remarks: Sequence[str] = ()) -> Volume:
    """The Volume of a group.

    Args:
        group: planes of one volume.
        where: the file or folder, for messages.
        options: repairs, polarity, pixel size, SUV.
        remarks: remarks for the Volume's source, before those of the group.

    Raises:
        ReadError: the planes do not form one regular stack, or one radiograph.
    """
    planes, unpacked = unpack_planes(group.planes)
    remarks = [*remarks, *group.remarks, *([f"unpacked from {unpacked.archive.name}"] if unpacked else [])]
    with unpacked.errors_name_archive() if unpacked else nullcontext():
        volume = _volume(group, planes, where, options, remarks)
    return volume if unpacked is None else _holding(volume, unpacked)


def _holding(volume: Volume, unpacked: UnpackedFolder) -> Volume:
    """The volume with a reference to its unpacked files, which keeps them on disk; all else names them by their archive."""
    assert callable(volume.pixels)
    origin = volume.source
    files, remarks, repairs = (tuple(map(unpacked.shown, texts)) for texts in (origin.files, origin.remarks, origin.repairs))
    outside = partial(_decoded, volume.outside, unpacked) if callable(volume.outside) else volume.outside
    source = replace(origin, files=files, remarks=remarks, repairs=repairs)
    return replace(volume, pixels=partial(_decoded, volume.pixels, unpacked), outside=outside, source=source)


def _decoded(decode: Callable[[], Any], unpacked: UnpackedFolder) -> Any:
    with unpacked.errors_name_archive():
        return decode()


def check_group(group: PlaneGroup, where: str) -> Volume:
    """As `volume_of_group`, but an archive is not unpacked, so that the Volume's pixels cannot be decoded.

    Raises:
        ReadError: as `volume_of_group`.
    """
    return _volume(group, group.planes, where, PLAIN, group.remarks)


def _volume(group: PlaneGroup, planes: Sequence[DicomHeader], where: str, options: ReadOptions, remarks: Sequence[str]) -> Volume:
    if group.is_picture:
        return read_projection(planes[0], options, remarks)
    if options.suv:
        planes, suv_remark = as_suv(planes, where)
        remarks = [*remarks, suv_remark]
    with quiet_pydicom():
        stack = assemble(planes, where, options)
    return Volume(
        partial(_voxels, stack),
        stack.geometry,
        modality=stack.planes[0].modality,
        source=_source(stack, remarks),
        windows=shown_windows(stack.planes[0]),
        outside=partial(_outside, stack) if stack.has_outside else None,
        decoding=None if stack.repairs else decoding_bytes(stack.planes),
    )


def _voxels(stack: SliceStack) -> NDArray[Any]:
    """``(1, columns, rows, slices)``, a view of the decoded ``(slices, rows, columns)``."""
    return np.transpose(decode_stack(stack, decode_slices), (2, 1, 0))[None]


def _outside(stack: SliceStack) -> NDArray[np.bool_]:
    """``(columns, rows, slices)``: which voxels are outside the imaged field."""
    return np.transpose(decode_stack_outside(stack, decode_padding), (2, 1, 0))


def _source(stack: SliceStack, remarks: Sequence[str]) -> Source:
    return Source(
        kind="dicom",
        files=tuple(dict.fromkeys(str(plane.path) for plane in stack.planes)),
        series_uid=stack.planes[0].series,
        instances=tuple(None if plane is None else (plane.sop_instance, plane.frame) for plane in stack.slices),
        remarks=(*remarks, *stack.remarks),
        repairs=stack.repairs,
        frame_of_reference=stack.planes[0].frame_of_reference,
    )


def _groups(headers: HeaderScan, path: Path) -> list[PlaneGroup]:
    """The groups of a scan, without the screenshots beside them.

    Raises:
        ReadError: there is none; with the most specific reason that the scan gives.
    """
    if headers.planes:
        groups = group_planes(headers.planes)
        return [group for group in groups if not group.is_capture] or groups
    if headers.unreadable:
        raise headers.unreadable[0].error
    if headers.refused:
        raise headers.refused[0][1]
    if headers.other_objects:
        raise _not_an_image(str(path), headers.other_objects[0])
    if headers.non_dicom_files:
        raise _without_dicom(path, len(headers.non_dicom_files))
    raise MissingFileError(f"{path}: the folder holds no file", remedy="Check the path.")


def _without_dicom(path: Path, count: int) -> UnsupportedFormatError:
    """The error of a folder or an archive that holds files, none of them DICOM."""
    if path.is_dir():
        problem = f"none of the {count} files here is DICOM"
        return UnsupportedFormatError(f"{path}: {problem}", remedy="Name a single file to read NIfTI or pictures.")
    if path.suffix.lower() == ".npz":
        return UnsupportedFormatError(f"{path}: NumPy's archive of arrays is not read", remedy="Save the array as NIfTI.")
    return UnsupportedFormatError(
        f"{path}: a zip archive without DICOM; nothing else is read of archives", remedy="Unpack it, and name a file in it."
    )


def may_belong(file: UnreadableFile, group: PlaneGroup, *, alone: bool) -> bool:
    """An unreadable file is, or may be, one of a group's slices: it names the group's series, or its series is lost.

    Args:
        file: the unreadable file.
        group: a group of the same scan.
        alone: the group is the only one there, and nobody chose it. Then a file in its folder whose series is lost counts as one
            of its slices; where there are others it would make all of them unreadable.
    """
    if file.archive != group.first.archive:
        return False
    if file.is_of_series:
        return file.series == group.first.series
    return alone and not file.series and file.path.parent in {path.parent for path in group.files}


def _refuse_unreadable(group: PlaneGroup, headers: HeaderScan, *, alone: bool) -> None:
    for file in headers.unreadable:
        if may_belong(file, group, alone=alone):
            raise file.error


def _remarks(headers: HeaderScan, groups: Sequence[PlaneGroup]) -> list[str]:
    objects = [header.path for header in headers.other_objects]
    files = {path for group in groups for path in group.files}
    captures = dict.fromkeys(plane.path for plane in headers.planes if plane.path not in files)
    return [
        *_left_out(list(captures), "secondary captures, without a position in the patient"),
        *_left_out(headers.non_dicom_files, "no DICOM"),
        *_left_out(objects, "no image"),
        *_left_out([file.path for file in headers.unreadable], "cannot be read"),
        *(f"left out: {error.problem}" for _, error in headers.refused),
    ]


def _left_out(files: Sequence[Path], reason: str) -> list[str]:
    """The remark about files that are not read; none without files."""
    if not files:
        return []
    return [f"left out ({reason}): {shown([file.name for file in files], _SHOWN)}"]


def _not_an_image(where: str, header: DicomHeader) -> UnsupportedFormatError:
    remedy = "Read the images it was made on; `read_labels` reads DICOM SEG and RTSTRUCT."
    return UnsupportedFormatError(f"{where}: {header.sop_class} ({header.name}) is not an image", remedy=remedy)

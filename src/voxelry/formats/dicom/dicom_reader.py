"""DICOM: the volume that was asked for of a folder, an archive or a DICOMDIR; a slice or a radiograph from a file."""

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

from voxelry.core.volume import Source, Volume
from voxelry.errors import MissingFileError, PartlyReadError, ReadError, UnsupportedFormatError
from voxelry.formats.dicom.archive import UnpackedFolder, unpack_planes
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.pixels.decode import decode_outside, decode_slices, shown_windows
from voxelry.formats.dicom.scan import HeaderScan, UnreadableFile, scan
from voxelry.formats.dicom.stacks.groups import PlaneGroup, group_planes
from voxelry.formats.dicom.stacks.select import select_group
from voxelry.formats.dicom.stacks.stack import SliceStack, assemble, decode_stack, decode_stack_outside
from voxelry.formats.dicom.suv import as_suv
from voxelry.formats.dicom.xray import read_projection
from voxelry.formats.read_options import PLAIN, ReadOptions

_SHOWN = 3


def read_dicom(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> Volume:
    """The one volume of a place, or the one that `options.series` names.

    Headers are read now, pixels when `Volume.array` is first asked for. Files that are not DICOM, DICOM objects that are
    not images, and screenshots beside scans are left out with a remark. What forms a volume is said in `groups`; what cannot is
    refused.

    Args:
        path: a DICOM file, a folder searched at every depth, a zip archive, or a DICOMDIR.
        options: what is asked for.

    Returns:
        A Volume ``(1, columns, rows, slices)``, RAS+; or ``(1, rows, columns)`` for a radiograph.

    Raises:
        MissingFileError: no DICOM there.
        UnsupportedFormatError: DICOM, but no image.
        SelectionError: several volumes; the choices are listed.
        SeriesError: planes that are not a regular stack; with the files concerned.
        CorruptFileError: a file that is truncated and belongs, or may belong, to the volume.
    """
    place = Path(path)
    found = scan(place)
    groups = _groups(found, place)
    group = select_group(groups, options.series, str(place))
    _refuse_broken(group, found)
    return volume_of_group(group, str(place), options, _remarks(found, groups))


def read_all_dicom(path: str | os.PathLike[str], options: ReadOptions = PLAIN) -> list[Volume]:
    """Every volume of a place; see `reader.read_all`.

    Args:
        path: as `read_dicom`.
        options: as `read_dicom`, without a choice of series.

    Raises:
        PartlyReadError: some volumes cannot be read.
        ReadError: as `read_dicom`, where there is only one.
    """
    place = Path(path)
    found = scan(place)
    groups = _groups(found, place)
    volumes: list[Volume] = []
    failed: dict[str, ReadError] = {}
    for group in groups:
        try:
            _refuse_broken(group, found)
            suv = options.suv and group.first.modality == "PT"
            volumes.append(volume_of_group(group, str(place), replace(options, suv=suv), _remarks(found, groups)))
        except ReadError as error:
            failed[group.key] = error
    if failed and len(groups) == 1:
        raise next(iter(failed.values()))
    if failed:
        reasons = [(key, str(error)) for key, error in failed.items()]
        raise PartlyReadError(
            f"{place}: {len(failed)} of {len(groups)} volumes cannot be read: " + "; ".join(f"{k}: {r}" for k, r in reasons),
            remedy="The others are in the error's `volumes`; `inspect` lists all, `read` takes one by `series`.",
            volumes=volumes,
            failed=reasons,
        )
    return volumes


def volume_of_group(group: PlaneGroup, where: str, options: ReadOptions = PLAIN, remarks: Sequence[str] = ()) -> Volume:
    """The Volume of a group.

    Args:
        group: planes that belong together.
        where: the file or folder, for messages.
        options: what is asked for.
        remarks: what to say of the source beside what is decided here.

    Raises:
        ReadError: the planes do not form one regular stack, or one radiograph.
    """
    planes, kept = unpack_planes(group.planes)
    said = [*remarks, *group.remarks, *([f"unpacked from {kept.archive.name}"] if kept else [])]
    with kept.errors_name_archive() if kept else nullcontext():
        volume = _volume(group, planes, where, options, said)
    return volume if kept is None else _keeping(volume, kept)


def _keeping(volume: Volume, kept: UnpackedFolder) -> Volume:
    """The volume, for as long as it lives the unpacked files too, and errors that name them by their place in the archive."""
    assert callable(volume.pixels)
    outside = partial(_made, volume.outside, kept) if callable(volume.outside) else volume.outside
    return replace(volume, pixels=partial(_made, volume.pixels, kept), outside=outside)


def _made(make: Callable[[], Any], kept: UnpackedFolder) -> Any:
    with kept.errors_name_archive():
        return make()


def check_group(group: PlaneGroup, where: str) -> Volume:
    """What `volume_of_group` would give, without unpacking an archive: its pixels cannot be had.

    Raises:
        ReadError: as `volume_of_group`.
    """
    return _volume(group, group.planes, where, PLAIN, group.remarks)


def _volume(group: PlaneGroup, planes: Sequence[DicomHeader], where: str, options: ReadOptions, remarks: Sequence[str]) -> Volume:
    if group.is_picture:
        return read_projection(planes[0], options, remarks)
    if options.suv:
        planes, how = as_suv(planes, where)
        remarks = [*remarks, how]
    with quiet_pydicom():
        stack = assemble(planes, where, options)
    return Volume(
        partial(_voxels, stack),
        stack.geometry,
        modality=stack.planes[0].modality,
        source=_source(stack, remarks),
        windows=shown_windows(stack.planes[0]),
        outside=partial(_outside, stack) if stack.has_outside else None,
    )


def _voxels(stack: SliceStack) -> NDArray[Any]:
    """``(1, columns, rows, slices)``, a view of the decoded ``(slices, rows, columns)``."""
    return np.transpose(decode_stack(stack, decode_slices), (2, 1, 0))[None]


def _outside(stack: SliceStack) -> NDArray[np.bool_]:
    """``(columns, rows, slices)``: where the scanner measured nothing."""
    return np.transpose(decode_stack_outside(stack, decode_outside), (2, 1, 0))


def _source(stack: SliceStack, remarks: Sequence[str]) -> Source:
    return Source(
        kind="dicom",
        files=tuple(dict.fromkeys(str(plane.path) for plane in stack.planes)),
        series_uid=stack.planes[0].series,
        instances=tuple(None if plane is None else (plane.sop_instance, plane.frame) for plane in stack.slices),
        remarks=(*remarks, *stack.remarks),
        repairs=stack.repairs,
        frame=stack.planes[0].frame_of_reference,
    )


def _groups(found: HeaderScan, place: Path) -> list[PlaneGroup]:
    """The groups of a scan, without the screenshots beside them.

    Raises:
        ReadError: there is none, with the best reason that the scan gives.
    """
    if found.planes:
        groups = group_planes(found.planes)
        return [group for group in groups if not group.is_capture] or groups
    if found.unreadable:
        raise found.unreadable[0].error
    if found.refused:
        raise found.refused[0][1]
    if found.other_objects:
        raise _not_an_image(str(place), found.other_objects[0])
    if found.non_dicom_files:
        count = f"none of the {len(found.non_dicom_files)} files here is DICOM"
        raise UnsupportedFormatError(f"{place}: {count}", remedy="Name a single file to read NIfTI or pictures.")
    raise MissingFileError(f"{place}: the folder holds no file", remedy="Check the path.")


def may_belong(broken: UnreadableFile, group: PlaneGroup) -> bool:
    """A file that cannot be read is, or may be, one of a group's slices: it names the series, or its series is lost."""
    return broken.archive == group.first.archive and broken.series in ("", group.first.series)


def _refuse_broken(group: PlaneGroup, found: HeaderScan) -> None:
    for broken in found.unreadable:
        if may_belong(broken, group):
            raise broken.error


def _remarks(found: HeaderScan, groups: Sequence[PlaneGroup]) -> list[str]:
    others = [header.path for header in found.other_objects]
    kept = {path for group in groups for path in group.files}
    captures = dict.fromkeys(plane.path for plane in found.planes if plane.path not in kept)
    return [
        *_left_out(list(captures), "secondary captures, without a place in the patient"),
        *_left_out(found.non_dicom_files, "no DICOM"),
        *_left_out(others, "no image"),
        *(f"left out: {error.problem}" for _, error in found.refused),
    ]


def _left_out(files: Sequence[Path], why: str) -> list[str]:
    """The remark about files that were not read."""
    if not files:
        return []
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return [f"left out ({why}): {', '.join(file.name for file in files[:_SHOWN])}{more}"]


def _not_an_image(where: str, header: DicomHeader) -> UnsupportedFormatError:
    remedy = "Read the images it was made on; `read_labels` reads DICOM SEG and RTSTRUCT."
    return UnsupportedFormatError(f"{where}: {header.sop_class} ({header.name}) is not an image", remedy=remedy)

"""The scans of one folder of DICOM files: a series each, a radiograph each; reports, screenshots and localizers are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from voxelry.cohort.scan_names import LeftOut, Scan
from voxelry.errors import ReadError
from voxelry.formats.dicom.elements import quiet_pydicom
from voxelry.formats.dicom.header import DicomHeader
from voxelry.formats.dicom.planes import BrokenHeaderError, file_header
from voxelry.formats.dicom.scan import DIRECTORY_CLASS
from voxelry.formats.dicom.stacks.groups import PlaneGroup
from voxelry.formats.file_content import open_content
from voxelry.formats.table import stem_of

_IMAGES_ONLY = "kind=image"
"""Selects a volume beside localizers of its own series; see `voxelry.formats.dicom.stacks.select`."""


class DicomFolder:
    """What the DICOM files of one folder are, by their headers.

    Args:
        folder: the folder.
        files: its DICOM files, sorted.
        name: the id of a scan that is the whole folder.
        has_folders: it holds folders too, which its reader would search.
        whole: the caller chooses a series of the folder, which therefore is one scan.

    Attributes:
        scans: a radiograph is a scan, and each series of slices; the folder itself stands for its only series. A file whose
            header cannot be read is taken for a slice of the only series, else for a scan that fails in sight.
        left_out: DICOM files that are no image, or no scan: segmentations, reports, secondary captures, localizers.
    """

    def __init__(self, folder: Path, files: Sequence[Path], name: str, has_folders: bool, whole: bool) -> None:
        self.scans: list[Scan] = []
        self.left_out: list[LeftOut] = []
        self._folder, self._name = folder, name
        slices: list[DicomHeader] = []
        broken: list[tuple[Path, str]] = []
        with quiet_pydicom():
            for file in files:
                header = _header(file, broken)
                if header is None:
                    continue
                reason = _reason(header)
                if reason:
                    self.left_out.append(LeftOut(file, reason))
                elif header.is_projection:
                    self.scans.append(Scan(stem_of(file), (file,)))
                else:
                    slices.append(header)
        self._add(slices, broken, has_folders, whole)

    def _add(self, slices: Sequence[DicomHeader], broken: Sequence[tuple[Path, str]], has_folders: bool, whole: bool) -> None:
        """Add the series, and what cannot be read."""
        by_series: dict[str, list[DicomHeader]] = {}
        for header in slices:
            by_series.setdefault(header.series, []).append(header)
        for planes in [planes for planes in by_series.values() if _is_scout(planes)]:
            del by_series[planes[0].series]
            self.left_out += [LeftOut(plane.path, _SCOUT) for plane in planes]
        lost = [file for file, series in broken if series not in by_series]
        is_alone = not (has_folders or self.scans or any(each.reason == _LOCALIZER for each in self.left_out))
        is_one = whole or "" in by_series  # its reader tells slices without a series apart
        if (by_series and is_one) or (len(by_series) == 1 and is_alone) or (lost and not by_series and not self.scans):
            self.scans.append(Scan(self._name, (self._folder,)))
            return
        self.scans += [self._scan(planes, list(by_series.values())) for planes in by_series.values()]
        self.scans += [Scan(stem_of(file), (file,)) for file in lost]

    def _scan(self, planes: Sequence[DicomHeader], all_series: Sequence[Sequence[DicomHeader]]) -> Scan:
        """The scan of one of several series, called after the folder and its number."""
        first = planes[0]
        numbers = Counter(series[0].number for series in all_series)
        position = next(at for at, series in enumerate(all_series, start=1) if series is planes)
        number = first.number if first.number and numbers[first.number] == 1 else f"{first.number or 'series'}-{position}"
        name = self._name if len(all_series) == 1 else f"{self._name}_{number}"
        remark = (
            "" if len(all_series) == 1 else f"one of {len(all_series)} series in its folder, series number {first.number or '?'}"
        )
        return Scan(name, (self._folder,), remark, (f"{first.series}/{_IMAGES_ONLY}",))


_LOCALIZER = "a localizer, by its ImageType"
_SCOUT = "a localizer, by the name of its series and its several orientations"


def _header(file: Path, broken: list[tuple[Path, str]]) -> DicomHeader | None:
    """The header of a file; None adds it to `broken`, with the series that is known."""
    try:
        with open_content(file) as content:
            return file_header(file, content)
    except BrokenHeaderError as error:
        broken.append((file, error.series_uid))
    except ReadError:
        broken.append((file, ""))
    return None


def _reason(header: DicomHeader) -> str:
    """Why a DICOM file is left out; empty for an image to segment."""
    if header.sop_class_uid == DIRECTORY_CLASS:
        return "a DICOMDIR, which lists the files of a medium"
    if not header.is_image:
        return f"DICOM without an image to segment: {header.sop_class or 'no SOP class'}"
    if PlaneGroup("", (header,), {}, {}).is_capture:
        return "a secondary capture, without a position in the patient"
    return _LOCALIZER if header.is_localizer and not header.is_projection else ""


def _is_scout(planes: Sequence[DicomHeader]) -> bool:
    """A series called localizer whose planes have several orientations, as those of MR are, whose ImageType does not tell."""
    orientations = {tuple(round(value, 1) for value in plane.orientation or ()) for plane in planes}
    return planes[0].is_called_localizer and len(orientations) > 1

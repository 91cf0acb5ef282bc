"""Search of a folder, or a tree of them, for scans, with the reason of everything that is left out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxelry.base.listing import shown
from voxelry.base.output_folder import outputs_in
from voxelry.cohort.dicom_folder import DicomFolder
from voxelry.cohort.input_mirror import InputMirror
from voxelry.cohort.scan_names import LeftOut, Scan
from voxelry.datasets.mask_names import masks_by_name
from voxelry.errors import MissingFileError, ReadError
from voxelry.formats.detection import general_format, header_beside
from voxelry.formats.dicom.archive import is_zip_file
from voxelry.formats.file_content import open_content
from voxelry.formats.file_format import Format
from voxelry.formats.ids_beside import is_ids_file
from voxelry.formats.table import claims_image, format_by_ending, image_formats, stem_of

log = logging.getLogger(__name__)

_SHOWN = 3
"""Names of files that are given with the reason why they are left out."""


def case_id(path: str | os.PathLike[str]) -> str:
    """The case id of a file: its name without the ending of its format; of a folder: its name."""
    return stem_of(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link to another name


@dataclass(frozen=True)
class InputSurvey:
    """What some inputs hold.

    Attributes:
        scans: in the order of the inputs, by name within a folder.
        left_out: everything else that was looked at.
    """

    scans: list[Scan] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def reasons(self) -> list[str]:
        """A sentence for each reason why something is left out, with how many and the names of the first.

        Example:
            >>> InputSurvey([], [LeftOut(Path("a.txt"), "not an image"), LeftOut(Path("b.txt"), "not an image")]).reasons()
            ['2 left out (not an image): a.txt, b.txt']
        """
        names: dict[str, list[str]] = {}
        for each in self.left_out:
            names.setdefault(each.reason, []).append(each.path.name)
        return [f"{len(group)} left out ({reason}): {shown(group, _SHOWN)}" for reason, group in names.items()]


@dataclass(frozen=True)
class FolderSearch:
    """A search for scans.

    Attributes:
        survey: gets what is left out.
        mirror: opens archives, and names what stands in it.
        series: the caller's choice of a series, as for `voxelry.read`; folders of DICOM then stay whole.
    """

    survey: InputSurvey
    mirror: InputMirror
    series: str | None = None

    def scans_in(self, folder: Path) -> list[Scan]:
        """The scans of a folder.

        Raises:
            MissingFileError: there are none.
        """
        ours = outputs_in(folder)
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in ours)
        files = [
            path
            for path in visible
            if path.is_file() and header_beside(path) == path and not (_is_mask(path) or is_ids_file(path))
        ]
        formats = {file: _general_format(file) for file in files}
        slices = [file for file, row in formats.items() if row is not None and row.name == "dicom"]
        inner = [path for path in visible if path.is_dir() or is_archive(path)]
        has_folders = any(path.is_dir() for path in inner)
        dicom = DicomFolder(folder, slices, case_id(folder), has_folders, self.series is not None)
        singles = [file for file, row in formats.items() if (claims_image(file) if row is None else row.name != "dicom")]
        lost = [path for path in visible if not (path.is_file() or path.is_dir()) and claims_image(path) and not _is_mask(path)]
        is_series = any(scan.images == (folder,) for scan in dicom.scans)
        lost = [] if is_series else lost  # the reader of the series reports them
        own = _without_masks(self.mirror.shown(folder), sorted((*singles, *lost)))
        scans = sorted((*map(scan_of_file, own), *dicom.scans), key=lambda scan: (scan.images[0] == folder, scan.images))
        self.survey.left_out.extend((*dicom.left_out, *_left_out(folder, visible, {*own, *slices}, ours, bool(scans))))
        if not scans:
            scans = [scan for path in inner for scan in self._scans_below(path)]
        if not scans:
            raise _without_image(folder, dicom.left_out, len(ours))
        return scans

    def _scans_below(self, path: Path) -> list[Scan]:
        """The scans of a subfolder or an archive, which may hold none; an archive that cannot be opened is a scan that fails."""
        if not path.is_dir() and self.mirror.holds(path):
            self.survey.left_out.append(LeftOut(path, "an archive in an archive or at a URL, whose inside is not searched"))
            return []
        try:
            folder = path if path.is_dir() else self.mirror.add_archive(path)
        except ReadError:
            return [scan_of_file(path)]
        try:
            return self.scans_in(folder)
        except MissingFileError as error:
            log.warning("passed over: %s", self.mirror.error(error).problem)
            self.survey.left_out.append(LeftOut(folder, "holds no image"))
            return []


def _without_image(folder: Path, left_out: Sequence[LeftOut], ours: int) -> MissingFileError:
    """The error of a folder without a scan."""
    titles = ", ".join(row.title for row in image_formats())
    passed = f" but {ours} that voxelry wrote" if ours else ""
    reasons = "; ".join(f"{count} left out: {reason}" for reason, count in Counter(each.reason for each in left_out).items())
    return MissingFileError(
        f"{folder}: holds no image{passed}{f' to segment ({reasons})' if reasons else ''}",
        remedy=f"Files of {titles} are looked for." if not reasons else "Name a file itself to segment it all the same.",
    )


def _left_out(folder: Path, visible: Sequence[Path], taken: set[Path], ours: set[str], has_scans: bool) -> list[LeftOut]:
    """What of a folder is neither a scan nor a DICOM file, and why."""
    reasons = []
    for path in visible:
        if path in taken or header_beside(path) in taken or ((path.is_dir() or is_archive(path)) and not has_scans):
            continue
        if path.is_dir():
            reasons.append(LeftOut(path, "a folder beside images, whose inside is not searched"))
        elif is_archive(path):
            reasons.append(LeftOut(path, "an archive beside images, whose inside is not searched"))
        elif _is_mask(path) or claims_image(path):
            reasons.append(LeftOut(path, "a mask, by its name"))
        else:
            reasons.append(LeftOut(path, "not an image"))
    return [*reasons, *(LeftOut(folder / name, "written by voxelry") for name in sorted(ours) if (folder / name).exists())]


def _is_mask(file: Path) -> bool:
    """The ending is that of a file of labels, a report or a mesh in DICOM: no scan, though its format may hold images too."""
    row = format_by_ending(file)
    return row is not None and row.kind == "labels" and (row.is_read or bool(row.within))


def _without_masks(folder: Path, files: Sequence[Path]) -> list[Path]:
    """The files of a folder without those that are masks of others by their names, of which a warning tells."""
    names = masks_by_name({case_id(file) for file in files})
    masks = [file.name for file in files if case_id(file) in names]
    if masks:
        log.warning("%s: passed over as masks by their names: %s", folder, shown(masks))
    return [file for file in files if case_id(file) not in names]


def _general_format(file: Path) -> Format | None:
    """The format of a file by its first bytes, None where it is not recognised."""
    try:
        with open_content(file) as content:
            return general_format(file, content)
    except ReadError:
        return None


def is_archive(file: Path) -> bool:
    """A file is a zip archive by its name and its first bytes."""
    if file.suffix.lower() != ".zip" or not file.is_file():  # opening a pipe would wait for a writer
        return False
    try:
        return is_zip_file(file)
    except OSError:
        return False


def scan_of_file(path: Path) -> Scan:
    """The scan that a file or a folder is."""
    return Scan(case_id(path), (path,))

"""Finds the scans in a list of paths: files, DICOM series, and folders of images."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxelry.base.distinct_names import folded
from voxelry.base.files import no_such_file
from voxelry.base.listing import shown
from voxelry.base.output_folder import outputs_in
from voxelry.cohort.dicom_folder import DicomFolder
from voxelry.cohort.scan_lists import LISTS, listed_scans
from voxelry.cohort.scan_names import LeftOut, Scan, named_scans
from voxelry.datasets.mask_names import masks_by_name
from voxelry.errors import MissingFileError, ReadError, UsageError
from voxelry.formats.detection import general_format, header_beside
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


def find_scans(inputs: Sequence[str | os.PathLike[str]], channels: int = 1, series: str | None = None) -> list[Scan]:
    """The scans in some paths; see `survey_inputs`."""
    return survey_inputs(inputs, channels, series).scans


def survey_inputs(inputs: Sequence[str | os.PathLike[str]], channels: int = 1, series: str | None = None) -> InputSurvey:
    """The scans in some paths, and what is left out.

    A file is a scan. A folder of DICOM slices holds one scan a series, or one of the `series` that is chosen; segmentations,
    reports, secondary captures and localizers are left out. A folder of other images, or of single X-rays in DICOM, holds one
    scan a file. In a folder without scans, subfolders are searched, as in a tree of patients, studies and series that an archive
    exports; in others they are not. A DICOMDIR stands for its folder. Hidden files, masks, what voxelry wrote there, and files
    that neither are images nor have the ending of one are left out. A link called an image that leads nowhere is a scan that
    fails: it is not lost without a word.

    A path that is not there and holds ``*``, ``?`` or ``[`` is a pattern (``**`` for folders). A dataset card (YAML), a table of
    cases (CSV with the columns ``image`` or ``image_1``..., and ``id`` if it has one) and a text file of paths, a line each,
    stand for the scans that they list.

    If the model has several channels, files (or series' folders) ``<id>_0000``, ``<id>_0001``... up to the last channel are those
    of scan ``<id>``, and every other one is a scan that holds all channels. Where a model has one channel, a lone ``<id>_0000``
    is scan ``<id>``. Scans of one name in several folders are called after these. Files that are masks by their names beside
    images (`voxelry.datasets.mask_names`) are left out with a warning.

    Args:
        inputs: files, folders, patterns, and lists of scans.
        channels: number of channels of the model.
        series: the caller's choice of a series, as for `voxelry.read`.

    Returns:
        Scans in the order of the inputs, by name within a folder, and what was left out.

    Raises:
        MissingFileError: a path is not there, a pattern fits nothing, or a folder holds no image.
        UsageError: two scans have the same id.
        ManifestError, ConfigError: a list of scans that cannot be used.
    """
    survey = InputSurvey()
    listed: list[Scan] = []
    alone: list[Scan] = []
    for text in inputs:
        for path in _matching(text):
            if path.is_dir():
                alone += _scans_in(path, survey, series)
            elif _is_directory_file(path) and series is None:
                alone += _scans_in(path.parent, survey, series)
            elif path.suffix.lower() in LISTS:
                listed += listed_scans(path, channels)
            else:
                alone.append(_alone(path))
    survey.scans.extend((*named_scans(alone, channels), *listed))
    _check_ids(survey.scans)
    return survey


def _matching(text: str | os.PathLike[str]) -> list[Path]:
    """The path, or those that fit a pattern.

    Raises:
        MissingFileError: there are none.
    """
    path = Path(text)
    if path.exists():
        return [path]
    if any(mark in os.fspath(text) for mark in "*?["):
        fitting = sorted(Path(name) for name in glob.glob(os.fspath(text), recursive=True))  # noqa: PTH207 - absolute patterns too
        if fitting:
            return fitting
        raise MissingFileError(f"{text}: no file or folder fits this pattern", remedy="Check the folder that it starts from.")
    raise no_such_file(path)


def _check_ids(scans: Sequence[Scan]) -> None:
    first: dict[str, Scan] = {}
    for scan in scans:
        other = first.setdefault(folded(scan.id), scan)
        if other is not scan:
            names = f"'{scan.id}'" if scan.id == other.id else f"'{other.id}' and '{scan.id}', which some disks take for one name"
            raise UsageError(
                f"two scans are called {names}: {other.images[0]} and {scan.images[0]}",
                remedy="Rename one, or segment them separately.",
            )


def _scans_in(folder: Path, survey: InputSurvey, series: str | None) -> list[Scan]:
    """The scans of a folder; what is no scan is added to the survey.

    Raises:
        MissingFileError: there are none.
    """
    ours = outputs_in(folder)
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in ours)
    files = [
        path for path in visible if path.is_file() and header_beside(path) == path and not (_is_mask(path) or is_ids_file(path))
    ]
    formats = {file: _general_format(file) for file in files}
    slices = [file for file, row in formats.items() if row is not None and row.name == "dicom"]
    inner = [path for path in visible if path.is_dir()]
    dicom = DicomFolder(folder, slices, case_id(folder), bool(inner), series is not None)
    singles = [file for file, row in formats.items() if (claims_image(file) if row is None else row.name != "dicom")]
    lost = [path for path in visible if not (path.is_file() or path.is_dir()) and claims_image(path) and not _is_mask(path)]
    is_series = any(scan.images == (folder,) for scan in dicom.scans)
    lost = [] if is_series else lost  # the reader of the series reports them
    own = _without_masks(folder, sorted((*singles, *lost)))
    scans = sorted((*map(_alone, own), *dicom.scans), key=lambda scan: (scan.images[0] == folder, scan.images))
    survey.left_out.extend((*dicom.left_out, *_left_out(folder, visible, {*own, *slices}, ours, bool(scans))))
    if not scans:
        scans = [scan for path in inner for scan in _scans_below(path, survey, series)]
    if not scans:
        raise _without_image(folder, dicom.left_out, len(ours))
    return scans


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
        if path in taken or header_beside(path) in taken or (path.is_dir() and not has_scans):
            continue
        if path.is_dir():
            reasons.append(LeftOut(path, "a folder beside images, whose inside is not searched"))
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


def _scans_below(folder: Path, survey: InputSurvey, series: str | None) -> list[Scan]:
    """The scans of a subfolder, which may hold none."""
    try:
        return _scans_in(folder, survey, series)
    except MissingFileError as error:
        log.warning("passed over: %s", error.problem)
        survey.left_out.append(LeftOut(folder, "holds no image"))
        return []


def _general_format(file: Path) -> Format | None:
    """The format of a file by its first bytes, None where it is not recognised."""
    try:
        with open_content(file) as content:
            return general_format(file, content)
    except ReadError:
        return None


def _is_directory_file(file: Path) -> bool:
    """It is called as the table of contents of a DICOM medium must be."""
    return file.name.upper() == "DICOMDIR"


def _alone(path: Path) -> Scan:
    return Scan(case_id(path), (path,))
